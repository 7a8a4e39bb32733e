"""The facts of a run, with the literal names they keep for ever (rule 12). Not what follows."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, TypeAdapter

from domain.content import AssistantPart, BlobRef, ContentPart, Text
from domain.limits import Limits, ModelChoice, Usage
from domain.record import Clean, Record
from domain.sandbox import EgressRow
from domain.tools import Lane, Safety, ToolEntry

Outcome = Literal["succeeded", "failed", "refused", "cancelled", "outcome_unknown"]
"""The one terminal outcome of a tool call (rule 6)."""

StopReason = Literal["end", "tool_calls", "max_tokens", "refusal"]

SpeakerKind = Literal["user", "expert", "runtime"]
"""Whose words an input holds: a person's, the delegating expert's, or a note of the runtime."""


class Parent(Record):
    """The call of another run that a child run answers."""

    run: str
    call: str


class Failure(Record):
    """Why something did not work: `kind` for programs, `message` for people."""

    kind: str
    message: Clean
    status: int | None = None  # of HTTP, where there was one


class TodoItem(Record):
    """One entry of an expert's todo list."""

    id: int
    title: str
    completed: bool = False


class RunStarted(Record):
    """A run exists. `definition` is the digest of the pinned set of experts."""

    type: Literal["run.started.v1"] = "run.started.v1"
    command: str  # the id of the start command: the same command again changes nothing
    expert: str
    definition: str
    limits: Limits
    parent: Parent | None = None
    depth: int = 0


class ContextPinned(Record):
    """What stays the same in all requests of this run, by digest, before first use (rule 13)."""

    type: Literal["context.pinned.v1"] = "context.pinned.v1"
    renderer: str
    context: str  # digest of the blob with system blocks, tool specs, model and parameters
    context_bytes: int
    model: ModelChoice
    tools: tuple[ToolEntry, ...]


class InputReceived(Record):
    """Somebody said something to the expert; it rides in the next request."""

    type: Literal["input.received.v1"] = "input.received.v1"
    input: str  # the command id, or a derived id for notes of the runtime
    speaker: SpeakerKind
    parts: tuple[ContentPart, ...]


class RunContinued(Record):
    """A root run at rest goes on; `steps_max` and `tokens_max` replace the limits if given."""

    type: Literal["run.continued.v1"] = "run.continued.v1"
    command: str
    steps_max: int | None = None
    tokens_max: int | None = None


class GenerationRequested(Record):
    """A reply of the model will be asked for: durable before the call is made (rule 5)."""

    type: Literal["generation.requested.v1"] = "generation.requested.v1"
    step: int
    attempt: int  # the fence: completions of an older attempt are dropped, visibly
    request: str  # digest of the request
    reserved: int  # tokens held back in the budget until the end is known
    holder: str | None = None  # the epoch that makes the call; None: whoever claims it


class GenerationClaimed(Record):
    """A worker took an attempt that nobody held."""

    type: Literal["generation.claimed.v1"] = "generation.claimed.v1"
    step: int
    attempt: int
    holder: str


class GenerationCompleted(Record):
    """The model replied. `usage` None: the provider did not say, and the reservation is charged."""

    type: Literal["generation.completed.v1"] = "generation.completed.v1"
    step: int
    attempt: int
    stop_reason: StopReason
    parts: tuple[AssistantPart, ...]
    usage: Usage | None
    charged: int  # tokens taken from the budget
    response_id: str = ""
    model: str = ""


class GenerationFailed(Record):
    """An attempt ended without a reply. What follows from it rides in the same envelope."""

    type: Literal["generation.failed.v1"] = "generation.failed.v1"
    step: int
    attempt: int
    failure: Failure
    retryable: bool
    usage: Usage | None
    charged: int


class GenerationAbandoned(Record):
    """An attempt whose holder is gone, or that a cancel overtook: its end is unknown.

    It is charged in full; a late end settles the charge.
    """

    type: Literal["generation.abandoned.v1"] = "generation.abandoned.v1"
    step: int
    attempt: int
    reason: Literal["holder_lost", "cancelled"]
    charged: int


class GenerationSuperseded(Record):
    """The late end of an abandoned attempt: its charge is settled, its content dropped."""

    type: Literal["generation.superseded.v1"] = "generation.superseded.v1"
    step: int
    attempt: int
    usage: Usage | None
    refunded: int  # tokens given back to the budget


class ToolCallRequested(Record):
    """The model asked for a tool; recorded with the reply that asked."""

    type: Literal["tool_call.requested.v1"] = "tool_call.requested.v1"
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

    type: Literal["delegation.requested.v1"] = "delegation.requested.v1"
    call: str
    child: str  # run id, derived from the call
    expert: str
    limits: Limits


class DelegationSettled(Record):
    """A child came to rest: what it did not use comes back."""

    type: Literal["delegation.settled.v1"] = "delegation.settled.v1"
    call: str
    child: str
    status: Literal["completed", "stopped", "failed", "cancelled"]
    steps: int
    tokens: int


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


