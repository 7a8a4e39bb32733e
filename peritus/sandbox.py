"""The sandbox lane of a process, put together at its first call: most starts need none."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from commands.discovery import DiscoverSkill
from domain.commands import RecordToolResult
from domain.definition import Definition, Skill
from domain.errors import Unavailable
from domain.ids import RunRef
from domain.mcp import Catalogue
from domain.work import CallToolWork, SnapshotWork
from services.worker.keeper import Admission, Elsewhere, Keeper, Later
from services.worker.reporter import Reporter
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

if TYPE_CHECKING:
    from services.sandbox.service import SandboxParts, SandboxService

logger = logging.getLogger(__name__)


@dataclass
class SandboxLane:
    """Makes the service when something is asked of it, and ends it with the process.

    Fills the port `ToolBox`; `keeper` fills `WorkerParts.keepers`, and `run` belongs beside the
    worker: the service lives in it. `left` is whether it is to be made at once: a worker of this
    place that was not closed in order may have left something, to be ended (C10), or sandboxes are
    to be made ahead.
    """

    parts: "Callable[[], SandboxParts]"
    left: Callable[[], bool] = lambda: False
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _service: "asyncio.Future[SandboxService] | None" = None

    async def run(self) -> None:
        """Hold the service, once there is one, until cancelled."""
        left = await asyncio.to_thread(self.left)
        if not left:
            await self._wanted.wait()
        from services.sandbox.service import open_service  # noqa: PLC0415 - see the docstring

        async with open_service(await asyncio.to_thread(self.parts)) as service:
            self._promise().set_result(service)
            try:
                if left:
                    await _look_after(service)
                await asyncio.Event().wait()
            finally:
                self._service = None
                self._wanted.clear()

    async def service(self) -> "SandboxService":
        """The service, made now if there is none."""
        self._wanted.set()
        return await asyncio.shield(self._promise())

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            Unavailable: there is no sandbox or no workspace; the call did not run.
        """
        return await (await self.service()).toolbox.call(call, on_output)

    async def discover(
        self, ref: RunRef, definition: Definition, question: DiscoverSkill, skill: Skill
    ) -> Catalogue:
        """What the server of a skill offers, and which version of its package it is of.

        Raises:
            SkillFailed: it offers nothing that can be used; the message says why.
            Unavailable: it cannot be started here.
        """
        del skill  # the definition has it
        expert = definition.expert(question.expert)
        found = await (await self.service()).discover(ref, expert, question.skill)
        return found.catalogue.model_copy(update={"package": found.version or ""})

    def keeper(self, reporter: Reporter) -> Keeper:
        """Keeps jobs for a worker of this process."""
        return _LateKeeper(self, reporter)

    def _promise(self) -> "asyncio.Future[SandboxService]":
        if self._service is None:
            self._service = asyncio.get_running_loop().create_future()
        return self._service


async def _look_after(service: "SandboxService") -> None:
    """Have the service begin: before its first sandbox it ends what others left."""
    try:
        await service.report()
    except Unavailable as error:
        logger.warning("what a worker that is gone may have left is not looked for: %s", error)


@dataclass
class _LateKeeper:
    """The keeper of a service that may not be there yet."""

    lane: SandboxLane
    reporter: Reporter
    _inner: Keeper | None = None

    async def admit(self, ref: RunRef, work: CallToolWork) -> Admission:
        return await (await self._keeper()).admit(ref, work)

    async def ended(self, ref: RunRef, result: RecordToolResult) -> None:
        await (await self._keeper()).ended(ref, result)

    async def recorded(self, ref: RunRef, call: str) -> None:
        await (await self._keeper()).recorded(ref, call)

    async def snapshot(self, ref: RunRef, work: SnapshotWork) -> Elsewhere | Later | None:
        return await (await self._keeper()).snapshot(ref, work)

    async def _keeper(self) -> Keeper:
        service = await self.lane.service()
        if self._inner is None:
            self._inner = service.keeper(self.reporter)
        return self._inner
