"""The rooms of this worker: opened at a first call, kept while they are used. Not the tools."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from domain.definition import Definition
from domain.ids import RunRef
from services.sandbox.box import Box, Means
from services.sandbox.placement import WorkspaceKind
from services.sandbox.policy import Allowance, OperatorPolicy, allow
from services.sandbox.port import Owner
from services.sandbox.room import Room
from services.sandbox.workspace import Workspace

logger = logging.getLogger(__name__)

IDLE_LOOK_S = 5.0
"""How often idle rooms are looked for, in seconds."""


class Workspaces(Protocol):
    """Which folder is whose workspace: an operator's word, never a model's."""

    def of(self, ref: RunRef) -> Path:
        """The workspace of a job; made now, when there is none."""
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


@dataclass
class Suite:
    """A room with its sandboxes: one for each kind of expert that works in it."""

    room: Room
    boxes: dict[str, Box] = field(default_factory=dict[str, Box])
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

    async def prepare(self, whose: Whose, path: Path, *, isolated: bool) -> None:
        """Have the files of a workspace in place before it is opened: brought back, or copied.

        Raises:
            Unavailable: they cannot be had now.
        """
        ...

    def busy(self, room: Room) -> bool:
        """Whether something runs on in a room."""
        ...

    async def leave(self, room: Room) -> None:
        """End what runs on."""
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
    ) -> None:
        """`definitions` finds one by tenant and digest."""
        self._workspaces = workspaces
        self._operator = operator
        self._means = means
        self._definitions = definitions
        self._residents = residents
        self._life = life
        self._suites: dict[tuple[str, str], Suite] = {}
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}

    async def allowance(self, whose: Whose) -> Allowance:
        """What a run may do.

        Raises:
            SandboxUnavailable: it asks for what the operator does not allow.
            Unavailable: its definition cannot be read now.
        """
        definition = await self._definitions(whose.ref.tenant, whose.definition)
        return allow(definition.expert(whose.expert), self._operator)

    @asynccontextmanager
    async def suite(self, whose: Whose, allowance: Allowance) -> AsyncGenerator[Suite]:
        """The open room of a run; it stays open at least as long as the context.

        Raises:
            Unavailable: it cannot be opened.
        """
        isolated = allowance.isolated and bool(whose.parent)
        key = f"{whose.ref.job}.{whose.ref.run}" if isolated else whose.ref.job
        name = (whose.ref.tenant, key)
        async with self._turns.setdefault(name, asyncio.Lock()):
            suite = self._suites.get(name)
            if suite is None:
                suite = self._suites[name] = Suite(await self._open(whose, key, isolated=isolated))
            suite.users += 1
        try:
            yield suite
        finally:
            suite.users -= 1
            suite.idle_since_s = asyncio.get_running_loop().time()

    def box(self, suite: Suite, whose: Whose, allowance: Allowance) -> Box:
        """The sandbox of a kind of expert in a room; not made before it is used."""
        digest = allowance.digest
        box = suite.boxes.get(digest)
        if box is None:
            owner = Owner(self._life.place, self._life.epoch, *whose.ref)
            box = suite.boxes[digest] = Box(owner, suite.room.workspace, allowance, self._means)
        return box

    @asynccontextmanager
    async def frozen(self, suite: Suite) -> AsyncIterator[bool]:
        """Nothing in any sandbox of a room runs meanwhile; False where that cannot be had."""
        async with AsyncExitStack() as stack:
            frozen = [await stack.enter_async_context(box.frozen()) for box in suite.boxes.values()]
            yield all(frozen)

    async def run(self) -> None:
        """Close what has been idle for long, until cancelled."""
        while True:
            await asyncio.sleep(IDLE_LOOK_S)
            await self.tidy(asyncio.get_running_loop().time())

    async def tidy(self, now_s: float) -> None:
        """Close the rooms nobody has used for `idle_s`."""
        for name, suite in tuple(self._suites.items()):
            async with self._turns[name]:
                idle = now_s - suite.idle_since_s >= self._life.idle_s
                if idle and not suite.users and not self._residents.busy(suite.room):
                    del self._suites[name]
                    await self._close(suite)

    async def close(self) -> None:
        """End every sandbox and let go of every workspace."""
        while self._suites:
            await self._close(self._suites.popitem()[1])

    async def _open(self, whose: Whose, key: str, *, isolated: bool) -> Room:
        path = self._workspaces.isolated(whose.ref) if isolated else self._workspaces.of(whose.ref)
        await self._residents.prepare(whose, path, isolated=isolated)
        return Room(key, await asyncio.to_thread(Workspace, path))

    async def _close(self, suite: Suite) -> None:
        await self._residents.leave(suite.room)
        for box in suite.boxes.values():
            await box.close()
        suite.room.workspace.close()