class SandboxPlaced(Record):
    """A worker took the job's workspace upon itself: this run's base tools run there.

    The root run decides for its job by optimistic concurrency; `number` counts the job's
    placements from 1, and a later one replaces every earlier one in the other runs, too.
    """

    type: Literal["sandbox.placed.v1"] = "sandbox.placed.v1"
    place: str  # the store of workspaces: it outlives the worker
    epoch: str  # the worker's life: absence from its journal proves "not run" only within it
    number: int
    backend: str
    report: Text  # the capability report, as JSON
    workspace: Literal["mounted", "copied", "own", "isolated"]
    snapshots: bool  # whether the place takes any
    restored: BlobRef | None = None  # the snapshot the files were brought back from
    lost: Clean = ""  # what is gone since the last placement, in plain words


class SandboxLost(Record):
    """The worker that holds the workspace is gone; nothing more is sent to it."""

    type: Literal["sandbox.lost.v1"] = "sandbox.lost.v1"
    place: str
    epoch: str


class SnapshotTaken(Record):
    """The files of the workspace as they were at a checkpoint: recorded later, and by itself.

    In the root run also for the checkpoints of its job's other runs: the newest one is what a
    workspace is brought back from.
    """

    type: Literal["snapshot.taken.v1"] = "snapshot.taken.v1"
    run: str  # whose checkpoint
    step: int
    version: int  # the event version of the checkpoint
    manifest: BlobRef | None  # None: it could not be taken, see `problem`
    files: int = 0
    bytes: int = 0
    new_bytes: int = 0  # stored for it, beside what older ones had
    skipped: int = 0  # sockets, devices and what was over a limit
    withheld: int = 0  # files that held a secret
    exact: bool = True  # False: something may have written since the checkpoint
    problem: Clean = ""


class TodoChanged(Record):
    """The todo list as it is now."""

    type: Literal["todo.changed.v1"] = "todo.changed.v1"
    items: tuple[TodoItem, ...]
    next_id: int


class StepEnded(Record):
    """A generation and all its calls are over: the checkpoint of this step is here."""

    type: Literal["step.ended.v1"] = "step.ended.v1"
    step: int


class TimerArmed(Record):
    """Something is to happen at `due_ms` (milliseconds since the epoch)."""

    type: Literal["timer.armed.v1"] = "timer.armed.v1"
    timer: str
    purpose: Literal["retry", "cancel_grace"]
    due_ms: int


class TimerFired(Record):
    """A pending timer came due; a timer whose id is not pending is ignored."""

    type: Literal["timer.fired.v1"] = "timer.fired.v1"
    timer: str


class CancelRequested(Record):
    """Somebody wants the run to stop; what is claimed gets a grace to report (rule 9)."""

    type: Literal["run.cancel_requested.v1"] = "run.cancel_requested.v1"
    command: str
    reason: str = ""
    parent: Parent | None = None  # of a child that was cancelled before it started


class RunCompleted(Record):
    """The expert said it is done. A root run may be continued."""

    type: Literal["run.completed.v1"] = "run.completed.v1"
    step: int
    result: Text


class RunStopped(Record):
    """A limit of the run was reached before the expert was done. A root run may be continued."""

    type: Literal["run.stopped.v1"] = "run.stopped.v1"
    limit: Literal["steps", "tokens"]
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


class OpaqueEvent(Record):
    """An event this release does not know, carried as it is (C17). It changes no state."""

    type: str
    body: dict[str, Any]


Known = (
    RunStarted
    | ContextPinned
    | InputReceived
    | RunContinued
    | GenerationRequested
    | GenerationClaimed
    | GenerationCompleted
    | GenerationFailed
    | GenerationAbandoned
    | GenerationSuperseded
    | ToolCallRequested
    | DelegationRequested
    | DelegationSettled
    | ToolCallClaimed
    | ToolCallRetried
    | ToolCallEnded
    | EgressCounted
    | ToolResultLate
    | SandboxPlaced
    | SandboxLost
    | SnapshotTaken
    | TodoChanged
    | StepEnded
    | TimerArmed
    | TimerFired
    | CancelRequested
    | RunCompleted
    | RunStopped
    | RunFailed
    | RunCancelled
)
"""Every event this release writes."""

Event = Known | OpaqueEvent

KNOWN_EVENT: TypeAdapter[Known] = TypeAdapter(Annotated[Known, Discriminator("type")])

EVENT_TYPES: tuple[str, ...] = tuple(kind.model_fields["type"].default for kind in get_args(Known))
"""The wire name of every known event, in declaration order."""

TERMINAL_TYPES = frozenset(
    {"run.completed.v1", "run.stopped.v1", "run.failed.v1", "run.cancelled.v1"}
)
"""The events that bring a run to rest: the explicit last event a reader waits for (C9)."""
