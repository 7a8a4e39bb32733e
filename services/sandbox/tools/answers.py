"""How a tool's answer becomes a result: JSON for the model, and where to read on. Not a tool."""

import json
from typing import Any

from domain.content import TextPart
from services.sandbox.failures import ToolError
from services.worker.toolbox import ToolFile, ToolResult

Answer = dict[str, Any]
"""A result as JSON."""


def result(
    answer: Answer,
    *,
    is_error: bool = False,
    full_output: bytes | None = None,
    files: tuple[ToolFile, ...] = (),
) -> ToolResult:
    """An answer as the model reads it."""
    text = json.dumps(answer, ensure_ascii=False)
    return ToolResult((TextPart(text=text),), is_error, full_output, files=files)


def failure(error: ToolError) -> ToolResult:
    """A call that cannot be done, in words a model can act on."""
    said = {"error": error.code, "message": error.message, **error.details}
    return result(said, is_error=True)


def read_on(call: str) -> str:
    """What a truncated answer says about the rest of it."""
    return f"readResult with call {call!r} reads the rest"
