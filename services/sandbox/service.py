"""The sandbox lane of one process, put together: rooms, tools, keeper, what runs beside them.

Not the queue, and not the choice of a backend: `SandboxParts` brings it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from domain.commands import RecordToolResult
from domain.definition import Definition
from domain.ids import RunRef
from domain.record import canonical
from domain.redaction import Redactor
from domain.work import CallToolWork, SnapshotWork
from eventlog.port import Backbone
from services.sandbox.box import Means, Reveal
from services.sandbox.egress.broker import Broker
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.journal import Journal
from services.sandbox.journal_file import JournalFiles
from services.sandbox.keeper import JobKeeper
from services.sandbox.live import Denials
from services.sandbox.merging import Merging
from services.sandbox.placement import Held, Here, Placements, WorkspaceKind
from services.sandbox.policy import OperatorPolicy
from services.sandbox.port import Backend, CapabilityReport
from services.sandbox.residents import Residents
from services.sandbox.results import Results
from services.sandbox.rooms import Life, Rooms, Whose, Workspaces
from services.sandbox.snapshots.local import Look
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.snapshotting import Snapshotting
from services.sandbox.toolbox import KeptToolBox, Seats
from services.sandbox.tools import BaseToolBox
from services.sandbox.tools.processes import Processes
from services.worker.keeper import Admission, Elsewhere, Keeper, Later
from services.worker.reporter import Reporter

logger = logging.getLogger(__name__)

REAP_S = 60.0
"""How often what dead workers left is looked for, in seconds (C10)."""

DEFINITIONS_MAX = 256


@dataclass(frozen=True, slots=True)
class SandboxParts:
    """What the sandbox lane of a process is made of."""

    backbone: Backbone
    place: str
    epoch: str
    state: Path  # of the place: journals, snapshots on their way
    workspaces: Workspaces
    operator: OperatorPolicy
    backend: Callable[[], Awaitable[tuple[Backend, CapabilityReport]]]
    egress: EgressSettings
    reveal: Reveal
    redactor: Callable[[], Redactor]
    secrets_key: Callable[[], str]  # names the set of secrets the redactor knows
    alive: Callable[[frozenset[str]], Callable[[str], bool]]  # given the epochs with a lease
    now_s: Callable[[], float]
    idle_s: float


class SandboxService:
    """The lane's toolbox, and its keeper for each reporter."""

    def __init__(self, parts: SandboxParts, tasks: asyncio.TaskGroup) -> None:
        """`tasks` owns everything that runs beside the calls."""
        self._parts = parts
        self._tasks = tasks
        self._files = JournalFiles(parts.state / "journal")
        self._journal = Journal(self._files, parts.place, parts.epoch)
        self._placements: Placements | None = None
        self._isolated: set[RunRef] = set()
        self._chosen: tuple[Backend, CapabilityReport] | None = None
        self._choosing = asyncio.Lock()
        self._beside: list[asyncio.Task[None]] = []
        self._broker: Broker | None = None
        self._definitions: dict[tuple[str, str], Definition] = {}
        processes = Processes(tasks)
        store = SnapshotStore(parts.state / "snapshots", parts.backbone.blobs)
        self._merging = Merging(
            parts.state / "isolated",
            parts.workspaces,
            store,
            parts.backbone.blobs,
            lambda: parts.operator.limits,
        )
        residents = Residents(
            parts.state,
            parts.backbone.blobs,
            processes,
            held=self._held,
            copy=self._merging.copy,
        )
        self._rooms = Rooms(
            parts.workspaces,
            parts.operator,
            Means(self._backend, self._proxy, parts.reveal),
            self._definition,
            residents=residents,
            life=Life(parts.place, parts.epoch, parts.idle_s),
        )
        self._snapshotting = Snapshotting(self._rooms, store, self._look, processes.busy)
        seats = Seats()
        results = Results(parts.backbone.log, parts.backbone.blobs)
        self.toolbox = KeptToolBox(
            self._rooms,
            BaseToolBox(seats.of, results.read, processes),
            seats,
            snapshotting=self._snapshotting,
            merging=self._merging,
            denials=Denials(parts.backbone.live),
        )

    def keeper(self, reporter: Reporter) -> Keeper:
        """Keeps jobs for this process, and answers for them by that reporter."""
        self._placements = Placements(self._here, reporter, self._journal, self._kind)
        inner = JobKeeper(self._placements, self._journal, reporter, self._snapshotting.take)
        return _Knowing(inner, self._know)

    async def report(self) -> CapabilityReport:
        """What the backend is worth: attacked at its first use.

        Raises:
            SandboxUnavailable: there is no sandbox here.
        """
        return (await self._choose())[1]

    async def reap(self) -> list[str]:
        """End what dead workers of this place left behind.

        Raises:
            Unavailable: nobody can say who lives.
        """
        backend = await self._backend()
        leased = frozenset(await self._parts.backbone.leases.live()) | {self._parts.epoch}
        ended = await backend.reap(self._parts.place, self._parts.alive(leased))
        return [*ended, *(f"journal of {name}" for name in self._files.tidy(self._parts.now_s()))]

    async def run(self) -> None:
        """Reap and tidy until cancelled."""
        while True:
            try:
                for line in await self.reap():
                    logger.warning("left by a worker that is gone: %s", line)
            except Exception:
                logger.exception("what dead workers left could not be looked for")
            await asyncio.sleep(REAP_S)

    async def close(self) -> None:
        """End every sandbox and the proxy; nothing of them is left."""
        for task in self._beside:
            task.cancel()
        await self._rooms.close()
        if self._broker is not None:
            await self._broker.close()
        if self._chosen is not None:
            await self._chosen[0].close()
        self._files.close()

    async def _choose(self) -> tuple[Backend, CapabilityReport]:
        async with self._choosing:
            if self._chosen is None:
                self._chosen = await self._parts.backend()
                for name, beside in (("reaper", self.run()), ("idle rooms", self._rooms.run())):
                    self._beside.append(self._tasks.create_task(beside, name=name))
            return self._chosen

    async def _backend(self) -> Backend:
        return (await self._choose())[0]

    async def _proxy(self) -> Broker:
        if self._broker is None:
            self._broker = Broker(self._parts.egress, self._tasks)
        return self._broker

    async def _here(self) -> Here:
        report = await self.report()
        parts = self._parts
        return Here(
            place=parts.place,
            epoch=parts.epoch,
            backend=report.backend,
            report=canonical(report).decode(),
            snapshots=parts.operator.snapshots,
        )

    def _held(self, ref: RunRef) -> Held | None:
        return None if self._placements is None else self._placements.held(ref)

    def _kind(self, ref: RunRef) -> WorkspaceKind:
        return "isolated" if ref in self._isolated else self._parts.workspaces.kind(ref)

    async def _know(self, whose: Whose) -> None:
        """Whether a run's workspace is its own, before it is placed."""
        if whose.parent and whose.ref not in self._isolated:
            allowance = await self._rooms.allowance(whose)
            if allowance.isolated:
                self._isolated.add(whose.ref)

    def _look(self, *, running: bool) -> Look:
        redactor = self._parts.redactor()
        return Look(
            limits=self._parts.operator.limits,
            withhold=redactor.finds,
            withhold_key=self._parts.secrets_key(),
            running=running,
        )

    async def _definition(self, tenant: str, digest: str) -> Definition:
        known = self._definitions.get((tenant, digest))
        if known is None:
            data = await self._parts.backbone.blobs.get(tenant, digest)
            known = Definition.model_validate_json(data)
            if len(self._definitions) >= DEFINITIONS_MAX:
                self._definitions.pop(next(iter(self._definitions)))
            self._definitions[tenant, digest] = known
        return known


class _Knowing:
    """A keeper that learns of a run what its work says, before it is placed."""

    def __init__(self, inner: Keeper, know: Callable[[Whose], Awaitable[None]]) -> None:
        self._inner = inner
        self._know = know

    async def admit(self, ref: RunRef, work: CallToolWork) -> Admission:
        await self._know(Whose(ref, work.expert, work.definition, work.parent))
        return await self._inner.admit(ref, work)

    async def ended(self, ref: RunRef, result: RecordToolResult) -> None:
        await self._inner.ended(ref, result)

    async def recorded(self, ref: RunRef, call: str) -> None:
        await self._inner.recorded(ref, call)

    async def snapshot(self, ref: RunRef, work: SnapshotWork) -> Elsewhere | Later | None:
        await self._know(Whose(ref, work.expert, work.definition, work.parent))
        return await self._inner.snapshot(ref, work)


@asynccontextmanager
async def open_service(parts: SandboxParts) -> AsyncGenerator[SandboxService]:
    """The lane of a process, ended with the context and with all that is in it."""
    async with asyncio.TaskGroup() as tasks:
        service = SandboxService(parts, tasks)
        try:
            yield service
        finally:
            await service.close()
