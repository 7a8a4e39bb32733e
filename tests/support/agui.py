"""A client of AG-UI over plain HTTP, its events checked by the protocol's own models. Not theirs.

The protocol's own client, of npm, is in `test_agui_client`.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2
from ag_ui.core.events import Event
from pydantic import TypeAdapter

EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def asked(thread: str, run: str, *said: str, **more: Any) -> dict[str, Any]:
    """What a client sends that has nothing but these messages of its user."""
    messages = [
        {"id": f"{run}-u{at}", "role": "user", "content": text} for at, text in enumerate(said)
    ]
    return {"threadId": thread, "runId": run, "messages": messages, **more}


@asynccontextmanager
async def turn(
    client: httpx2.AsyncClient, body: dict[str, Any], expert: str = ""
) -> AsyncGenerator[AsyncIterator[dict[str, Any]]]:
    """The events of one turn as they come."""
    path = f"/v1/agui/{expert}" if expert else "/v1/agui"
    async with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200, await response.aread()
        async with aclosing(_events(response)) as events:
            yield events


async def whole(
    client: httpx2.AsyncClient, body: dict[str, Any], expert: str = ""
) -> list[dict[str, Any]]:
    """All events of a turn."""
    async with turn(client, body, expert) as events:
        return [event async for event in events]


def types(events: list[dict[str, Any]]) -> list[str]:
    """Their types, without those of the state."""
    return [one["type"] for one in events if not one["type"].startswith("STATE_")]


def text(events: list[dict[str, Any]]) -> str:
    """What is said in them."""
    return "".join(one["delta"] for one in events if one["type"] == "TEXT_MESSAGE_CONTENT")


def snapshot(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages that they end with before anything is said."""
    found = [one["messages"] for one in events if one["type"] == "MESSAGES_SNAPSHOT"]
    return found[-1]  # type: ignore[no-any-return]


async def _events(response: httpx2.Response) -> AsyncGenerator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            found: dict[str, Any] = json.loads(line.removeprefix("data: "))
            EVENT.validate_python(found)
            yield found
