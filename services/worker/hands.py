"""The work this process is at: taken, bounded, stopped by run. Not what the work is."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from domain.decisions.asks import sampling_name
from domain.ids import RunRef
from domain.tools import Lane
from domain.work import CallToolWork, GenerateWork, SampleWork, SnapshotWork, Work
from services.worker.patience import Patience

logger = logging.getLogger(__name__)


BEGUN_MAX = 100_000
"""How many attempts a process remembers to have begun."""

STOPPED_MAX = 10_000
"""How many runs a process remembers to have stopped."""


class Task(NamedTuple):
    """The name of one piece of work: a run, and the attempt of its step or its call."""

    ref: RunRef
    name: str


def name_of(work: Work) -> str:
    """What a piece of work is called inside its run."""
    match work:
        case CallToolWork():
            return f"{work.call}.{work.attempt}"
        case SnapshotWork():
            return f"s{work.step}.{work.version}"
        case SampleWork():
            return sampling_name(work.ask)
        case GenerateWork():
            return f"g{work.step}.{work.attempt}"


def lane_of_work(work: Work) -> Lane | None:
    """Who does it: the executor of a lane, or whoever asks models (None)."""
    return None if isinstance(work, GenerateWork | SampleWork) else work.lane


class Stop:
    """Tells one piece of work that its run is being cancelled."""

    def __init__(self) -> None:
        """Not stopped."""
        self.requested = False
        self._scope: asyncio.Timeout | None = None

    def request(self) -> None:
        """Stop now: whatever runs inside `scope` is cancelled."""
        self.requested = True
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def scope(self, patience: Patience) -> AsyncGenerator[None]:
        """A scope that ends with TimeoutError at the timeout, or as soon as a stop is requested."""
        async with patience.scope() as scope:
            self._scope = scope
            if self.requested:
                self.request()
            try:
                yield
            finally:
                self._scope = None


Run = Callable[[RunRef, Work, Stop], Awaitable[None]]
"""Does one piece of claimed work to its end."""


@dataclass(frozen=True, slots=True)
class Post:
    """What this process can do: a way to do it and how much at once."""

    run: Run
    in_flight_max: int


class Bench:
    """All work in flight in this process. Fills the port `commands.hands.Hands`."""

    def __init__(self, tasks: asyncio.TaskGroup, *, handoff: bool = True) -> None:
        """`tasks` owns the work; `handoff` False sends all new work through WORK."""
        self._tasks = tasks
        self._handoff = handoff
        self._generation: Post | None = None
        self._lanes: dict[Lane, Post] = {}
        self._flight: dict[Task, Stop] = {}
        self._begun: OrderedDict[Task, None] = OrderedDict()
        self._stopped: OrderedDict[RunRef, int] = OrderedDict()
        self._count: dict[Lane | None, int] = {}

    def man(
        self, *, generation: Post | None = None, lanes: Mapping[Lane, Post] | None = None
    ) -> None:
        """Say who does generations and calls here; set once, before work comes."""
        self._generation = generation or self._generation
        self._lanes.update(lanes or {})

    def free(self) -> bool:
        """Whether there is room for one more generation here."""
        post = self._generation
        return self._handoff and post is not None and self._count.get(None, 0) < post.in_flight_max

    def free_lanes(self) -> frozenset[Lane]:
        """The lanes whose executor here has room for one more call."""
        if not self._handoff:
            return frozenset()
        return frozenset(
            lane
            for lane, post in self._lanes.items()
            if self._count.get(lane, 0) < post.in_flight_max
        )

    def take(self, ref: RunRef, work: Work) -> None:
        """Do this work, unless this process has begun it before. Never blocks."""
        task = self._begin(ref, work)
        if task is not None:
            self._tasks.create_task(self._do(task, work), name=f"{ref.run}/{task.name}")

    async def do(self, ref: RunRef, work: Work) -> None:
        """Do one piece of work to its end, unless this process has begun it before."""
        task = self._begin(ref, work)
        if task is not None:
            await self._do(task, work)

    def forget(self, ref: RunRef, work: Work) -> None:
        """It did not begin here after all: a later copy may."""
        self._begun.pop(Task(ref, name_of(work)), None)

    def begun(self, ref: RunRef, work: Work) -> bool:
        """Whether this process ever began that attempt: a late copy must not begin it again."""
        return Task(ref, name_of(work)) in self._begun

    def _begin(self, ref: RunRef, work: Work) -> Task | None:
        task = Task(ref, name_of(work))
        if task in self._begun:
            return None
        self._begun[task] = None
        while len(self._begun) > BEGUN_MAX:
            self._begun.popitem(last=False)
        self._flight[task] = Stop()
        return task

    async def _do(self, task: Task, work: Work) -> None:
        """The work itself, counted while it lasts."""
        lane = lane_of_work(work)
        post = self._generation if lane is None else self._lanes.get(lane)
        self._count[lane] = self._count.get(lane, 0) + 1
        try:
            if post is not None:
                await post.run(task.ref, work, self._flight[task])
        except Exception:
            # Of one run: the reconciler finds that nobody is at it, and has it done again.
            logger.exception("work %s of run %s broke", task.name, task.ref.run)
        finally:
            self._count[lane] -= 1
            self._flight.pop(task, None)

    def at(self, ref: RunRef, name: str) -> bool:
        """Whether this process is at that work now."""
        return Task(ref, name) in self._flight

    def stop(self, ref: RunRef, seq: int = 0) -> None:
        """The run is being cancelled, or at rest: its work here hears it.

        Files that are being stored are stored to the end: that changes nothing of the run. `seq`
        is where the log says so, if that is how it was heard.
        """
        self._stopped[ref] = max(seq, self._stopped.pop(ref, 0))
        while len(self._stopped) > STOPPED_MAX:
            self._stopped.popitem(last=False)
        for task, stop in tuple(self._flight.items()):
            if task.ref == ref and not task.name.startswith("s"):
                stop.request()

    def interrupt(self, ref: RunRef, step: int, attempt: int) -> None:
        """That attempt is abandoned: its call ends now, whatever it was about to say."""
        stop = self._flight.get(Task(ref, f"g{step}.{attempt}"))
        if stop is not None:
            stop.request()

    def stopped(self, ref: RunRef) -> int | None:
        """Where in the log a run was stopped (0: unknown), if it was the last that was heard."""
        return self._stopped.get(ref)

    def resume(self, ref: RunRef) -> None:
        """The run goes on."""
        self._stopped.pop(ref, None)

    def holds(self) -> tuple[str, ...]:
        """The names of all work in flight, as leases tell them: `<run>/<name>`."""
        return tuple(f"{task.ref.run}/{task.name}" for task in self._flight)
