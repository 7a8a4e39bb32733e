"""Reconcile a run: take work from dead epochs, and have lost work done again (rule 10)."""

from commands.desk import Desk
from commands.runs import Decision
from domain.commands import AbandonHolder, RetryToolCall
from domain.ids import RunRef


async def abandon_holder(desk: Desk, ref: RunRef, command: AbandonHolder) -> Decision:
    """Free what a dead epoch held in this run.

    Raises:
        Unavailable: not now.
    """
    return await desk.execute(ref, command)


async def retry_tool_call(desk: Desk, ref: RunRef, command: RetryToolCall) -> Decision:
    """Hand a lost call out again, as a further attempt.

    Raises:
        Unavailable: not now.
    """
    return await desk.execute(ref, command)
