"""State after an event: pure and total. Not a check: what is recorded happened."""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from domain import events as e
from domain.content import AssistantMessage
from domain.conversation import next_conversation, say
from domain.envelope import Envelope
from domain.ids import RunRef
from domain.limits import Usage
from domain.record import canonical, digest_of
from domain.state import (
    Call,
    Checkpoint,
    Delegation,
    Ended,
    Generation,
    Placement,
    RunState,
    attempt_key,
    changed,
)
from domain.tools import Lane, Safety


def fold(state: RunState, envelope: Envelope) -> RunState:
    """The state after one envelope."""
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
            | e.ContextPinned()
            | e.InputReceived()
            | e.RunContinued()
            | e.CancelRequested()
            | e.RunCompleted()
            | e.RunStopped()
            | e.RunFailed()
            | e.RunCancelled()
        ):
            return _lifecycle(state, event)
        case (
            e.GenerationRequested()
            | e.GenerationClaimed()
            | e.GenerationCompleted()
            | e.GenerationFailed()
            | e.GenerationAbandoned()
            | e.GenerationSuperseded()
        ):
            return _generation(state, event)
        case (
            e.ToolCallRequested()
            | e.DelegationRequested()
            | e.DelegationSettled()
            | e.ToolCallClaimed()
            | e.ToolCallRetried()
            | e.ToolCallEnded()
            | e.ToolResultLate()
        ):
            return _tool_call(state, event)
        case e.SandboxPlaced() | e.SandboxLost() | e.SnapshotTaken() | e.StepEnded():
            return _sandbox(state, event)
        case e.TodoChanged():
            return changed(state, todos=event.items, todo_next_id=event.next_id)
        case e.TimerArmed() | e.TimerFired():
            return _timer(state, event)
        case e.EgressCounted():
            return state
        case e.OpaqueEvent():
            return changed(state, unknown_events=(*state.unknown_events, event.type))
        case _:
            assert_never(event)


Lifecycle = (
    e.RunStarted
    | e.ContextPinned
    | e.InputReceived
    | e.RunContinued
    | e.CancelRequested
    | e.RunCompleted
    | e.RunStopped
    | e.RunFailed
    | e.RunCancelled
)


def _lifecycle(state: RunState, event: Lifecycle) -> RunState:  # noqa: PLR0911 - one an event
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
        case e.ContextPinned():
            return changed(
                state,
                renderer=event.renderer,
                context=event.context,
                context_bytes=event.context_bytes,
                model=event.model,
                tools=event.tools,
            )
        case e.InputReceived():
            return changed(
                state,
                inputs=(*state.inputs, *event.parts),
                commands_seen=state.commands_seen | {event.input},
            )
        case e.RunContinued():
            return _continued(state, event)
        case e.CancelRequested():
            timers = {n: t for n, t in state.timers.items() if t.purpose != "retry"}
            return changed(
                state,
                cancelling=True,
                timers=timers,
                parent=state.parent or event.parent,
                commands_seen=state.commands_seen | {event.command},
            )
        case e.RunCompleted():
            return _rest(changed(state, status="completed", result=event.result))
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
        case _:
            assert_never(event)


def _rest(state: RunState) -> RunState:
    """Nothing is pending any more; the reply that led here stays in the conversation."""
    generation = state.generation and replace(state.generation, phase="over", reserved=0)
    return changed(state, cancelling=False, timers={}, generation=generation, tokens_reserved=0)


def _continued(state: RunState, event: e.RunContinued) -> RunState:
    limits = state.limits.model_copy(
        update={
            name: value
            for name, value in (("steps_max", event.steps_max), ("tokens_max", event.tokens_max))
            if value is not None
        }
    )
    return changed(
        state,
        status="running",
        limits=limits,
        steps_base=state.step,
        steps_delegated=0,
        tokens_base=state.tokens_charged,
        result=None,
        failure_kind="",
        failure_message="",
        stopped_by="",
        commands_seen=state.commands_seen | {event.command},
    )


Generating = (
    e.GenerationRequested
    | e.GenerationClaimed
    | e.GenerationCompleted
    | e.GenerationFailed
    | e.GenerationAbandoned
    | e.GenerationSuperseded
)


