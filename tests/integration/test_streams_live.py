"""Replies in the making: whoever comes in the middle gets what was said so far (C22). In memory."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from domain import events as e
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone, LiveChannel, Said
from tests.support.gateway import Message, deps_of, gateway, listening, take
from tests.support.pen import Pen, replied, requested, started

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "job1", "alpha")
OTHER = RunRef("acme", "job2", "beta")
URL = "/v1/runs/alpha/events"


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    async with gateway(deps_of(backbone, tmp_path)) as http:
        yield http


def delta(offset: int, text: str, **more: Any) -> bytes:
    said = {"type": "delta.v1", "step": 1, "attempt": 1, "kind": "text", "part": 0}
    return orjson.dumps({**said, "offset": offset, "text": text, "tool": "", **more})


def output(offset: int, text: str, call: str = "c1-0") -> bytes:
    return orjson.dumps({"type": "tool_output.v1", "call": call, "offset": offset, "text": text})


def ended(call: str) -> e.Event:
    return e.ToolCallEnded(call=call, outcome="succeeded", content=())


async def say(backbone: Backbone, *pieces: bytes, ref: RunRef = REF) -> None:
    for piece in pieces:
        await backbone.live.publish(ref, piece)


async def begin(backbone: Backbone) -> Pen:
    pen = Pen(REF)
    await pen.write(backbone.log, *started())
    return pen


async def join(client: httpx2.AsyncClient, number: int, query: str = "?live=1") -> list[Message]:
    """The first so many messages of a stream after those of the start of the run."""
    async with listening(client, URL, query=query) as messages:
        return (await take(messages, 5 + number))[5:]


async def until_heard(client: httpx2.AsyncClient, backbone: Backbone) -> None:
    """Return when the gateway has heard all that was said before this."""
    async with listening(client, URL, query="?live=1") as messages:
        await take(messages, 5)
        marker = orjson.dumps({"type": "marker.v1"})
        await say(backbone, marker)
        async for message in messages:
            if message.event == "live" and message.json["type"] == "marker.v1":
                return


async def test_whoever_comes_in_the_middle_gets_the_reply_from_its_start_and_its_deltas_go_on(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await begin(backbone)
    await until_heard(client, backbone)
    await say(backbone, delta(0, "Hello"), delta(5, ", wor"), delta(0, "no", part=1, tool="grep"))
    await until_heard(client, backbone)
    async with listening(client, URL, query="?live=1") as messages:
        so_far = (await take(messages, 7))[5:]
        await say(backbone, delta(10, "ld"))
        (live,) = await take(messages, 1)
    assert [m.event for m in so_far] == ["so_far", "so_far"]
    assert so_far[0].id is None
    assert so_far[0].json == {
        "run": "alpha", "job": "job1", "step": 1, "attempt": 1, "kind": "text", "part": 0,
        "text": "Hello, wor", "tool": "",
    }  # fmt: skip
    assert (so_far[1].json["text"], so_far[1].json["tool"]) == ("no", "grep")
    assert (live.event, live.json["offset"]) == ("live", len(so_far[0].json["text"]))
    assert (live.json["run"], live.json["job"], live.json["text"]) == ("alpha", "job1", "ld")


async def test_a_gateway_that_starts_in_the_middle_reads_what_was_said_lately(
    backbone: Backbone, tmp_path: Path
) -> None:
    await begin(backbone)
    await say(backbone, delta(0, "said before "), delta(12, "anybody listened"))
    async with gateway(deps_of(backbone, tmp_path)) as http:
        (so_far,) = await join(http, 1)
    assert so_far.json["text"] == "said before anybody listened"


class SlowToRecall:
    """LIVE whose last minute is read only after all others had their turn many times."""

    def __init__(self, live: LiveChannel) -> None:
        self._live = live
        self.publish, self.subscribe = live.publish, live.subscribe

    async def recent(self, ref: RunRef) -> list[Said]:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return await self._live.recent(ref)


async def test_the_first_viewer_waits_until_what_was_said_lately_is_read(
    backbone: Backbone, tmp_path: Path
) -> None:
    await begin(backbone)
    await say(backbone, delta(0, "said before "), delta(12, "anybody listened"))
    slow = replace(backbone, live=SlowToRecall(backbone.live))
    async with gateway(deps_of(slow, tmp_path)) as http:
        (so_far,) = await join(http, 1)
    assert so_far.json["text"] == "said before anybody listened"


async def test_a_reply_that_ended_before_the_gateway_started_is_not_in_the_making(
    backbone: Backbone, tmp_path: Path
) -> None:
    pen = await begin(backbone)
    await say(backbone, delta(0, "over and done"))
    await pen.write(backbone.log, replied(1), requested(2))
    await say(backbone, delta(0, "the next", step=2))
    async with gateway(deps_of(backbone, tmp_path)) as http:
        messages = await join(http, 3)
    assert [(m.event, m.json.get("text")) for m in messages][2:] == [("so_far", "the next")]


@pytest.mark.parametrize(
    "end",
    [
        replied(1),
        e.GenerationAbandoned(step=1, attempt=1, reason="cancelled", charged=1),
        e.GenerationSuperseded(step=1, attempt=1, usage=None, refunded=0),
        e.RunCancelled(step=1),
    ],
)
async def test_a_reply_is_forgotten_with_its_end_and_late_pieces_do_not_bring_it_back(
    backbone: Backbone, client: httpx2.AsyncClient, end: e.Event
) -> None:
    pen = await begin(backbone)
    await until_heard(client, backbone)
    await say(backbone, delta(0, "soon over"))
    async with listening(client, URL, query="?live=1&follow=1") as messages:
        await take(messages, 5)
        await pen.write(backbone.log, end, ended("c9"))
        async for message in messages:
            if message.event == "tool_call.ended.v1":
                break
        if not isinstance(end, e.RunCancelled):
            await say(backbone, delta(9, " late"), delta(0, "late from its start"))
        await say(backbone, output(0, "another call's", call="c5"))
        async for message in messages:
            if message.event == "live" and message.json.get("call") == "c5":
                break
    async with listening(client, URL, query="?live=1&follow=1") as messages:
        async for message in messages:
            if message.event == "so_far":
                assert message.json["call"] == "c5"
                return


async def test_a_reply_of_which_a_piece_is_missing_is_not_told_so_far(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await begin(backbone)
    await until_heard(client, backbone)
    await say(backbone, delta(0, "one"), delta(9, "gap"), delta(12, "more"), delta(3, "x"))
    await say(backbone, delta(5, "no start", kind="thinking"), delta(0, "whole", part=2))
    await until_heard(client, backbone)
    (so_far,) = await join(client, 1)
    assert (so_far.json["part"], so_far.json["text"]) == (2, "whole")


async def test_a_piece_that_comes_twice_is_heard_once(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await begin(backbone)
    await until_heard(client, backbone)
    await say(backbone, delta(0, "ab"), delta(0, "ab"), delta(2, "cd"), delta(2, "cd"))
    await until_heard(client, backbone)
    (so_far,) = await join(client, 1)
    assert so_far.json["text"] == "abcd"


async def test_the_next_attempt_takes_the_place_of_the_last(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await begin(backbone)
    await until_heard(client, backbone)
    await say(backbone, delta(0, "first"), delta(0, "second", attempt=2), delta(5, "late"))
    await until_heard(client, backbone)
    (so_far,) = await join(client, 1)
    assert (so_far.json["attempt"], so_far.json["text"]) == (2, "second")


async def test_the_output_of_a_running_call_is_told_from_where_it_is_still_known(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await begin(backbone)
    await until_heard(client, backbone)
    await say(backbone, output(0, "a" * 60_000), output(60_000, "b" * 10_000), output(0, "z", "c2"))
    await pen.write(backbone.log, ended("c2"))
    async with listening(client, URL, query="?live=1") as messages:
        *_, last, so_far = await take(messages, 7)
    assert last.event == "tool_call.ended.v1"
    assert (so_far.json["call"], so_far.json["offset"]) == ("c1-0", 70_000 - 65_536)
    assert so_far.json["text"] == "a" * (65_536 - 10_000) + "b" * 10_000


async def test_only_what_the_stream_is_of_is_told_so_far_and_live(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await begin(backbone)
    await Pen(OTHER).write(backbone.log, *started())
    await until_heard(client, backbone)
    await say(backbone, delta(0, "ours"))
    await say(backbone, delta(0, "not ours"), ref=OTHER)
    await say(backbone, delta(0, "nobody's"), ref=RunRef("umbrella", "job1", "alpha"))
    await until_heard(client, backbone)
    async with listening(client, "/v1/events", query="?live=1&run=beta") as messages:
        *_, so_far = await take(messages, 6)
        assert (so_far.event, so_far.json["text"]) == ("so_far", "not ours")
        await say(backbone, delta(4, "!"))
        await say(backbone, delta(8, "?"), ref=OTHER)
        (live,) = await take(messages, 1)
        assert (live.json["run"], live.json["text"]) == ("beta", "?")


async def test_what_is_no_piece_of_anything_is_left_alone(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await begin(backbone)
    await until_heard(client, backbone)
    await say(backbone, b"\xff", b"[1]", b'{"type":"delta.v1","step":"x"}', b'{"type":"delta.v1"}')
    await say(backbone, delta(0, "fine"))
    await until_heard(client, backbone)
    async with asyncio.timeout(5):
        (so_far,) = await join(client, 1)
    assert so_far.json["text"] == "fine"
