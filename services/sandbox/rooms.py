"""The rooms of this worker: opened at a first call, kept while they are used. Not the tools."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from domain.content import TextPart
from domain.definition import Definition, Expert
from domain.ids import RunRef
from services.sandbox.box import Box, Means
from services.sandbox.opening import open_workspace
from services.sandbox.placement import WorkspaceKind
from services.sandbox.policy import Allowance, OperatorPolicy, allow
from services.sandbox.port import Owner
from services.sandbox.room import Room
from services.sandbox.scratch import Scratch, remove
from services.sandbox.workspace import Workspace
from services.sandbox.writers import Writers
from services.worker.toolbox import ToolResult

logger = logging.getLogger(__name__)

IDLE_LOOK_S = 5.0
"""How often idle rooms are looked for, in seconds."""

NO_JOB = ":"
"""How the keys of rooms begin that are no job's: no id of a job does."""

PATIENCE_S = 0.5
"""How long whoever looks at a whole room waits for calls before it freezes them, in seconds."""


class Workspaces(Protocol):
    """Which folder is whose workspace: an operator's word, never a model's."""

    def of(self, ref: RunRef) -> Path:
        """The workspace of a job; made now, when there is none."""
        ...

    def found(self, ref: RunRef) -> Path | None:
        """The workspace of a job, if there is one already."""
        ...

    def isolated(self, ref: RunRef) -> Path:
        """The workspace of a run that does not share its job's; it need not be there yet."""
        ...

    def kind(self, ref: RunRef) -> WorkspaceKind:
        """Whose folder a job's workspace is."""
        ...


@dataclass(frozen=True, slots=True)
class Whose:
    """A run, and what its calls say of it."""

    ref: RunRef
    expert: str
    definition: str
    parent: str


class Name(NamedTuple):
    """A room of this worker."""

    tenant: str
    key: str


@dataclass
class Turn:
    """Who opens or closes a room."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0  # with the one that has it


@dataclass
class Suite:
    """A room with its sandboxes: one for each kind of expert that works in it."""

    room: Room
    boxes: dict[str, Box] = field(default_factory=dict[str, Box])
    writers: Writers = field(default_factory=Writers)
    users: int = 0
    idle_since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Life:
    """Which worker this is, and how long it keeps what nobody uses, in seconds."""

    place: str
    epoch: str
    idle_s: float


class Residents(Protocol):
    """What goes on in a room between calls."""

    async def prepare(self, ref: RunRef, path: Path) -> str:
        """Have the files of a job's workspace in place before it is opened.

        What the model of its root run is to know of them, or "".

        Raises:
            Unavailable: they cannot be had now.
        """
        ...

    async def told(self, ref: RunRef) -> None:
        """The model of a job's root run knows of its files."""
        ...

    async def copy(self, ref: RunRef, source: Workspace, path: Path) -> None:
        """Make the workspace of a run that works apart, as its caller's is now.

        Raises:
            Unavailable: it cannot be copied now.
        """
        ...

    def busy(self, room: Room) -> bool:
        """Whether something runs on in a room."""
        ...

    async def sort_out(self, tenant: str, room: Room) -> None:
        """End what runs on of runs that cannot go on.

        Raises:
            Unavailable: nobody can say which those are.
        """
        ...

    async def leave(self, tenant: str, room: Room) -> None:
        """End what runs on, before the room is closed."""
        ...


