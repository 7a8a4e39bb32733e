"""The facts of a run, with the literal names they keep for ever (rule 12). Not what follows."""

from typing import Annotated, Any, get_args

from pydantic import Discriminator, TypeAdapter

from domain.events.asks import (
    SamplingClaimed,
    SamplingEnded,
    SamplingRequested,
    SamplingSettled,
    ToolCallAnswered,
    ToolCallAsked,
)
from domain.events.calls import (
    DelegationRequested,
    DelegationSettled,
    EgressCounted,
    TodoChanged,
    ToolCallClaimed,
    ToolCallEnded,
    ToolCallForwarded,
    ToolCallRequested,
    ToolCallRetried,
    ToolResultLate,
)
from domain.events.common import (
    NOBODY,
    Failure,
    LimitName,
    Outcome,
    Parent,
    Principal,
    SpeakerKind,
    StopReason,
    TeamAction,
    TimerPurpose,
    TodoItem,
)
from domain.events.deletion import RunDeleted
from domain.events.forks import Edited, ResultEdit, RunForked, Source
from domain.events.generation import (
    GenerationAbandoned,
    GenerationClaimed,
    GenerationCompleted,
    GenerationFailed,
    GenerationRequested,
    GenerationSuperseded,
)
from domain.events.lifecycle import (
    CancelRequested,
    ContextPinned,
    InputReceived,
    LimitReached,
    PinnedModel,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    StepEnded,
    TimerArmed,
    TimerFired,
)
from domain.events.people import (
    ApprovalDecided,
    ApprovalRequested,
    PolicyChanged,
    PolicyPinned,
    QuestionAnswered,
    QuestionAsked,
    StandingAdopted,
    TeamChanged,
)
from domain.events.sandbox import (
    SandboxLost,
    SandboxPlaced,
    SnapshotTaken,
)
from domain.record import Record


class OpaqueEvent(Record):
    """An event this release does not know, carried as it is (C17). It changes no state."""

    type: str
    body: dict[str, Any]


Known = (
    RunStarted
    | RunForked
    | ContextPinned
    | PolicyPinned
    | PolicyChanged
    | StandingAdopted
    | InputReceived
    | RunContinued
    | RunPaused
    | RunResumed
    | LimitReached
    | GenerationRequested
    | GenerationClaimed
    | GenerationCompleted
    | GenerationFailed
    | GenerationAbandoned
    | GenerationSuperseded
    | ToolCallRequested
    | ApprovalRequested
    | ApprovalDecided
    | QuestionAsked
    | QuestionAnswered
    | DelegationRequested
    | DelegationSettled
    | ToolCallClaimed
    | ToolCallRetried
    | ToolCallForwarded
    | ToolCallAsked
    | ToolCallAnswered
    | SamplingRequested
    | SamplingClaimed
    | SamplingEnded
    | SamplingSettled
    | ToolCallEnded
    | EgressCounted
    | ToolResultLate
    | TeamChanged
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
    | RunDeleted
)
"""Every event this release writes."""

Event = Known | OpaqueEvent

KNOWN_EVENT: TypeAdapter[Known] = TypeAdapter(Annotated[Known, Discriminator("type")])

EVENT_TYPES: tuple[str, ...] = tuple(kind.model_fields["type"].default for kind in get_args(Known))
"""The wire name of every known event, in declaration order."""

TERMINAL_TYPES = frozenset(
    {
        "run.completed.v2",
        "run.stopped.v2",
        "run.failed.v1",
        "run.cancelled.v1",
        "run.deleted.v1",
    }
)
"""The events that bring a run to rest: the explicit last event a reader waits for (C9)."""

__all__ = [
    "EVENT_TYPES",
    "KNOWN_EVENT",
    "NOBODY",
    "TERMINAL_TYPES",
    "ApprovalDecided",
    "ApprovalRequested",
    "CancelRequested",
    "ContextPinned",
    "DelegationRequested",
    "DelegationSettled",
    "Edited",
    "EgressCounted",
    "Event",
    "Failure",
    "GenerationAbandoned",
    "GenerationClaimed",
    "GenerationCompleted",
    "GenerationFailed",
    "GenerationRequested",
    "GenerationSuperseded",
    "InputReceived",
    "Known",
    "LimitName",
    "LimitReached",
    "OpaqueEvent",
    "Outcome",
    "Parent",
    "PinnedModel",
    "PolicyChanged",
    "PolicyPinned",
    "Principal",
    "QuestionAnswered",
    "QuestionAsked",
    "ResultEdit",
    "RunCancelled",
    "RunCompleted",
    "RunContinued",
    "RunDeleted",
    "RunFailed",
    "RunForked",
    "RunPaused",
    "RunResumed",
    "RunStarted",
    "RunStopped",
    "SamplingClaimed",
    "SamplingEnded",
    "SamplingRequested",
    "SamplingSettled",
    "SandboxLost",
    "SandboxPlaced",
    "SnapshotTaken",
    "Source",
    "SpeakerKind",
    "StandingAdopted",
    "StepEnded",
    "StopReason",
    "TeamAction",
    "TeamChanged",
    "TimerArmed",
    "TimerFired",
    "TimerPurpose",
    "TodoChanged",
    "TodoItem",
    "ToolCallAnswered",
    "ToolCallAsked",
    "ToolCallClaimed",
    "ToolCallEnded",
    "ToolCallForwarded",
    "ToolCallRequested",
    "ToolCallRetried",
    "ToolResultLate",
]
