"""The tools of MCP servers that are reached by HTTP. Not the protocol, and not the transport."""

import shlex
from collections.abc import Callable

from pydantic import ValidationError

from commands.discovery import DiscoverSkill
from domain.definition import Definition, McpHttpSkill, Skill
from domain.errors import Unavailable
from domain.mcp import Catalogue
from domain.redaction import Redactor
from eventlog.port import Blobs
from services.tool.mcp.calls import Caller
from services.tool.mcp.http_connect import Endpoint, HttpMeans, Trust, server_of
from services.tool.mcp.seam import Server
from services.worker.executor import failure
from services.worker.skills import SkillFailed
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

DEFINITIONS_MAX = 256
"""How many definitions are kept, so that a call need not fetch one."""

SHARED = "tenant"
"""The place of a connection that all jobs of a tenant use."""


class HttpToolBox:
    """Fills the port `ToolBox` for the lane of such servers."""

    def __init__(
        self,
        caller: Caller,
        means: HttpMeans,
        blobs: Blobs,
        redactor: Callable[[], Redactor],
    ) -> None:
        """Nothing is connected to before the first call. Whoever made `caller` closes it."""
        self._caller = caller
        self._means = means
        self._trust = Trust(means.settings)
        self._blobs = blobs
        self._redactor = redactor
        self._definitions: dict[tuple[str, str], Definition] = {}

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            Unavailable: the server cannot be reached; the call did not run.
            IntegrityViolated: the definition of the run is gone.
        """
        definition = await self._definition(call.ref.tenant, call.definition)
        expert = definition.experts.get(call.expert)
        skill = None if expert is None else expert.skills.get(call.skill)
        if not isinstance(skill, McpHttpSkill):
            message = f"Expert {call.expert!r} has no skill {call.skill!r} that is reached by HTTP."
            return failure("unknown_skill", message)
        tool = None if skill.catalogue is None else skill.catalogue.find(call.remote)
        if tool is None:
            message = f"The server of skill {call.skill!r} offered no {call.remote!r}."
            return failure("unknown_tool", message)
        place = SHARED if skill.shared else f"job:{call.ref.job}"
        server = self._server(call.ref.tenant, place, call.expert, call.skill, skill)
        return await self._caller.call(server, tool, call, on_output)

    async def discover(
        self, tenant: str, definition: Definition, question: DiscoverSkill, skill: Skill
    ) -> Catalogue:
        """What the server of a skill offers, asked for over a connection of its own.

        Raises:
            SkillFailed: it offers nothing that can be used; the message says why.
            Unavailable: it cannot be reached now.
        """
        del definition  # the skill says it all
        if not isinstance(skill, McpHttpSkill):
            message = f"skill {question.skill!r} is not reached by HTTP"
            raise SkillFailed(message)
        server = self._server(tenant, "discovery", question.expert, question.skill, skill)
        found = await self._caller.discover(server)
        return self._redactor().value(found)  # asked for now: it knows what was sent

    def _server(
        self, tenant: str, place: str, expert: str, name: str, skill: McpHttpSkill
    ) -> Server:
        endpoint = Endpoint(tenant, skill, f"`{login_command(expert, name)}`")
        return server_of(self._means, self._trust, endpoint, place)

    async def _definition(self, tenant: str, digest: str) -> Definition:
        known = self._definitions.get((tenant, digest))
        if known is None:
            try:
                known = Definition.model_validate_json(await self._blobs.get(tenant, digest))
            except ValidationError as error:
                message = f"this worker cannot read the run's definition: {error}"
                raise Unavailable(message) from error
            if len(self._definitions) >= DEFINITIONS_MAX:
                self._definitions.pop(next(iter(self._definitions)))
            self._definitions[tenant, digest] = known
        return known


def login_command(expert: str, skill: str) -> str:
    """The command with which a person logs in for a skill."""
    return shlex.join(["peritus", "tools", "login", expert, skill])
