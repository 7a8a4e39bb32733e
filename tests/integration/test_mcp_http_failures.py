"""MCP servers over HTTP that do not do what they should: a clear failure, and nothing hangs."""

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from mcp_types import CONNECTION_CLOSED

from domain.definition import McpHttpSkill
from domain.errors import Unavailable
from domain.mcp import Catalogue
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.http_settings import HttpSettings
from services.worker.skills import SkillFailed
from tests.support.mcp_http import LOOPBACK, Desk, desk, text_of
from tests.wire.mcp_http import Reply, Seen, World, serving

pytestmark = pytest.mark.anyio

BOUND_S = 30.0
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
SMALL = LOOPBACK.model_copy(update={"body_bytes_max": 64 * 1024})


@asynccontextmanager
async def at_work(
    world: World,
    folder: Path,
    *,
    transport: str = "streamable_http",
    settings: HttpSettings = LOOPBACK,
    bounds: Bounds | None = None,
    begun: bool = True,
) -> AsyncGenerator[Desk]:
    server = world.server()
    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
    async with serving(world.around(app)) as port, asyncio.timeout(BOUND_S):
        skill = McpHttpSkill.model_validate(
            {
                "endpoint": f"http://127.0.0.1:{port}/{'sse' if transport == 'sse' else 'mcp'}",
                "transport": transport,
            }
        )
        async with desk(skill, folder, settings=settings, bounds=bounds) as made:
            if begun:
                await made.discover()
            yield made


class Meddling:
    """Answers calls otherwise, as often as it is told to."""

    def __init__(self, reply: Reply, times: int = 1_000) -> None:
        self.reply = reply
        self.times = times
        self.met = asyncio.Event()

    async def __call__(self, seen: Seen) -> Reply | None:
        if not seen.is_call or not self.times:
            return None
        self.times -= 1
        self.met.set()
        return self.reply


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "who asks (401)"),
        (403, "does not allow that (403)"),
        (429, "try again after 7 s"),
        (500, "HTTP status 500"),
        (503, "not available (503)"),
    ],
)
async def test_a_status_is_a_failure_that_says_what_it_is(
    status: int, words: str, tmp_path: Path
) -> None:
    world = World()
    headers = {"content-type": "text/plain", "retry-after": "7"}
    world.meddle = Meddling(Reply(status, b"come back\nwith a ticket", headers))
    async with at_work(world, tmp_path) as found:
        result = await found.call("tool:add", a=1, b=2)
        assert result.is_error
        assert not result.unknown
        assert words in text_of(result)
        assert "come back with a ticket" in text_of(result)
        world.meddle = None
        assert not (await found.call("tool:add", a=1, b=2)).is_error
    assert world.calls == ["add"]


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateway_that_lost_the_server_leaves_the_outcome_open(
    status: int, tmp_path: Path
) -> None:
    world = World()
    world.meddle = Meddling(Reply(status))
    async with at_work(world, tmp_path) as found:
        result = await found.call("tool:add", a=1, b=2)
    assert result.is_error
    assert result.unknown


@pytest.mark.parametrize("status", [200, 400])
async def test_an_error_of_the_server_that_the_sdk_has_a_use_for_is_still_an_answer(
    status: int, tmp_path: Path
) -> None:
    world = World()
    error = {"code": CONNECTION_CLOSED, "message": "the database is full"}
    body = json.dumps({"jsonrpc": "2.0", "id": 3, "error": error}).encode()
    world.meddle = Meddling(Reply(status, body, JSON))
    async with at_work(world, tmp_path) as found:
        result = await found.call("tool:add", a=1, b=2)
    assert result.is_error
    assert not result.unknown
    assert "the database is full" in text_of(result)


