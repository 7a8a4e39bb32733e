"""The first phase of stopping a run: nothing new starts, nobody is asked any more (rule 9)."""

from domain import events as e
from domain.decisions.advance import settle_cancel
from domain.decisions.asks import withdraw_asks
from domain.draft import Draft
from domain.effects import started_children
from domain.state import Call

CANCELLED_BODY = {
    "error": "cancelled",
    "message": "The run was cancelled before this call started.",
}


def stop_at(draft: Draft, limit: e.LimitName, command: str) -> None:
    """Stop at a limit: at once, or when what is at work has ended."""
    generation = draft.state.generation
    if draft.state.open_calls or (generation is not None and generation.phase == "open"):
        draft.emit(e.CancelRequested(command=command, reason="a limit was reached", limit=limit))
        wind_down(draft)
    else:
        draft.emit(e.RunStopped(limit=limit, step=draft.state.step))


def wind_down(draft: Draft) -> None:
    """End what has not begun, and give what has its grace."""
    state = draft.state
    draft.abandon("cancelled")
    _withdraw(draft)
    withdraw_asks(draft)
    started = {call.id for call in started_children(draft.state)}
    for call in draft.state.open_calls:
        if call.id not in started and not call.may_have_begun:
            _never_begun(draft, call)
    if any(call.may_have_begun for call in draft.state.open_calls):
        timer = f"cancel-{state.step}"  # never that of an earlier cancel, which may still come
        draft.arm(timer, "cancel_grace", state.limits.cancel_grace_ms)
    settle_cancel(draft)


def _never_begun(draft: Draft, call: Call) -> None:
    give_back(draft, call)
    draft.end_call(call, "cancelled", CANCELLED_BODY, is_error=True)


def give_back(draft: Draft, call: Call) -> None:
    """A child that never begins gives its share back."""
    if call.delegation is not None:
        draft.emit(
            e.DelegationSettled(
                call=call.id, child=call.delegation.child, status="cancelled", steps=0, tokens=0
            )
        )


def _withdraw(draft: Draft) -> None:
    """Nobody is to decide any more: the run is being stopped."""
    for name, approval in tuple(draft.state.approvals.items()):
        draft.emit(e.ApprovalDecided(approval=name, verdict="withdrawn", digest=approval.digest))
