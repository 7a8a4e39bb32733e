"""Claim a tool call: one epoch may execute it, decided by optimistic concurrency (rule 6)."""

from commands.desk import Desk
from domain.commands import ClaimToolCall
from domain.ids import RunRef


async def claim_tool_call(desk: Desk, ref: RunRef, command: ClaimToolCall) -> bool:
    """Whether that epoch may execute the call; asked twice by the same epoch, the answer stands.

    Raises:
        Unavailable: not now; nothing may be executed.
    """
    # No dispatch: whoever claims does the work itself.
    decision = await desk.runs.execute(ref, command, desk.situation())
    call = decision.after.calls.get(command.call)
    return (
        call is not None
        and call.ended is None
        and call.holder == command.holder
        and call.attempt == command.attempt
        and not decision.after.cancelling
    )
