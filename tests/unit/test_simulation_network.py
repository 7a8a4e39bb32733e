"""The seeded faults over the in-memory ports. Not the system that must survive them."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from domain.errors import AppendUnknown, Conflict, Unavailable
from domain.ids import RunRef
from eventlog.memory import Crashed, FaultPoint, Kind, MemoryServer
from eventlog.port import Backbone
from peritus.simulation.loop import SimLoop, run
from peritus.simulation.network import MAY, FaultPlan, Rates

RUNS = [RunRef("acme", "job", f"run{i}") for i in range(6)]
EACH = 25
COMMANDS = 200


async def append_surely(ports: Backbone, ref: RunRef, data: bytes) -> None:
    """Append exactly once whatever happens, as a careful writer does: look before each try."""
    while True:
        with suppress(Conflict, Unavailable):
            stored = await ports.log.load(ref)
            if any(s.data == data for s in stored):
                return
            after = stored[-1].seq if stored else 0
            try:
                await ports.log.append(ref, data, expected_seq=after)
            except AppendUnknown:
                await asyncio.sleep(1)


async def append_for_ever(ports: Backbone) -> None:
    while True:
        with suppress(Conflict, Unavailable):
            last = (await ports.log.bounds())[1]
            await ports.log.append(RUNS[0], b"x", expected_seq=last)


@dataclass
class World:
    """A server in a storm, and what came out of it."""

    plan: FaultPlan
    server: MemoryServer
    done: set[bytes] = field(default_factory=set[bytes])
    seen: list[int] = field(default_factory=list[int])

    def ports(self, name: str) -> Backbone:
        return self.server.backbone(faults=self.plan.client(name))

    def settled(self) -> bool:
        return (
            len(self.done) == COMMANDS
            and self.seen[-1:] == [len(self.server.log.all)]
            and not self.server.commands.queue.messages
        )


async def write(world: World, name: str) -> None:
    ports = world.ports(name)
    for i in range(EACH):
        for ref in RUNS:
            await append_surely(ports, ref, f"{name} {i}".encode())


async def send(world: World) -> None:
    ports = world.ports("sender")
    for i in range(COMMANDS):
        while True:
            with suppress(Unavailable):
                await ports.commands.put(RUNS[0], b"%d" % i, message_id=f"m{i}")
                break


async def work(world: World, name: str) -> None:
    async with world.ports(name).commands.consume(in_flight_max=4) as items:
        async for delivery in items:
            world.done.add(delivery.data)
            await delivery.ack()


async def read(world: World) -> None:
    ports = world.ports("reader")
    while True:
        after = world.seen[-1] if world.seen else 0
        with suppress(Unavailable):
            async with ports.log.follow(after_seq=after) as items:
                async for stored in items:
                    world.seen += [stored.seq]


async def stormy(loop: SimLoop) -> World:
    """Two writers race on each run, commands go round until acknowledged, a reader follows."""
    plan = FaultPlan(7, Rates(pause=0.002, late=0.02, duplicated=0.1))
    world = World(plan, MemoryServer(now_ms=loop.now_ms, faults=plan))
    async with asyncio.TaskGroup() as tasks:
        serving = [tasks.create_task(work(world, name)) for name in ("w1", "w2")]
        serving.append(tasks.create_task(read(world)))
        async with asyncio.TaskGroup() as writers:
            writers.create_task(write(world, "a"))
            writers.create_task(write(world, "b"))
            writers.create_task(send(world))
        plan.heal()
        for _ in range(1000):
            await asyncio.sleep(1)
            if world.settled():
                break
        for task in serving:
            task.cancel()
    return world


def test_in_a_storm_nothing_acknowledged_is_lost_and_readers_miss_nothing() -> None:
    world = run(stormy, 1)
    assert world.settled()
    assert world.seen == list(range(1, len(world.server.log.all) + 1))
    written = sorted(f"{n} {i}".encode() for n in "ab" for i in range(EACH))
    for ref in RUNS:
        stored = {s.data for s in world.server.log.load(ref, 0, stale=False)}
        assert sorted(stored) == written


def test_a_storm_has_every_kind_of_weather() -> None:
    counts = run(stormy, 1).plan.counts
    whats = {what for _, what in counts}
    assert whats >= {"lost", "lost_answer", "late", "refused", "conflict", "stale", "slow", "pause"}
    assert counts[FaultPoint.COMMAND_DELIVER, "duplicated"] > 0


def test_every_point_has_its_faults() -> None:
    assert set(MAY) == set(FaultPoint)
    for choices in MAY.values():
        assert all(hasattr(Rates(), name) for name, _ in choices)


def test_the_log_never_forgets_and_never_repeats_what_it_acknowledged() -> None:
    kept = set(MAY) - {
        FaultPoint.WORK_PUT,
        FaultPoint.SNAPSHOT_PUT,
        FaultPoint.SNAPSHOT_GET,
    }
    assert not any(kind is Kind.VANISH for point in kept for _, kind in MAY[point])


def test_a_healed_plan_injects_nothing() -> None:
    async def main(loop: SimLoop) -> int:
        plan = FaultPlan(1, Rates(lost=0.9))
        client = MemoryServer(now_ms=loop.now_ms).backbone(faults=plan.client("a"))
        plan.client("a").cut()
        plan.heal()
        for i in range(200):
            await client.log.append(RUNS[0], b"x", expected_seq=i)
        return len(plan.trace)

    assert run(main, 1) == 0


def test_a_cut_client_reaches_nobody() -> None:
    async def main(loop: SimLoop) -> None:
        plan = FaultPlan(1)
        server = MemoryServer(now_ms=loop.now_ms)
        ports = server.backbone(faults=plan.client("a"))
        plan.client("a").cut()
        with pytest.raises(AppendUnknown):
            await ports.log.append(RUNS[0], b"x", expected_seq=0)
        assert server.log.all == []

    run(main, 1)


def test_a_clients_faults_do_not_depend_on_what_the_others_do() -> None:
    async def faults_of_b(loop: SimLoop, calls_of_a: int) -> list[object]:
        del loop
        plan = FaultPlan(3)
        for _ in range(calls_of_a):
            plan.client("a").at(FaultPoint.APPEND)
        return [plan.client("b").at(FaultPoint.APPEND) for _ in range(50)]

    first = run(lambda loop: faults_of_b(loop, 0), 1)
    assert first == run(lambda loop: faults_of_b(loop, 17), 1)


def test_a_dead_client_is_dead_under_any_plan() -> None:
    async def main(loop: SimLoop) -> None:
        plan = FaultPlan(1)
        server = MemoryServer(now_ms=loop.now_ms)
        client = server.client(faults=plan.client("a"))
        ports = server.ports(client)
        loop.call_later(5, client.crash)
        with pytest.raises(Crashed):
            await append_for_ever(ports)
        with pytest.raises(Crashed):
            await ports.log.bounds()

    run(main, 1)
