"""Viewers of logs made anew, viewers that are too slow, and what the hub keeps and lets go."""

import asyncio
from dataclasses import replace

import pytest

from domain import events as e
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.owners import Owners, Whose
from eventlog.port import Page
from gateway.streams.bounds import Bounds
from gateway.streams.feed import Feed
from gateway.streams.hub import Hub
from gateway.streams.places import find_place, start_of
from gateway.streams.sayings import Sayings
from gateway.streams.viewer import Viewer
from tests.support.pen import Pen, completed, started
from tests.unit.streams.worlds import (
    NOTE,
    OTHER,
    REF,
    STEPS_MAX,
    WindingLog,
    World,
    events_of,
    read_all,
)

QUICK = Bounds(retry_s=0)
FEED = Feed(REF, root=REF)


async def settle() -> None:
    """Give everything that can go on without the clock its turn."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("asked", [None, "a0-1-1"])
@pytest.mark.parametrize("ring", [1, 4_096])
def test_a_log_made_anew_at_any_moment_is_told_from_its_start_after_a_reset(
    asked: str | None, ring: int
) -> None:
    """Two incarnations: nothing of the second is told as if it were the first's (C9)."""

    async def life(at: int) -> bytes:
        server = MemoryServer(now_ms=lambda: 0)
        backbone = server.backbone()
        pen = Pen(REF)
        await pen.write(backbone.log, *started())
        await pen.write(backbone.log, NOTE, NOTE)
        log = WindingLog(backbone.log, 0)
        bounds = replace(QUICK, ring_envelopes=ring)
        hub = Hub(replace(backbone, log=log), bounds, asyncio.Event())
        world = World((0, 0, 0), ring, 256, asked, 0, 0)
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(hub.run())
            reading = tasks.create_task(read_all(hub, world, Viewer))
            for step in range(30):
                if step == at:
                    server.log.remake("b1")
                    pen = Pen(REF)
                    await pen.write(backbone.log, *started("critic"))
                    await pen.write(backbone.log, NOTE)
                await asyncio.sleep(0)
            await pen.write(backbone.log, *completed(1))
            for _ in range(STEPS_MAX):
                if reading.done():
                    break
                await asyncio.sleep(0)
            feeding.cancel()
        return reading.result()

    first_life = [f"a0-1-{index}" for index in range(4)] + ["a0-2-0", "a0-2-1"]
    begun = first_life.index(asked) + 1 if asked else 0
    second_life = [*(f"b1-1-{index}" for index in range(4)), "b1-2-0"]
    second_life += [f"b1-3-{index}" for index in range(3)]
    for at in range(30):
        stream = asyncio.run(life(at))
        ids = [found for found, kind in events_of(stream) if "." in kind]
        old = [found for found in ids if found.startswith("a0")]
        assert old == first_life[begun : begun + len(old)]
        assert ids[len(old) :] == second_life
        assert b"critic" not in stream.partition(b"id: b1-")[0]
        kinds = [kind for _, kind in events_of(stream)]
        assert kinds[-1] == "end"
        assert kinds.count("reset") == 1 if asked or old else kinds.count("reset") <= 1


def test_a_viewer_that_stays_behind_is_told_goodbye_with_its_place() -> None:
    async def scenario() -> None:
        server = MemoryServer(now_ms=lambda: 0)
        backbone, pen = server.backbone(), Pen(REF)
        await pen.write(backbone.log, *started())
        hub = Hub(backbone, replace(QUICK, inbox_envelopes=2, behind_s=-1), asyncio.Event())
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(hub.run())
            await hub.opened()
            slow, quick = (Viewer(hub, FEED, start_of("a0")) for _ in range(2))
            taken = [await slow.take(), await slow.take()]
            waiting = tasks.create_task(slow.take())
            await settle()
            waiting.cancel()
            for _ in range(6):
                await pen.write(backbone.log, NOTE)
                await settle()
            (_, said), *_ = events_of(goodbye := await slow.take())
            assert said == "goodbye"
            assert b'"reason":"slow"' in goodbye
            assert await slow.take() == b""
            last = events_of(b"".join(taken))[-1][0]
            assert events_of(goodbye)[0][0] == last
            again = Viewer(hub, FEED, await find_place(hub.log, FEED, last))
            told = await again.take() + await again.take()
            assert next(found for found, kind in events_of(told) if "." in kind) == "a0-2-0"
            assert b"run.started" in await quick.take() + await quick.take()
            feeding.cancel()

    asyncio.run(scenario())


