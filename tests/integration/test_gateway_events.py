"""The event stream: every reconnect gets exactly the rest (C9). Not how runs are started."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import httpx2
import pytest

from domain import events as e
from domain.envelope import event_json
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.memory.log import MemoryLog
from eventlog.port import Backbone, Cursor
from gateway.deps import HEARTBEAT_S
from gateway.streams.feed import Feed
from gateway.streams.places import find_place
from tests.support.gateway import (
    BOUND_S,
    Message,
    deps_of,
    gateway,
    listening,
    take,
    until_closed,
)
from tests.support.pen import Pen, completed, continued, replied, requested, started

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "job1", "alpha")
OTHER = RunRef("acme", "job1", "beta")
URL = "/v1/runs/alpha/events"
UNKNOWN = e.OpaqueEvent(type="mood.changed.v7", body={"to": "sunny"})
LATE = e.GenerationSuperseded(step=1, attempt=1, usage=None, refunded=0)
HISTORY: Sequence[tuple[e.Event, ...]] = (
    started(),
    (replied(1), e.StepEnded(step=1), requested(2)),
    (UNKNOWN,),
    completed(2, "first"),
    (LATE,),
    continued(step=3),
    completed(3, "second"),
    (LATE,),
)


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer(now_ms=lambda: 0)


@pytest.fixture
def backbone(server: MemoryServer) -> Backbone:
    return server.backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    async with gateway(deps_of(backbone, tmp_path)) as http:
        yield http


async def write(backbone: Backbone, *batches: tuple[e.Event, ...], ref: RunRef = REF) -> Pen:
    """A run's history, with another run's in between."""
    pen, other = Pen(ref), Pen(OTHER)
    await other.write(backbone.log, *started())
    for batch in batches:
        await pen.write(backbone.log, *batch)
        await other.write(backbone.log, UNKNOWN)
    return pen


def told(pen: Pen) -> list[tuple[str, str, str]]:
    """Cursor, type and data of every event that was written."""
    return [
        (
            str(Cursor("a0", seq, index)),
            event.type,
            json.dumps(
                {
                    "run": pen.ref.run,
                    "job": pen.ref.job,
                    "expert": "coder",
                    "parent": None,
                    "version": envelope.version + index,
                    "at_ms": envelope.at_ms,
                    "event": event_json(event),
                },
                separators=(",", ":"),
            ),
        )
        for seq, envelope in pen.written
        for index, event in enumerate(envelope.events)
    ]


def heard(messages: Sequence[Message]) -> list[tuple[str | None, str, str]]:
    return [(message.id, message.event, message.data) for message in messages]


async def test_a_stream_says_hello_tells_every_event_and_ends_with_the_final_cursor(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, *HISTORY)
    hello, *events, end = await until_closed(client, URL)
    assert (hello.event, hello.id) == ("hello", "a0-0-0")
    assert heard(events) == told(pen)
    assert (end.event, end.id) == ("end", events[-1].id)
    assert end.json == {"run": "alpha", "job": "job1", "status": "completed"}


async def test_every_cursor_of_a_history_resumes_over_http(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, *HISTORY)
    everything = told(pen)
    for place, (cursor, _, _) in enumerate(everything, start=1):
        _, *rest, end = await until_closed(client, URL, last=cursor)
        assert heard(rest) == everything[place:]
        assert end.id == everything[-1][0]


async def test_the_cursor_may_be_in_the_query(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, *HISTORY)
    cursor = told(pen)[5][0]
    _, *rest, _ = await until_closed(client, URL, query=f"?last_event_id={cursor}")
    assert heard(rest) == told(pen)[6:]


async def test_a_client_dropped_after_the_hello_resumes_from_the_start(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, started())
    async with listening(client, URL) as messages:
        (hello,) = await take(messages, 1)
    assert hello.id is not None
    await pen.write(backbone.log, *completed(1))
    _, *events, _ = await until_closed(client, URL, last=hello.id)
    assert heard(events) == told(pen)


async def test_what_is_stored_and_what_comes_are_one_sequence(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, started())
    async with listening(client, URL) as messages:
        seen = await take(messages, 1 + 4)
        for batch in HISTORY[1:4]:
            await pen.write(backbone.log, *batch)
            seen += await take(messages, len(batch))
        (end,) = await take(messages, 1)
        assert [m async for m in messages] == []
    assert heard(seen[1:]) == told(pen)
    assert (end.event, end.id) == ("end", told(pen)[-1][0])


async def test_the_final_cursor_gives_only_the_end_until_the_run_is_continued(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, started(), completed(1))
    final = (await until_closed(client, URL))[-1].id
    assert final is not None
    again = await until_closed(client, URL, last=final)
    assert [(m.event, m.id) for m in again] == [("hello", final), ("end", final)]
    await pen.write(backbone.log, *continued())
    await pen.write(backbone.log, *completed(2))
    _, *events, end = await until_closed(client, URL, last=final)
    assert heard(events) == told(pen)[7:]
    assert end.event == "end"


@pytest.mark.parametrize(
    "last", [(e.RunCancelled(step=1),), (e.RunStopped(limit="steps", step=1),)]
)
async def test_every_kind_of_rest_ends_the_stream(
    backbone: Backbone, client: httpx2.AsyncClient, last: tuple[e.Event, ...]
) -> None:
    await write(backbone, started(), last)
    end = (await until_closed(client, URL))[-1]
    assert end.json["status"] == last[0].type.split(".")[1]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("ff-3-0", "incarnation"),
        ("nonsense", "unreadable"),
        ("a0-1-0", "not_of_this_run"),
        ("a0-9999-0", "not_of_this_run"),
        ("a0-2-4", "not_of_this_run"),
    ],
)
async def test_a_cursor_that_cannot_be_honoured_is_reset_and_all_is_told_again(
    backbone: Backbone, client: httpx2.AsyncClient, asked: str, reason: str
) -> None:
    pen = await write(backbone, *HISTORY)
    hello, reset, *events, _ = await until_closed(client, URL, last=asked)
    assert (hello.id, reset.event, reset.id) == ("a0-0-0", "reset", "a0-0-0")
    assert reset.json["reason"] == reason
    assert heard(events) == told(pen)


async def test_a_cursor_beyond_retention_is_reset(server: MemoryServer) -> None:
    class PurgedLog(MemoryLog):
        async def bounds(self) -> tuple[int, int]:
            return 5, 9

    log, feed = PurgedLog(server.client(), server.log), Feed(REF, root=REF)
    assert (await find_place(log, feed, "a0-3-0")).reset == "retention"
    assert (await find_place(log, feed, "a0-0-0")).reset is None


async def test_a_stream_outlives_its_log_being_made_anew_with_a_reset(
    server: MemoryServer, backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await write(backbone, started())
    async with listening(client, URL) as messages:
        await take(messages, 5)
        server.log.remake("b1")
        newborn = Pen(REF)
        await newborn.write(backbone.log, *started("critic"))
        hello, reset, first = await take(messages, 3)
    assert (hello.id, reset.event, reset.json["reason"]) == ("b1-0-0", "reset", "incarnation")
    assert (first.id, first.json["event"]["expert"]) == ("b1-1-0", "critic")


async def test_a_stream_outlives_a_server_restart(
    server: MemoryServer, backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, started())
    async with listening(client, URL) as messages:
        await take(messages, 5)
        server.restart()
        await server_back(pen, backbone)
        events = await take(messages, 3)
    assert [m.event for m in events] == [kind for _, kind, _ in told(pen)[4:]]


async def server_back(pen: Pen, backbone: Backbone) -> None:
    data = pen.next(*completed(1))
    pen.seq = await backbone.log.append(REF, data, expected_seq=pen.seq)


async def test_a_silent_stream_is_kept_alive_and_says_how_far_it_is(
    backbone: Backbone, tmp_path: Path
) -> None:
    pen = await write(backbone, started())
    async with (
        gateway(deps_of(backbone, tmp_path, heartbeat_s=0.05)) as http,
        listening(http, URL) as messages,
    ):
        await take(messages, 5)
        beats = await take(messages, 2)
    last = told(pen)[-1][0]
    assert {(beat.event, beat.id, beat.json["cursor"]) for beat in beats} == {
        ("heartbeat", last, last)
    }


def test_the_heartbeat_is_never_rarer_than_proxies_bear() -> None:
    assert HEARTBEAT_S <= 15


async def test_live_frames_have_no_id_and_come_only_when_asked_for(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, started())
    async with listening(client, URL, query="?live=1") as loud, listening(client, URL) as quiet:
        await take(loud, 5)
        await take(quiet, 5)
        await backbone.live.publish(REF, b'{"type":"delta.v1","text":"hel"}')
        await backbone.live.publish(OTHER, b'{"type":"delta.v1","text":"not ours"}')
        (live,) = await take(loud, 1)
        await pen.write(backbone.log, *completed(1))
        (after,) = await take(loud, 1)
        (durable,) = await take(quiet, 1)
    assert (live.event, live.id, live.json["text"]) == ("live", None, "hel")
    assert after.event == durable.event == "generation.completed.v2"


async def test_another_tenants_run_and_an_absent_one_are_not_found(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await write(backbone, *HISTORY, ref=RunRef("umbrella", "job1", "alpha"))
    answers = [
        await client.get(f"/v1/runs/{name}/events") for name in ("alpha", "nobody", "a.b", "*")
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert len({answer.text for answer in answers}) == 1


async def test_a_cursor_of_another_tenants_run_shows_nothing_of_it(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    theirs = await write(backbone, *HISTORY, ref=RunRef("umbrella", "job1", "alpha"))
    ours = Pen(REF)
    for batch in (started(), completed(1)):
        await ours.write(backbone.log, *batch)
    _, reset, *events, _ = await until_closed(client, URL, last=told(theirs)[3][0])
    assert reset.event == "reset"
    assert heard(events) == told(ours)


async def test_history_nobody_can_read_ends_the_stream_with_a_problem(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = await write(backbone, started())
    await backbone.log.append(REF, b"\xff", expected_seq=pen.seq)
    messages = await until_closed(client, URL)
    assert len(messages) == 6
    assert (messages[-1].event, messages[-1].json["code"]) == ("problem", "integrity_violated")


async def test_open_streams_do_not_hold_up_the_end_of_the_gateway(
    backbone: Backbone, tmp_path: Path
) -> None:
    await write(backbone, started())
    async with asyncio.timeout(BOUND_S):
        async with gateway(deps_of(backbone, tmp_path)) as http:
            stream = http.stream("GET", URL)
            response = await stream.__aenter__()
            lines = response.aiter_lines()
            assert (await anext(lines)).startswith("id: a0-0-0")
        await stream.__aexit__(None, None, None)