async def test_a_session_that_is_gone_is_opened_anew_once(tmp_path: Path) -> None:
    world = World()
    async with at_work(world, tmp_path) as found:
        assert not (await found.call("tool:add", a=1, b=2)).is_error
        first = [seen.headers["mcp-session-id"] for seen in world.seen if seen.is_call][-1]
        world.meddle = Meddling(Reply(404), times=1)
        assert not (await found.call("tool:add", a=1, b=2)).is_error
    last = [seen.headers["mcp-session-id"] for seen in world.seen if seen.is_call][-1]
    assert last != first
    assert world.calls == ["add", "add"]


async def test_a_server_that_knows_no_session_is_given_up_after_the_second(tmp_path: Path) -> None:
    world = World()
    async with at_work(world, tmp_path) as found:
        world.meddle = Meddling(Reply(404))
        with pytest.raises(Unavailable, match="does not know this session"):
            await found.call("tool:add", a=1, b=2)
    assert sum(seen.is_call for seen in world.seen) == 2
    assert world.calls == []


async def test_a_session_that_is_gone_ends_no_call_that_still_runs(tmp_path: Path) -> None:
    world = World()
    async with at_work(world, tmp_path) as found, asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(found.call("tool:slow"))
        await world.begun.wait()
        world.meddle = gone = Meddling(Reply(404), times=1)
        other = tasks.create_task(found.call("tool:add", "r2", a=1, b=2))
        await gone.met.wait()
        world.go_on.set()
        assert "done" in text_of(await slow)
        assert not (await other).is_error
    assert world.calls == ["slow", "slow ended", "add"]


async def test_a_server_that_restarts_in_a_call_leaves_its_outcome_open(tmp_path: Path) -> None:
    world, again = World(), World()
    skill = McpHttpSkill(endpoint="http://127.0.0.1:1/mcp")
    async with asyncio.timeout(BOUND_S):
        first = serving(world.around(world.server().streamable_http_app()))
        port = await first.__aenter__()
        skill = McpHttpSkill(endpoint=f"http://127.0.0.1:{port}/mcp")
        async with desk(skill, tmp_path) as found, asyncio.TaskGroup() as tasks:
            await found.discover()
            slow = tasks.create_task(found.call("tool:slow"))
            await world.begun.wait()
            await first.__aexit__(None, None, None)
            async with serving(again.around(again.server().streamable_http_app()), port):
                result = await slow
                assert result.is_error
                assert result.unknown
                assert "may have been executed" in text_of(result)
                assert not (await found.call("tool:add", a=1, b=2)).is_error
    assert again.calls == ["add"]


async def test_a_server_that_is_not_there_takes_no_call(tmp_path: Path) -> None:
    world = World()
    async with asyncio.timeout(BOUND_S):
        first = serving(world.around(world.server().streamable_http_app()))
        port = await first.__aenter__()
        async with desk(McpHttpSkill(endpoint=f"http://127.0.0.1:{port}/mcp"), tmp_path) as found:
            await found.discover()
            await first.__aexit__(None, None, None)
            with pytest.raises(Unavailable, match="takes no connection"):
                await found.call("tool:add", a=1, b=2)


async def test_garbage_is_no_result(tmp_path: Path) -> None:
    world = World()
    for body, headers in (
        (b"not json", JSON),
        (b'{"jsonrpc": "2.0"}', JSON),
        (b"<html>", {"content-type": "text/html"}),
        (b"data: garbage\n\n", EVENTS),
    ):
        world.meddle = Meddling(Reply(200, body, headers))
        async with at_work(world, tmp_path) as found:
            result = await found.call("tool:add", a=1, b=2)
            assert result.is_error
            world.meddle = None
            assert not (await found.call("tool:add", a=1, b=2)).is_error


async def test_an_answer_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    world = World()
    long = b" " * (100 * 1024)
    for body, headers in ((long, JSON), (b"data: " + long + b"\n\n", EVENTS)):
        world.meddle = Meddling(Reply(200, body, headers))
        async with at_work(world, tmp_path, settings=SMALL) as found:
            result = await found.call("tool:add", a=1, b=2)
            assert result.is_error
            assert "65536" in text_of(result)


