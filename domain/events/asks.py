"""What a tool asks in the middle of a call, and what came of it. Not the outcome of the call."""

from typing import Literal

from domain.asks import About, Action, JsonObject, SampleReply
from domain.events.common import NOBODY, Failure, Principal
from domain.limits import Usage
from domain.record import Clean, Record


class ToolCallAsked(Record):
    """The holder of an open call asks for something, and waits for it.

    It is over with its answer, and without one when the call ends.
    """

    type: Literal["tool_call.asked.v1"] = "tool_call.asked.v1"
    call: str
    ask: str
    holder: str
    about: About
    due_ms: int | None = None  # when it expires


class ToolCallAnswered(Record):
    """The one answer. `content` is a person's, `sampled` the model's; `reason` says why not."""

    type: Literal["tool_call.answered.v1"] = "tool_call.answered.v1"
    call: str
    ask: str
    action: Action
    source: Literal["person", "model", "limit", "expired", "withdrawn"]
    content: JsonObject | None = None
    sampled: SampleReply | None = None
    reason: Clean = ""
    command: str = ""
    by: Principal = NOBODY


class SamplingRequested(Record):
    """The run's model will be asked once for a tool: durable before the call is made (C12)."""

    type: Literal["sampling.requested.v1"] = "sampling.requested.v1"
    ask: str
    request: str  # digest of the request
    reserved: int  # tokens held back in the budget until the end is known
    reserved_money: int = 0  # micro-USD
    holder: str | None = None  # the epoch that makes the call; None: whoever claims it


class SamplingClaimed(Record):
    """A worker took a call of the model that nobody held."""

    type: Literal["sampling.claimed.v1"] = "sampling.claimed.v1"
    ask: str
    holder: str


class SamplingEnded(Record):
    """That call is over, and is not made again.

    `abandoned`: its end is not known, or nobody waits for it; it is charged in full, and a late end
    settles the charge.
    """

    type: Literal["sampling.ended.v1"] = "sampling.ended.v1"
    ask: str
    how: Literal["replied", "failed", "abandoned"]
    usage: Usage | None
    charged: int  # tokens taken from the budget
    charged_money: int = 0  # micro-USD
    failure: Failure | None = None


class SamplingSettled(Record):
    """The late end of a call that was abandoned: its charge is settled, its content dropped."""

    type: Literal["sampling.settled.v1"] = "sampling.settled.v1"
    ask: str
    usage: Usage | None
    refunded: int  # tokens given back; below zero when it used more than reserved
    refunded_money: int = 0  # micro-USD
