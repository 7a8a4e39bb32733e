"""Record a tool result: one terminal outcome a call, never lost, never changed (rules 6 and 7)."""

import logging
from typing import Literal

from commands.desk import Desk
from domain.commands import RecordToolResult
from domain.content import TextPart
from domain.errors import TooLarge
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
    try:
        decision = await desk.execute(ref, command)
    except TooLarge as error:
        decision = await desk.execute(ref, _without_content(command, error))
    if any(isinstance(event, ToolCallEnded) for event in decision.events):
        return "recorded"
    if any(isinstance(event, ToolResultLate) for event in decision.events):
        logger.error("run %s: a second, different result of call %s", ref.run, command.call)
        return "superseded"
    return "already recorded"


def _without_content(command: RecordToolResult, error: TooLarge) -> RecordToolResult:
    """The same outcome, told in a sentence: its many parts never fit into an envelope (C2)."""
    text = f"The call {command.outcome}, but its result is too large to be kept: {error}"
    return command.model_copy(update={"content": (TextPart(text=text),), "is_error": True})