async def test_an_answer_of_very_many_values_is_not_taken_apart(tmp_path: Path) -> None:
    world = World()
    many = b'{"jsonrpc": "2.0", "id": 2, "result": [' + b"[]," * 600_000 + b"0]}"
    for body, headers in ((many, JSON), (b"data: " + many + b"\n\n", EVENTS)):
        world.meddle = Meddling(Reply(200, body, headers))
        async with at_work(world, tmp_path) as found:
            result = await found.call("tool:add", a=1, b=2)
            assert result.is_error
            world.meddle = None
            assert not (await found.call("tool:add", a=1, b=2)).is_error


async def test_an_answer_that_is_packed_is_not_unpacked(tmp_path: Path) -> None:
    world = World()
    bomb = gzip.compress(b" " * 50_000_000)
    world.meddle = Meddling(Reply(200, bomb, {**JSON, "content-encoding": "gzip"}))
    async with at_work(world, tmp_path, settings=SMALL) as found:
        result = await found.call("tool:add", a=1, b=2)
    assert result.is_error
    assert "packs its answers" in text_of(result)
    assert all(seen.headers["accept-encoding"] == "identity" for seen in world.seen)


async def test_a_server_that_hangs_is_left_when_the_call_may_take_no_longer(
    tmp_path: Path,
) -> None:
    world = World()
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    async with at_work(world, tmp_path) as found:
        for reply in (Reply(200, b"", JSON, hang), Reply(200, b": hello\n\n", EVENTS, hang)):
            world.meddle = Meddling(reply)
            call = replace(found.a_call("tool:add", a=1, b=2), timeout_ms=200)
            result = await found.box.call(call, found.hear)
            assert result.is_error
            assert "timeout" in text_of(result)
        world.meddle = None
        assert not (await found.call("tool:add", a=1, b=2)).is_error
        never.set()


async def test_a_stream_that_ends_without_an_answer_leaves_the_outcome_open(
    tmp_path: Path,
) -> None:
    world = World()
    world.meddle = Meddling(Reply(200, b": hello\n\n", EVENTS))
    async with at_work(world, tmp_path) as found:
        result = await found.call("tool:add", a=1, b=2)
    assert result.is_error
    assert result.unknown


async def test_a_stream_that_breaks_is_taken_up_again_where_it_was(tmp_path: Path) -> None:
    world = World()

    async def cut(seen: Seen) -> Reply | None:
        if seen.is_call:
            asked = json.loads(seen.body)["id"]
            world.calls.append(f"asked {asked}")
            return Reply(200, b"id: e7\nretry: 10\ndata:\n\n", EVENTS)
        if seen.headers.get("last-event-id") == "e7":
            asked = world.calls[-1].removeprefix("asked ")
            text = {"content": [{"type": "text", "text": "from where it was"}]}
            answer = {"jsonrpc": "2.0", "id": int(asked), "result": text}
            return Reply(200, f"id: e8\ndata: {json.dumps(answer)}\n\n".encode(), EVENTS)
        return None

    async with at_work(world, tmp_path) as found:
        world.meddle = cut
        result = await found.call("tool:who")
    assert not result.is_error
    assert "from where it was" in text_of(result)


