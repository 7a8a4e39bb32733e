"""Tool calls and delegations: asked for, claimed, ended. Not their execution."""

from typing import Literal

from domain.content import BlobRef, ContentPart, Text
from domain.events.common import Outcome, TodoItem
from domain.limits import Limits
from domain.record import Record
from domain.sandbox import EgressRow
from domain.tools import Lane, Safety


class ToolCallRequested(Record):
    """The model asked for a tool; recorded with the reply that asked."""

    type: Literal["tool_call.requested.v2"] = "tool_call.requested.v2"
    call: str
    step: int
    provider_id: str
    tool: str
    skill: str
    lane: Lane
    safety: Safety
    arguments: Text
    key: str  # the idempotency key the tool receives, the same over all attempts


class DelegationRequested(Record):
    """A call is answered by a child run; what it may use is carved out of this run's remainder."""

    type: Literal["delegation.requested.v2"] = "delegation.requested.v2"
    call: str
    child: str  # run id, derived from the call
    expert: str
    limits: Limits


class DelegationSettled(Record):
    """A child came to rest: what it did not use comes back."""

    type: Literal["delegation.settled.v2"] = "delegation.settled.v2"
    call: str
    child: str
    status: Literal["completed", "stopped", "failed", "cancelled"]
    steps: int
    tokens: int
    money: int = 0  # micro-USD
    tool_calls: int = 0


class ToolCallClaimed(Record):
    """One epoch may execute this call, and nobody else (rule 6)."""

    type: Literal["tool_call.claimed.v1"] = "tool_call.claimed.v1"
    call: str
    attempt: int
    holder: str


class ToolCallRetried(Record):
    """A call that nobody is known to hold is handed out again; bounded by `call_attempts_max`."""

    type: Literal["tool_call.retried.v1"] = "tool_call.retried.v1"
    call: str
    attempt: int


class ToolCallForwarded(Record):
    """An executor did its part of a call, and the loop does the rest with `content`."""

    type: Literal["tool_call.forwarded.v1"] = "tool_call.forwarded.v1"
    call: str
    content: Text
    holder: str | None = None


class ToolCallEnded(Record):
    """The one terminal outcome of a call. `content` is what the model reads."""

    type: Literal["tool_call.ended.v1"] = "tool_call.ended.v1"
    call: str
    outcome: Outcome
    content: tuple[ContentPart, ...]
    is_error: bool = False
    full_output: Text | None = None  # the whole output when the model reads a cut form
    holder: str | None = None
    duration_ms: int | None = None


class EgressCounted(Record):
    """The connections of a call, recorded with its outcome. `full`: all rows, when there are more.

    With several calls at once in one sandbox, a connection is counted with the call that ends next.
    """

    type: Literal["egress.counted.v1"] = "egress.counted.v1"
    call: str
    rows: tuple[EgressRow, ...]  # at most EGRESS_ROWS_MAX
    full: BlobRef | None = None


class ToolResultLate(Record):
    """A second, different result of an ended call: kept and alarmed, never an outcome (rule 7)."""

    type: Literal["tool_result.late.v1"] = "tool_result.late.v1"
    call: str
    content: tuple[ContentPart, ...]
    is_error: bool
    holder: str | None = None


class TodoChanged(Record):
    """The todo list as it is now."""

    type: Literal["todo.changed.v1"] = "todo.changed.v1"
    items: tuple[TodoItem, ...]
    next_id: int
