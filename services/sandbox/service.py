"""The sandbox lane of one process, put together: rooms, tools, keeper, what runs beside them.

Not the queue, and not the choice of a backend: `SandboxParts` brings it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from domain.commands import ClaimToolCall, RecordToolResult
from domain.content import TextPart
from domain.definition import Definition, Expert, sandbox_of
from domain.ids import RunRef
from domain.needles import BREAKS_MAX
from domain.record import canonical
from domain.redaction import Redactor
from domain.work import CallToolWork, SnapshotWork
from eventlog.port import Backbone, Blobs
from services.sandbox import lives
from services.sandbox.box import Means, Reveal
from services.sandbox.calling import NO_HOST, SkillCalls
from services.sandbox.discovery import Discovered, discover
from services.sandbox.due import Due
from services.sandbox.egress.broker import Broker
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.endings import is_over
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.journal import Journal
from services.sandbox.journal_file import JournalFiles
from services.sandbox.keeper import JobKeeper
from services.sandbox.live import Denials
from services.sandbox.merging import Merging
from services.sandbox.packages.fetching import Workshop
from services.sandbox.packages.settings import PackageSettings
from services.sandbox.packages.store import Packages
from services.sandbox.placement import Held, Here, Placements, WorkspaceKind
from services.sandbox.policy import OperatorPolicy
from services.sandbox.port import Backend, CapabilityReport, Kind, MakesAhead, Owner
from services.sandbox.residents import Residents
from services.sandbox.results import Results
from services.sandbox.returning import Returning
from services.sandbox.room import Room
from services.sandbox.rooms import Life, Rooms, Whose, Workspaces
from services.sandbox.scratch import Scratch, forget
from services.sandbox.skills import Skills
from services.sandbox.snapshots.local import Look
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.snapshotting import Snapshotting
from services.sandbox.toolbox import KeptToolBox, Seats
from services.sandbox.tools import BaseToolBox
from services.sandbox.tools.processes import Processes
from services.sandbox.warm import WarmBackend
from services.worker.keeper import Admission, Elsewhere, Keeper, Known, Later
from services.worker.reporter import Reporter
from services.worker.skills import SkillHost

logger = logging.getLogger(__name__)

REAP_S = 60.0
"""How often what dead workers left is looked for, in seconds (C10)."""

DEFINITIONS_MAX = 256

SCRATCH, PACKAGES = ".scratch", ".packages"
"""Folders beside the state: users as whom commands run must get to what is in them."""


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
    alive: Callable[[frozenset[str] | None], Callable[[str], bool]]
    """Who lives, given the epochs with a lease; None: not all have been heard of yet."""
    now_s: Callable[[], float]
    idle_s: float
    warm: int = 0  # sandboxes made ahead of need
    host: SkillHost | None = None  # who speaks with servers of skills
    looked_at: Path | None = None
    """What servers of no job see of files when they are asked what they offer; None: nothing."""
    packages: PackageSettings = field(default_factory=PackageSettings)
    packages_folder: Path | None = None  # None: beside the state
    store: Callable[[Path, Blobs], SnapshotStore] = SnapshotStore


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
        processes = Processes(tasks, parts.redactor)
        self._store = store = parts.store(parts.state / "snapshots", parts.backbone.blobs)
        self._scratch = Scratch(parts.state.with_name(SCRATCH), parts.epoch)
        self.due = Due(lambda ref: self._kind(ref) == "isolated")
        self._merging = Merging(
            parts.state / "isolated", parts.workspaces, lambda: parts.operator.limits
        )
        residents = Residents(
            Returning(parts.state, store, parts.operator.limits),
            store,
            processes,
            held=self._held,
            copy=self._merging.copy,
            over=partial(is_over, parts.backbone.log),
            host=parts.host,
        )
        self._rooms = Rooms(
            parts.workspaces,
            parts.operator,
            Means(self._backend, self._proxy, parts.reveal),
            self._definition,
            residents=residents,
            life=Life(parts.place, parts.epoch, parts.idle_s),
            scratch=self._scratch,
        )

        def running(room: Room) -> bool:
            return processes.busy(room) or bool(room.servers)

        self._snapshotting = Snapshotting(self._rooms, store, self._look, running, self.due)
        self._packages = _packages(parts, self._backend, tasks)
        self._skills = Skills(
            self._rooms, self._packages, parts.operator, backend=self._backend, tasks=tasks
        )
        self.toolbox = self._toolbox(processes)

    def _toolbox(self, processes: Processes) -> KeptToolBox:
        parts, seats = self._parts, Seats()
        results = Results(parts.backbone.log, parts.backbone.blobs)
        denials = Denials(parts.backbone.live, parts.redactor)
        return KeptToolBox(
            self._rooms,
            BaseToolBox(seats.of, results.read, processes, parts.redactor),
            seats,
            merging=self._merging,
            denials=denials,
            due=self.due,
            redactor=parts.redactor,
            remote=SkillCalls(
                self._rooms,
                self._skills,
                parts.host,
                denials=denials,
                due=self.due,
                redactor=parts.redactor,
            ),
        )

    def keeper(self, reporter: Reporter) -> Keeper:
        """Keeps jobs for this process, and answers for them by that reporter."""
        self._placements = Placements(self._here, reporter, self._journal, self._kind)
        inner = JobKeeper(self._placements, self._journal, reporter, self._snapshotting.take)
        return _Knowing(inner, reporter, self._parts.epoch, self._know, self.report, due=self.due)

    async def report(self) -> CapabilityReport:
        """What the backend is worth: attacked at its first use.

        Raises:
            SandboxUnavailable: there is no sandbox here.
        """
        return (await self._choose())[1]

    async def discover(self, ref: RunRef, expert: Expert, name: str) -> Discovered:
        """What the server of an expert's skill offers, started for that.

        It sees the files of the run's job, and changes none; where there are none, an empty folder.

        Raises:
            SkillFailed: it offers nothing that can be used; the message says why.
            Unavailable: it cannot be started here.
        """
        if self._parts.host is None:
            raise SandboxUnavailable(NO_HOST)
        found = await asyncio.to_thread(self._parts.workspaces.found, ref)
        folder = found or self._parts.looked_at
        return await discover(
            self._skills, self._parts.host, ref.tenant, expert, name, folder=folder
        )

    async def reap(self) -> list[str]:
        """End what dead workers of this place left behind.

        Raises:
            Unavailable: nobody can say who lives.
        """
        return await self._reap((await self._choose())[0])

    async def tidy(self, *, later_s: float = 0.0) -> None:
        """Close the rooms that have been idle for long, or will have been so much later."""
        await self._rooms.tidy(asyncio.get_running_loop().time() + later_s)

    async def run(self) -> None:
        """Reap until cancelled."""
        while True:
            await asyncio.sleep(REAP_S)
            if self._chosen is not None:
                await self._try_to_reap(self._chosen[0])

    async def close(self) -> None:
        """End every sandbox and the proxy; nothing of them is left."""
        for task in self._beside:
            task.cancel()
        await self._packages.close()
        await self._rooms.close()
        await asyncio.to_thread(self._scratch.close)
        await self._store.close()
        if self._broker is not None:
            await self._broker.close()
        if self._chosen is not None:
            await self._chosen[0].close()
            lives.end(self._parts.state, self._parts.epoch)
        self._files.close()

    async def _choose(self) -> tuple[Backend, CapabilityReport]:
        """The backend; nothing is run by it before what dead workers left here was ended."""
        async with self._choosing:
            if self._chosen is None:
                chosen = await self._parts.backend()
                lives.begin(self._parts.state, self._parts.epoch)
                backend = self._warmed(chosen[0])
                self._chosen = (backend, chosen[1])
                await self._try_to_reap(backend)
                beside = [("reaper", self.run()), ("idle rooms", self._rooms.run())]
                if isinstance(backend, WarmBackend):
                    beside.append(("sandboxes ahead", backend.run()))
                for name, work in beside:
                    self._beside.append(self._tasks.create_task(work, name=name))
            return self._chosen

    def _warmed(self, backend: Backend) -> Backend:
        """The backend with sandboxes made ahead, if the operator wants that."""
        parts = self._parts
        if not parts.warm:
            return backend
        if not isinstance(backend, MakesAhead):
            logger.warning("no sandboxes are made ahead: %s cannot do that", backend.name)
            return backend
        kind = Kind(Owner(parts.place, parts.epoch, "", "", ""), parts.operator.limits)
        return WarmBackend(backend, kind, parts.warm)

    async def _try_to_reap(self, backend: Backend) -> None:
        try:
            for line in await self._reap(backend):
                logger.warning("left by a worker that is gone: %s", line)
        except Exception:
            logger.exception("what dead workers left could not be looked for")

    async def _reap(self, backend: Backend) -> list[str]:
        parts = self._parts
        leases = parts.backbone.leases
        leased = frozenset(await leases.live()) if await leases.settled() else None
        alive = parts.alive(leased)
        ended = await backend.reap(parts.place, alive)
        lives.forget(parts.state, alive)
        await asyncio.to_thread(forget, parts.state.with_name(SCRATCH), alive)
        return [*ended, *(f"journal of {name}" for name in self._files.tidy(parts.now_s()))]

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
            definition = await self._definition(whose.ref.tenant, whose.definition)
            if sandbox_of(definition.expert(whose.expert)).workspace == "isolated":
                self._isolated.add(whose.ref)

    def _look(self, *, running: bool) -> Look:
        redactor = self._parts.redactor()
        return Look(
            limits=self._parts.operator.limits,
            withhold=redactor.finds,
            withhold_key=self._parts.secrets_key(),
            withhold_longest=redactor.longest * BREAKS_MAX,
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


def _packages(
    parts: SandboxParts, backend: Callable[[], Awaitable[Backend]], tasks: asyncio.TaskGroup
) -> Packages:
    """The packages of a place, fetched in sandboxes of this worker."""
    owner = Owner(parts.place, parts.epoch, "", "packages", "")
    limits = parts.operator.limits
    shop = Workshop(parts.packages, parts.egress, limits, backend, owner, tasks)
    return Packages(parts.packages_folder or parts.state.with_name(PACKAGES), shop)


class _Knowing:
    """A keeper that learns of a run what its work says, before it is placed.

    Where no sandbox can be had, a call is answered instead of being put off for ever.
    """

    def __init__(
        self,
        inner: Keeper,
        reporter: Reporter,
        epoch: str,
        know: Callable[[Whose], Awaitable[None]],
        report: Callable[[], Awaitable[CapabilityReport]],
        *,
        due: Due,
    ) -> None:
        self._inner = inner
        self._reporter = reporter
        self._epoch = epoch
        self._know = know
        self._report = report
        self._due = due

    async def admit(self, ref: RunRef, work: CallToolWork) -> Admission:
        try:
            await self._report()
        except SandboxUnavailable as error:
            return await self._refused(ref, work, str(error))
        await self._know(Whose(ref, work.expert, work.definition, work.parent))
        return await self._inner.admit(ref, work)

    async def _refused(self, ref: RunRef, work: CallToolWork, why: str) -> Admission:
        claim = ClaimToolCall(call=work.call, attempt=work.attempt, holder=self._epoch)
        granted = await self._reporter.claim(ref, claim)
        if granted is None:
            return Later(why)
        if not granted:
            return Known(None)  # over, or held by a worker that has a sandbox
        said = {"error": "unavailable", "message": f"The call did not run: {why}"}
        result = RecordToolResult(
            call=work.call,
            holder=self._epoch,
            outcome="failed",
            content=(TextPart(text=canonical(said).decode()),),
            is_error=True,
        )
        return Known(result)

    async def ended(self, ref: RunRef, result: RecordToolResult) -> None:
        await self._inner.ended(ref, result)

    async def recorded(self, ref: RunRef, call: str) -> None:
        await self._inner.recorded(ref, call)

    async def snapshot(self, ref: RunRef, work: SnapshotWork) -> Elsewhere | Later | None:
        with self._due.begun(ref, work.version):
            try:
                await self._report()
            except SandboxUnavailable as error:
                logger.warning("no snapshot of run %s: %s", ref.run, error)
                return None
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
