"""What must hold after every decision, whatever the history. Not a test: tests call `check`."""

from domain import commands as c
from domain.asked import holds
from domain.content import AssistantMessage, CallPart, Message, ResultPart
from domain.conversation import next_conversation, this_request
from domain.decide import conclude, decide
from domain.decisions.people import arguments_digest
from domain.effects import CallTool, TakeSnapshot, TellParent, effects
from domain.envelope import Cause, Envelope, decode, encode
from domain.events import (
    DelegationRequested,
    Event,
    GenerationClaimed,
    GenerationRequested,
    QuestionAsked,
    SamplingClaimed,
    ToolCallClaimed,
    ToolCallEnded,
    ToolCallRequested,
)
from domain.evolve import evolve, fold
from domain.state import RunState


def check(
    before: RunState,
    command: c.Command,
    where: c.Situation,
    events: tuple[Event, ...],
    after: RunState,
) -> None:
    """Everything that a single decision must keep."""
    assert decide(before, command, where) == events, "decide is not deterministic"
    if events:
        assert conclude(before, command, where).after == after, "the concluded state is another"
    assert after.version == before.version + len(events), "versions have a gap"
    if events:
        check_stored(before, where, events, after)
        check_prefixes(before, events)
        check_again(command, where, events, after)
    check_state(after)
    check_outcomes(before, events)


def check_stored(
    before: RunState, where: c.Situation, events: tuple[Event, ...], after: RunState
) -> None:
    """What is stored folds to what was decided on, byte for byte (rule 1)."""
    envelope = Envelope(
        id="e",
        ref=before.ref,
        version=before.version + 1,
        at_ms=max(where.now_ms, before.at_ms),
        cause=Cause(type="test", id=""),
        by=where.epoch,
        prev="0" * 64,
        events=events,
    )
    data = encode(envelope)
    assert decode(data) == envelope
    assert encode(decode(data)) == data
    assert fold(before, decode(data)) == after, "the stored events lead elsewhere"


def check_again(
    command: c.Command, where: c.Situation, events: tuple[Event, ...], after: RunState
) -> None:
    """Duplicates are normal: the same command again changes nothing (rule 3)."""
    if isinstance(command, c.AbandonHolder) and command.holder == where.epoch:
        return  # a worker that takes its own work back may hand it to itself again
    assert decide(after, command, where) == (), f"{command.type} is not idempotent: {events!r}"


def check_state(state: RunState) -> None:
    """What every state between decisions keeps."""
    if state.unknown_events:
        return
    check_ledger(state)
    check_request(state)
    found = effects(state)
    if state.at_rest:
        assert all(isinstance(effect, TakeSnapshot | TellParent) for effect in found)
        assert state.tokens_reserved == 0
        assert not state.open_calls, "a call of a run at rest has no outcome"
        assert not state.timers
        assert not state.cancelling
        assert not state.approvals
        assert not state.paused
        assert state.money_reserved == state.tool_calls_reserved == 0
    elif state.status == "running":
        assert found or state.waits, "stuck: nothing to do, and not at rest (C7)"
    check_waits(state)
    check_asks(state)


def check_waits(state: RunState) -> None:
    """What waits for a person is at nobody's hands (C14)."""
    for name, approval in state.approvals.items():
        if approval.limit is None:
            call = state.calls[name]
            assert call.ended is None
            assert not call.may_have_begun
            assert call.delegation is None
            assert approval.digest == arguments_digest(call)
    given_out = {effect.call.id for effect in effects(state) if isinstance(effect, CallTool)}
    assert given_out.isdisjoint(state.approvals)


def check_asks(state: RunState) -> None:
    """What waits for an answer was asked by whoever holds its open call, and has its time."""
    for ask in state.asks.values():
        call = state.calls[ask.call]
        waits = ask.phase == "open"
        if waits:
            assert holds(state, call, ask.holder)
            assert not state.cancelling
        elif ask.model_call:
            assert not ask.model_call.is_open, "a call of the model that nobody waits for"
        timed = f"answer-{ask.id}" in state.timers
        assert timed == (waits and ask.due_ms is not None)


