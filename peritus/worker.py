"""Puts one worker process together from its parts: the same in production, tests and simulation."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from commands.client import CommandClient
from commands.desk import WORK_LANES, Desk, no_definitions
from commands.hands import Hands
from commands.history import SNAPSHOT_BYTES_MIN
from commands.runs import RunStore
from domain.definition import Definition
from domain.policy import PolicyRule
from domain.redaction import Redactor
from domain.tools import Lane, LocalTool
from eventlog.port import RENEW_S, Answer, Backbone, Requests, Topic
from services.loop.generations import Generate
from services.loop.service import LoopLimits, LoopService
from services.worker.asks import LogAsks
from services.worker.cancels import Cancels
from services.worker.executor import Executor
from services.worker.hands import Bench, Post
from services.worker.keeper import Keeper
from services.worker.reporter import LocalReporter, RemoteReporter, Reporter
from services.worker.signs import Signs
from services.worker.toolbox import ToolBox

CALLS_MAX = 64
"""How many calls of one lane a worker runs at once."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker is made of. `generate` None: no loop service; `toolboxes` by lane served."""

    backbone: Backbone
    epoch: str
    now_ms: Callable[[], int]
    new_id: Callable[[], str]
    certainly_dead: Callable[[str], bool]
    generate: Generate | None = None
    toolboxes: Mapping[Lane, ToolBox] = field(default_factory=dict[Lane, ToolBox])
    local_tools: Mapping[str, LocalTool] = field(default_factory=dict[str, LocalTool])
    handoff: bool = True  # give work to this process's own executors without a queue
    calls_max: int = CALLS_MAX
    loop_limits: LoopLimits = field(default_factory=LoopLimits)
    renew_s: float = RENEW_S
    snapshot_bytes_min: int = SNAPSHOT_BYTES_MIN
    hands: Callable[[Bench], Hands] = lambda bench: bench  # what the desk hands work to
    redactor: Callable[[], Redactor] = Redactor
    operator_rules: tuple[PolicyRule, ...] = ()
    parse_definition: Callable[[str], Definition] = no_definitions
    asks: LogAsks | None = None  # how calls of its toolboxes ask people, and the run's model
    beside: tuple[Callable[[], Awaitable[None]], ...] = ()  # what runs as long as the worker
    answers: Mapping[Topic, Answer] = field(default_factory=dict[Topic, Answer])
    """What this worker answers, beside what its loop service does."""
    keepers: Mapping[Lane, Callable[[Reporter], Keeper]] = field(
        default_factory=dict[Lane, Callable[[Reporter], Keeper]]
    )


async def run_worker(parts: WorkerParts, ready: Callable[[Desk], None] = lambda _: None) -> None:
    """Serve until cancelled. `ready` gets the desk once everything listens.

    Raises:
        Unavailable: the store could not be reached at the start.
    """
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        bench = Bench(tasks, handoff=parts.handoff)
        runs = RunStore(
            parts.backbone,
            epoch=parts.epoch,
            now_ms=parts.now_ms,
            new_id=parts.new_id,
            snapshot_bytes_min=parts.snapshot_bytes_min,
        )
        names = (("loop",) if parts.generate else ()) + tuple(str(x) for x in parts.toolboxes)
        signs = Signs(
            parts.backbone.leases,
            parts.epoch,
            names,
            bench.holds,
            parts.certainly_dead,
            parts.renew_s,
        )
        desk = Desk(
            parts.backbone,
            runs,
            parts.hands(bench),
            parts.epoch,
            parts.new_id,
            parts.local_tools,
            signs.gone,
            parts.redactor,
            parts.operator_rules,
            parts.parse_definition,
        )
        for number, run in enumerate(parts.beside):
            tasks.create_task(_beside(run), name=f"beside {number}")
        for topic, answer in parts.answers.items():
            listens = asyncio.Event()
            answering = _answering(parts.backbone.requests, topic, answer, listens)
            tasks.create_task(answering, name=f"answers {topic}")
            await listens.wait()
        await signs.renew()  # before any work can be held by this epoch
        tasks.create_task(signs.run(), name="signs of life")
        reporter = _reporter(parts, desk)
        if parts.asks is not None:
            tasks.create_task(parts.asks.run(reporter), name="asks")
        for executor in _executors(parts, reporter, bench):
            tasks.create_task(executor.run(), name=f"executor {executor.lane}")
        if parts.generate is None:
            tasks.create_task(Cancels(parts.backbone.log, bench).run(), name="cancels")
            ready(desk)
            return
        loop = LoopService(desk, bench, signs, parts.generate, parts.loop_limits)
        tasks.create_task(loop.run(lambda: ready(desk)), name="loop")


async def _beside(run: Callable[[], Awaitable[None]]) -> None:
    await run()


async def _answering(
    requests: Requests, topic: Topic, answer: Answer, listens: asyncio.Event
) -> None:
    async with requests.serve(answer, topic=topic):
        listens.set()
        await asyncio.get_running_loop().create_future()


def _reporter(parts: WorkerParts, desk: Desk) -> Reporter:
    """The executors' way back to their runs."""
    if parts.generate:
        return LocalReporter(desk)
    return RemoteReporter(CommandClient(parts.backbone, parts.redactor))


def _executors(parts: WorkerParts, reporter: Reporter, bench: Bench) -> list[Executor]:
    """One executor for each lane served here, manned so that work can be handed over directly."""
    executors = [
        Executor(
            lane=WORK_LANES[lane],
            toolbox=toolbox,
            reporter=reporter,
            backbone=parts.backbone,
            bench=bench,
            epoch=parts.epoch,
            now_ms=parts.now_ms,
            in_flight_max=parts.calls_max,
            redactor=parts.redactor,
            keeper=parts.keepers[lane](reporter) if lane in parts.keepers else None,
        )
        for lane, toolbox in parts.toolboxes.items()
    ]
    bench.man(
        lanes={
            lane: Post(executor.execute, parts.calls_max)
            for lane, executor in zip(parts.toolboxes, executors, strict=True)
        }
    )
    return executors
