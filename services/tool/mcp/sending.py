"""Sends one call to a server, by what kind of tool it is, and makes a result of the answer.

Not whether it may be sent, and not what becomes of it when no answer comes.
"""

import json
from typing import Any

from mcp.client import ClientSession
from mcp_types import (
    URL_ELICITATION_REQUIRED,
    CallToolResult,
    ElicitationRequiredErrorData,
    GetPromptResult,
    ListResourcesResult,
    PaginatedRequestParams,
    ReadResourceResult,
)
from pydantic import ValidationError

from domain.mcp import RemoteTool
from domain.record import clean
from services.tool.mcp.asking import web_address
from services.tool.mcp.connection import Connection
from services.tool.mcp.contents import of_listing, of_prompt, of_resource
from services.tool.mcp.results import of_call, of_pieces
from services.tool.mcp.seam import Refused
from services.tool.mcp.session import answered, call_tool, get_prompt, read_resource
from services.tool.mcp.turns import OpenCall
from services.worker.skills import Question
from services.worker.toolbox import ToolResult

SAID_CHARS_MAX = 4_000

ADDRESSES_MAX = 5
"""How many addresses a person is asked to open for one call."""


async def send(
    connection: Connection, tool: RemoteTool, open_call: OpenCall, arguments: dict[str, Any]
) -> ToolResult:
    """Call a tool, fill in a prompt, list resources or read one.

    Raises:
        NotOpened, Lost, NoAnswer, Refused, Unreadable: there is no result.
    """
    timeout_s = open_call.call.timeout_ms / 1000
    call = open_call.call.call
    match tool.kind:
        case "tool":
            result = await _called(connection, tool, open_call, arguments)
            return await of_call(result, tool.output_schema, call)
        case "prompt":
            texts = {name: _as_text(value) for name, value in arguments.items()}

            async def fill(session: ClientSession) -> GetPromptResult:
                return await get_prompt(session, tool.name, texts)

            return of_pieces(of_prompt(await connection.request(fill, timeout_s, open_call)), call)
        case "resources":
            cursor = arguments.get("cursor")
            at = PaginatedRequestParams(cursor=_as_text(cursor)) if cursor else None

            async def listing(session: ClientSession) -> ListResourcesResult:
                return await answered(session.list_resources(params=at))

            found = await connection.request(listing, timeout_s, open_call)
            return of_pieces(of_listing(found), call)
        case "resource":
            uri = _as_text(arguments.get("uri", ""))

            async def read(session: ClientSession) -> ReadResourceResult:
                return await read_resource(session, uri)

            return of_pieces(
                of_resource(await connection.request(read, timeout_s, open_call)), call
            )


async def _called(
    connection: Connection, tool: RemoteTool, open_call: OpenCall, arguments: dict[str, Any]
) -> CallToolResult:
    """The answer to a tool's call; once more, if a person has opened what it needed first."""

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        of = "" if total is None else f"/{total:g}"
        open_call.hearing.say(f"[{progress:g}{of}] {clean(message or '')[:SAID_CHARS_MAX]}\n")

    async def ask(session: ClientSession) -> CallToolResult:
        return await call_tool(session, tool.name, arguments, hear)

    timeout_s = open_call.call.timeout_ms / 1000
    try:
        return await connection.request(ask, timeout_s, open_call)
    except Refused as error:
        if error.code != URL_ELICITATION_REQUIRED or not await _opened(
            connection, open_call, error
        ):
            raise
    return await connection.request(ask, timeout_s, open_call)


async def _opened(connection: Connection, open_call: OpenCall, error: Refused) -> bool:
    """Whether the person opened all addresses that a refused call says it needs."""
    try:
        needed = ElicitationRequiredErrorData.model_validate(error.data).elicitations
    except ValidationError:
        return False
    if not needed or len(needed) > ADDRESSES_MAX:
        return False
    for one in needed:
        if not web_address(one.url):
            return False
        question = Question(clean(one.message)[:SAID_CHARS_MAX], url=clean(one.url))
        reply = await connection.asks.elicit(open_call.call, question)
        if reply.action != "accept":
            return False
    return True


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
