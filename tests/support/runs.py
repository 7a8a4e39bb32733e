"""Given, when, then for runs: commands played through `decide`. Not a worker: nothing is stored."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from domain import commands as c
from domain.content import AssistantPart, CallPart, ContentPart, Text, TextPart, text_of
from domain.decide import decide
from domain.effects import CallTool, Effect, StartChild, effects
from domain.envelope import Cause, Envelope, decode, encode
from domain.errors import Rejected
from domain.events import Event, Failure, Parent, PinnedModel, StopReason, ToolCallEnded
from domain.evolve import evolve_all, fold_all
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Usage
from domain.policy import PolicyLayer, PolicyRule, Verdict
from domain.prompt import RENDERER
from domain.state import RunState, changed
from domain.tools import Lane, Safety, ToolEntry
from tests.support.invariants import check

REF = RunRef("acme", "job1", "run1")
NOW_MS = 1_700_000_000_000
MODEL = ModelChoice(provider="scripted", model="some-model", output_tokens_max=100)


def entry(
    name: str,
    lane: Lane,
    safety: Safety,
    expert: str | None = None,
    schema: dict[str, Any] | None = None,
) -> ToolEntry:
    return ToolEntry(
        name=name, skill="skill", lane=lane, safety=safety, expert=expert, input_schema=schema
    )


TOOLS = (
    entry("attemptCompletion", Lane.LOOP, Safety.READ_ONLY),
    entry("clearTodo", Lane.LOOP, Safety.READ_ONLY),
    entry("todo", Lane.LOOP, Safety.READ_ONLY),
    entry("read", Lane.SANDBOX, Safety.READ_ONLY),
    entry("write", Lane.SANDBOX, Safety.IDEMPOTENT),
    entry("exec", Lane.SANDBOX, Safety.UNSAFE),
    entry("buy", Lane.TOOL, Safety.UNSAFE),
    entry("helper", Lane.DELEGATE, Safety.UNSAFE, expert="@boss/helper"),
)

COUNT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"count": {"type": "integer"}},
    "required": ["count"],
}
TEAM = (
    *TOOLS,
    entry("addDelegateFromConfig", Lane.SANDBOX, Safety.IDEMPOTENT),
    entry("ask", Lane.PERSON, Safety.UNSAFE, schema={"type": "object"}),
    entry("counter", Lane.DELEGATE, Safety.UNSAFE, expert="@boss/counter", schema=COUNT_SCHEMA),
    entry("createExpert", Lane.TEAM, Safety.IDEMPOTENT),
)
"""The tools of a run that may ask people, and change its team."""

Made = Callable[[RunState], c.Command]
"""Makes a command from the state it meets: for the open attempt, say."""

Asked = c.Command | Made


def pinned(limits: Limits | None = None) -> c.PinnedContext:
    return c.PinnedContext(
        renderer=RENDERER,
        digest="c" * 64,
        size=1_000,
        model=MODEL,
        tools=TOOLS,
        limits=limits or Limits(),
    )


def rules(*rules: PolicyRule) -> tuple[PolicyLayer, ...]:
    """Rules of a definition."""
    return (PolicyLayer(name="definition", rules=rules),)


def situation(
    now_ms: int = NOW_MS,
    *,
    epoch: str = "e1",
    holder: str | None = "e1",
    lanes: frozenset[Lane] = frozenset(),
    context: c.PinnedContext | None = None,
) -> c.Situation:
    return c.Situation(
        now_ms=now_ms, holder=holder, lanes=lanes, epoch=epoch, context=context or pinned()
    )


def team(
    *layer: PolicyRule,
    model: ModelChoice = MODEL,
    fallbacks: tuple[PinnedModel, ...] = (),
    output: dict[str, Any] | None = None,
) -> c.Situation:
    """A worker with room, where a run starts with rules, people and a team."""
    context = replace(
        pinned(),
        tools=TEAM,
        layers=rules(*layer) if layer else (),
        model=model,
        fallbacks=fallbacks,
        output_schema=output,
    )
    return situation(lanes=frozenset({Lane.SANDBOX, Lane.TOOL}), context=context)


HERE = situation(lanes=frozenset({Lane.SANDBOX, Lane.TOOL}))
"""A worker that has room for everything: claims ride in the deciding envelope."""

ELSEWHERE = situation(holder=None)
"""A worker without room: all work goes through WORK."""


@dataclass(frozen=True)
class Then:
    """What a command came to."""

    before: RunState
    after: RunState
    events: tuple[Event, ...]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def effects(self) -> tuple[Effect, ...]:
        return effects(self.after)


def when(state: RunState, asked: Asked, where: c.Situation | None = None) -> Then:
    """Decide one command, and check what must hold after any decision."""
    where = where or HERE
    command = asked(state) if callable(asked) else asked
    events = decide(state, command, where)
    at_ms = max(where.now_ms, state.at_ms)
    after = evolve_all(changed(state, at_ms=at_ms), events) if events else state
    check(state, command, where, events, after)
    return Then(state, after, events)


def given(*asked: Asked, where: c.Situation | None = None) -> RunState:
    """The state after some commands, each of which must change something."""
    state = RunState(ref=REF)
    for one in asked:
        then = when(state, one, where)
        assert then.events, f"{one!r} changed nothing"
        state = then.after
    return state


def says(text: str) -> tuple[ContentPart, ...]:
    return (TextPart(text=text),)


def start(limits: Limits | None = None, *, child: bool = False, text: str = "go") -> c.StartRun:
    return c.StartRun(
        id="start",
        expert="boss",
        definition="d" * 64,
        parts=says(text),
        limits=limits,
        parent=Parent(run="parent", call="c1-0") if child else None,
        depth=1 if child else 0,
    )


def call(tool: str, arguments: str = "{}", provider_id: str = "") -> CallPart:
    return CallPart(provider_id=provider_id or f"p-{tool}", tool=tool, arguments=arguments)


def delegate(query: str = "help me") -> CallPart:
    return call("helper", f'{{"query": "{query}"}}')


def replies(
    *parts: AssistantPart | str,
    stop: StopReason | None = None,
    usage: Usage | None = None,
    known: bool = True,
) -> Made:
    """The model answers the attempt that is open."""
    whole = tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)
    asks = any(isinstance(part, CallPart) for part in whole)

    def made(state: RunState) -> c.CompleteGeneration:
        step, attempt = _open(state)
        return c.CompleteGeneration(
            step=step,
            attempt=attempt,
            parts=whole,
            stop_reason=stop or ("tool_calls" if asks else "end"),
            usage=(usage or Usage(input=10, output=5)) if known else None,
        )

    return made


def fails(
    kind: str = "overloaded",
    *,
    retryable: bool = True,
    retry_after_ms: int | None = None,
    usage: Usage | None = None,
) -> Made:
    """The attempt that is open ends without a reply."""

    def made(state: RunState) -> c.FailGeneration:
        step, attempt = _open(state)
        return c.FailGeneration(
            step=step,
            attempt=attempt,
            failure=Failure(kind=kind, message="it did not work"),
            retryable=retryable,
            retry_after_ms=retry_after_ms,
            usage=usage,
        )

    return made


def _open(state: RunState) -> tuple[int, int]:
    assert state.generation is not None
    return state.generation.step, state.generation.attempt


def result(
    name: str, text: str = "done", *, holder: str = "e1", outcome: c.ResultOutcome = "succeeded"
) -> c.RecordToolResult:
    return c.RecordToolResult(
        call=name,
        holder=holder,
        outcome=outcome,
        content=says(text),
        is_error=outcome != "succeeded",
    )


def claim(name: str, holder: str = "e1", attempt: int = 1) -> c.ClaimToolCall:
    return c.ClaimToolCall(call=name, attempt=attempt, holder=holder)


def told(state: RunState, name: str, status: c.RestStatus = "completed") -> c.RecordDelegation:
    """The child of a call came to rest."""
    delegation = state.calls[name].delegation
    assert delegation is not None
    return c.RecordDelegation(
        call=name,
        child=delegation.child,
        status=status,
        content=says(f"the child {status}"),
        steps=1,
        tokens=7,
    )


def tells(name: str, status: c.RestStatus = "completed") -> Made:
    return lambda state: told(state, name, status)


def fires(purpose: str) -> Made:
    """The pending timer of that purpose comes due."""

    def made(state: RunState) -> c.FireTimer:
        return c.FireTimer(
            timer=next(t.timer for t in state.timers.values() if t.purpose == purpose)
        )

    return made


def goes_on(
    text: str = "more",
    command: str = "k1",
    *,
    steps_max: int | None = None,
    tokens_max: int | None = None,
) -> c.ContinueRun:
    parts = says(text) if text else ()
    return c.ContinueRun(id=command, parts=parts, steps_max=steps_max, tokens_max=tokens_max)


def cancel(command: str = "x1") -> c.CancelRun:
    return c.CancelRun(id=command, reason="enough")


def outcomes(state: RunState) -> dict[str, str]:
    """How the calls of this step ended."""
    return {name: one.ended.outcome if one.ended else "open" for name, one in state.calls.items()}


def read_by_model(events: tuple[Event, ...], name: str) -> str:
    """What the model reads of a call that one of these events ends."""
    ended = [e for e in events if isinstance(e, ToolCallEnded) and e.call == name]
    assert len(ended) == 1, f"{name} has {len(ended)} outcomes"
    return text_of(ended[0].content)


def asks_for(verdict: Verdict, **patterns: Any) -> PolicyRule:
    """A rule."""
    return PolicyRule(verdict=verdict, **patterns)


def approves(name: str, command: str = "a1", **more: Any) -> c.DecideApproval:
    return c.DecideApproval(id=command, approval=name, approve=True, **more)


def denies(name: str, command: str = "n1", **more: Any) -> c.DecideApproval:
    return c.DecideApproval(id=command, approval=name, approve=False, **more)


def answers(name: str, text: str = "blue", command: str = "w1") -> c.AnswerQuestion:
    return c.AnswerQuestion(id=command, call=name, parts=says(text))


def pauses(command: str = "h1") -> c.PauseRun:
    return c.PauseRun(id=command)


def resumes(command: str = "r1") -> c.ResumeRun:
    return c.ResumeRun(id=command)


def adds(*new: PolicyRule, command: str = "p1", replace: bool = False) -> c.ChangePolicy:
    return c.ChangePolicy(id=command, rules=new, replace=replace)


def rejected(state: RunState, asked: Asked) -> str:
    """The code with which a command is refused for good."""
    try:
        found = decide(state, asked(state) if callable(asked) else asked, HERE)
    except Rejected as error:
        return error.code
    message = f"it was not refused: {found!r}"
    raise AssertionError(message)


def handed_out(found: tuple[Effect, ...]) -> dict[str, Text]:
    """The calls that go to executors, and the arguments they get."""
    return {one.call.id: one.call.arguments for one in found if isinstance(one, CallTool)}


def children(found: tuple[Effect, ...]) -> dict[str, c.StartRun]:
    """The starts of delegates, by call."""
    starts = [one.command for one in found if isinstance(one, StartChild)]
    return {one.parent.call: one for one in starts if one.parent}


def restarted(*asked: Asked, where: c.Situation | None = None) -> RunState:
    """The state after some commands, from the bytes of the log alone: as a new worker has it."""
    known = RunState(ref=REF)
    stored: list[bytes] = []
    for one in asked:
        then = when(known, one, where)
        known = then.after
        envelope = Envelope(
            id="e",
            ref=REF,
            version=then.before.version + 1,
            at_ms=known.at_ms,
            cause=Cause(type="test", id=""),
            by="e1",
            prev="0" * 64,
            events=then.events,
        )
        stored.append(encode(envelope))
    return fold_all(REF, (decode(data) for data in stored))


def steers(text: str = "turn left", command: str = "s1", *, now: bool = False) -> c.SteerRun:
    return c.SteerRun(id=command, parts=says(text), now=now)