async def test_a_server_that_hangs_up_on_who_listens_is_not_asked_without_pause(
    tmp_path: Path,
) -> None:
    world = World()

    async def hang_up(seen: Seen) -> Reply | None:
        return Reply(200, b"retry: 0\ndata:\n\n", EVENTS) if seen.method == "GET" else None

    world.meddle = hang_up
    async with at_work(world, tmp_path) as found:
        for _ in range(50):
            assert not (await found.call("tool:add", a=1, b=2)).is_error
    assert sum(seen.method == "GET" for seen in world.seen) < 20


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_is_not_followed(status: int, tmp_path: Path) -> None:
    world, elsewhere = World(), World()
    async with serving(elsewhere.around(elsewhere.server().streamable_http_app())) as other:
        location = {"location": f"http://127.0.0.1:{other}/mcp?token=t0ken"}
        world.meddle = Meddling(Reply(status, b"", location))
        async with at_work(world, tmp_path) as found:
            result = await found.call("tool:add", a=1, b=2)
    assert result.is_error
    assert f"http://127.0.0.1:{other}/mcp not followed" in text_of(result)
    assert elsewhere.seen == []


async def test_an_older_server_that_refuses_what_it_is_sent_ends_the_connection(
    tmp_path: Path,
) -> None:
    world = World()
    async with at_work(world, tmp_path, transport="sse") as found:
        assert not (await found.call("tool:add", a=1, b=2)).is_error
        world.meddle = Meddling(Reply(500))
        result = await found.call("tool:add", a=1, b=2)
        assert result.is_error
        assert "HTTP status 500" in text_of(result)
        world.meddle = None
        assert not (await found.call("tool:add", a=1, b=2)).is_error


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(404), "HTTP status 404"),
        (Reply(401), "who asks"),
        (Reply(200, b"{}", JSON), "text/event-stream"),
        (Reply(200, b"event: endpoint\ndata: http://127.0.0.1:1/x\n\n", EVENTS), "session"),
    ],
)
async def test_an_older_server_that_does_not_begin_says_why(
    reply: Reply, words: str, tmp_path: Path
) -> None:
    world = World()

    async def refuse(seen: Seen) -> Reply | None:
        return reply if seen.method == "GET" else None

    world.meddle = refuse
    bounds = replace(Bounds(), open_s=1.0)
    async with at_work(world, tmp_path, transport="sse", bounds=bounds, begun=False) as found:
        with pytest.raises((SkillFailed, Unavailable), match=words):
            await found.discover()


async def test_a_server_that_hears_no_goodbye_keeps_nobody(tmp_path: Path) -> None:
    world = World()
    never = asyncio.Event()

    async def hang(seen: Seen) -> Reply | None:
        return Reply(200, b"", JSON, hung) if seen.method == "DELETE" else None

    async def hung() -> None:
        await never.wait()

    world.meddle = hang
    hasty = LOOPBACK.model_copy(update={"answer_s": 0.2})
    async with at_work(world, tmp_path, settings=hasty) as found:
        assert not (await found.call("tool:add", a=1, b=2)).is_error
    assert any(seen.method == "DELETE" for seen in world.seen)


@pytest.mark.parametrize("transport", ["streamable_http", "sse"])
async def test_connections_leave_nothing_behind(transport: str, tmp_path: Path) -> None:
    world = World()
    server = world.server()
    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
    path = "sse" if transport == "sse" else "mcp"
    async with serving(world.around(app)) as port, asyncio.timeout(BOUND_S):
        skill = McpHttpSkill.model_validate(
            {"endpoint": f"http://127.0.0.1:{port}/{path}", "transport": transport}
        )
        async with desk(skill, tmp_path) as found:
            await found.discover()
            await found.call("tool:add", a=1, b=2)
            skill = found.skill
        before = await _left()
        for _ in range(10):
            async with desk(skill, tmp_path) as found:
                await found.pin(skill.catalogue or Catalogue())
                for number in range(3):
                    call = found.call("tool:add", f"r{number}", a=1, b=2)
                    assert not (await call).is_error
        while await _left() > before:  # noqa: ASYNC110 - the server closes its ends by itself
            await asyncio.sleep(0.01)


async def _left() -> tuple[int, int]:
    """How many files and tasks there are now."""
    files = await asyncio.to_thread(lambda: sum(1 for _ in Path("/proc/self/fd").iterdir()))
    return files, len(asyncio.all_tasks())
