"""An MCP server on a free loopback port and clients of both protocol eras. Not the tests."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.session import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client

from domain.definition import Definition
from domain.events import Principal
from eventlog.port import Backbone
from gateway.mcp.deps import McpDeps
from gateway.mcp.http import serve_http
from gateway.mcp.server import create_server
from projections.queries.reader import Reader

BOUND_S = 20.0
TENANT = "acme"

Era = Literal["legacy", "auto"]
ERAS: tuple[Era, ...] = ("legacy", "auto")
"""With a handshake and a server that may ask; and the newer one, in which only clients ask."""


def deps_of(backbone: Backbone, folder: Path, definition: Definition, /, **changes: Any) -> McpDeps:
    ids = count()

    async def current(*, wanted: str | None) -> Definition:
        del wanted
        return definition

    given: dict[str, Any] = {
        "backbone": backbone,
        "reader": Reader(folder / "views.sqlite"),
        "definition": current,
        "new_id": lambda: f"fresh{next(ids)}",
        "tenant": TENANT,
        "by": Principal(name="ada", via="mcp"),
        "heartbeat_s": 5.0,
        "people_wait_s": BOUND_S,
    }
    return McpDeps(**given | changes)


@asynccontextmanager
async def served(deps: McpDeps, *, token: str | None = None) -> AsyncGenerator[str]:
    """The URL of a server that is there while the context is open."""
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = serve_http(
        create_server(deps), deps, host="127.0.0.1", port=0, token=token, ready=url.set_result
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(serving)
        try:
            async with asyncio.timeout(BOUND_S):
                yield await url
        finally:
            task.cancel()


@dataclass
class Person:
    """Somebody at a client who is asked, and says what is on the list."""

    says: list[types.ElicitResult] = field(default_factory=list[types.ElicitResult])
    asked: list[str] = field(default_factory=list[str])
    hesitates: int = 0  # so often nothing is said until the form is withdrawn
    withdrawn: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        del context
        self.asked.append(params.message)
        if self.hesitates:
            self.hesitates -= 1
            try:
                await asyncio.Event().wait()
            finally:
                self.withdrawn.set()
        return self.says.pop(0)


def accepts(**content: Any) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content=content)


@dataclass
class Heard:
    """What a client heard while it waited for a call."""

    lines: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        self.lines.append((progress, message or ""))
        self.changed.set()

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.lines]

    async def until(self, word: str) -> str:
        """The first line with that word, as soon as it is heard."""
        async with asyncio.timeout(BOUND_S):
            while not any(word in text for text in self.texts):
                self.changed.clear()
                await self.changed.wait()
        return next(text for text in self.texts if word in text)

    async def run(self) -> str:
        """The run that the call is about, which is told first."""
        await self.until("is at work")
        return self.texts[0].split()[1]


@asynccontextmanager
async def connected(
    url: str, era: Era = "auto", person: Person | None = None, token: str | None = None
) -> AsyncGenerator[Client]:
    """A client, with somebody to ask or without."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=BOUND_S) as http,
        Client(
            streamable_http_client(url, http_client=http), mode=era, elicitation_callback=person
        ) as client,
    ):
        yield client


def text_of(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


def facts(result: types.CallToolResult, name: str) -> Any:
    assert result.meta is not None
    return result.meta[f"peritus/{name}"]


async def cut_off(url: str, tool: str, *, ended: bool) -> str:
    """Call a tool as a client that goes once it knows the run; `ended`: its session goes, too.

    The library's own client would cancel the call when it leaves.
    """
    accept = {"Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(headers=accept, trust_env=False, timeout=BOUND_S) as http:
        client = {"name": "brief", "version": "1"}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        opened = await http.post(url, json=message("initialize", hello, 1))
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        await http.post(url, json=message("notifications/initialized", {}), headers=session)
        call = {"name": tool, "arguments": {"query": "Go"}, "_meta": {"progressToken": "p"}}
        said = message("tools/call", call, 2)
        async with http.stream("POST", url, json=said, headers=session) as answer:
            run = await anext(_runs(answer))
            if ended:
                await http.delete(url, headers=session)
    return run


def message(method: str, params: dict[str, Any], number: int | None = None) -> dict[str, Any]:
    """A message of a client; without a number, a notification."""
    told: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    return told if number is None else {**told, "id": number}


async def _runs(answer: httpx2.Response) -> AsyncGenerator[str]:
    async for line in answer.aiter_lines():
        found = re.search(r"run (\w+) is at work", line)
        if found is not None:
            yield found[1]