def test_live_frames_that_did_not_fit_are_made_good_by_what_was_said_so_far() -> None:
    async def scenario() -> None:
        server = MemoryServer(now_ms=lambda: 0)
        backbone, pen = server.backbone(), Pen(REF)
        await pen.write(backbone.log, *started())
        hub = Hub(backbone, replace(QUICK, inbox_envelopes=2), asyncio.Event())
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(hub.run())
            await hub.opened()
            viewer = Viewer(hub, replace(FEED, live=True), start_of("a0"))
            chunks = [await viewer.take(), await viewer.take()]
            waiting = tasks.create_task(viewer.take())
            await settle()
            for offset in range(9):
                said = b'{"type":"delta.v1","step":1,"attempt":1,"kind":"text","part":0,'
                said += b'"offset":%d,"text":"%d","tool":""}' % (offset, offset)
                await backbone.live.publish(REF, said)
                if offset == 0:
                    await settle()
            await settle()
            chunks += [await waiting, await viewer.take(), await viewer.take()]
            stream = b"".join(chunks)
            assert b'"text":"012345678"' in stream
            assert [kind for _, kind in events_of(stream)][-1] == "so_far"
            feeding.cancel()

    asyncio.run(scenario())


class CountingLog(WindingLog):
    """Counts what is read of it."""

    reads = 0

    async def read(
        self,
        *,
        after_seq: int,
        tenant: str = "*",
        job: str = "*",
        run: str = "*",
        limit: int = 1000,
    ) -> Page:
        self.reads += 1
        return await super().read(after_seq=after_seq, tenant=tenant, job=job, run=run, limit=limit)


def test_viewers_that_come_together_share_what_is_read_and_the_very_bytes() -> None:
    async def reads_of(count: int) -> int:
        backbone, pen = MemoryServer(now_ms=lambda: 0).backbone(), Pen(REF)
        await pen.write(backbone.log, *started())
        for _ in range(9):
            await pen.write(backbone.log, NOTE)
        log = CountingLog(backbone.log, 0)
        hub = Hub(replace(backbone, log=log), QUICK, asyncio.Event())
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(hub.run())
            await hub.opened()
            viewers = [Viewer(hub, FEED, start_of("a0")) for _ in range(count)]
            for _ in range(1 + 5):  # a hello, and pages of two envelopes
                async with asyncio.TaskGroup() as takers:
                    for viewer in viewers:
                        takers.create_task(viewer.take())
            waiting = [tasks.create_task(viewer.take()) for viewer in viewers]
            await settle()
            await pen.write(backbone.log, NOTE)
            await settle()
            assert len({id(one.result()) for one in waiting}) == 1
            feeding.cancel()
        return log.reads

    assert asyncio.run(reads_of(50)) == asyncio.run(reads_of(1))


def kept_by(hub: Hub) -> list[tuple[str, int]]:
    kept = hub.ring.after(0, Feed(RunRef("acme", "*", "*")), 10)
    assert kept is not None
    return [(entry.ref.run, entry.seq) for entry in kept]


def test_what_is_kept_of_a_deleted_job_goes_with_it_and_nothing_of_one_that_speaks_of_it() -> None:
    async def scenario() -> None:
        server = MemoryServer(now_ms=lambda: 0)
        backbone, pen, other = server.backbone(), Pen(REF), Pen(OTHER)
        hub = Hub(backbone, QUICK, asyncio.Event())
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(hub.run())
            await hub.opened()
            await pen.write(backbone.log, *started())
            await other.write(backbone.log, *started())
            said = {"text": 'it says "run.deleted.v1"', "content": {"type": "run.deleted.v1"}}
            await pen.write(backbone.log, e.OpaqueEvent(type="remark.v1", body=said))
            await settle()
            assert kept_by(hub) == [("alpha", 1), ("beta", 2), ("alpha", 3)]
            await pen.write(backbone.log, e.OpaqueEvent(type="run.deleted.v9", body={}))
            await settle()
            assert kept_by(hub) == [("beta", 2), ("alpha", 4)]
            feeding.cancel()

    asyncio.run(scenario())


def delta(number: int, text: str) -> dict[str, object]:
    names = {"type": "delta.v1", "step": number, "attempt": 1, "kind": "text", "part": 0}
    return {**names, "offset": 0, "text": text, "tool": ""}


def heard(sayings: Sayings) -> int:
    return len(sayings.frames(lambda _: True))


def test_replies_in_the_making_are_bounded_in_number_size_and_time() -> None:
    now_s = 0.0
    sayings = Sayings(Bounds(replies=3, replies_bytes=100, replies_s=10), lambda: now_s)
    refs = [RunRef("t", "j", f"r{index}") for index in range(5)]
    for ref in refs:
        sayings.hear(ref, delta(1, "x" * 20))
    assert heard(sayings) == 3
    sayings.hear(refs[0], delta(1, "y" * 90))
    assert heard(sayings) == 1
    now_s = 11.0
    sayings.hear(refs[1], delta(1, "z"))
    assert heard(sayings) == 1
    assert b"z" in sayings.frames(lambda _: True)[0]


@pytest.mark.anyio
async def test_owners_forget_the_oldest_and_read_it_again() -> None:
    log = MemoryServer(now_ms=lambda: 0).backbone().log
    owners = Owners(log, known_max=1)
    pens = [Pen(RunRef("t", "j", name)) for name in ("one", "two")]
    for pen in pens:
        await pen.write(log, *started(pen.ref.run))
        await pen.write(log, NOTE)
    for pen in (*pens, *pens):
        assert await owners.of(pen.written[-1][1]) == Whose(pen.ref.run)
