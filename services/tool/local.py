"""Tools that the embedding program registers by name. Not isolated: they run in this process."""

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from domain.content import TextPart
from domain.tools import LocalTool
from services.worker.executor import failure
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

logger = logging.getLogger(__name__)

Function = Callable[[dict[str, Any], ToolCall], Awaitable[str] | str]
"""Takes the arguments and the call, whose key is stable; returns what the model reads."""


class ToolFailed(Exception):
    """Raised by a tool to tell the model what went wrong."""


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    """A function and what the model and the run need to know of it."""

    tool: LocalTool
    function: Function


class LocalToolBox:
    """The registered tools of this process. Fills the port `ToolBox`."""

    def __init__(self, tools: Mapping[str, RegisteredTool]) -> None:
        """`tools` by the name the model calls them."""
        self._tools = dict(tools)

    def specs(self) -> dict[str, LocalTool]:
        """What contexts are built from."""
        return {name: registered.tool for name, registered in self._tools.items()}

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:  # noqa: ARG002
        """Run the function; a synchronous one runs in a thread."""
        registered = self._tools.get(call.tool)
        if registered is None:
            return failure("unknown_tool", f"This worker has no tool {call.tool!r}.")
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError) as error:
            return failure("malformed_arguments", f"The arguments are not JSON: {error}")
        if not isinstance(arguments, dict):
            return failure("malformed_arguments", "The arguments are not a JSON object.")
        given = cast("dict[str, Any]", arguments)
        try:
            if inspect.iscoroutinefunction(registered.function):
                text = await registered.function(given, call)
            else:
                text = await asyncio.to_thread(registered.function, given, call)
        except ToolFailed as error:
            return failure("tool_failed", str(error))
        except Exception as error:  # noqa: BLE001 - the boundary to the program's own functions
            logger.warning("tool %s raised %s", call.tool, type(error).__name__)
            return failure("tool_raised", f"{type(error).__name__}: {error}")
        return ToolResult(content=(TextPart(text=str(text)),), is_error=False)
