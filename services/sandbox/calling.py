"""Calls of the tools of skills that are processes: found, admitted to the room, handed to the host.

Not the protocol, and not how a server is started.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from domain.definition import Expert, McpStdioSkill
from domain.ids import step_of
from domain.mcp import RemoteTool
from domain.redaction import Redactor
from domain.tools import Safety
from services.sandbox.counting import counted
from services.sandbox.due import Due
from services.sandbox.failures import Code, ToolError
from services.sandbox.live import Denials
from services.sandbox.quotas import within_quota
from services.sandbox.rooms import Rooms, Whose
from services.sandbox.skills import Skills, Stand
from services.sandbox.tools.answers import failure
from services.worker.skills import SkillHost
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

NO_HOST = (
    "this worker speaks no MCP, so the tools of skills that are processes cannot be called here: "
    "run the sandbox service with the MCP client (`peritus serve` has it)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a call is of."""

    expert: Expert
    skill: McpStdioSkill
    tool: RemoteTool


class SkillCalls:
    """Fills the port `ToolBox` for calls with `remote`."""

    def __init__(
        self,
        rooms: Rooms,
        skills: Skills,
        host: SkillHost | None,
        *,
        denials: Denials,
        due: Due,
        redactor: Callable[[], Redactor],
    ) -> None:
        """Without a host, every call is a failure that says so."""
        self._rooms = rooms
        self._skills = skills
        self._host = host
        self._denials = denials
        self._due = due
        self._redactor = redactor

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            Unavailable: there is no sandbox, no workspace or no server; the call did not run.
        """
        if self._host is None:
            return failure(ToolError(Code.UNKNOWN_TOOL, NO_HOST))
        whose = Whose(call.ref, call.expert, call.definition, call.parent)
        try:
            found = _find(await self._rooms.expert(whose), call)
        except ToolError as error:
            return failure(error)
        async with self._skills.stand(whose, found.expert, call.skill, on_output) as stand:
            work = partial(self._host.call, call, found.skill, found.tool, stand.site, on_output)
            stand.box.on_denied = partial(self._denials.say, call.ref, call.call)
            if call.safety is Safety.READ_ONLY or stand.allowance.read_only:
                result = await work()
            else:
                result = await self._written(call, stand, work)
            result = await counted(stand.box, result, call.ref, self._redactor())
            return result if stand.shared else await self._rooms.told(stand.suite, whose, result)

    async def _written(
        self, call: ToolCall, stand: Stand, work: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """A call that may change files: after the snapshots that are due, and within the quota."""
        room, limits = stand.suite.room, stand.allowance.limits

        async def behind_gate() -> ToolResult:
            async with room.gate.writing():
                return await work()

        if not stand.shared:
            await self._due.over(call.ref)
        try:
            return await within_quota(room, limits, call.tool, behind_gate, watched=True)
        finally:
            if not stand.shared:
                stand.suite.writers.end(call.ref.run, step_of(call.call), call.parent)


def _find(expert: Expert, call: ToolCall) -> Found:
    """The tool of a call, as its definition has it.

    Raises:
        ToolError: it has none of that name.
    """
    skill = expert.skills.get(call.skill)
    if not isinstance(skill, McpStdioSkill):
        message = f"expert {expert.key!r} has no skill {call.skill!r} that is a process"
        raise ToolError(Code.UNKNOWN_TOOL, message)
    tool = None if skill.catalogue is None else skill.catalogue.find(call.remote)
    if tool is None:
        message = f"skill {call.skill!r} is not known to offer {call.remote!r}"
        raise ToolError(Code.UNKNOWN_TOOL, message)
    return Found(expert, skill, tool)
