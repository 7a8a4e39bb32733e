"""The faults of the in-memory form, each as JetStream shows it. Not what both forms promise."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from domain.errors import AppendUnknown, Conflict, IntegrityViolated, Unavailable
from domain.ids import RunRef
from domain.rate import Scope
from eventlog.memory import (
    OK,
    Fault,
    FaultPoint,
    Kind,
    MemoryServer,
)
from eventlog.port import Delivery
from peritus.simulation.loop import SimLoop, run
from tests.contract.deployment import ALPHA

T = TypeVar("T")
P = FaultPoint
SCOPE = Scope("provider", "account", "model")


class Script:
    """Faults given in advance, by point; nothing more once they are used up."""

    def __init__(self, **faults: Fault | list[Fault]) -> None:
        self._left = {
            FaultPoint(point): list(f) if isinstance(f, list) else [f]
            for point, f in faults.items()
        }

    def at(self, point: FaultPoint) -> Fault:
        left = self._left.get(point)
        return left.pop(0) if left else OK


def simulate(main: Callable[[MemoryServer, SimLoop], Coroutine[Any, Any, T]]) -> T:
    return run(lambda loop: main(MemoryServer(now_ms=loop.now_ms), loop), 1)


def stored(server: MemoryServer, ref: RunRef = ALPHA) -> list[bytes]:
    return [s.data for s in server.log.load(ref, 0, stale=False)]


def test_a_conflict_names_the_sequence_it_found_unless_it_is_spurious() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone(faults=Script(append=[OK, OK, Fault(Kind.CONFLICT)]))
        await ports.log.append(ALPHA, b"1", expected_seq=0)
        with pytest.raises(Conflict, match="wrong last sequence: 1"):
            await ports.log.append(ALPHA, b"2", expected_seq=0)
        with pytest.raises(Conflict, match=r"^wrong last sequence$"):
            await ports.log.append(ALPHA, b"2", expected_seq=1)
        assert stored(server) == [b"1"]
        await ports.log.append(ALPHA, b"2", expected_seq=1)

    simulate(main)


@pytest.mark.parametrize(
    ("fault", "now", "later"),
    [
        (Fault(Kind.DROP), [], []),
        (Fault(Kind.LOST_ACK), [b"1"], [b"1"]),
        (Fault(delay_s=7), [], [b"1"]),
        (Fault(delay_s=0.5, answer_s=1.6), [b"1"], [b"1"]),
    ],
    ids=["not stored", "stored", "stored later", "answered too late"],
)
def test_an_unknown_append_is_stored_or_not_or_stored_later(
    fault: Fault, now: list[bytes], later: list[bytes]
) -> None:
    async def main(server: MemoryServer, loop: SimLoop) -> None:
        ports = server.backbone(faults=Script(append=fault))
        with pytest.raises(AppendUnknown):
            await ports.log.append(ALPHA, b"1", expected_seq=0)
        assert loop.time() == pytest.approx(server.timeout_s, abs=0.01)
        assert stored(server) == now
        await asyncio.sleep(10)
        assert stored(server) == later

    simulate(main)


def test_a_late_append_is_still_checked_against_what_was_stored_meanwhile() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone(faults=Script(append=Fault(delay_s=7)))
        with pytest.raises(AppendUnknown):
            await ports.log.append(ALPHA, b"late", expected_seq=0)
        await ports.log.append(ALPHA, b"first", expected_seq=0)
        await asyncio.sleep(10)
        assert stored(server) == [b"first"]

    simulate(main)


def test_a_refused_call_did_nothing_and_says_so() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        refuse = Fault(Kind.REFUSE)
        ports = server.backbone(
            faults=Script(append=refuse, command_put=refuse, blob_put=refuse, load=refuse)
        )
        with pytest.raises(Unavailable) as refused:
            await ports.log.append(ALPHA, b"1", expected_seq=0)
        assert not isinstance(refused.value, AppendUnknown)
        with pytest.raises(Unavailable):
            await ports.commands.put(ALPHA, b"c")
        with pytest.raises(Unavailable):
            await ports.blobs.put("acme", b"b")
        with pytest.raises(Unavailable):
            await ports.log.load(ALPHA)
        assert (stored(server), server.commands.queue.messages, server.blobs) == ([], {}, {})

    simulate(main)


def test_a_stale_read_is_an_older_prefix() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        stale = Fault(Kind.STALE)
        ports = server.backbone(faults=Script(load=[stale, stale], snapshot_get=stale))
        for i in range(3):
            await ports.log.append(ALPHA, b"%d" % i, expected_seq=i)
        assert [s.data for s in await ports.log.load(ALPHA)] == [b"0", b"1"]
        assert await ports.log.load(ALPHA, after_seq=2) == []
        assert len(await ports.log.load(ALPHA)) == 3
        await ports.snapshots.put(ALPHA, b"old")
        await ports.snapshots.put(ALPHA, b"new")
        assert await ports.snapshots.get(ALPHA) == b"old"
        assert await ports.snapshots.get(ALPHA) == b"new"

    simulate(main)


def test_a_follower_that_lost_the_store_goes_on_from_the_last_sequence_seen() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone(faults=Script(follow_deliver=[OK, Fault(Kind.DROP)]))
        for i in range(3):
            await ports.log.append(ALPHA, b"%d" % i, expected_seq=i)
        seen: list[int] = []
        async with ports.log.follow(after_seq=0) as items:
            seen.append((await anext(items)).seq)
            with pytest.raises(Unavailable):
                await anext(items)
        async with ports.log.follow(after_seq=seen[-1]) as items:
            seen.append((await anext(items)).seq)
        assert seen == [1, 2]

    simulate(main)


def test_a_log_made_anew_has_another_incarnation_and_fails_its_followers() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone()
        await ports.log.append(ALPHA, b"1", expected_seq=0)
        before = ports.log.incarnation
        async with ports.log.follow(after_seq=1) as items:
            server.log.remake("b1")
            with pytest.raises(Unavailable):
                await anext(items)
        assert (ports.log.incarnation, await ports.log.bounds()) == ("b1", (1, 0))
        assert before != "b1"

    simulate(main)


async def attempts_until_quiet(items: AsyncIterator[Delivery], within_s: float) -> list[int]:
    """Acknowledge all that comes until nothing does; the attempts."""
    attempts: list[int] = []
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(within_s):
                delivery = await anext(items)
            attempts.append(delivery.attempt)
            await delivery.ack()
    return attempts


@pytest.mark.parametrize(
    ("faults", "attempts"),
    [
        (Script(command_deliver=Fault(Kind.DROP)), [2]),
        (Script(command_deliver=Fault(Kind.DUPLICATE)), [1, 2]),
        (Script(command_ack=Fault(Kind.DROP)), [1, 2]),
        (Script(command_ack=Fault(delay_s=45)), [1, 2]),
        (Script(command_ack=Fault(delay_s=15)), [1]),
        (Script(command_put=Fault(Kind.DUPLICATE)), [1, 1]),
    ],
    ids=["lost delivery", "delivered twice", "lost ack", "late ack", "slow ack", "put twice"],
)
def test_commands_come_again_and_never_get_lost(faults: Script, attempts: list[int]) -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone(faults=faults)
        async with ports.commands.consume(in_flight_max=4) as items:
            await ports.commands.put(ALPHA, b"c")
            assert await attempts_until_quiet(items, 100) == attempts
        assert server.commands.queue.messages == {}

    simulate(main)


def test_a_lost_acknowledgement_of_a_put_and_a_second_try_are_stored_once() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone(faults=Script(command_put=Fault(Kind.LOST_ACK)))
        with pytest.raises(Unavailable):
            await ports.commands.put(ALPHA, b"c", message_id="m1")
        await ports.commands.put(ALPHA, b"c", message_id="m1")
        assert len(server.commands.queue.messages) == 1

    simulate(main)


def test_a_message_id_is_forgotten_after_two_minutes_or_with_its_message_at_a_restart() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone()
        messages = server.commands.queue.messages
        await ports.commands.put(ALPHA, b"c", message_id="m1")
        await asyncio.sleep(119)
        await ports.commands.put(ALPHA, b"c", message_id="m1")
        assert len(messages) == 1
        await asyncio.sleep(2)
        await ports.commands.put(ALPHA, b"c", message_id="m1")
        assert len(messages) == 2
        async with ports.commands.consume(in_flight_max=4) as items:
            for _ in range(2):
                await (await anext(items)).ack()
        await ports.commands.put(ALPHA, b"c", message_id="m1")
        assert len(messages) == 0
        server.restart()
        await ports.commands.put(ALPHA, b"c", message_id="m1")
        assert len(messages) == 1

    simulate(main)


def test_timers_fire_no_sooner_than_the_servers_floor_and_may_be_late() -> None:
    async def main(server: MemoryServer, loop: SimLoop) -> None:
        ports = server.backbone()
        async with ports.commands.consume(in_flight_max=4) as items:
            for due_s, expected_s in ((-60, 0.25), (0.1, 0.25), (5, 5)):
                began, due_ms = loop.time(), loop.now_ms() + int(due_s * 1000)
                await ports.commands.put_at(ALPHA, "t", due_ms, b"ring")
                await (await anext(items)).ack()
                assert loop.time() - began == pytest.approx(expected_s, abs=0.01)

    simulate(main)

    async def late(loop: SimLoop) -> float:
        server = MemoryServer(now_ms=loop.now_ms, faults=Script(timer_fire=Fault(delay_s=3)))
        ports = server.backbone()
        async with ports.commands.consume(in_flight_max=4) as items:
            await ports.commands.put_at(ALPHA, "t", 0, b"ring")
            await anext(items)
        return loop.time()

    assert run(late, 1) == pytest.approx(3.25, abs=0.01)


def test_work_vanishes_or_comes_twice() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone(
            faults=Script(work_put=[Fault(Kind.VANISH), Fault(Kind.DUPLICATE), OK])
        )
        for data in (b"gone", b"twice", b"lost later"):
            await ports.work.put("tool", ALPHA, data)
        async with ports.work.consume("tool", in_flight_max=2) as items:
            found = [await anext(items), await anext(items)]
            assert [d.data for d in found] == [b"twice", b"twice"]
            server.lose_work()
            await ports.work.put("tool", ALPHA, b"new")
            assert (await anext(items)).data == b"new"

    simulate(main)


def test_live_messages_requests_and_replies_get_lost_without_a_word() -> None:
    async def main(server: MemoryServer, loop: SimLoop) -> None:
        answered: list[bytes] = []

        async def answer(_ref: RunRef, data: bytes) -> bytes:
            answered.append(data)
            return data

        asking = server.backbone(
            faults=Script(request=Fault(Kind.DROP), live_publish=[Fault(Kind.DROP), OK])
        )
        serving = server.backbone(faults=Script(reply=Fault(Kind.DROP)))
        async with serving.requests.serve(answer), serving.live.subscribe(ALPHA) as heard:
            began = loop.time()
            assert await asking.requests.ask(ALPHA, b"lost", timeout_s=1) is None
            assert await asking.requests.ask(ALPHA, b"reply lost", timeout_s=1) is None
            assert await asking.requests.ask(ALPHA, b"fine", timeout_s=1) == b"fine"
            assert loop.time() - began == pytest.approx(2, abs=0.01)
            assert answered == [b"reply lost", b"fine"]
            await asking.live.publish(ALPHA, b"1")
            await asking.live.publish(ALPHA, b"2")
            assert await anext(heard) == (ALPHA, b"2")

    simulate(main)


def test_a_blob_with_other_bytes_is_an_integrity_violation() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone()
        digest = await ports.blobs.put("acme", b"right")
        server.blobs["acme", digest] = b"wrong"
        with pytest.raises(IntegrityViolated):
            await ports.blobs.get("acme", digest)

    simulate(main)


def test_a_paused_process_stands_still_and_then_goes_on() -> None:
    async def main(server: MemoryServer, loop: SimLoop) -> None:
        ports = server.backbone(faults=Script(lease_renew=[OK, Fault(pause_s=60)]))
        other = server.backbone()
        await ports.leases.renew("e1", b"x")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ports.leases.renew("e1", b"y"))
            await asyncio.sleep(1)
            tasks.create_task(ports.log.append(ALPHA, b"1", expected_seq=0))
            await asyncio.sleep(35)
            assert await other.leases.live() == {}
            assert stored(server) == []
        assert loop.time() == pytest.approx(60, abs=0.1)
        assert stored(server) == [b"1"]
        assert await other.leases.live() == {"e1": b"y"}

    simulate(main)


def test_a_note_can_be_stored_unheard_or_refused_as_a_conflict_or_lost_on_its_way() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone(
            faults=Script(limit_note=[Fault(Kind.LOST_ACK), Fault(Kind.CONFLICT), OK, OK])
        )
        deaf = server.backbone(faults=Script(limit_deliver=[Fault(Kind.DROP), OK]))
        async with deaf.limits.watch() as heard:
            assert await anext(heard) is None
            with pytest.raises(Unavailable):
                await ports.limits.note(SCOPE, b"1", expected=0)
            assert server.limits.notes[SCOPE].data == b"1"
            with pytest.raises(Conflict, match=r"^wrong last sequence$"):
                await ports.limits.note(SCOPE, b"2", expected=1)
            await ports.limits.note(SCOPE, b"2", expected=1)
            noted = await anext(heard)
            assert noted is not None
            assert noted.data == b"2"

    simulate(main)
