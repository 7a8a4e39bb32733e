"""What a process speaks MCP with: made at the first call, since most runs need none of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from commands.discovery import DiscoverSkill
from domain.definition import Definition, McpStdioSkill, Skill
from domain.ids import RunRef
from domain.mcp import Catalogue, RemoteTool
from domain.redaction import Redactor
from eventlog.port import Blobs
from services.tool.local import LocalToolBox
from services.worker.asks import LogAsks
from services.worker.skills import Site
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

if TYPE_CHECKING:
    from services.tool.http_box import HttpToolBox
    from services.tool.mcp.host import McpHost
    from services.tool.mcp.http_connect import HttpMeans


@dataclass(frozen=True, slots=True)
class Speakers:
    """Who speaks with servers that are processes, and who with those that are reached by HTTP."""

    host: "McpHost"
    box: "HttpToolBox"


@dataclass
class SkillLane:
    """Makes those who speak MCP when something is asked of them. They live in `run`.

    `local` are the tools of this program, which need no MCP.
    """

    asks: LogAsks
    means: "Callable[[], HttpMeans]"
    local: LocalToolBox
    blobs: Blobs
    redactor: Callable[[], Redactor]
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _speakers: "asyncio.Future[Speakers] | None" = None

    async def run(self) -> None:
        """Hold the connections, once there are any, until cancelled."""
        await self._wanted.wait()
        from services.tool.http_box import HttpToolBox  # noqa: PLC0415 - see the docstring
        from services.tool.mcp.calls import Caller  # noqa: PLC0415
        from services.tool.mcp.host import McpHost  # noqa: PLC0415

        async with asyncio.TaskGroup() as tasks:
            caller, host = Caller(tasks, self.asks), McpHost(tasks, self.asks)
            means = await asyncio.to_thread(self.means)
            box = HttpToolBox(caller, means, self.blobs, self.redactor)
            self._promise().set_result(Speakers(host, box))
            try:
                await asyncio.Event().wait()
            finally:
                await host.close()
                await caller.close()

    async def speakers(self) -> Speakers:
        """Those who speak, made now if there are none."""
        self._wanted.set()
        return await asyncio.shield(self._promise())

    @property
    def made(self) -> bool:
        """Whether there are any yet."""
        return self._speakers is not None and self._speakers.done()

    @property
    def host(self) -> "LateHost":
        """For servers that are processes."""
        return LateHost(self)

    @property
    def box(self) -> "LateBox":
        """For servers that are reached by HTTP."""
        return LateBox(self)

    def _promise(self) -> "asyncio.Future[Speakers]":
        if self._speakers is None:
            self._speakers = asyncio.get_running_loop().create_future()
        return self._speakers


@dataclass(frozen=True, slots=True)
class LateHost:
    """Fills the port `SkillHost`."""

    lane: SkillLane

    async def call(
        self,
        call: ToolCall,
        skill: McpStdioSkill,
        tool: RemoteTool,
        site: Site,
        on_output: OnOutput,
    ) -> ToolResult:
        """Call one tool of a skill's server.

        Raises:
            Unavailable: no server could be started; the call did not run.
        """
        host = (await self.lane.speakers()).host
        return await host.call(call, skill, tool, site, on_output)

    async def discover(self, skill: McpStdioSkill, site: Site) -> Catalogue:
        """What a server of the skill offers.

        Raises:
            SkillFailed: it offers nothing that can be used; the message says why.
            Unavailable: it could not be started now.
        """
        return await (await self.lane.speakers()).host.discover(skill, site)

    async def leave(self, tenant: str, key: str) -> None:
        """End the servers of a site; without having been asked for anything there are none."""
        if self.lane.made:
            await (await self.lane.speakers()).host.leave(tenant, key)


@dataclass(frozen=True, slots=True)
class LateBox:
    """Fills the port `ToolBox`."""

    lane: SkillLane

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            Unavailable: the server cannot be reached; the call did not run.
        """
        return await (await self.lane.speakers()).box.call(call, on_output)

    async def discover(
        self, ref: RunRef, definition: Definition, question: DiscoverSkill, skill: Skill
    ) -> Catalogue:
        """What the server of a skill offers.

        Raises:
            SkillFailed: it offers nothing that can be used; the message says why.
            Unavailable: it cannot be reached now.
        """
        box = (await self.lane.speakers()).box
        return await box.discover(ref.tenant, definition, question, skill)
