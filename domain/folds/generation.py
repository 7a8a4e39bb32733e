"""The state after an attempt to get a reply: budget, conversation, attempts. Not the calls."""

from dataclasses import replace
from typing import assert_never

from domain import events as e
from domain.content import AssistantMessage
from domain.conversation import next_conversation, say
from domain.folds.calls import remembered
from domain.limits import Usage
from domain.state import Generation, RunState, attempt_key, changed

Generating = (
    e.GenerationRequested
    | e.GenerationClaimed
    | e.GenerationCompleted
    | e.GenerationFailed
    | e.GenerationAbandoned
    | e.GenerationSuperseded
)

LIMITED = frozenset({"rate_limited"})
"""Failures that say "not now" to a request nobody found fault with: they count by themselves."""


HELD_BACK = frozenset({"held_back"})
"""Our own limits kept the call back: that counts for nothing, however often it happens (C13)."""


REFUSED_BY_PROVIDER = frozenset(
    {
        "rate_limited",
        "held_back",
        "overloaded",
        "auth",
        "rejected",
        "not_found",
        "missing_key",
        "missing_package",
        "unsupported_parameter",
        "exhausted",
    }
)
"""Failures of requests that were never worked on: nothing to charge."""


def evolve_generation(state: RunState, event: Generating) -> RunState:
    """The state after the event."""
    match event:
        case e.GenerationRequested():
            return _requested(state, event)
        case e.GenerationClaimed():
            held = state.generation and replace(
                state.generation, holder=event.holder, since_ms=state.at_ms
            )
            return changed(state, generation=held)
        case e.GenerationCompleted():
            over = _charge(state, event, event.usage)
            said = over.conversation
            if event.parts:  # providers take no empty message
                said = say(said, AssistantMessage(parts=event.parts))
            return changed(_ended(over, "over"), conversation=said)
        case e.GenerationFailed():
            kind = event.failure.kind
            over = _ended(_charge(state, event, event.usage), "backoff")
            tries = kind not in LIMITED | HELD_BACK
            return _counted(over, tries=tries, limited=kind in LIMITED)
        case e.GenerationAbandoned():
            over = _ended(_charge(state, event, None), "backoff")
            key = attempt_key(event.step, event.attempt)
            unsettled = changed(
                over,
                unsettled={**over.unsettled, key: event.charged},
                unsettled_money={**over.unsettled_money, key: event.charged_money},
            )
            return _counted(unsettled, tries=event.reason == "holder_lost", limited=False)
        case e.GenerationSuperseded():
            return _settled(state, event)
        case _:
            assert_never(event)


def _requested(state: RunState, event: e.GenerationRequested) -> RunState:
    last = state.generation
    again = last if last is not None and last.step == event.step else None
    generation = Generation(
        step=event.step,
        attempt=event.attempt,
        request=event.request,
        reserved=event.reserved,
        holder=event.holder,
        phase="open",
        since_ms=state.at_ms,
        reserved_money=event.reserved_money,
        tries=again.tries if again else 0,
        limited=again.limited if again else 0,
    )
    reserving = changed(
        state,
        generation=generation,
        tokens_reserved=state.tokens_reserved + event.reserved,
        money_reserved=state.money_reserved + event.reserved_money,
    )
    if again is not None and again.request == event.request:
        return reserving  # the same request again: nothing said since rides in it
    past = dict(state.past_calls)
    for call in state.calls.values():
        past[call.id] = remembered(call)
    return changed(
        reserving,
        step=event.step,
        step_over=False,
        conversation=next_conversation(state),
        inputs=(),
        calls={},
        asks={},
        past_calls=past,
    )


def _ended(state: RunState, phase: str) -> RunState:
    generation = state.generation and replace(
        state.generation,
        phase="over" if phase == "over" else "backoff",
        reserved=0,
        reserved_money=0,
    )
    return changed(state, generation=generation)


def _counted(state: RunState, *, tries: bool, limited: bool) -> RunState:
    generation = state.generation and replace(
        state.generation,
        tries=state.generation.tries + tries,
        limited=state.generation.limited + limited,
    )
    return changed(state, generation=generation)


def _charge(
    state: RunState,
    event: e.GenerationCompleted | e.GenerationFailed | e.GenerationAbandoned,
    usage: Usage | None,
) -> RunState:
    generation = state.generation
    reserved, money = (generation.reserved, generation.reserved_money) if generation else (0, 0)
    return changed(
        state,
        tokens_reserved=max(0, state.tokens_reserved - reserved),
        tokens_charged=state.tokens_charged + event.charged,
        money_reserved=max(0, state.money_reserved - money),
        money_charged=state.money_charged + event.charged_money,
        usage=state.usage.plus(usage) if usage else state.usage,
    )


def _settled(state: RunState, event: e.GenerationSuperseded) -> RunState:
    key = attempt_key(event.step, event.attempt)
    before = event.step <= state.steps_base  # charged to the budget before the continue
    return changed(
        state,
        unsettled={name: v for name, v in state.unsettled.items() if name != key},
        unsettled_money={name: v for name, v in state.unsettled_money.items() if name != key},
        tokens_charged=state.tokens_charged - event.refunded,
        tokens_base=state.tokens_base - (event.refunded if before else 0),
        money_charged=state.money_charged - event.refunded_money,
        money_base=state.money_base - (event.refunded_money if before else 0),
        usage=state.usage.plus(event.usage or Usage()),
    )
