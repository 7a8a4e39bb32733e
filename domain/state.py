"""A run as its events leave it: what deciding needs, and the conversation. Not a read model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from domain.asks import About, Elicitation
from domain.content import BlobRef, ContentPart, Message, Text
from domain.events import (
    LimitName,
    Outcome,
    Parent,
    PinnedModel,
    SnapshotTaken,
    TimerArmed,
    TodoItem,
    ToolCallEnded,
)
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Usage
from domain.policy import PolicyLayer, PolicyRule
from domain.prompt import EMPTY_CONVERSATION
from domain.tools import Lane, Safety, ToolEntry

Status = Literal["new", "running", "completed", "stopped", "failed", "cancelled", "deleted"]
"""Where a run is; all but `new` and `running` are rest, and from `deleted` nothing leads on."""

AT_REST = frozenset({"completed", "stopped", "failed", "cancelled", "deleted"})


class Messages(Sequence[Message]):
    """The first `count` messages of a list that only grows.

    Every state of a run shares one list, so a message more costs the same at step 1,000 as at
    step 10 (C1); a state from which two futures grow gets a list of its own for the second.
    """

    __slots__ = ("_count", "_shared")

    def __init__(self, shared: list[Message] | None = None, count: int = 0) -> None:
        self._shared: list[Message] = [] if shared is None else shared
        self._count = count

    def followed_by(self, message: Message) -> "Messages":
        """These messages and one more."""
        shared = self._shared
        if len(shared) != self._count:
            shared = shared[: self._count]
        shared.append(message)
        return Messages(shared, self._count + 1)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        if isinstance(index, slice):
            return self._shared[: self._count][index]
        return self._shared[range(self._count)[index]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Messages) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """In a snapshot only the last message is kept: what deciding looks at."""
        return core_schema.no_info_after_validator_function(
            lambda kept: cls(list(kept), len(kept)),
            handler(tuple[Message, ...]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda messages: [message.model_dump(mode="json") for message in messages[-1:]]
            ),
        )


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the model has been told and has said, and its rolling digest."""

    messages: Messages = field(default_factory=Messages)
    digest: str = EMPTY_CONVERSATION
    size: int = 0  # bytes of the messages in canonical form
    blobs: frozenset[str] = frozenset()  # digests of content the messages name, not carry
    whole: bool = True  # False after a snapshot: older messages are in the log only


@dataclass(frozen=True, slots=True)
class Generation:
    """The newest attempt to get a reply."""

    step: int
    attempt: int
    request: str
    reserved: int
    holder: str | None
    phase: Literal["open", "backoff", "over"]
    since_ms: int
    reserved_money: int = 0
    tries: int = 0  # attempts of this step that ended without a reply, on this model
    limited: int = 0  # attempts of this step that the provider's limits turned away


@dataclass(frozen=True, slots=True)
class Delegation:
    """The child that answers a call, and what it may use."""

    child: str
    expert: str
    limits: Limits
    number: int = 0
    """In which order the delegations of a step were made: one that a person allowed comes later."""


@dataclass(frozen=True, slots=True)
class Approval:
    """What waits for a person: a call, or going beyond a soft limit."""

    digest: str = ""  # of the arguments of the call
    limit: LimitName | None = None
    due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Which worker holds the workspace. `lost_ms`: since when it is known to be gone; else None."""

    place: str
    epoch: str
    number: int
    snapshots: bool
    isolated: bool = False  # the run works in a copy of its caller's workspace
    moved: int = 0  # the number with which the job came to this place
    restored: BlobRef | None = None
    earlier: tuple[str, ...] = ()
    """Lives of the same place before it that may have begun calls which were open then."""
    lost_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The end of a step: (step, event version)."""

    step: int
    version: int


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of the current step."""

    id: str
    step: int
    provider_id: str
    tool: str
    skill: str
    lane: Lane
    safety: Safety
    arguments: Text
    key: str
    since_ms: int
    attempt: int = 1
    holder: str | None = None
    delegation: Delegation | None = None
    ended: ToolCallEnded | None = None
    exposed: bool = field(default=False, compare=False)
    """Whether a sandbox worker may have begun it: its claim is in that worker's journal only."""
    forwarded: Text | None = None
    """What an executor found, when the loop has to do the rest."""
    asked: bool = False
    """Whether a person was asked for an answer."""

    @property
    def may_have_begun(self) -> bool:
        """Whether an executor may be at it: it was claimed, in the log or in a journal."""
        return self.holder is not None or self.exposed