def _generation(state: RunState, event: Generating) -> RunState:
    match event:
        case e.GenerationRequested():
            return _requested(state, event)
        case e.GenerationClaimed():
            held = state.generation and replace(
                state.generation, holder=event.holder, since_ms=state.at_ms
            )
            return changed(state, generation=held)
        case e.GenerationCompleted():
            over = _charge(state, event.charged, event.usage)
            generation = over.generation and replace(over.generation, phase="over", reserved=0)
            said = over.conversation
            if event.parts:  # providers take no empty message
                said = say(said, AssistantMessage(parts=event.parts))
            return changed(over, generation=generation, conversation=said)
        case e.GenerationFailed():
            over = _charge(state, event.charged, event.usage)
            generation = over.generation and replace(over.generation, phase="backoff", reserved=0)
            return changed(over, generation=generation)
        case e.GenerationAbandoned():
            over = _charge(state, event.charged, None)
            generation = over.generation and replace(over.generation, phase="backoff", reserved=0)
            unsettled = {**over.unsettled, attempt_key(event.step, event.attempt): event.charged}
            return changed(over, generation=generation, unsettled=unsettled)
        case e.GenerationSuperseded():
            key = attempt_key(event.step, event.attempt)
            before = event.step <= state.steps_base  # charged to the budget before the continue
            return changed(
                state,
                unsettled={name: v for name, v in state.unsettled.items() if name != key},
                tokens_charged=state.tokens_charged - event.refunded,
                tokens_base=state.tokens_base - (event.refunded if before else 0),
                usage=state.usage.plus(event.usage or Usage()),
            )
        case _:
            assert_never(event)


def _requested(state: RunState, event: e.GenerationRequested) -> RunState:
    generation = Generation(
        step=event.step,
        attempt=event.attempt,
        request=event.request,
        reserved=event.reserved,
        holder=event.holder,
        phase="open",
        since_ms=state.at_ms,
    )
    reserved = state.tokens_reserved + event.reserved
    if event.attempt > 1:  # the same request again: nothing said since rides in it
        return changed(state, generation=generation, tokens_reserved=reserved)
    past = dict(state.past_calls)
    for call in state.calls.values():
        past[call.id] = remembered(call)
    return changed(
        state,
        step=event.step,
        generation=generation,
        tokens_reserved=reserved,
        conversation=next_conversation(state),
        inputs=(),
        calls={},
        past_calls=past,
    )


def _charge(state: RunState, charged: int, usage: Usage | None) -> RunState:
    reserved = state.generation.reserved if state.generation else 0
    return changed(
        state,
        tokens_reserved=max(0, state.tokens_reserved - reserved),
        tokens_charged=state.tokens_charged + charged,
        usage=state.usage.plus(usage) if usage else state.usage,
    )


def remembered(call: Call) -> Ended:
    """What stays of a call when its step is over."""
    claimed = call.may_have_begun
    if call.ended is None:
        return Ended(outcome="outcome_unknown", result="", claimed=claimed)
    return Ended(
        outcome=call.ended.outcome,
        result=result_digest(call.ended),
        claimed=claimed,
    )


def result_digest(result: e.ToolCallEnded | e.ToolResultLate) -> str:
    """What makes two results of a call the same: what the model reads."""
    parts = b"".join(canonical(part) for part in result.content)
    return digest_of(parts + (b"!" if result.is_error else b"."))


ToolCalling = (
    e.ToolCallRequested
    | e.DelegationRequested
    | e.DelegationSettled
    | e.ToolCallClaimed
    | e.ToolCallRetried
    | e.ToolCallEnded
    | e.ToolResultLate
)


def _timer(state: RunState, event: e.TimerArmed | e.TimerFired) -> RunState:
    if isinstance(event, e.TimerArmed):
        return changed(state, timers={**state.timers, event.timer: event})
    left = {name: timer for name, timer in state.timers.items() if name != event.timer}
    return changed(state, timers=left)