def check_ledger(state: RunState) -> None:
    """What is reserved is exactly what is at work: one ledger a tree (C12)."""
    generation = state.generation
    open_tokens = generation.reserved if generation and generation.phase == "open" else 0
    carved = [call.delegation.limits for call in state.open_calls if call.delegation]
    asked = [ask.model_call for ask in state.asks.values() if ask.model_call]
    asked = [call for call in asked if call.is_open]
    open_tokens += sum(call.reserved for call in asked)
    assert state.tokens_reserved == open_tokens + sum(one.tokens_max or 0 for one in carved)
    assert state.steps_delegated >= sum(one.steps_max for one in carved)
    assert state.tokens_charged >= 0
    open_money = generation.reserved_money if generation and generation.phase == "open" else 0
    open_money += sum(call.reserved_money for call in asked)
    assert state.money_reserved == open_money + sum(one.money_max or 0 for one in carved)
    assert state.tool_calls_reserved == sum(one.tool_calls_max or 0 for one in carved)
    if state.limits.money_max is not None and not state.unsettled and not state.unsettled_asks:
        assert state.money_charged - state.money_base <= state.limits.money_max, "overspent"
    if state.limits.tool_calls_max is not None:
        assert state.tool_calls - state.tool_calls_base <= state.limits.tool_calls_max
    if state.limits.tokens_max is not None:
        used = state.tokens_charged - state.tokens_base + state.tokens_reserved
        assert used >= 0
        assert state.tokens_left == max(0, state.limits.tokens_max - used)


def check_request(state: RunState) -> None:
    """The request asked for can be made anew from the log (rule 13)."""
    generation = state.generation
    if generation is not None and generation.phase == "open":
        assert generation.request == this_request(state)


def check_prefixes(before: RunState, events: tuple[Event, ...]) -> None:
    """Every prefix folds, derives effects and renders a history a provider takes (C4)."""
    state = before
    for event in events:
        check_leave(state, event)
        state = evolve(state, event)
        effects(state)
        check_answered(render(state))


def check_leave(before: RunState, event: Event) -> None:
    """Nothing begins in a run that is held, and no call that waits for a person (C14)."""
    match event:
        case GenerationRequested():
            assert not before.held
        case GenerationClaimed() | SamplingClaimed():
            assert not before.paused
        case ToolCallClaimed():
            assert event.call not in before.approvals
            assert not before.paused or before.calls[event.call].may_have_begun
        case DelegationRequested() | QuestionAsked():
            assert event.call not in before.approvals
        case _:
            return


def render(state: RunState) -> list[Message]:
    """The messages of the request that would be made now, at any event of the log."""
    return list(next_conversation(state).messages)


def check_answered(messages: list[Message]) -> None:
    """Each call is answered exactly once, in order, right after the reply that asked."""
    for index, message in enumerate(messages):
        following = messages[index + 1].parts if index + 1 < len(messages) else ()
        answers = [(p.provider_id, p.tool) for p in following if isinstance(p, ResultPart)]
        asked: list[tuple[str, str]] = []
        if isinstance(message, AssistantMessage):
            assert message.parts, "an empty message of the model"
            asked = [(p.provider_id, p.tool) for p in message.parts if isinstance(p, CallPart)]
        assert answers == asked, "calls and answers differ"
        first_other = next(
            (n for n, p in enumerate(following) if not isinstance(p, ResultPart)), len(answers)
        )
        assert first_other >= len(answers), "an answer comes after something else"


def check_outcomes(before: RunState, events: tuple[Event, ...]) -> None:
    """A call ends once, and is remembered with that end (rule 6)."""
    known = set(before.calls) | set(before.past_calls)
    over = {name for name, call in before.calls.items() if call.ended} | set(before.past_calls)
    for event in events:
        if isinstance(event, ToolCallRequested):
            assert event.call not in known
            known.add(event.call)
        elif isinstance(event, ToolCallEnded):
            assert event.call in known - over, f"{event.call} ends twice, or was never asked for"
            over.add(event.call)
        elif isinstance(event, GenerationRequested) and event.step > before.step:
            assert known <= over, "a step began before the calls of the last one ended"
