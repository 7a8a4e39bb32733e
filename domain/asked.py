"""Who may ask in the middle of a call, and what is over with its holder or its outcome."""

from domain import events as e
from domain.state import Ask, Call, RunState
from domain.tools import Lane

LOST = "The call was taken from the worker that asked: nobody is asked any more."

MAY_END = (
    e.ToolCallEnded,
    e.ToolCallRetried,
    e.ToolCallClaimed,
    e.ToolCallForwarded,
    e.SandboxPlaced,
    e.SandboxLost,
)
"""After these a call may have ended, or may have another holder."""


def holds(state: RunState, call: Call, holder: str) -> bool:
    """Whether an open call is at that worker: by its claim, or as the one with the workspace."""
    if call.ended is not None or call.id in state.approvals:
        return False
    placed = state.sandbox if call.lane is Lane.SANDBOX else None
    if placed is None:
        return call.holder == holder
    return placed.epoch == holder and placed.lost_ms is None and call.may_have_begun


def over_with(state: RunState, event: e.Event) -> tuple[e.Event, ...]:
    """What has to be recorded right after an event, because something asked for is over with it.

    What was asked in a call that ended needs no answer; a call of the model for it is charged.
    """
    if not state.asks or not isinstance(event, MAY_END):
        return ()
    found: list[e.Event] = []
    for ask in state.asks.values():
        call = state.calls.get(ask.call)
        if call is None or (call.ended is None and holds(state, call, ask.holder)):
            continue
        found.extend(let_go(ask))
        if ask.phase == "open":
            found.append(withdrawn(ask, LOST))
    return tuple(found)


def let_go(ask: Ask) -> tuple[e.Event, ...]:
    """Nobody waits for the model any more: charged in full where somebody may have called it."""
    call = ask.model_call
    if call is None or not call.is_open:
        return ()
    held = call.holder is not None
    over = e.SamplingEnded(
        ask=ask.id,
        how="abandoned",
        usage=None,
        charged=call.reserved if held else 0,
        charged_money=call.reserved_money if held else 0,
    )
    return (over,)


def withdrawn(ask: Ask, why: str) -> e.ToolCallAnswered:
    """An answer that nobody gave."""
    return e.ToolCallAnswered(
        call=ask.call, ask=ask.id, action="cancel", source="withdrawn", reason=why
    )
