"""Calls the tools of MCP servers, whatever reaches them. Whatever a server does is a result.

The SDK is loaded with the first connection; nothing here needs it before.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pydantic_core

from domain.errors import PeritusError, Unavailable
from domain.mcp import Catalogue, RemoteTool
from domain.tools import Safety
from services.tool.mcp.beside import beside
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.hearing import Hearing
from services.tool.mcp.pool import Pool
from services.tool.mcp.seam import Lost, NoAnswer, NotOpened, Refused, Server, Unreadable
from services.tool.mcp.turns import OpenCall
from services.worker.executor import failure
from services.worker.skills import Asks, SkillFailed
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

if TYPE_CHECKING:
    from services.tool.mcp.connection import Connection

TRIES_MAX = 2
"""How often a call is sent that may be sent again."""

SAID_CHARS_MAX = 4_000


class Caller:
    """The servers of a process: what they are called for, and what they offer."""

    def __init__(self, tasks: asyncio.TaskGroup, asks: Asks, bounds: Bounds | None = None) -> None:
        """`tasks` is the group that connections live in: `close` them before it ends."""
        self._bounds = bounds or Bounds()
        self._pool = Pool(tasks, asks, self._bounds)

    async def call(
        self, server: Server, tool: RemoteTool, call: ToolCall, on_output: OnOutput
    ) -> ToolResult:
        """Call one tool, in a connection that is opened for it if there is none.

        Raises:
            Unavailable: there is no connection; the call did not run.
        """
        arguments = _arguments(call)
        if isinstance(arguments, ToolResult):
            return arguments
        try:
            async with _heard(on_output) as hearing:
                open_call = OpenCall(call, hearing)
                return await self._tried(server, tool, open_call, arguments)
        except NotOpened as error:
            message = f"the server {server.name!r} cannot be used: {error}"
            raise Unavailable(message) from error

    async def discover(self, server: Server) -> Catalogue:
        """What a server offers, asked in a connection of its own.

        Raises:
            SkillFailed: it offers nothing that can be used; the message says why.
            Unavailable: it could not be started or reached now.
        """
        try:
            async with self._pool.alone(server) as connection:
                from services.tool.mcp.discover import whole  # noqa: PLC0415 - see the docstring

                catalogue, left_out = await whole(connection)
        except (NotOpened, Lost, NoAnswer, Refused, Unreadable) as error:
            message = f"the server {server.name!r} cannot be used: {error}"
            raise SkillFailed(message) from error
        if not catalogue.tools:
            reasons = "; ".join(f"{remote}: {why}" for remote, why in sorted(left_out.items()))
            message = f"the server {server.name!r} offers nothing that can be used. {reasons}"
            raise SkillFailed(message[:SAID_CHARS_MAX].strip())
        return catalogue

    def __len__(self) -> int:
        """How many connections there are, open or opening."""
        return len(self._pool)

    async def leave(self, tenant: str, place: str) -> None:
        """Close the connections of a place, and what runs for them."""
        await self._pool.leave(tenant, place)

    async def close(self) -> None:
        """Close everything; no call is taken after."""
        await self._pool.close()

    async def _tried(
        self, server: Server, tool: RemoteTool, open_call: OpenCall, arguments: dict[str, Any]
    ) -> ToolResult:
        """The result of a call that is sent again where that harms nobody."""
        call = open_call.call
        tries = 0
        while True:
            reached = False
            tries += 1
            try:
                async with self._pool.use(server) as connection:
                    reached = True
                    result = await _once(connection, tool, open_call, arguments)
            except NotOpened:  # it was not sent: another connection may be had
                if not reached or tries >= TRIES_MAX:
                    raise
            except Lost as error:
                if call.safety is Safety.UNSAFE or tries >= TRIES_MAX:
                    return _lost(server, error)
            except (NoAnswer, Refused, Unreadable) as error:
                return _failed(server, call, error)
            else:
                self._pool.worked(server)
                return result


async def _once(
    connection: "Connection", tool: RemoteTool, open_call: OpenCall, arguments: dict[str, Any]
) -> ToolResult:
    """Send a call in a connection, if the tool is still what the run is pinned to."""
    from services.tool.mcp.discover import drifted  # noqa: PLC0415 - see the docstring
    from services.tool.mcp.sending import send  # noqa: PLC0415

    try:
        changed = await drifted(connection, tool)
    except (Lost, NoAnswer, Refused, Unreadable) as error:  # the call itself was not sent
        message = f"it does not say what it offers: {error}"
        raise NotOpened(message) from error
    if changed is not None:
        message = (
            f"The tool {tool.name!r} was not called: {changed}. The run goes by what was approved "
            "before it started; whoever owns the definition can look at the server again."
        )
        return failure("tool_changed", message)
    async with connection.turns.of(open_call):
        return await send(connection, tool, open_call, arguments)


def _lost(server: Server, error: Lost) -> ToolResult:
    message = (
        f"The connection to the server {server.name!r} ended while it had the call: {error}. "
        "The call may have been executed, in full or in part, or not at all."
    )
    return replace(failure("outcome_unknown", message), unknown=True)


def _failed(server: Server, call: ToolCall, error: PeritusError) -> ToolResult:
    said = str(error)[:SAID_CHARS_MAX]
    match error:
        case NoAnswer():
            text = f"The server {server.name!r} gave no answer in {call.timeout_ms} ms: the call "
            return failure("timeout", f"{text}was ended and may be half done.")
        case Refused():
            return failure("refused", f"The server {server.name!r} refused the call: {said}")
        case _:
            text = f"The server {server.name!r} answered with what is no result: {said}"
            return failure("no_result", f"{text}. The call may have been executed.")


def _arguments(call: ToolCall) -> dict[str, Any] | ToolResult:
    try:
        arguments = pydantic_core.from_json(call.arguments or "{}", allow_inf_nan=False)
    except ValueError as error:
        return failure("malformed_arguments", f"The arguments are not JSON: {error}")
    if not isinstance(arguments, dict):
        return failure("malformed_arguments", "The arguments are not a JSON object.")
    return cast("dict[str, Any]", arguments)


@asynccontextmanager
async def _heard(on_output: OnOutput) -> AsyncGenerator[Hearing]:
    """Have people hear what is said while a call runs; all of it, before the call ends."""
    hearing = Hearing(on_output)
    async with beside() as tasks:
        tasks.create_task(hearing.pass_on())
        try:
            yield hearing
        finally:
            hearing.end()
