"""How a process of the in-memory form dies, and what others see of it. Not its lesser faults."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.errors import Unavailable
from domain.ids import RunRef
from domain.rate import Scope
from eventlog.memory import (
    Client,
    CrashAt,
    Crashed,
    Fault,
    FaultPoint,
    Kind,
    MemoryServer,
)
from eventlog.memory.live import LISTENER_MESSAGES_MAX
from eventlog.port import Backbone, Delivery
from peritus.simulation.loop import SimLoop
from tests.contract.deployment import ALPHA, BETA
from tests.contract.test_memory_faults import Script, simulate, stored

P = FaultPoint
SCOPE = Scope("provider", "account", "model")


@pytest.mark.parametrize(("after", "expected"), [(False, []), (True, [b"1"])])
def test_a_process_can_die_before_or_after_an_append_is_stored(
    *, after: bool, expected: list[bytes]
) -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone(hook=CrashAt(P.APPEND, after=after))
        with pytest.raises(Crashed):
            await ports.log.append(ALPHA, b"1", expected_seq=0)
        assert stored(server) == expected
        with pytest.raises(Crashed):
            await ports.log.load(ALPHA)

    simulate(main)


@pytest.mark.parametrize(
    ("kind", "expected"), [(Kind.CRASH, []), (Kind.CRASH_AFTER, [b"1"])], ids=["before", "after"]
)
def test_a_fault_can_be_the_death_of_the_process(kind: Kind, expected: list[bytes]) -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        client = server.client(faults=Script(append=Fault(kind)))
        with pytest.raises(Crashed):
            await server.ports(client).log.append(ALPHA, b"1", expected_seq=0)
        assert client.dead
        assert stored(server) == expected

    simulate(main)


async def use_everything(ports: Backbone) -> None:
    """Pass every point a client can pass, some of them twice."""

    async def answer(_ref: RunRef, data: bytes) -> bytes:
        return data

    digest = await ports.blobs.put("acme", b"b")
    await ports.blobs.get("acme", digest)
    await ports.open_runs.add(ALPHA)
    await ports.log.append(ALPHA, b"1", expected_seq=(await ports.log.bounds())[1])
    await ports.log.load(ALPHA)
    await ports.log.find("acme", "alpha")
    async with ports.log.follow(after_seq=0) as items:
        await anext(items)
    await ports.snapshots.put(ALPHA, b"s")
    await ports.snapshots.get(ALPHA)
    await ports.work.put("step", ALPHA, b"w")
    async with ports.work.consume("step", in_flight_max=1) as work:
        await (await anext(work)).ack()
    await ports.commands.put_at(ALPHA, "t", 0, b"t")
    await ports.commands.put(ALPHA, b"c")
    async with ports.commands.consume(in_flight_max=1) as commands:
        await (await anext(commands)).ack()
    await ports.dead.put(ALPHA, b"d", "why")
    await ports.dead.remove((await ports.dead.list(1))[0].seq)
    await ports.leases.renew("e", b"x")
    await ports.leases.live()
    await ports.leases.drop("e")
    last = await ports.limits.last(SCOPE)
    async with ports.limits.watch() as notes:
        assert await anext(notes) is None
        await ports.limits.note(SCOPE, b"n", expected=last.revision if last else 0)
        await anext(notes)
    await ports.registry.remove("key", "acme", "one")
    await ports.registry.put("key", "acme", "one", b"r", expected=0)
    await ports.registry.get("key", "acme", "one")
    assert ALPHA in await ports.retention.runs("acme", "job1")
    await ports.retention.forget("umbrella", "none")
    await ports.live.publish(ALPHA, b"l")
    async with ports.requests.serve(answer):
        assert await ports.requests.ask(ALPHA, b"q", timeout_s=1) == b"q"
    await ports.open_runs.list()
    await ports.open_runs.remove(ALPHA)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", [p for p in FaultPoint if p is not P.TIMER_FIRE])
def test_a_process_can_die_at_every_point_and_then_does_nothing_more(
    point: FaultPoint, *, after: bool
) -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        client = server.client(hook=CrashAt(point, after=after))
        with pytest.raises(Crashed):
            await use_everything(server.ports(client))
        assert client.dead
        await use_everything(server.backbone())

    simulate(main)


def test_what_a_dead_process_held_goes_to_another_after_the_ack_wait() -> None:
    async def main(server: MemoryServer, loop: SimLoop) -> None:
        client = server.client()
        ports, other = server.ports(client), server.backbone()
        await ports.commands.put(ALPHA, b"held")
        await ports.commands.put(BETA, b"not looked at")
        async with ports.commands.consume(in_flight_max=8) as items:
            held = await anext(items)
            client.crash()
            with pytest.raises(Crashed):
                await held.ack()
            async with other.commands.consume(in_flight_max=8) as others:
                found = {(await anext(others)).data for _ in range(2)}
        assert found == {b"held", b"not looked at"}
        assert loop.time() == pytest.approx(30, abs=0.1)

    simulate(main)


def test_all_waits_of_a_dying_process_end_in_its_death() -> None:
    async def main(server: MemoryServer, loop: SimLoop) -> None:
        client = server.client(faults=Script(append=Fault(delay_s=100)))
        ports = server.ports(client)
        waits = [
            ports.log.append(ALPHA, b"1", expected_seq=0),
            first(ports.log.follow(after_seq=0)),
            first(ports.commands.consume(in_flight_max=1)),
            first(ports.live.subscribe(ALPHA)),
            serve_for_ever(ports, client),
        ]
        tasks = [loop.create_task(wait) for wait in waits]
        await asyncio.sleep(1)
        client.crash()
        await asyncio.wait(tasks)
        assert all(isinstance(task.exception(), Crashed) for task in tasks)

    simulate(main)


async def first(items: Any) -> object:
    async with items as found:
        return await anext(found)


async def serve_for_ever(ports: Backbone, client: Client) -> object:
    async def answer(_ref: RunRef, data: bytes) -> bytes:
        return data

    async with ports.requests.serve(answer):
        await asyncio.Event().wait()
    return client


def test_a_server_that_is_away_refuses_everything_and_delivers_nothing() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone()
        await ports.commands.put(ALPHA, b"kept")
        server.stop()
        server.stop()
        async with ports.commands.consume(in_flight_max=1) as items:
            with pytest.raises(Unavailable):
                await ports.log.append(ALPHA, b"1", expected_seq=0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(60):
                    await anext(items)
            await ports.live.publish(ALPHA, b"nobody hears")
            assert await ports.requests.ask(ALPHA, b"?", timeout_s=1) is None
            server.start()
            server.start()
            assert (await anext(items)).data == b"kept"

    simulate(main)


def test_a_taker_cancelled_as_it_is_woken_leaves_the_message_to_the_next() -> None:
    async def main(server: MemoryServer, loop: SimLoop) -> None:
        ports = server.backbone()
        async with ports.commands.consume(in_flight_max=4) as items:
            first_taker = loop.create_task(take_one(items))
            await asyncio.sleep(0.1)
            second_taker = loop.create_task(take_one(items))
            await asyncio.sleep(0.1)
            await ports.commands.put(ALPHA, b"c")
            first_taker.cancel()
            async with asyncio.timeout(1):
                assert await second_taker == b"c"

    simulate(main)


async def take_one(items: AsyncIterator[Delivery]) -> bytes:
    return (await anext(items)).data


def test_a_listener_that_never_takes_loses_what_does_not_fit() -> None:
    async def main(server: MemoryServer, _loop: SimLoop) -> None:
        ports = server.backbone()
        async with ports.live.subscribe(ALPHA) as heard:
            for i in range(LISTENER_MESSAGES_MAX + 10):
                await ports.live.publish(ALPHA, b"%d" % i)
            kept = [await anext(heard) for _ in range(LISTENER_MESSAGES_MAX)]
            assert kept[-1].data == b"%d" % (LISTENER_MESSAGES_MAX - 1)
            await ports.live.publish(ALPHA, b"fits again")
            assert await anext(heard) == (ALPHA, b"fits again")

    simulate(main)


def test_a_server_whose_answer_fails_stays_silent_and_serves_on() -> None:
    async def main(server: MemoryServer, loop: SimLoop) -> None:
        ports = server.backbone()

        async def answer(_ref: RunRef, data: bytes) -> bytes:
            if data == b"bad":
                raise Unavailable
            return data

        async with ports.requests.serve(answer):
            assert await ports.requests.ask(ALPHA, b"bad", timeout_s=3) is None
            assert loop.time() == pytest.approx(3, abs=0.01)
            assert await ports.requests.ask(ALPHA, b"good", timeout_s=3) == b"good"

    simulate(main)
