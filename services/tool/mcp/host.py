"""Speaks MCP with servers that are processes, wherever they run. Fills the port `SkillHost`."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from domain.definition import McpStdioSkill
from domain.mcp import Catalogue, RemoteTool
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.calls import Caller
from services.tool.mcp.seam import Key, Report, Server, digest_of_skill
from services.worker.skills import Asks, Site
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

if TYPE_CHECKING:
    from mcp.client import Transport

NAME_CHARS_MAX = 80


class McpHost:
    """The servers of this worker's sites. `close` it before the task group it lives in ends."""

    def __init__(self, tasks: asyncio.TaskGroup, asks: Asks, bounds: Bounds | None = None) -> None:
        """Nothing is started before the first call."""
        self._bounds = bounds or Bounds()
        self._caller = Caller(tasks, asks, self._bounds)

    async def call(
        self,
        call: ToolCall,
        skill: McpStdioSkill,
        tool: RemoteTool,
        site: Site,
        on_output: OnOutput,
    ) -> ToolResult:
        """Call one tool of a skill's server, which is started when there is none at the site.

        Raises:
            Unavailable: no server could be started; the call did not run.
        """
        return await self._caller.call(self.server(skill, site), tool, call, on_output)

    async def discover(self, skill: McpStdioSkill, site: Site) -> Catalogue:
        """What a server of the skill offers; it is started for that, and ended.

        Raises:
            SkillFailed: it offers nothing that can be used; the message says why.
            Unavailable: it could not be started now.
        """
        return await self._caller.discover(self.server(skill, site))

    async def leave(self, tenant: str, key: str) -> None:
        """End the servers of a site, before what they run in is closed."""
        await self._caller.leave(tenant, key)

    async def close(self) -> None:
        """End all servers."""
        await self._caller.close()

    def __len__(self) -> int:
        """How many servers there are."""
        return len(self._caller)

    def server(self, skill: McpStdioSkill, site: Site) -> Server:
        """The server of a skill at a site, and how it is reached."""
        return Server(
            key=Key(site.tenant, site.key, digest_of_skill(skill)),
            name=" ".join((skill.command, *skill.args))[:NAME_CHARS_MAX],
            connect=partial(_connect, site, self._bounds),
            folder=site.folder,
            sampling=skill.sampling == "allow",
        )


def _connect(site: Site, bounds: Bounds, report: Report) -> "Transport":
    from services.tool.mcp.stdio import over_process  # noqa: PLC0415 - the SDK is behind it

    return over_process(site.start, bounds, report)
