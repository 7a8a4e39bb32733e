"""What may be asked of a run, as it travels: literal names, plain JSON. Handlers: `commands/`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Discriminator, TypeAdapter

from domain.content import AssistantPart, BlobRef, ContentPart, Text
from domain.events import Failure, Parent, SnapshotTaken, StopReason
from domain.limits import Limits, ModelChoice, Usage
from domain.record import Record
from domain.sandbox import EgressRow
from domain.tools import Lane, ToolEntry

ResultOutcome = Literal["succeeded", "failed", "refused", "cancelled", "outcome_unknown"]
RestStatus = Literal["completed", "stopped", "failed", "cancelled"]


class StartRun(Record):
    """Make a run of an expert. The definition's blob is stored before this is sent."""

    type: Literal["start_run.v1"] = "start_run.v1"
    id: str
    expert: str
    definition: str
    parts: tuple[ContentPart, ...]
    limits: Limits | None = None  # None: the definition's
    parent: Parent | None = None
    depth: int = 0


class ContinueRun(Record):
    """Say something to a root run: it goes on if it is at rest, or hears it with the next step."""

    type: Literal["continue_run.v1"] = "continue_run.v1"
    id: str
    parts: tuple[ContentPart, ...] = ()
    steps_max: int | None = None
    tokens_max: int | None = None


class CancelRun(Record):
    """Stop a run and everything under it."""

    type: Literal["cancel_run.v1"] = "cancel_run.v1"
    id: str
    reason: str = ""
    parent: Parent | None = None  # whom to tell, should the child never have started


class FireTimer(Record):
    """A timer came due."""

    type: Literal["fire_timer.v1"] = "fire_timer.v1"
    timer: str


class ClaimGeneration(Record):
    """A worker wants to make the call of an attempt nobody holds."""

    type: Literal["claim_generation.v1"] = "claim_generation.v1"
    step: int
    attempt: int
    holder: str


class CompleteGeneration(Record):
    """The model replied."""

    type: Literal["complete_generation.v1"] = "complete_generation.v1"
    step: int
    attempt: int
    parts: tuple[AssistantPart, ...]
    stop_reason: StopReason
    usage: Usage | None
    response_id: str = ""
    model: str = ""


class FailGeneration(Record):
    """An attempt ended without a reply."""

    type: Literal["fail_generation.v1"] = "fail_generation.v1"
    step: int
    attempt: int
    failure: Failure
    retryable: bool
    retry_after_ms: int | None = None
    usage: Usage | None = None


class ClaimToolCall(Record):
    """An executor wants to run a call that must not run twice."""

    type: Literal["claim_tool_call.v1"] = "claim_tool_call.v1"
    call: str
    attempt: int
    holder: str


class RecordToolResult(Record):
    """What an executor's call came to."""

    type: Literal["record_tool_result.v1"] = "record_tool_result.v1"
    call: str
    holder: str
    outcome: ResultOutcome
    content: tuple[ContentPart, ...]
    is_error: bool = False
    full_output: Text | None = None
    duration_ms: int | None = None
    egress: tuple[EgressRow, ...] = ()
    full_egress: BlobRef | None = None


class PlaceSandbox(Record):
    """A sandbox worker wants to hold a job's workspace: asked of the root run, which decides.

    `number` None. With a number, another run of the job is told what its root decided.
    """

    type: Literal["place_sandbox.v1"] = "place_sandbox.v1"
    place: str
    epoch: str
    backend: str
    report: Text
    workspace: Literal["mounted", "copied", "own", "isolated"]
    snapshots: bool
    take_over: bool = True  # False: only what this place held before
    number: int | None = None


class RecordSnapshot(Record):
    """The files of the workspace at a checkpoint were stored, or could not be."""

    type: Literal["record_snapshot.v1"] = "record_snapshot.v1"
    taken: SnapshotTaken


class RecordDelegation(Record):
    """A child run came to rest: its end, told to the run that asked for it."""

    type: Literal["record_delegation.v1"] = "record_delegation.v1"
    call: str
    child: str
    status: RestStatus
    content: tuple[ContentPart, ...]
    steps: int
    tokens: int


class AbandonHolder(Record):
    """The reconciler proved that an epoch is dead: what it held in this run is free, or unknown.

    With `names` (`<call>.<attempt>`, `g<step>.<attempt>`), that it is alive and not at these.
    """

    type: Literal["abandon_holder.v1"] = "abandon_holder.v1"
    holder: str
    names: tuple[str, ...] = ()


class RetryToolCall(Record):
    """The reconciler found a call that nobody holds or runs: hand it out again."""

    type: Literal["retry_tool_call.v1"] = "retry_tool_call.v1"
    call: str
    attempt: int  # the attempt that got lost


Command = (
    StartRun
    | ContinueRun
    | CancelRun
    | FireTimer
    | ClaimGeneration
    | CompleteGeneration
    | FailGeneration
    | ClaimToolCall
    | RecordToolResult
    | PlaceSandbox
    | RecordSnapshot
    | RecordDelegation
    | AbandonHolder
    | RetryToolCall
)

COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Discriminator("type")])


@dataclass(frozen=True, slots=True)
class PinnedContext:
    """What a start pins: the digest of the stored `ModelContext` and what deciding needs of it."""

    renderer: str
    digest: str
    size: int  # bytes
    model: ModelChoice
    tools: tuple[ToolEntry, ...]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision is made in: the time, and what this process takes upon itself.

    `holder` is this process's epoch when it has room for a generation, else None; `lanes` are
    those whose executor in this process has room: their claims ride in the same envelope.
    """

    now_ms: int
    holder: str | None = None
    lanes: frozenset[Lane] = frozenset()
    epoch: str = ""
    context: PinnedContext | None = None
    gone: frozenset[str] = frozenset()  # epochs that are known to have ended
