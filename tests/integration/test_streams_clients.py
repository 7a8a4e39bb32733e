"""Many clients and bad ones over a real server: what they cost it, and each other (C9)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain import events as e
from domain.ids import RunRef
from eventlog.embedded.config import ServerConfig, free_port
from eventlog.embedded.server import start
from eventlog.jetstream.api import call
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.connection import open_link
from eventlog.port import Backbone
from gateway.streams.bounds import Bounds
from tests.contract.deployment import until
from tests.integration.deployment import TOKEN, JetStreamDeployment
from tests.support.gateway import BOUND_S, deps_of, gateway
from tests.support.pen import Pen, completed, started
from tests.support.raw_stream import RawStream, raw_stream

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

REF = RunRef("acme", "job1", "alpha")
URL = "/v1/runs/alpha/events"
CLIENTS = 1_000
LARGE = e.OpaqueEvent(type="page.written.v1", body={"text": "x" * 200_000})
LARGE_EVENTS = 60


async def ids_of(pen: Pen, backbone: Backbone) -> list[str]:
    return [
        f"{backbone.log.incarnation}-{seq}-{index}"
        for seq, envelope in pen.written
        for index in range(len(envelope.events))
    ]


def durable(stream: RawStream) -> list[str | None]:
    return [frame.id for frame in stream.frames if frame.durable]


async def test_a_client_that_takes_nothing_is_cut_and_others_see_nothing_of_it(
    backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes back to where it was, and has missed nothing either."""
    pen = Pen(REF)
    await pen.write(backbone.log, *started())
    deps = deps_of(backbone, tmp_path, heartbeat_s=0.2, streams=Bounds(stall_s=0.5))
    async with asyncio.timeout(2 * BOUND_S), gateway(deps) as http, AsyncExitStack() as streams:
        slow = await streams.enter_async_context(raw_stream(http, URL, receive_bytes=4_096))
        quick = await streams.enter_async_context(raw_stream(http, URL))
        await slow.until(5)
        await quick.until(5)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(quick.rest())
            for _ in range(LARGE_EVENTS):
                await pen.write(backbone.log, LARGE)
            await pen.write(backbone.log, *completed(1))
        expected = await ids_of(pen, backbone)
        assert durable(quick) == expected
        assert reading.result()[-1].event == "end"

        async def was_cut() -> bool:
            return "a stream is cut" in caplog.text

        await until(was_cut)
        await slow.rest()
        seen = durable(slow)
        assert seen == expected[: len(seen)]
        assert len(seen) < len(expected)
        again = await streams.enter_async_context(raw_stream(http, URL, last=seen[-1]))
        await again.rest()
    assert [*seen, *durable(again)] == expected


async def test_a_stream_outlives_a_log_that_was_lost_and_made_anew(
    backbone: Backbone, deployment: JetStreamDeployment, tmp_path: Path
) -> None:
    """Two incarnations: the second is told from its start, after a reset (C9)."""
    first = Pen(REF)
    await first.write(backbone.log, *started())
    before = backbone.log.incarnation
    async with (
        asyncio.timeout(2 * BOUND_S),
        gateway(deps_of(backbone, tmp_path)) as http,
        raw_stream(http, URL) as stream,
    ):
        await stream.until(5)
        async with open_link(
            deployment.server.url, token=TOKEN, name="test", timeout_s=2.0, connect_s=5.0
        ) as link:
            await call(link, "STREAM.DELETE.PERITUS_EVENTS")
        await deployment.restart()

        async def made_anew() -> bool:
            return backbone.log.incarnation != before

        await until(made_anew)
        again = Pen(REF)
        await again.write(backbone.log, *started("critic"))
        await again.write(backbone.log, *completed(1))
        *_, end = await stream.rest()
    kinds = [frame.event for frame in stream.frames]
    assert (kinds[5:7], end.event) == (["hello", "reset"], "end")
    assert stream.frames[6].data["reason"] == "incarnation"
    assert durable(stream)[4:] == await ids_of(again, backbone)
    assert stream.frames[7].data["expert"] == "critic"


class MonitoredConfig(ServerConfig):
    """A server that also says over HTTP what it holds."""

    def text(self) -> str:
        return super().text() + f"http: 127.0.0.1:{self.port + 1}\n"


@pytest.fixture
async def monitored(tmp_path: Path) -> AsyncGenerator[ServerConfig]:
    folder = tmp_path / "monitored"
    folder.mkdir()
    config = MonitoredConfig(folder, free_port(folder), "only-for-tests", "process")
    running = await start(config)
    try:
        yield config
    finally:
        await running.stop()


async def held(config: ServerConfig) -> tuple[int, int]:
    """How many subscriptions and consumers the server has."""
    base = f"http://127.0.0.1:{config.port + 1}"
    async with httpx2.AsyncClient(base_url=base, trust_env=False) as monitor:
        connections: Any = (await monitor.get("/connz?subs=1")).json()["connections"]
        streams: Any = (await monitor.get("/jsz?consumers=1")).json()
    subscriptions = sum(one.get("subscriptions", 0) for one in connections)
    return subscriptions, int(streams["consumers"])


async def test_a_thousand_clients_are_not_a_thousand_subscriptions(
    monitored: ServerConfig, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(4 * BOUND_S),
        connect_backbone(monitored.url, token=monitored.token, durability="process") as backbone,
        gateway(deps_of(backbone, tmp_path, heartbeat_s=60.0)) as http,
        AsyncExitStack() as streams,
    ):
        pen = Pen(REF)
        await pen.write(backbone.log, *started())
        first = await streams.enter_async_context(raw_stream(http, URL + "?live=1"))
        await first.until(5)
        before = await held(monitored)
        others = [
            await streams.enter_async_context(raw_stream(http, URL + "?live=1"))
            for _ in range(CLIENTS - 1)
        ]
        for other in others:
            await other.until(5)
        assert await held(monitored) == before
        await pen.write(backbone.log, *completed(1))
        expected = await ids_of(pen, backbone)
        for stream in (first, *others):
            assert (await stream.rest())[-1].event == "end"
            assert durable(stream) == expected
