"""One job, one crash at a named point of the ports, and what must hold after it. Not random."""

import asyncio
import random
from collections.abc import Mapping

from commands.client import CommandClient
from domain.commands import StartRun
from domain.content import TextPart
from domain.ids import RunRef
from domain.rate import Quota
from eventlog.memory import Client, CrashAt, FaultPoint, Hook, MemoryServer, NoHook
from peritus.simulation.actors import MODEL, definition
from peritus.simulation.loop import SimLoop, run
from peritus.simulation.network import CALM, FaultPlan
from peritus.simulation.world import TENANT, Node, World, watch

SEED = 231
"""A world whose job delegates, calls tools of both lanes, and is short but passes each point."""

REBOOT_S = 1.0

SHAPES = {
    "alone": (Node("n0", loop=True, tools=True, handoff=True),),
    "queued": (Node("n0", loop=True, tools=True, handoff=False),),
    "apart": (
        Node("n0", loop=True, tools=False, handoff=False),
        Node("n1", loop=False, tools=True, handoff=False),
    ),
    "moved": (
        Node("n0", loop=True, tools=True, handoff=True),
        Node("n1", loop=False, tools=True, handoff=False),
    ),
}
"""The deployments a crash is tried in: work handed over, queued, or between two processes; and one
where the disk of the worker is lost with it."""

ONE_AT_ONCE = {MODEL.provider: Quota(concurrency=1)}
"""With it every call of the model is noted; without, none is unless one was turned away."""

JOURNAL = "journal"
"""The point of all appends to journals of sandbox workers: beside those of the ports."""


class CrashAtJournal:
    """Kills the process that appends to a journal the n-th time, before or after it is there."""

    def __init__(self, *, after: bool, occurrence: int) -> None:
        self._after = after
        self._left = occurrence

    def reach(self, client: Client, after: bool) -> None:  # noqa: FBT001 - a plain callback
        """An append is about to be made, or was."""
        if after is self._after:
            self._left -= 1
            if self._left == 0:
                client.crash()


def crash(shape: str, point: str, *, after: bool, occurrence: int) -> list[str] | None:
    """The problems after a crash at that passage; None when the job never gets that far."""
    journal = CrashAtJournal(after=after, occurrence=occurrence) if point == JOURNAL else None
    hook = NoHook() if journal else CrashAt(FaultPoint(point), after=after, occurrence=occurrence)
    quotas = ONE_AT_ONCE if point == FaultPoint.LIMIT_NOTE else {}
    return run(lambda loop: _crash(loop, shape, hook, journal, quotas), SEED, virtual_s_max=4_000)


async def _crash(
    loop: SimLoop,
    shape: str,
    hook: Hook,
    journal: CrashAtJournal | None,
    quotas: Mapping[str, Quota],
) -> list[str] | None:
    plan = FaultPlan(SEED, CALM)
    server = MemoryServer(now_ms=loop.now_ms, faults=plan)
    world = World(SEED, loop, random.Random(SEED), plan, server, quotas=quotas)
    if journal is not None:
        world.reach = journal.reach
    auditor = watch(world)
    world.nodes = [Node(n.name, n.loop, n.tools, n.handoff) for n in SHAPES[shape]]
    person = server.backbone(faults=plan.client("people"))
    digest = await person.blobs.put(TENANT, definition().to_bytes())
    ref = RunRef(TENANT, "j0", "j0")
    start = StartRun(
        id="start", expert="boss", definition=digest, parts=(TextPart(text="go" * 30_000),)
    )
    async with asyncio.TaskGroup() as tasks:
        keepers = [tasks.create_task(_keep(world, node, hook, shape)) for node in world.nodes]
        world.ledger.starts[ref] = start.id
        await CommandClient(person).submit(ref, start, start.id)
        await world.settle()
        for keeper in keepers:
            keeper.cancel()
    crashed = any(node.life > 1 for node in world.nodes)
    problems = auditor.close()
    return problems if crashed or problems else None


async def _keep(world: World, node: Node, hook: Hook, shape: str) -> None:
    """Keep a worker running: after its crash it comes back, with a new epoch."""
    while True:
        async with asyncio.TaskGroup() as tasks:
            world.boot(node, tasks, hook)
        if shape == "moved":
            node.place = None
        await asyncio.sleep(REBOOT_S)
