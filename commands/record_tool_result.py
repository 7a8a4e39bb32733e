"""Record a tool result: one terminal outcome a call, never lost, never changed (rules 6 and 7)."""

import logging
from typing import Literal

from commands.desk import Desk
from domain.commands import RecordToolResult
from domain.events import ToolCallEnded, ToolResultLate
from domain.ids import RunRef

logger = logging.getLogger(__name__)

Recorded = Literal["recorded", "already recorded", "superseded"]
"""All three end the duty of the worker that reports."""


async def record_tool_result(desk: Desk, ref: RunRef, command: RecordToolResult) -> Recorded:
    """Give a call its outcome.

    Raises:
        Unavailable: not now; send it again.
    """
    decision = await desk.execute(ref, command)
    if any(isinstance(event, ToolCallEnded) for event in decision.events):
        return "recorded"
    if any(isinstance(event, ToolResultLate) for event in decision.events):
        logger.error("run %s: a second, different result of call %s", ref.run, command.call)
        return "superseded"
    return "already recorded"