@dataclass(frozen=True, slots=True)
class ModelCall:
    """The one call of the run's model that an ask is for."""

    request: str
    model: ModelChoice
    reserved: int
    reserved_money: int
    holder: str | None
    since_ms: int
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Ask:
    """What an open call of this step has asked for. `over`: its call ended without an answer."""

    id: str
    call: str
    step: int
    holder: str
    about: About
    since_ms: int
    due_ms: int | None = None
    phase: Literal["open", "answered", "over"] = "open"
    model_call: ModelCall | None = None


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What was charged for a call of the model whose end is not known."""

    step: int
    model: ModelChoice
    tokens: int
    money: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What is remembered of a call of an earlier step."""

    outcome: Outcome
    result: str  # digest of the result
    claimed: bool


@dataclass(frozen=True)
class RunState:
    """The fold of a run's events up to `version` (0: none yet)."""

    ref: RunRef
    version: int = 0
    at_ms: int = 0
    status: Status = "new"
    expert: str = ""
    definition: str = ""
    parent: Parent | None = None
    depth: int = 0
    limits: Limits = field(default_factory=Limits)
    renderer: str = ""
    context: str = ""
    context_bytes: int = 0
    model: ModelChoice | None = None
    tools: tuple[ToolEntry, ...] = ()
    fallbacks: tuple[PinnedModel, ...] = ()
    output_schema: Mapping[str, object] | None = None
    layers: tuple[PolicyLayer, ...] = ()
    rules: tuple[PolicyRule, ...] = ()  # that people gave this run
    rules_above: tuple[PolicyRule, ...] = ()  # that they gave the runs above it
    standing: int = 0  # how often it had something new to say to its children
    standing_above: int = 0  # the newest it heard from its parent
    turned: int = 0  # its standing when it was paused or resumed last
    turned_above: int = 0  # the parent's, as far as it heard
    approvals: Mapping[str, Approval] = field(default_factory=dict[str, Approval])
    budgets_asked: int = 0  # how often a person was asked for more than a soft limit
    lifted: frozenset[LimitName] = frozenset()  # soft limits that a person has lifted
    paused: bool = False
    step: int = 0
    step_over: bool = False  # the checkpoint of `step` is there
    steps_base: int = 0  # the step at the last continue: limits count from there
    steps_delegated: int = 0  # carved out for children, minus what came back, since then
    generation: Generation | None = None
    conversation: Conversation = field(default_factory=Conversation)
    inputs: tuple[ContentPart, ...] = ()  # said since the last request
    calls: Mapping[str, Call] = field(default_factory=dict[str, Call])
    past_calls: Mapping[str, Ended] = field(default_factory=dict[str, Ended])
    late_results: frozenset[str] = frozenset()
    asks: Mapping[str, Ask] = field(default_factory=dict[str, Ask])  # of the calls of this step
    unsettled_asks: Mapping[str, Unsettled] = field(default_factory=dict[str, Unsettled])
    unsettled: Mapping[str, int] = field(default_factory=dict[str, int])  # attempt -> charged
    unsettled_money: Mapping[str, int] = field(default_factory=dict[str, int])
    timers: Mapping[str, TimerArmed] = field(default_factory=dict[str, TimerArmed])
    sandbox: Placement | None = None
    wrote: bool = False  # something that may write ran since the last checkpoint
    snapshot_due: Checkpoint | None = None
    snapshot: SnapshotTaken | None = None  # the newest that was stored
    todos: tuple[TodoItem, ...] = ()
    todo_next_id: int = 0
    commands_seen: frozenset[str] = frozenset()
    cancelling: bool = False
    usage: Usage = field(default_factory=Usage)
    tokens_charged: int = 0  # what counts against `tokens_max`, children included
    tokens_reserved: int = 0
    tokens_base: int = 0  # charged before the last continue
    money_charged: int = 0  # micro-USD, children included
    money_reserved: int = 0
    money_base: int = 0
    tool_calls: int = 0  # that were let through, children included
    tool_calls_reserved: int = 0
    tool_calls_base: int = 0
    calls_over: bool = False  # a call of this step was refused because none is left
    stopping: LimitName | None = None  # the limit because of which it is being cancelled
    result: Text | None = None
    typed_result: bool = False
    failure_kind: str = ""
    failure_message: str = ""
    stopped_by: str = ""
    unknown_events: tuple[str, ...] = ()  # types a newer release wrote (C17)
    forks: int = 0  # how many forks lie between this run and one that was started
    past: "RunState | None" = None
    """What a fork that has no event yet begins with: another run's fold, with the edits."""

    @property
    def at_rest(self) -> bool:
        """Whether nothing of this run is at work or waited for."""
        return self.status in AT_REST

    @property
    def open_calls(self) -> tuple[Call, ...]:
        """The calls of this step without an outcome, in call order."""
        return tuple(call for call in self.calls.values() if call.ended is None)

    @property
    def questions(self) -> tuple[Ask, ...]:
        """What open calls ask a person, in the order it was asked."""
        return tuple(
            ask
            for ask in self.asks.values()
            if ask.phase == "open" and isinstance(ask.about, Elicitation)
        )

    @property
    def steps_left(self) -> int:
        """How many more steps the limit allows this run."""
        used = self.step - self.steps_base + self.steps_delegated
        return max(0, self.limits.steps_max - used)

    @property
    def tokens_left(self) -> int | None:
        """How many more tokens the budget allows; None without a budget."""
        used = self.tokens_charged - self.tokens_base + self.tokens_reserved
        return _left(self.limits.tokens_max, used)

    @property
    def money_left(self) -> int | None:
        """How much more may be spent, in micro-USD; None without a budget."""
        used = self.money_charged - self.money_base + self.money_reserved
        return _left(self.limits.money_max, used)

    @property
    def tool_calls_left(self) -> int | None:
        """How many more tool calls are allowed; None without a limit."""
        used = self.tool_calls - self.tool_calls_base + self.tool_calls_reserved
        return _left(self.limits.tool_calls_max, used)

    @property
    def held(self) -> bool:
        """Whether no new generation may be asked for: paused, or beyond a soft limit."""
        return self.paused or any(one.limit is not None for one in self.approvals.values())

    @property
    def waits(self) -> bool:
        """Whether a person has to do something before the run can go on as it should."""
        asked = any(call.asked for call in self.open_calls) or bool(self.questions)
        return self.status == "running" and (self.paused or bool(self.approvals) or asked)

    def sent(self, call: Call) -> Call:
        """A call that goes to its executor now: from then on a sandbox worker may begin it."""
        placed = self.sandbox is not None and self.sandbox.lost_ms is None
        may = placed and call.lane is Lane.SANDBOX and call.ended is None
        return replace(call, exposed=True) if may and call.id not in self.approvals else call

    def tool(self, name: str) -> ToolEntry | None:
        """The pinned entry of a tool."""
        return next((entry for entry in self.tools if entry.name == name), None)


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)


def attempt_key(step: int, attempt: int) -> str:
    """How an attempt is named in `unsettled`."""
    return f"{step}.{attempt}"


if TYPE_CHECKING:
    changed = replace
else:

    def changed(state: RunState, **changes: object) -> RunState:
        """`dataclasses.replace` for a run's state, ten times faster: the fold's inner loop."""
        new = object.__new__(RunState)
        new.__dict__.update(state.__dict__, **changes)
        return new
