"""Where servers of skills run, and who speaks with them: the seam of sandbox and tool service.

The sandbox service starts processes and knows no protocol; the tool service speaks MCP and knows no
sandbox. A call of a skill that is a process goes to the worker that holds the job's workspace.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from domain.definition import McpStdioSkill
from domain.errors import PeritusError
from domain.mcp import Catalogue, RemoteTool
from services.worker.process import Process
from services.worker.toolbox import OnOutput, ToolCall, ToolResult


class SkillFailed(PeritusError):
    """A server of a skill does not do what it should; the message says what, for people."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a server of a skill is to run.

    `key` names what it may be shared within: a job's workspace, a run's own copy, or a tenant.
    `folder` is the workspace as the server sees it, None if it sees none.
    """

    tenant: str
    key: str
    start: Callable[[], Awaitable[Process]]
    """Starts one more process.

    Raises Unavailable: it did not start; the message says why.
    """
    folder: str | None = "/workspace"


class SkillHost(Protocol):
    """Speaks with servers that are processes. Filled by the tool service."""

    async def call(
        self,
        call: ToolCall,
        skill: McpStdioSkill,
        tool: RemoteTool,
        site: Site,
        on_output: OnOutput,
    ) -> ToolResult:
        """Call one tool of a skill's server, which is started when there is none at the site.

        Whatever the server does is a result. Cancelling tells the server, then lets go of it.

        Raises:
            Unavailable: no server could be started; the call did not run.
        """
        ...

    async def discover(self, skill: McpStdioSkill, site: Site) -> Catalogue:
        """What a server of the skill offers; it is started for that, and ended.

        Raises:
            SkillFailed: it offers nothing that can be used; the message says why.
            Unavailable: it could not be started now.
        """
        ...

    async def leave(self, tenant: str, key: str) -> None:
        """End the servers of a site, before what they run in is closed."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What a server asks the person behind a call for. `schema`: of a form; `url`: to be opened."""

    message: str
    schema: dict[str, Any] | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the person made of it."""

    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a conversation that a server wants a model to continue. Texts only."""

    speaker: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server asks the run's own model for."""

    messages: tuple[Said, ...]
    system: str = ""
    output_tokens_max: int = 1024


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the model said: `model` as its provider names it."""

    text: str
    model: str
    stop_reason: str


class SampleRefused(PeritusError):
    """The run's model is not asked: by policy, by budget, or because it did not answer."""


class Asks(Protocol):
    """How an open call asks its run for something: over the log, so that the answer survives."""

    async def elicit(self, call: ToolCall, question: Question) -> Reply:
        """Ask the person, and wait for as long as the call may run."""
        ...

    async def sample(self, call: ToolCall, sample: Sample) -> Sampled:
        """Have the run's model continue a conversation, on the run's budget.

        Raises:
            SampleRefused: it does not; the message says why.
        """
        ...
