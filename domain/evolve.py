"""State after an event: pure and total. Not a check: what is recorded happened."""

from collections.abc import Iterable
from typing import assert_never

from domain import events as e
from domain.envelope import Envelope, is_tombstone
from domain.folds.asks import evolve_ask
from domain.folds.calls import evolve_call
from domain.folds.generation import evolve_generation
from domain.folds.lifecycle import evolve_lifecycle
from domain.folds.people import evolve_people
from domain.folds.sandbox import evolve_sandbox
from domain.ids import RunRef
from domain.state import RunState, changed


def fold(state: RunState, envelope: Envelope) -> RunState:
    """The state after one envelope; a tombstone may be all that is left of what came before."""
    if not state.version and is_tombstone(envelope):
        state = changed(state, version=envelope.version - 1)
    return evolve_all(changed(state, at_ms=envelope.at_ms), envelope.events)


def fold_all(ref: RunRef, envelopes: Iterable[Envelope]) -> RunState:
    """The state after a run's envelopes, from the first."""
    state = RunState(ref=ref)
    for envelope in envelopes:
        state = fold(state, envelope)
    return state


def evolve_all(state: RunState, events: Iterable[e.Event]) -> RunState:
    """The state after some events."""
    for event in events:
        state = evolve(state, event)
    return state


def evolve(state: RunState, event: e.Event) -> RunState:
    """The state after one event; `at_ms` of the state is the time of the event."""
    return changed(_evolve(state, event), version=state.version + 1)


def _evolve(state: RunState, event: e.Event) -> RunState:
    match event:
        case (
            e.RunStarted()
            | e.RunForked()
            | e.ContextPinned()
            | e.InputReceived()
            | e.RunContinued()
            | e.RunPaused()
            | e.RunResumed()
            | e.LimitReached()
            | e.CancelRequested()
            | e.RunCompleted()
            | e.RunStopped()
            | e.RunFailed()
            | e.RunCancelled()
            | e.RunDeleted()
        ):
            return evolve_lifecycle(state, event)
        case (
            e.GenerationRequested()
            | e.GenerationClaimed()
            | e.GenerationCompleted()
            | e.GenerationFailed()
            | e.GenerationAbandoned()
            | e.GenerationSuperseded()
        ):
            return evolve_generation(state, event)
        case (
            e.ToolCallRequested()
            | e.DelegationRequested()
            | e.DelegationSettled()
            | e.ToolCallClaimed()
            | e.ToolCallRetried()
            | e.ToolCallForwarded()
            | e.ToolCallEnded()
            | e.ToolResultLate()
        ):
            return evolve_call(state, event)
        case (
            e.ToolCallAsked()
            | e.ToolCallAnswered()
            | e.SamplingRequested()
            | e.SamplingClaimed()
            | e.SamplingEnded()
            | e.SamplingSettled()
        ):
            return evolve_ask(state, event)
        case (
            e.PolicyPinned()
            | e.PolicyChanged()
            | e.StandingAdopted()
            | e.ApprovalRequested()
            | e.ApprovalDecided()
            | e.QuestionAsked()
            | e.QuestionAnswered()
            | e.TeamChanged()
        ):
            return evolve_people(state, event)
        case e.SandboxPlaced() | e.SandboxLost() | e.SnapshotTaken() | e.StepEnded():
            return evolve_sandbox(state, event)
        case e.TodoChanged() | e.TimerArmed() | e.TimerFired() | e.EgressCounted():
            return _kept(state, event)
        case e.OpaqueEvent():
            return changed(state, unknown_events=(*state.unknown_events, event.type))
        case _:
            assert_never(event)


Kept = e.TodoChanged | e.TimerArmed | e.TimerFired | e.EgressCounted


def _kept(state: RunState, event: Kept) -> RunState:
    """What a run keeps beside all else: its list of todos, and its timers."""
    match event:
        case e.EgressCounted():
            return state  # for whoever looks at the log
        case e.TodoChanged():
            return changed(state, todos=event.items, todo_next_id=event.next_id)
        case e.TimerArmed():
            return changed(state, timers={**state.timers, event.timer: event})
        case e.TimerFired():
            left = {name: timer for name, timer in state.timers.items() if name != event.timer}
            return changed(state, timers=left)
