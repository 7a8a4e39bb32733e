"""The state of a run that begins with another one's past. Not how that past is read.

The past comes as `RunState.past`, folded by whoever reads the log. Without it, as in views that
follow single events, a fork has what its own events say and no conversation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from domain import events as e
from domain.content import TextPart
from domain.ids import RunRef, idempotency_key
from domain.record import canonical
from domain.state import Call, Conversation, RunState

NOT_CARRIED = (
    "This run was forked from another one while this call was open there. It was not made again, "
    "and it is not known here what came of it. Look before you repeat it."
)


def evolve_fork(state: RunState, event: e.RunForked) -> RunState:
    """The state after a run began as a fork."""
    past = state.past
    if past is None:
        past = RunState(ref=state.ref, conversation=Conversation(whole=False))
    return _own(state, past, event)


def _own(state: RunState, past: RunState, event: e.RunForked) -> RunState:
    """The past as this run's own: what was said stays, what was going on does not."""
    rules = (*past.rules, *past.rules_above)
    return RunState(
        ref=state.ref,
        version=state.version,
        at_ms=state.at_ms,
        status="running",
        expert=event.expert,
        definition=event.definition,
        limits=event.limits,
        forks=event.generation,
        renderer=past.renderer,
        context=past.context,
        context_bytes=past.context_bytes,
        model=past.model,
        tools=past.tools,
        fallbacks=past.fallbacks,
        output_schema=past.output_schema,
        layers=past.layers,
        rules=rules,
        standing=1 if rules else 0,
        step=event.step,
        step_over=True,
        steps_base=event.step,
        conversation=past.conversation,
        inputs=past.inputs,
        calls=_calls(state.ref, past, event.results),
        past_calls=past.past_calls,
        snapshot=event.files,
        todos=past.todos,
        todo_next_id=past.todo_next_id,
        commands_seen=state.commands_seen | {event.command},
        unknown_events=state.unknown_events,
    )


def last_step(past: RunState) -> int:
    """The last step that a fork of this past has behind it; one without a reply is taken anew."""
    generation = past.generation
    if generation is not None and generation.phase != "over":
        return generation.step - 1
    return past.step


def _calls(ref: RunRef, past: RunState, results: Iterable[e.ResultEdit]) -> Mapping[str, Call]:
    """The calls of the last step, all ended: their results ride in the next request."""
    edits = {edit.call: edit for edit in results}
    return {
        name: replace(
            call,
            key=idempotency_key(ref.run, name),
            holder=None,
            exposed=False,
            delegation=None,
            forwarded=None,
            asked=False,
            ended=with_results(call.ended or _not_carried(call), edits),
        )
        for name, call in past.calls.items()
    }


def _not_carried(call: Call) -> e.ToolCallEnded:
    text = canonical({"error": "not_carried_over", "message": NOT_CARRIED}).decode()
    outcome: e.Outcome = "outcome_unknown" if call.may_have_begun else "cancelled"
    return e.ToolCallEnded(
        call=call.id, outcome=outcome, content=(TextPart(text=text),), is_error=True
    )


def with_results(ended: e.ToolCallEnded, edits: Mapping[str, e.ResultEdit]) -> e.ToolCallEnded:
    """How a call ended in a fork's past: with the edited result, if there is one."""
    edit = edits.get(ended.call)
    if edit is None:
        return ended
    return e.ToolCallEnded(
        call=ended.call,
        outcome="failed" if edit.is_error else "succeeded",
        content=edit.content,
        is_error=edit.is_error,
        holder=ended.holder,
        duration_ms=ended.duration_ms,
    )


def edited(events: Iterable[e.Event], edits: Mapping[str, e.ResultEdit]) -> tuple[e.Event, ...]:
    """Events of a past as a fork of it folds them: an outer edit stands before an inner one."""
    return tuple(_edited(event, edits) for event in events)


def _edited(event: e.Event, edits: Mapping[str, e.ResultEdit]) -> e.Event:
    match event:
        case e.ToolCallEnded():
            return with_results(event, edits)
        case e.RunForked():
            return event.model_copy(update={"results": merged(event.results, edits.values())})
        case _:
            return event


def merged(
    inner: Iterable[e.ResultEdit], outer: Iterable[e.ResultEdit]
) -> tuple[e.ResultEdit, ...]:
    """The edits of a fork and of a fork of it, one for each call."""
    both = {edit.call: edit for edit in (*inner, *outer)}
    return tuple(both.values())
