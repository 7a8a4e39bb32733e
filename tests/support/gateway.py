"""A gateway on a free loopback port, its client and a worker behind it. Not the tests."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx2

from domain.content import TextPart
from domain.definition import Definition, Expert
from domain.limits import ModelChoice, Usage
from domain.prompt import ModelRequest
from eventlog.port import Backbone
from gateway.app import create_app
from gateway.deps import GatewayDeps, one_definition, one_tenant
from gateway.server import serve
from peritus.stored_files import SnapshotFiles
from peritus.worker import WorkerParts, run_worker
from projections.queries.reader import Reader
from projections.runner import run_projection
from services.loop.models.port import Delta, ModelReply

BOUND_S = 15.0

CHOICE = ModelChoice(provider="scripted", model="m1", base_url="http://one.invalid")
DEFINITION = Definition(
    experts={
        key: Expert(key=key, instruction="Help.", skills={}, model=CHOICE)
        for key in ("coder", "critic")
    }
)


@dataclass(frozen=True)
class Message:
    """One server-sent event; `comment` alone is a heartbeat."""

    event: str = ""
    data: str = ""
    id: str | None = None
    comment: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.data)  # type: ignore[no-any-return]


def deps_of(backbone: Backbone, folder: Path, **changes: Any) -> GatewayDeps:
    ids = count()
    deps = GatewayDeps(
        backbone=backbone,
        files=SnapshotFiles(backbone),
        reader=Reader(folder / "views.sqlite"),
        definitions=one_definition(lambda: DEFINITION),
        new_id=lambda: f"fresh{next(ids)}",
        tenant=one_tenant("acme"),
        heartbeat_s=5.0,
        wait_s=5.0,
    )
    return replace(deps, **changes)


@asynccontextmanager
async def gateway(deps: GatewayDeps) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of a gateway that is served while the context is open."""
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(create_app(deps), port=0, ready=url.set_result))
        try:
            async with asyncio.timeout(BOUND_S):
                base = await url
            async with httpx2.AsyncClient(
                base_url=base, trust_env=False, timeout=BOUND_S
            ) as client:
                yield client
        finally:
            serving.cancel()


@asynccontextmanager
async def projecting(backbone: Backbone, folder: Path) -> AsyncGenerator[None]:
    """The view is kept up while the context is open."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_projection(backbone.log, folder / "views.sqlite"))
        try:
            yield
        finally:
            running.cancel()


@asynccontextmanager
async def working(
    backbone: Backbone, hold: Callable[[], asyncio.Event | None] = lambda: None
) -> AsyncGenerator[None]:
    """A loop service is at work while the context is open; `hold` may keep its model back."""

    async def generate(_: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]) -> ModelReply:
        gate = hold()
        if gate is not None:
            await gate.wait()
        del on_delta
        return ModelReply((TextPart(text="done"),), "end", Usage(input=3, output=1))

    ids, ready = count(), asyncio.Event()
    parts = WorkerParts(
        backbone=backbone,
        epoch="ep1",
        now_ms=lambda: time.time_ns() // 1_000_000,
        new_id=lambda: f"id{next(ids)}",
        certainly_dead=lambda _: False,
        generate=generate,
    )
    async with asyncio.TaskGroup() as tasks:
        worker = tasks.create_task(run_worker(parts, lambda _: ready.set()))
        try:
            async with asyncio.timeout(BOUND_S):
                await ready.wait()
            yield
        finally:
            worker.cancel()


@asynccontextmanager
async def listening(
    client: httpx2.AsyncClient, url: str, *, last: str | None = None, query: str = ""
) -> AsyncGenerator[AsyncIterator[Message]]:
    """The messages of a stream as they come."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", url + query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        async with aclosing(_messages(response)) as messages:
            yield messages


async def until_closed(
    client: httpx2.AsyncClient, url: str, *, last: str | None = None, query: str = ""
) -> list[Message]:
    """All messages of a stream until the gateway ends it, without heartbeats."""
    async with asyncio.timeout(BOUND_S), listening(client, url, last=last, query=query) as messages:
        return [message async for message in messages if message.event != "heartbeat"]


async def take(messages: AsyncIterator[Message], number: int) -> list[Message]:
    async with asyncio.timeout(BOUND_S):
        return [await anext(messages) for _ in range(number)]


async def _messages(response: httpx2.Response) -> AsyncGenerator[Message]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name or "comment"] = value
            continue
        yield Message(
            fields.get("event", ""),
            fields.get("data", ""),
            fields.get("id"),
            fields.get("comment", fields.get(":")),
        )
        fields = {}
