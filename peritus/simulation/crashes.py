"""One job, one crash at a named point of the ports, and what must hold after it. Not random."""

import asyncio
import random

from commands.client import CommandClient
from domain.commands import StartRun
from domain.content import TextPart
from domain.ids import RunRef
from eventlog.memory import CrashAt, FaultPoint, MemoryServer
from peritus.simulation.actors import definition
from peritus.simulation.loop import SimLoop, run
from peritus.simulation.network import CALM, FaultPlan
from peritus.simulation.world import TENANT, Node, World, watch

SEED = 5
"""A world whose job delegates, calls every tool and is long enough to pass each point often."""

REBOOT_S = 1.0

SHAPES = {
    "alone": (Node("n0", loop=True, tools=True, handoff=True),),
    "queued": (Node("n0", loop=True, tools=True, handoff=False),),
    "apart": (
        Node("n0", loop=True, tools=False, handoff=False),
        Node("n1", loop=False, tools=True, handoff=False),
    ),
}
"""The deployments a crash is tried in: work handed over, queued, or between two processes."""


def crash(shape: str, point: FaultPoint, *, after: bool, occurrence: int) -> list[str] | None:
    """The problems after a crash at that passage; None when the job never gets that far."""
    return run(
        lambda loop: _crash(loop, shape, CrashAt(point, after=after, occurrence=occurrence)),
        SEED,
        virtual_s_max=4_000,
    )


async def _crash(loop: SimLoop, shape: str, hook: CrashAt) -> list[str] | None:
    plan = FaultPlan(SEED, CALM)
    server = MemoryServer(now_ms=loop.now_ms, faults=plan)
    world = World(SEED, loop, random.Random(SEED), plan, server)
    auditor = watch(world)
    world.nodes = [Node(n.name, n.loop, n.tools, n.handoff) for n in SHAPES[shape]]
    person = server.backbone(faults=plan.client("people"))
    digest = await person.blobs.put(TENANT, definition().to_bytes())
    ref = RunRef(TENANT, "j0", "r0")
    start = StartRun(
        id="start", expert="boss", definition=digest, parts=(TextPart(text="go" * 30_000),)
    )
    async with asyncio.TaskGroup() as tasks:
        keepers = [tasks.create_task(_keep(world, node, hook)) for node in world.nodes]
        world.ledger.starts[ref] = start.id
        await CommandClient(person).submit(ref, start, start.id)
        await world.settle()
        for keeper in keepers:
            keeper.cancel()
    crashed = any(node.life > 1 for node in world.nodes)
    problems = auditor.close()
    return problems if crashed or problems else None


async def _keep(world: World, node: Node, hook: CrashAt) -> None:
    """Keep a worker running: after its crash it comes back, with a new epoch."""
    while True:
        async with asyncio.TaskGroup() as tasks:
            world.boot(node, tasks, hook)
        await asyncio.sleep(REBOOT_S)
