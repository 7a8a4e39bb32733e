"""What a worker hands to an executor of tools, and what it gets back. Not the queue or the log."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from domain.content import ContentPart
from domain.ids import RunRef
from domain.sandbox import EgressRow
from domain.tools import Safety
from services.worker.patience import Patience

OnOutput = Callable[[str], Awaitable[None]]
"""Hears output while a call still runs: for people who watch, never for the record.

It must not raise, and the call waits for it: whoever cannot keep up drops what they heard.
"""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as it leaves the log: `arguments` is the model's JSON text, valid or not."""

    ref: RunRef
    call: str
    key: str  # the idempotency key: the same over every attempt
    tool: str
    arguments: str
    timeout_ms: int
    expert: str = ""  # the key of the run's expert
    definition: str = ""  # digest of the definition it is of
    parent: str = ""  # the run that asked for this one
    skill: str = ""  # the key of the expert's skill
    remote: str = ""  # of a tool of an MCP server: what the server knows it by
    safety: Safety = Safety.UNSAFE
    patience: Patience | None = field(default=None, compare=False, repr=False)
    """Its time limit, which stands still while the call waits for a person."""


@dataclass(frozen=True, slots=True)
class ToolFile:
    """An image or a document that the model is to look at; whoever reports the call stores it."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model is to read, and the whole output where that is only a part of it.

    `egress` counts the connections of the call, at most EGRESS_ROWS_MAX rows; `full_egress` has
    them all, as JSON, where there were more.
    """

    content: tuple[ContentPart, ...]
    is_error: bool
    full_output: bytes | None = None
    full_output_media_type: str = "text/plain"
    files: tuple[ToolFile, ...] = ()  # follow the content, in order
    egress: tuple[EgressRow, ...] = ()
    full_egress: bytes | None = None
    unknown: bool = False
    """Whether nobody can say if the call was executed: it was sent away, and no answer came."""


class ToolBox(Protocol):
    """Executes calls. A tool's failure is a result the model reads, never an exception."""

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call; cancelling the awaiting task ends everything the call started.

        Raises:
            Unavailable: the means to execute are away; the call did not run.
        """
        ...
