"""The state after a call asked for something, or was answered. Not the call's own outcome."""

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from domain import events as e
from domain.folds.people import answer_timer
from domain.limits import Usage
from domain.state import Ask, ModelCall, RunState, Unsettled, changed

Asking = (
    e.ToolCallAsked
    | e.ToolCallAnswered
    | e.SamplingRequested
    | e.SamplingClaimed
    | e.SamplingEnded
    | e.SamplingSettled
)


def evolve_ask(state: RunState, event: Asking) -> RunState:
    """The state after the event."""
    match event:
        case e.ToolCallAsked():
            asked = Ask(
                id=event.ask,
                call=event.call,
                step=state.step,
                holder=event.holder,
                about=event.about,
                since_ms=state.at_ms,
                due_ms=event.due_ms,
            )
            return changed(state, asks={**state.asks, event.ask: asked})
        case e.ToolCallAnswered():
            return _answered(state, event)
        case e.SamplingRequested():
            return _requested(state, event)
        case e.SamplingClaimed():
            return _model_call(
                state,
                event.ask,
                lambda call: replace(call, holder=event.holder, since_ms=state.at_ms),
            )
        case e.SamplingEnded():
            return _ended(state, event)
        case e.SamplingSettled():
            return _settled(state, event)
        case _:
            assert_never(event)


def asks_over(state: RunState, call: str) -> RunState:
    """The state after a call ended: what it still asks for is asked no more."""
    over = {ask.id for ask in state.asks.values() if ask.call == call and ask.phase == "open"}
    if not over:
        return state
    timers = {answer_timer(name) for name in over}
    return changed(
        state,
        asks={
            name: replace(ask, phase="over") if name in over else ask
            for name, ask in state.asks.items()
        },
        timers={name: one for name, one in state.timers.items() if name not in timers},
    )


def _answered(state: RunState, event: e.ToolCallAnswered) -> RunState:
    timer = answer_timer(event.ask)
    seen = state.commands_seen
    return changed(
        _of_ask(state, event.ask, lambda ask: replace(ask, phase="answered")),
        timers={name: one for name, one in state.timers.items() if name != timer},
        commands_seen=seen | {event.command} if event.command else seen,
    )


def _requested(state: RunState, event: e.SamplingRequested) -> RunState:
    if state.model is None:
        return state
    call = ModelCall(
        request=event.request,
        model=state.model,
        reserved=event.reserved,
        reserved_money=event.reserved_money,
        holder=event.holder,
        since_ms=state.at_ms,
    )
    return changed(
        _of_ask(state, event.ask, lambda ask: replace(ask, model_call=call)),
        tokens_reserved=state.tokens_reserved + event.reserved,
        money_reserved=state.money_reserved + event.reserved_money,
    )


def _ended(state: RunState, event: e.SamplingEnded) -> RunState:
    ask = state.asks.get(event.ask)
    call = ask.model_call if ask else None
    if ask is None or call is None:
        return state
    unsettled = state.unsettled_asks
    if event.how == "abandoned":
        left = Unsettled(ask.step, call.model, event.charged, event.charged_money)
        unsettled = {**unsettled, event.ask: left}
    return changed(
        _model_call(state, event.ask, lambda call: replace(call, is_open=False)),
        tokens_reserved=max(0, state.tokens_reserved - call.reserved),
        tokens_charged=state.tokens_charged + event.charged,
        money_reserved=max(0, state.money_reserved - call.reserved_money),
        money_charged=state.money_charged + event.charged_money,
        usage=state.usage.plus(event.usage or Usage()),
        unsettled_asks=unsettled,
    )


def _settled(state: RunState, event: e.SamplingSettled) -> RunState:
    left = state.unsettled_asks.get(event.ask)
    before = left is not None and left.step <= state.steps_base  # charged before the continue
    return changed(
        state,
        unsettled_asks={n: one for n, one in state.unsettled_asks.items() if n != event.ask},
        tokens_charged=state.tokens_charged - event.refunded,
        tokens_base=state.tokens_base - (event.refunded if before else 0),
        money_charged=state.money_charged - event.refunded_money,
        money_base=state.money_base - (event.refunded_money if before else 0),
        usage=state.usage.plus(event.usage or Usage()),
    )


def _of_ask(state: RunState, name: str, change: Callable[[Ask], Ask]) -> RunState:
    ask = state.asks.get(name)
    return state if ask is None else changed(state, asks={**state.asks, name: change(ask)})


def _model_call(state: RunState, name: str, change: Callable[[ModelCall], ModelCall]) -> RunState:
    def with_call(ask: Ask) -> Ask:
        return ask if ask.model_call is None else replace(ask, model_call=change(ask.model_call))

    return _of_ask(state, name, with_call)
