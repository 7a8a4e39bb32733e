"""What may be asked of a run, as it travels: literal names, plain JSON. Handlers: `commands/`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, TypeAdapter

from domain.asks import About, Action, JsonObject, SampleReply
from domain.content import AssistantPart, BlobRef, ContentPart, Text
from domain.events import (
    NOBODY,
    Failure,
    Parent,
    PinnedModel,
    Principal,
    ResultEdit,
    SnapshotTaken,
    Source,
    StopReason,
    TeamAction,
)
from domain.limits import Limits, ModelChoice, Usage
from domain.policy import PolicyLayer, PolicyRule
from domain.record import Record
from domain.sandbox import EgressRow
from domain.state import RunState
from domain.tools import Lane, ToolEntry

ResultOutcome = Literal["succeeded", "failed", "refused", "cancelled", "outcome_unknown"]
RestStatus = Literal["completed", "stopped", "failed", "cancelled"]


class Standing(Record):
    """What a run says to its children, beside their tasks; a larger number replaces a smaller."""

    number: int
    paused: bool
    turned: int = 0  # its number when it was paused or resumed last
    rules: tuple[PolicyRule, ...] = ()  # that people gave it, and the runs above it


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
    standing: Standing | None = None  # of the parent; a newer one is heard by a run that exists
    by: Principal = NOBODY


class ContinueRun(Record):
    """Say something to a root run: it goes on if it is at rest, or hears it with the next step."""

    type: Literal["continue_run.v1"] = "continue_run.v1"
    id: str
    parts: tuple[ContentPart, ...] = ()
    steps_max: int | None = None
    tokens_max: int | None = None
    money_max: int | None = None  # micro-USD
    tool_calls_max: int | None = None
    wall_ms_max: int | None = None
    by: Principal = NOBODY


class ForkRun(Record):
    """Make a root run whose past is another run's up to some version, and let it go on from there.

    `source.hash` "" takes the envelope that is there now. `results` change what calls of the past
    came to, `definition` what the run is pinned to; limits that are given replace the source's.
    """

    type: Literal["fork_run.v1"] = "fork_run.v1"
    id: str
    source: Source
    parts: tuple[ContentPart, ...] = ()
    results: tuple[ResultEdit, ...] = ()
    definition: str | None = None
    with_files: bool = True  # False: its workspace is what somebody chose for it
    steps_max: int | None = None
    tokens_max: int | None = None
    money_max: int | None = None  # micro-USD
    tool_calls_max: int | None = None
    wall_ms_max: int | None = None
    by: Principal = NOBODY


class SteerRun(Record):
    """Say something to any run that is at work: it hears it with its next request.

    `now` interrupts the generation that is being made, so that the next request is at once.
    """

    type: Literal["steer_run.v1"] = "steer_run.v1"
    id: str
    parts: tuple[ContentPart, ...]
    now: bool = False
    by: Principal = NOBODY


class PauseRun(Record):
    """Begin nothing new in a run and under it; what is at work is finished and recorded."""

    type: Literal["pause_run.v1"] = "pause_run.v1"
    id: str
    by: Principal = NOBODY


class ResumeRun(Record):
    """Let a paused run, and what is under it, go on."""

    type: Literal["resume_run.v1"] = "resume_run.v1"
    id: str
    by: Principal = NOBODY


class DecideApproval(Record):
    """A person decides about a call that waits, or about going beyond a soft limit.

    `digest` names the arguments the person saw: others are not decided about (C14). With
    `arguments`, the call runs with these instead.
    """

    type: Literal["decide_approval.v1"] = "decide_approval.v1"
    id: str
    approval: str
    approve: bool
    digest: str | None = None  # None: whatever they are
    arguments: Text | None = None
    reason: str = ""
    by: Principal = NOBODY


class AnswerQuestion(Record):
    """A person answers a call of an interactive tool."""

    type: Literal["answer_question.v1"] = "answer_question.v1"
    id: str
    call: str
    parts: tuple[ContentPart, ...]
    by: Principal = NOBODY


class ChangePolicy(Record):
    """People add rules to a run and those under it, or replace the ones they gave."""

    type: Literal["change_policy.v1"] = "change_policy.v1"
    id: str
    rules: tuple[PolicyRule, ...]
    replace: bool = False
    by: Principal = NOBODY


class ChangeTeam(Record):
    """The loop is to carry out a call that changes the team of its run."""

    type: Literal["change_team.v1"] = "change_team.v1"
    call: str


class CloseTeamCall(Record):
    """What a change of the team came to: prepared by a handler, decided if nothing else came first.

    `definition` and `base`: the new one, and the one it was made from; none when it failed.
    """

    type: Literal["close_team_call.v1"] = "close_team_call.v1"
    call: str
    base: str
    definition: str = ""
    action: TeamAction | None = None
    names: tuple[str, ...] = ()
    content: str  # JSON for the model
    is_error: bool = False


class CancelRun(Record):
    """Stop a run and everything under it."""

    type: Literal["cancel_run.v1"] = "cancel_run.v1"
    id: str
    reason: str = ""
    parent: Parent | None = None  # whom to tell, should the child never have started
    by: Principal = NOBODY


class DeleteRun(Record):
    """Delete the job of a root run: asked by retention, which knows that all of it has ended.

    It knew so when the root run had come to `version`. `runs` and `envelopes`: how much goes.
    `again`: something came too late, and readers are to hear that it is gone with the rest. `half`:
    only a part of the job was ever brought here, so it cannot come to rest.
    """

    type: Literal["delete_run.v1"] = "delete_run.v1"
    id: str
    version: int
    runs: int
    envelopes: int
    again: bool = False
    half: bool = False
    by: Principal = NOBODY


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


class AskInCall(Record):
    """The holder of an open call asks a person, or the run's model, and waits for the answer.

    `ask` names the question: the same again is the same question.
    """

    type: Literal["ask_in_call.v1"] = "ask_in_call.v1"
    call: str
    ask: str
    holder: str
    about: About


class AnswerAsk(Record):
    """A person answers what an open call asks; `content` fits the form, if there is one."""

    type: Literal["answer_ask.v1"] = "answer_ask.v1"
    id: str
    ask: str
    action: Action = "accept"
    content: JsonObject | None = None
    by: Principal = NOBODY


class ClaimSampling(Record):
    """A worker wants to ask the model for an open call, where nobody does yet."""

    type: Literal["claim_sampling.v1"] = "claim_sampling.v1"
    ask: str
    holder: str


class EndSampling(Record):
    """What the model said for an open call, or why it did not."""

    type: Literal["end_sampling.v1"] = "end_sampling.v1"
    ask: str
    reply: SampleReply | None = None
    failure: Failure | None = None
    usage: Usage | None = None


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
    money: int = 0  # micro-USD
    tool_calls: int = 0


class AbandonHolder(Record):
    """The reconciler proved that an epoch is dead: what it held in this run is free, or unknown.

    With `names` (`<call>.<attempt>`, `g<step>.<attempt>`, `m<ask>`), that it is alive and not at
    these.
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
    | ForkRun
    | ContinueRun
    | SteerRun
    | PauseRun
    | ResumeRun
    | DecideApproval
    | AnswerQuestion
    | AnswerAsk
    | ChangePolicy
    | ChangeTeam
    | CloseTeamCall
    | CancelRun
    | DeleteRun
    | FireTimer
    | ClaimGeneration
    | CompleteGeneration
    | FailGeneration
    | ClaimToolCall
    | RecordToolResult
    | AskInCall
    | ClaimSampling
    | EndSampling
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
    fallbacks: tuple[PinnedModel, ...] = ()
    output_schema: dict[str, Any] | None = None
    layers: tuple[PolicyLayer, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """What a fork begins with: the past with its edits, read and checked by the handler.

    `files`: the newest snapshot of that time. `context` and `layers`: what is pinned anew.
    """

    past: RunState
    hash: str
    weight: int = 0  # bytes of the log it was folded from
    files: SnapshotTaken | None = None
    files_differ: bool = False
    context: PinnedContext | None = None
    layers: tuple[PolicyLayer, ...] = ()


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
    origin: Origin | None = None  # of a fork
