"""How a run begins, goes on, is held and comes to rest. Not what its steps hold."""

from typing import Any, Literal

from pydantic import Field

from domain.content import ContentPart, Text
from domain.events.common import (
    NOBODY,
    Failure,
    LimitName,
    Parent,
    Principal,
    SpeakerKind,
    TimerPurpose,
)
from domain.limits import Limits, ModelChoice
from domain.record import Record
from domain.tools import ToolEntry


class RunStarted(Record):
    """A run exists. `definition` is the digest of the pinned set of experts."""

    type: Literal["run.started.v2"] = "run.started.v2"
    command: str  # the id of the start command: the same command again changes nothing
    expert: str
    definition: str
    limits: Limits
    parent: Parent | None = None
    depth: int = 0
    by: Principal = NOBODY


class PinnedModel(Record):
    """A context that differs from another in its model only."""

    context: str  # digest of its blob
    context_bytes: int
    model: ModelChoice


class ContextPinned(Record):
    """What stays the same in all requests from here on, by digest, before first use (rule 13).

    A run has one; another one follows when it changes its model or its team.
    """

    type: Literal["context.pinned.v2"] = "context.pinned.v2"
    renderer: str
    context: str  # digest of the blob with system blocks, tool specs, model and parameters
    context_bytes: int
    model: ModelChoice
    tools: tuple[ToolEntry, ...]
    cause: Literal["start", "fallback", "team"] = "start"
    fallbacks: tuple[PinnedModel, ...] = ()
    """What to go on with, in this order, when the model does not answer any more."""
    output_schema: dict[str, Any] | None = Field(default=None)
    """The JSON schema of the result; None: any text."""


class InputReceived(Record):
    """Somebody said something to the expert; it rides in the next request."""

    type: Literal["input.received.v2"] = "input.received.v2"
    input: str  # the command id, or a derived id for notes of the runtime
    speaker: SpeakerKind
    parts: tuple[ContentPart, ...]
    by: Principal = NOBODY


class RunContinued(Record):
    """A root run at rest goes on; limits that are given replace those it had."""

    type: Literal["run.continued.v2"] = "run.continued.v2"
    command: str
    steps_max: int | None = None
    tokens_max: int | None = None
    money_max: int | None = None  # micro-USD
    tool_calls_max: int | None = None
    wall_ms_max: int | None = None
    by: Principal = NOBODY


class CancelRequested(Record):
    """Somebody wants the run to stop, or a limit does; claimed calls get a grace (rule 9)."""

    type: Literal["run.cancel_requested.v2"] = "run.cancel_requested.v2"
    command: str
    reason: str = ""
    parent: Parent | None = None  # of a child that was cancelled before it started
    limit: LimitName | None = None  # that was reached: the run is then stopped, not cancelled
    by: Principal = NOBODY


class RunPaused(Record):
    """Nothing new begins until the run is resumed; what is at work is finished and recorded."""

    type: Literal["run.paused.v1"] = "run.paused.v1"
    command: str
    by: Principal = NOBODY


class RunResumed(Record):
    """A paused run goes on."""

    type: Literal["run.resumed.v1"] = "run.resumed.v1"
    command: str
    by: Principal = NOBODY


class LimitReached(Record):
    """A call was refused because a limit of the run leaves none; the run stops after this step."""

    type: Literal["limit.reached.v1"] = "limit.reached.v1"
    limit: LimitName
    call: str


class StepEnded(Record):
    """A generation and all its calls are over: the checkpoint of this step is here."""

    type: Literal["step.ended.v1"] = "step.ended.v1"
    step: int


class TimerArmed(Record):
    """Something is to happen at `due_ms` (milliseconds since the epoch)."""

    type: Literal["timer.armed.v2"] = "timer.armed.v2"
    timer: str
    purpose: TimerPurpose
    due_ms: int


class TimerFired(Record):
    """A pending timer came due; a timer whose id is not pending is ignored."""

    type: Literal["timer.fired.v1"] = "timer.fired.v1"
    timer: str


class RunCompleted(Record):
    """The expert said it is done. A root run may be continued."""

    type: Literal["run.completed.v2"] = "run.completed.v2"
    step: int
    result: Text
    typed: bool = False  # `result` is JSON of the expert's output schema


class RunStopped(Record):
    """A limit of the run was reached before the expert was done. A root run may be continued."""

    type: Literal["run.stopped.v2"] = "run.stopped.v2"
    limit: LimitName
    step: int


class RunFailed(Record):
    """The run cannot go on by itself. A root run may be continued."""

    type: Literal["run.failed.v1"] = "run.failed.v1"
    step: int
    failure: Failure


class RunCancelled(Record):
    """The run was stopped from outside, and nothing of it is still at work."""

    type: Literal["run.cancelled.v1"] = "run.cancelled.v1"
    step: int
