"""Asks a server what it offers, and compares that with what a run is pinned to. Bounded, both."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mcp.client import ClientSession
from mcp_types import (
    METHOD_NOT_FOUND,
    PaginatedRequestParams,
    PaginatedResult,
    Prompt,
    ResourceTemplate,
    ServerCapabilities,
    Tool,
)

from domain.mcp import Catalogue, RemoteTool, ToolKind
from domain.record import clean
from services.tool.mcp.connection import Ask, Connection
from services.tool.mcp.offers import (
    ONLY_AS_TASK,
    Offer,
    of_prompt,
    of_resources,
    of_tool,
    only_as_task,
    sifted,
)
from services.tool.mcp.seam import Refused, Unreadable
from services.tool.mcp.session import answered

logger = logging.getLogger(__name__)

T = TypeVar("T")
Page = TypeVar("Page", bound=PaginatedResult)

GROUPS: dict[ToolKind, str] = {
    "tool": "tools",
    "prompt": "prompts",
    "resources": "resources",
    "resource": "resources",
}

NAMES_SHOWN = 20
VERSION_CHARS_MAX = 200
OFFERED_MAX = 10_000
"""How many items of a list are looked at, the usable and the others."""


async def drifted(connection: Connection, pinned: RemoteTool) -> str | None:
    """What a tool of a server is now that it was not when the run was pinned to it.

    What the server said is asked again when it says that it changed, and now and then.

    Raises:
        NotOpened, Lost, NoAnswer, Refused, Unreadable: it does not say what it offers.
    """
    group = GROUPS[pinned.kind]
    offer = connection.offer
    async with connection.listing:
        age = asyncio.get_running_loop().time() - offer.listed_at.get(group, float("-inf"))
        if group in connection.changed or age > connection.bounds.fresh_s:
            await ask(connection, group, offer)
    return drift(pinned, offer)


async def ask(connection: Connection, group: str, offer: Offer) -> None:
    """Have one part of an offer be what the server says now.

    Raises:
        NotOpened, Lost, NoAnswer, Refused, Unreadable: it does not say.
    """
    connection.changed.discard(group)  # what changes from here on is to be listed again
    session = await connection.opened()
    has = session.server_capabilities or ServerCapabilities()
    offered: list[RemoteTool] = []
    tasks: dict[str, str] = {}
    if group == "tools":
        # A server that leaves its capabilities out may have tools all the same.
        found = await _tools(connection)
        offered = [of_tool(tool) for tool in found if not only_as_task(tool)]
        tasks = {of_tool(tool).remote: ONLY_AS_TASK for tool in found if only_as_task(tool)}
    elif group == "prompts" and has.prompts is not None:
        offered = [of_prompt(prompt) for prompt in await _prompts(connection)]
    elif group == "resources" and has.resources is not None:
        offered = list(of_resources(await _templates(connection)))
    tools, left_out = sifted(offered, connection.bounds)
    left_out |= tasks
    offer.tools[group] = tools
    offer.left_out[group] = left_out
    offer.listed_at[group] = asyncio.get_running_loop().time()


async def whole(connection: Connection) -> tuple[Catalogue, dict[str, str]]:
    """All that a server offers, and why some of it cannot be used.

    Raises:
        NotOpened, Lost, NoAnswer, Refused, Unreadable: it does not say.
    """
    offer = Offer()
    for group in ("tools", "prompts", "resources"):
        await ask(connection, group, offer)
    session = await connection.opened()
    info = session.server_info
    tools, left_out = sifted(
        (tool for tools in offer.tools.values() for tool in tools), connection.bounds
    )
    for found in offer.left_out.values():
        left_out |= found
    for remote, why in left_out.items():
        logger.warning("%s: %r is left out: %s", connection.server.name, remote, why)
    catalogue = Catalogue(
        server=clean(info.name)[:VERSION_CHARS_MAX] if info else "",
        version=clean(info.version)[:VERSION_CHARS_MAX] if info else "",
        protocol=session.protocol_version or "",
        tools=tools,
    )
    return catalogue, left_out


def drift(pinned: RemoteTool, offer: Offer) -> str | None:
    """What a tool is now that it was not when the run was pinned to it; None: nothing."""
    group = GROUPS[pinned.kind]
    live = offer.find(pinned.remote, group)
    if live is None:
        why = offer.left_out.get(group, {}).get(pinned.remote)
        if why is not None:
            return f"it cannot be used any more: {why}"
        names = ", ".join(sorted(tool.name for tool in offer.tools.get(group, ()))[:NAMES_SHOWN])
        return f"the server does not offer it any more; it offers: {names or 'nothing'}"
    if live == pinned:  # whatever order its schema comes in
        return None
    changed = [
        name.replace("_", " ")
        for name in type(pinned).model_fields
        if getattr(pinned, name) != getattr(live, name)
    ]
    return f"the server changed: its {' and its '.join(changed)}"


async def _tools(connection: Connection) -> list[Tool]:
    return await _pages(
        connection, lambda session, at: session.list_tools(params=at), lambda page: page.tools
    )


async def _prompts(connection: Connection) -> list[Prompt]:
    return await _pages(
        connection, lambda session, at: session.list_prompts(params=at), lambda page: page.prompts
    )


async def _templates(connection: Connection) -> list[ResourceTemplate]:
    return await _pages(
        connection,
        lambda session, at: session.list_resource_templates(params=at),
        lambda page: page.resource_templates,
    )


def _asked(
    send: Callable[[ClientSession, PaginatedRequestParams | None], Awaitable[Page]],
    at: PaginatedRequestParams | None,
) -> Ask[Page]:
    return lambda session: answered(send(session, at))


async def _pages(
    connection: Connection,
    send: Callable[[ClientSession, PaginatedRequestParams | None], Awaitable[Page]],
    items: Callable[[Page], list[T]],
) -> list[T]:
    """All pages of a list; nothing, where the server does not know the request.

    Raises:
        Unreadable: there is no end of them.
    """
    found: list[T] = []
    at: PaginatedRequestParams | None = None
    for _ in range(connection.bounds.pages_max):
        try:
            page = await connection.request(_asked(send, at), connection.bounds.list_s)
        except Refused as error:
            if error.code == METHOD_NOT_FOUND and at is None:
                return []
            raise
        found += items(page)
        if page.next_cursor is None:
            return found
        if len(found) > OFFERED_MAX:
            break
        at = PaginatedRequestParams(cursor=page.next_cursor)
    message = f"the list of what it offers has no end: {len(found)} items, and there are more"
    raise Unreadable(message)
