"""Where the servers of skills run: each in a sandbox of its own, over the workspace it works in.

Not what is said to them: `services.worker.skills` is the seam. A server is started when somebody
asks for it, and ends with its room.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from domain.definition import Expert, McpStdioSkill
from domain.errors import Unavailable
from domain.ids import RunRef
from domain.record import canonical, digest_of
from services.sandbox.box import Box
from services.sandbox.packages.programs import PACKAGE
from services.sandbox.packages.request import requested
from services.sandbox.packages.store import Packages, Wanted
from services.sandbox.paths import MOUNT
from services.sandbox.policy import Allowance, OperatorPolicy, allow_skill
from services.sandbox.port import Backend, Command
from services.sandbox.room import Room
from services.sandbox.rooms import Rooms, Suite, Whose
from services.worker.process import Process
from services.worker.skills import Site
from services.worker.toolbox import OnOutput

NAME_CHARS = 16
SHARED = "shared"
DISCOVERY = "discovery"


class Stand(NamedTuple):
    """A place for one skill's server, while it is held."""

    suite: Suite
    box: Box
    site: Site
    allowance: Allowance
    shared: bool  # it sees no job's workspace


@dataclass(eq=False)
class Hearing:
    """Passes on what is printed before a server runs, until nobody wants to hear it any more."""

    hear: OnOutput | None

    async def __call__(self, text: str) -> None:
        """Pass it on."""
        if self.hear is not None:
            await self.hear(text)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a skill's server is started: as it is written, or out of packages that are fetched."""

    name: str
    skill: McpStdioSkill
    allowance: Allowance
    wanted: Wanted | None

    @property
    def short(self) -> str:
        """Names what a server's sandbox is shared by: those that may do, and see, the same."""
        folder = "" if self.wanted is None else self.wanted.digest
        return digest_of(canonical([self.allowance.digest, self.name, folder]))[:NAME_CHARS]


class Skills:
    """The stands of this worker."""

    def __init__(
        self,
        rooms: Rooms,
        packages: Packages,
        operator: OperatorPolicy,
        *,
        backend: Callable[[], Awaitable[Backend]],
        tasks: asyncio.TaskGroup,
    ) -> None:
        """`tasks` watch over what runs."""
        self._rooms = rooms
        self._packages = packages
        self._operator = operator
        self._backend = backend
        self._tasks = tasks
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def stand(
        self, whose: Whose, expert: Expert, name: str, hear: OnOutput
    ) -> AsyncGenerator[Stand]:
        """The place of a skill's server for a run; its room stays open meanwhile.

        Raises:
            Unavailable: it cannot be had; no server was asked for anything.
        """
        plan = await self._plan(expert, name)
        if plan.skill.shared:
            room = self._rooms.apart(whose.ref.tenant, f"{SHARED}.{plan.short}")
            ref = RunRef(whose.ref.tenant, SHARED, SHARED)
        else:
            room, ref = self._rooms.suite(whose, plan.allowance), whose.ref
        async with _heard(hear) as hearing:
            if plan.wanted is not None:  # now: whoever opens a connection waits only so long
                await self._packages.ready(plan.wanted, hearing)
            async with room as suite:
                yield self._place(suite, ref, plan, hearing)

    @asynccontextmanager
    async def looking(
        self, tenant: str, expert: Expert, name: str, folder: Path | None
    ) -> AsyncGenerator[Stand]:
        """A place with the same allowance over a folder that it can only read.

        Without a folder, over an empty one that is gone afterwards.

        Raises:
            Unavailable: it cannot be had.
        """
        plan = await self._plan(expert, name)
        number = next(self._numbers)
        if folder is not None:
            plan = replace(plan, allowance=replace(plan.allowance, read_only=True))
        room = f"{DISCOVERY}.{number}"
        async with self._rooms.apart(tenant, room, keep=False, over=folder) as suite:
            ref = RunRef(tenant, DISCOVERY, DISCOVERY)
            yield self._place(suite, ref, plan, Hearing(None))

    async def version(self, expert: Expert, name: str) -> str | None:
        """The version of the package that a skill's server is of, None where it is of none.

        It is fetched when it is not here yet.

        Raises:
            Unavailable: it cannot be had.
        """
        wanted = (await self._plan(expert, name)).wanted
        return None if wanted is None else (await self._packages.ready(wanted)).version

    async def _plan(self, expert: Expert, name: str) -> Plan:
        skill = expert.skills.get(name)
        if not isinstance(skill, McpStdioSkill):
            raise KeyError(name)
        allowance = allow_skill(expert, name, skill, self._operator)
        request = requested(skill.command, skill.args)
        wanted = None
        if request is not None:
            backend = await self._backend()
            wanted = self._packages.wanted(request, backend.name, allowance.image)
        return Plan(name, skill, allowance, wanted)

    def _place(self, suite: Suite, ref: RunRef, plan: Plan, hearing: Hearing) -> Stand:
        folders = {} if plan.wanted is None else {PACKAGE: plan.wanted.tree}
        of, shared, room = f".{plan.short}", plan.skill.shared, suite.room
        box = self._rooms.box(suite, ref, plan.allowance, of=of, folders=folders)

        async def start() -> Process:
            return await self._start(plan, box, room, hearing)

        key = f"{room.key}:{plan.short}"
        room.sites.add(key)
        site = Site(ref.tenant, key, start, None if shared else MOUNT)
        return Stand(suite, box, site, plan.allowance, shared)

    async def _start(self, plan: Plan, box: Box, room: Room, hearing: Hearing) -> Process:
        if plan.wanted is None:
            sandbox = await box.sandbox()
            command = Command(plan.skill.command, plan.skill.args, env=plan.skill.env)
        else:
            installed = await self._packages.ready(plan.wanted, hearing)
            sandbox = await box.sandbox()
            command = installed.command(plan.wanted.request, sandbox.where(PACKAGE))
            command = replace(command, env={**plan.skill.env, **command.env})
        process = await sandbox.start(command)
        if not box.allowance.read_only:
            room.servers.add(process)
            self._tasks.create_task(_watch(process, room), name=f"server of {room.key}")
        return process


async def _watch(process: Process, room: Room) -> None:
    """While it runs, nobody can say that a snapshot shows the files as they were."""
    try:
        with suppress(OSError, Unavailable):
            await process.wait()
    finally:
        room.servers.discard(process)


@asynccontextmanager
async def _heard(hear: OnOutput) -> AsyncGenerator[Hearing]:
    """Whoever starts a server again later says nothing to a call that is over."""
    hearing = Hearing(hear)
    try:
        yield hearing
    finally:
        hearing.hear = None
