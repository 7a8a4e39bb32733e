"""The state after a run began, was told something, was held or came to rest. Not after a step."""

from dataclasses import replace
from typing import assert_never

from domain import events as e
from domain.folds.forks import evolve_fork
from domain.state import RunState, changed

Lifecycle = (
    e.RunStarted
    | e.RunForked
    | e.ContextPinned
    | e.InputReceived
    | e.RunContinued
    | e.RunPaused
    | e.RunResumed
    | e.LimitReached
    | e.CancelRequested
    | e.RunCompleted
    | e.RunStopped
    | e.RunFailed
    | e.RunCancelled
    | e.RunDeleted
)

LIMITS = ("steps_max", "tokens_max", "money_max", "tool_calls_max", "wall_ms_max")
"""What a continue may replace."""


def evolve_lifecycle(state: RunState, event: Lifecycle) -> RunState:  # noqa: C901, PLR0911, PLR0912 - one case an event
    """The state after the event."""
    match event:
        case e.RunStarted():
            return changed(
                state,
                status="running",
                expert=event.expert,
                definition=event.definition,
                limits=event.limits,
                parent=event.parent,
                depth=event.depth,
                commands_seen=state.commands_seen | {event.command},
            )
        case e.RunForked():
            return evolve_fork(state, event)
        case e.ContextPinned():
            return _pinned(state, event)
        case e.InputReceived():
            return changed(
                state,
                inputs=(*state.inputs, *event.parts),
                commands_seen=state.commands_seen | {event.input},
            )
        case e.RunContinued():
            return _continued(state, event)
        case e.RunPaused():
            return _held(state, event.command, paused=True)
        case e.RunResumed():
            return _held(state, event.command, paused=False)
        case e.LimitReached():
            return changed(state, calls_over=True)
        case e.CancelRequested():
            timers = {n: t for n, t in state.timers.items() if t.purpose == "cancel_grace"}
            return changed(
                state,
                cancelling=True,
                stopping=event.limit,
                timers=timers,
                parent=state.parent or event.parent,
                commands_seen=state.commands_seen | {event.command},
            )
        case e.RunCompleted():
            typed = event.typed
            return _rest(
                changed(state, status="completed", result=event.result, typed_result=typed)
            )
        case e.RunStopped():
            return _rest(changed(state, status="stopped", stopped_by=event.limit))
        case e.RunFailed():
            failed = changed(
                state,
                status="failed",
                failure_kind=event.failure.kind,
                failure_message=event.failure.message,
            )
            return _rest(failed)
        case e.RunCancelled():
            return _rest(changed(state, status="cancelled"))
        case e.RunDeleted():
            return RunState(
                ref=state.ref, version=state.version, at_ms=state.at_ms, status="deleted"
            )
        case _:
            assert_never(event)


def _pinned(state: RunState, event: e.ContextPinned) -> RunState:
    generation, unsettled_money = state.generation, state.unsettled_money
    if event.cause == "fallback":  # the next model begins to count anew, and has another price
        generation = generation and replace(generation, tries=0, limited=0)
        unsettled_money = {}
    return changed(
        state,
        renderer=event.renderer,
        context=event.context,
        context_bytes=event.context_bytes,
        model=event.model,
        tools=event.tools,
        fallbacks=event.fallbacks,
        output_schema=event.output_schema,
        generation=generation,
        unsettled_money=unsettled_money,
    )


def _held(state: RunState, command: str, *, paused: bool) -> RunState:
    calls = state.calls
    if not paused:  # what was kept back goes out now
        calls = {name: state.sent(call) for name, call in calls.items()}
    return changed(
        state,
        paused=paused,
        calls=calls,
        standing=state.standing + 1,
        turned=state.standing + 1,
        commands_seen=state.commands_seen | {command},
    )


def _rest(state: RunState) -> RunState:
    """Nothing is pending any more; the reply that led here stays in the conversation."""
    generation = state.generation and replace(
        state.generation, phase="over", reserved=0, reserved_money=0
    )
    return changed(
        state,
        cancelling=False,
        stopping=None,
        step_over=True,
        paused=False,
        approvals={},
        asks={},
        timers={},
        generation=generation,
        tokens_reserved=0,
        money_reserved=0,
        tool_calls_reserved=0,
        calls_over=False,
    )


def _continued(state: RunState, event: e.RunContinued) -> RunState:
    given = {name: getattr(event, name) for name in LIMITS if getattr(event, name) is not None}
    return changed(
        state,
        status="running",
        limits=state.limits.model_copy(update=given),
        lifted=frozenset(),
        steps_base=state.step,
        steps_delegated=0,
        tokens_base=state.tokens_charged,
        money_base=state.money_charged,
        tool_calls_base=state.tool_calls,
        result=None,
        typed_result=False,
        failure_kind="",
        failure_message="",
        stopped_by="",
        commands_seen=state.commands_seen | {event.command},
    )