class Rooms:
    """Rooms by job, and by run where a run's workspace is isolated."""

    def __init__(
        self,
        workspaces: Workspaces,
        operator: OperatorPolicy,
        means: Means,
        definitions: Callable[[str, str], Awaitable[Definition]],
        *,
        residents: Residents,
        life: Life,
        scratch: Scratch,
    ) -> None:
        """`definitions` finds one by tenant and digest."""
        self._scratch = scratch
        self._workspaces = workspaces
        self._operator = operator
        self._means = means
        self._definitions = definitions
        self._residents = residents
        self._life = life
        self._suites: dict[Name, Suite] = {}
        self._turns: dict[Name, Turn] = {}

    async def allowance(self, whose: Whose) -> Allowance:
        """What a run may do.

        Raises:
            SandboxUnavailable: it asks for what the operator does not allow.
            Unavailable: its definition cannot be read now.
        """
        return allow(await self.expert(whose), self._operator)

    async def expert(self, whose: Whose) -> Expert:
        """The expert of a run.

        Raises:
            Unavailable: its definition cannot be read now.
        """
        definition = await self._definitions(whose.ref.tenant, whose.definition)
        return definition.expert(whose.expert)

    @asynccontextmanager
    async def suite(self, whose: Whose, allowance: Allowance) -> AsyncGenerator[Suite]:
        """The open room of a run; it stays open at least as long as the context.

        Raises:
            Unavailable: it cannot be opened.
        """
        ref = whose.ref
        if allowance.isolated and whose.parent:
            key, opening = _apart(ref), self._open_apart(whose)
        else:
            key, opening = ref.job, self._open(ref)
        async with self._used(ref.tenant, key, opening) as suite:
            yield suite

    @asynccontextmanager
    async def apart(
        self, tenant: str, name: str, *, keep: bool = True, over: Path | None = None
    ) -> AsyncGenerator[Suite]:
        """A room that is no job's; closed at once, or when it is long idle.

        It is over an empty folder, or over another that nothing in it is to change.

        Raises:
            Unavailable: it cannot be opened.
        """
        key = f"{NO_JOB}{name}"

        async def opening() -> Room:
            if over is not None:
                return await _room(key, over)
            path = await asyncio.to_thread(self._scratch.make, f"{tenant}.{name}")
            room = await _room(key, path)
            room.scratch = path
            return room

        try:
            async with self._used(tenant, key, opening) as suite:
                yield suite
        finally:
            if not keep:
                await self._end(Name(tenant, key))

    async def _end(self, name: Name) -> None:
        """Close a room that nobody uses."""
        async with self._turn(name):
            suite = self._suites.get(name)
            if suite is not None and not suite.users:
                del self._suites[name]
                await self._close(name.tenant, suite)

    def box(
        self,
        suite: Suite,
        ref: RunRef,
        allowance: Allowance,
        *,
        of: str = "",
        folders: Mapping[str, Path] | None = None,
    ) -> Box:
        """The sandbox of a kind of expert in a room; not made before it is used.

        `of` names one that is not the experts' own, and may see `folders` of the host.
        """
        key = f"{allowance.digest}{of}"
        box = suite.boxes.get(key)
        if box is None:
            owner = Owner(self._life.place, self._life.epoch, *ref)
            workspace = suite.room.workspace
            box = suite.boxes[key] = Box(owner, workspace, allowance, self._means, folders)
        return box

    async def told(self, suite: Suite, whose: Whose, result: ToolResult) -> ToolResult:
        """A result that also says what the model of a run is to know of the files here, once."""
        if whose.parent or not suite.room.news:
            return result
        news, suite.room.news = suite.room.news, ""
        await self._residents.told(whose.ref)
        return replace(result, content=(*result.content, TextPart(text=f"\n[{news}]")))

    @asynccontextmanager
    async def still(self, suite: Suite) -> AsyncGenerator[bool]:
        """No tool begins to change files meanwhile, and nothing in a sandbox runs if that can be.

        Whether no call was at changing them.
        """
        async with AsyncExitStack() as stack:
            room = suite.room
            alone = await stack.enter_async_context(room.gate.looking(patience_s=PATIENCE_S))
            await stack.enter_async_context(room.changes)
            for box in tuple(suite.boxes.values()):
                await stack.enter_async_context(box.frozen())
            yield alone

    async def run(self) -> None:
        """Close what has been idle for long, until cancelled."""
        while True:
            await asyncio.sleep(IDLE_LOOK_S)
            await self.tidy(asyncio.get_running_loop().time())

    async def tidy(self, now_s: float) -> None:
        """Close the rooms nobody has used for `idle_s`."""
        for name in tuple(self._suites):
            async with self._turn(name):
                suite = self._suites.get(name)
                if suite is None or suite.users or now_s - suite.idle_since_s < self._life.idle_s:
                    continue
                if await self._is_left(name, suite):
                    del self._suites[name]
                    await self._close(name.tenant, suite)
                else:
                    suite.idle_since_s = now_s  # it is looked at again as late

    async def close(self) -> None:
        """End every sandbox and let go of every workspace."""
        while self._suites:
            (tenant, _), suite = self._suites.popitem()
            await self._close(tenant, suite)

    async def _is_left(self, name: Name, suite: Suite) -> bool:
        """Whether nothing runs in a room on behalf of a run that may go on."""
        if self._residents.busy(suite.room):
            try:
                await self._residents.sort_out(name.tenant, suite.room)
            except Exception:
                logger.exception("what runs in room %s could not be sorted out", suite.room.key)
        return not self._residents.busy(suite.room)

    @asynccontextmanager
    async def _turn(self, name: Name) -> AsyncGenerator[None]:
        """One at a time opens or closes a room; nothing is remembered of rooms nobody wants."""
        turn = self._turns.setdefault(name, Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[name]

    @asynccontextmanager
    async def _used(
        self, tenant: str, key: str, opening: Callable[[], Awaitable[Room]]
    ) -> AsyncGenerator[Suite]:
        """A room that stays open meanwhile."""
        name = Name(tenant, key)
        async with self._turn(name):
            suite = self._suites.get(name)
            if suite is None:
                suite = self._suites[name] = Suite(await opening())
            suite.users += 1
        try:
            yield suite
        finally:
            suite.users -= 1
            suite.idle_since_s = asyncio.get_running_loop().time()

    def _open(self, ref: RunRef) -> Callable[[], Awaitable[Room]]:
        async def opening() -> Room:
            path = await asyncio.to_thread(self._workspaces.of, ref)
            news = await self._residents.prepare(ref, path)
            return await _room(ref.job, path, news)

        return opening

    def _open_apart(self, whose: Whose) -> Callable[[], Awaitable[Room]]:
        ref, caller = whose.ref, whose.ref._replace(run=whose.parent)

        async def opening() -> Room:
            path = self._workspaces.isolated(ref)
            if not await asyncio.to_thread(path.exists):
                async with self._callers(caller) as suite, self.still(suite):
                    await self._residents.copy(ref, suite.room.workspace, path)
            return await _room(_apart(ref), path)

        return opening

    @asynccontextmanager
    async def _callers(self, caller: RunRef) -> AsyncGenerator[Suite]:
        """The room of a run that has one of its own, else of its job."""
        own = self._workspaces.isolated(caller)
        key, opening = caller.job, self._open(caller)
        if await asyncio.to_thread(own.exists):
            key, opening = _apart(caller), lambda: _room(_apart(caller), own)
        async with self._used(caller.tenant, key, opening) as suite:
            yield suite

    async def _close(self, tenant: str, suite: Suite) -> None:
        """End a room; what cannot be ended now is left to the backend, or to the reaper (C10)."""
        try:
            await self._residents.leave(tenant, suite.room)
            for box in tuple(suite.boxes.values()):
                await box.end()
        except Exception:
            logger.exception("room %s was not closed as it should be", suite.room.key)
        finally:
            suite.room.workspace.close()
            if suite.room.scratch is not None:
                await asyncio.to_thread(remove, suite.room.scratch)


def _apart(ref: RunRef) -> str:
    """The key of a run's own room."""
    return f"{ref.job}.{ref.run}"


async def _room(key: str, path: Path, news: str = "") -> Room:
    return Room(key, await open_workspace(path), news=news)
