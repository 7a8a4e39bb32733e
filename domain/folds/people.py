"""The state after a person decided or answered, rules changed, or the team did."""

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from domain import events as e
from domain.state import Approval, Call, RunState, changed

Deciding = (
    e.PolicyPinned
    | e.PolicyChanged
    | e.StandingAdopted
    | e.ApprovalRequested
    | e.ApprovalDecided
    | e.QuestionAsked
    | e.QuestionAnswered
    | e.TeamChanged
)


def answer_timer(name: str) -> str:
    """The timer that ends the wait for a person."""
    return f"answer-{name}"


def evolve_people(state: RunState, event: Deciding) -> RunState:
    """The state after the event."""
    match event:
        case e.PolicyPinned():
            return changed(state, layers=event.layers)
        case e.PolicyChanged():
            return changed(
                state,
                rules=event.rules,
                rules_above=event.inherited,
                standing=state.standing + 1,
                commands_seen=state.commands_seen | {event.command},
            )
        case e.StandingAdopted():
            return changed(state, standing_above=event.number, turned_above=event.turned)
        case e.ApprovalRequested():
            return _asked(state, event)
        case e.ApprovalDecided():
            return _decided(state, event)
        case e.QuestionAsked():
            return _of_call(state, event.call, lambda call: replace(call, asked=True))
        case e.QuestionAnswered():
            answered = _without_timer(state, event.call)
            return changed(answered, commands_seen=state.commands_seen | {event.command})
        case e.TeamChanged():
            return changed(state, definition=event.definition)
        case _:
            assert_never(event)


def _asked(state: RunState, event: e.ApprovalRequested) -> RunState:
    approval = Approval(digest=event.digest, limit=event.limit, due_ms=event.due_ms)
    waiting = changed(
        state,
        approvals={**state.approvals, event.approval: approval},
        budgets_asked=state.budgets_asked + (event.limit is not None),
    )
    return _of_call(waiting, event.approval, lambda call: replace(call, exposed=False))


def _decided(state: RunState, event: e.ApprovalDecided) -> RunState:
    asked = state.approvals.get(event.approval)
    over = _without_timer(state, event.approval)
    goes = event.verdict in ("approved", "edited")
    lifted = over.lifted | {asked.limit} if asked and asked.limit and goes else over.lifted
    decided = changed(
        over,
        approvals={name: one for name, one in over.approvals.items() if name != event.approval},
        lifted=lifted,
        commands_seen=over.commands_seen | {event.command} if event.command else over.commands_seen,
    )
    call = decided.calls.get(event.approval)
    if call is None or not goes:
        return decided
    if event.arguments is not None:
        call = replace(call, arguments=event.arguments)
    call = call if decided.paused else decided.sent(call)
    return changed(decided, calls={**decided.calls, call.id: call})


def _of_call(state: RunState, name: str, change: Callable[[Call], Call]) -> RunState:
    call = state.calls.get(name)
    return state if call is None else changed(state, calls={**state.calls, name: change(call)})


def _without_timer(state: RunState, name: str) -> RunState:
    timer = answer_timer(name)
    return changed(state, timers={n: one for n, one in state.timers.items() if n != timer})