def _sandbox(
    state: RunState, event: e.SandboxPlaced | e.SandboxLost | e.SnapshotTaken | e.StepEnded
) -> RunState:
    match event:
        case e.StepEnded():
            if not state.wrote and state.snapshot_due is None:
                return state
            due = Checkpoint(step=event.step, version=state.version + 1)
            return changed(state, wrote=False, snapshot_due=due)
        case e.SandboxPlaced():
            before = state.sandbox
            stays = before is not None and before.place == event.place
            placed = Placement(
                place=event.place,
                epoch=event.epoch,
                number=event.number,
                snapshots=event.snapshots,
                isolated=event.workspace == "isolated",
                moved=before.moved if before is not None and stays else event.number,
                restored=event.restored,
                earlier=_earlier(state, event),
            )
            calls = {
                name: replace(call, exposed=True) if _waits_for_sandbox(call) else call
                for name, call in state.calls.items()
            }
            return changed(state, sandbox=placed, calls=calls)
        case e.SandboxLost():
            lost = state.sandbox and replace(state.sandbox, lost_ms=state.at_ms)
            return changed(state, sandbox=lost)
        case e.SnapshotTaken():
            newest = state.snapshot if event.manifest is None else event
            return changed(state, snapshot_due=_still_due(state, event), snapshot=newest)
        case _:
            assert_never(event)


def _earlier(state: RunState, placed: e.SandboxPlaced) -> tuple[str, ...]:
    held = state.sandbox
    open_before = any(call.exposed for call in state.open_calls)
    if held is None or held.place != placed.place or not open_before:
        return ()
    return (held.epoch, *held.earlier)


def _still_due(state: RunState, taken: e.SnapshotTaken) -> Checkpoint | None:
    due = state.snapshot_due
    ours = due is not None and taken.run == state.ref.run and taken.version >= due.version
    return None if ours else due


def _waits_for_sandbox(call: Call) -> bool:
    return call.lane is Lane.SANDBOX and call.ended is None


def _tool_call(state: RunState, event: ToolCalling) -> RunState:
    if isinstance(event, e.ToolCallRequested):
        call = Call(
            id=event.call,
            step=event.step,
            provider_id=event.provider_id,
            tool=event.tool,
            skill=event.skill,
            lane=Lane(event.lane),
            safety=event.safety,
            arguments=event.arguments,
            key=event.key,
            since_ms=state.at_ms,
            exposed=event.lane is Lane.SANDBOX
            and state.sandbox is not None
            and state.sandbox.lost_ms is None,
        )
        return changed(state, calls={**state.calls, call.id: call})
    if isinstance(event, e.ToolResultLate):
        late = f"{event.call}:{result_digest(event)}"
        return changed(state, late_results=state.late_results | {late})
    if isinstance(event, e.DelegationSettled):
        return _settled(state, event)
    found = state.calls.get(event.call)
    if found is None:
        return state
    return changed(
        state,
        calls={**state.calls, found.id: _changed(found, event, state.at_ms)},
        wrote=state.wrote or _may_have_written(found, event),
        steps_delegated=state.steps_delegated + _carved(event),
        tokens_reserved=state.tokens_reserved + _carved_tokens(event),
    )


def _may_have_written(call: Call, event: e.Event) -> bool:
    """Whether files of the workspace may be others than before: by a base tool, or a delegate."""
    if not isinstance(event, e.ToolCallEnded) or event.outcome == "refused":
        return False
    return call.lane is Lane.DELEGATE or (
        call.lane is Lane.SANDBOX and call.safety is not Safety.READ_ONLY
    )


def _carved(event: e.Event) -> int:
    return event.limits.steps_max if isinstance(event, e.DelegationRequested) else 0


def _carved_tokens(event: e.Event) -> int:
    return (event.limits.tokens_max or 0) if isinstance(event, e.DelegationRequested) else 0


def _changed(
    call: Call,
    event: e.DelegationRequested | e.ToolCallClaimed | e.ToolCallRetried | e.ToolCallEnded,
    at_ms: int,
) -> Call:
    match event:
        case e.DelegationRequested():
            delegation = Delegation(event.child, event.expert, event.limits)
            return replace(call, delegation=delegation)
        case e.ToolCallClaimed():
            return replace(call, holder=event.holder, attempt=event.attempt, since_ms=at_ms)
        case e.ToolCallRetried():
            return replace(call, holder=None, attempt=event.attempt, since_ms=at_ms)
        case e.ToolCallEnded():
            return replace(call, ended=event)
        case _:
            assert_never(event)


def _settled(state: RunState, event: e.DelegationSettled) -> RunState:
    call = state.calls.get(event.call)
    limits = call.delegation.limits if call and call.delegation else None
    steps, tokens = (limits.steps_max, limits.tokens_max or 0) if limits else (0, 0)
    return changed(
        state,
        steps_delegated=max(0, state.steps_delegated - steps + event.steps),
        tokens_reserved=max(0, state.tokens_reserved - tokens),
        tokens_charged=state.tokens_charged + event.tokens,
    )
