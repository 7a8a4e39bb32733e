"""Tools, prompts and resources of a real MCP server over HTTP, in both transports."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp_types import METHOD_NOT_FOUND

from domain.definition import McpHttpSkill
from domain.mcp import Catalogue
from services.worker.skills import Reply
from tests.support.mcp_http import Desk, desk, text_of
from tests.wire.mcp_http import Events, Seen, World, serving
from tests.wire.mcp_http import Reply as Instead

pytestmark = pytest.mark.anyio

Transport = Literal["streamable_http", "sse"]
BOTH = pytest.mark.parametrize("transport", ["streamable_http", "sse"])
BOUND_S = 20.0


@asynccontextmanager
async def at_work(
    world: World,
    transport: Transport,
    folder: Path,
    *,
    plain: bool = False,
    resumable: bool = False,
) -> AsyncGenerator[Desk]:
    server = world.server()
    newer = server.streamable_http_app(
        json_response=plain, event_store=Events() if resumable else None, retry_interval=10
    )
    app = server.sse_app() if transport == "sse" else newer
    async with serving(world.around(app)) as port, asyncio.timeout(BOUND_S):
        path = "sse" if transport == "sse" else "mcp"
        skill = McpHttpSkill(endpoint=f"http://127.0.0.1:{port}/{path}", transport=transport)
        async with desk(skill, folder) as made:
            await made.discover()
            yield made


@BOTH
async def test_what_a_server_offers_is_found(transport: Transport, tmp_path: Path) -> None:
    world = World()
    async with at_work(world, transport, tmp_path) as found:
        catalogue = found.skill.catalogue
    assert catalogue is not None
    assert (catalogue.server, catalogue.version) == ("wire", "1.2.3")
    names = {tool.remote for tool in catalogue.tools}
    assert {"tool:add", "tool:slow", "prompt:greet", "resources:", "resource:"} <= {
        remote if remote.startswith(("tool", "prompt")) else remote.partition(":")[0] + ":"
        for remote in names
    }


@BOTH
async def test_a_tool_is_called_and_its_data_read(transport: Transport, tmp_path: Path) -> None:
    world = World()
    async with at_work(world, transport, tmp_path) as found:
        result = await found.call("tool:add", a=2, b=3)
    assert not result.is_error
    assert '"total": 5' in text_of(result)
    assert world.calls == ["add"]


async def test_a_server_that_answers_in_json_is_understood(tmp_path: Path) -> None:
    world = World()
    async with at_work(world, "streamable_http", tmp_path, plain=True) as found:
        result = await found.call("tool:add", a=2, b=3)
    assert '"total": 5' in text_of(result)


@BOTH
async def test_a_tool_that_fails_says_so(transport: Transport, tmp_path: Path) -> None:
    async with at_work(World(), transport, tmp_path) as found:
        result = await found.call("tool:boom")
    assert result.is_error
    assert "boom" in text_of(result)


@BOTH
async def test_prompts_and_resources_are_read(transport: Transport, tmp_path: Path) -> None:
    async with at_work(World(), transport, tmp_path) as found:
        catalogue = found.skill.catalogue
        assert catalogue is not None
        kinds = {tool.kind: tool.remote for tool in catalogue.tools if tool.kind != "tool"}
        prompt = await found.call("prompt:greet", name="Ann")
        listed = await found.call(kinds["resources"])
        read = await found.call(kinds["resource"], uri="note://one")
    assert "Greet Ann." in text_of(prompt)
    assert "note://one" in text_of(listed)
    assert "the text of the note" in text_of(read)


@BOTH
async def test_progress_is_heard_while_a_call_runs(transport: Transport, tmp_path: Path) -> None:
    world = World()
    async with at_work(world, transport, tmp_path) as found, asyncio.TaskGroup() as tasks:
        call = tasks.create_task(found.call("tool:slow"))
        await found.until_heard("half way")
        assert not call.done()
        world.go_on.set()
        assert "done" in text_of(await call)


@BOTH
async def test_a_call_that_is_cancelled_ends_at_the_server(
    transport: Transport, tmp_path: Path
) -> None:
    world = World()
    async with at_work(world, transport, tmp_path) as found, asyncio.TaskGroup() as tasks:
        call = tasks.create_task(found.call("tool:slow"))
        await world.begun.wait()
        call.cancel()
        await world.cancelled.wait()
        result = await found.call("tool:add", a=1, b=1)
        assert not result.is_error


@BOTH
async def test_a_server_asks_a_person(transport: Transport, tmp_path: Path) -> None:
    async with at_work(World(), transport, tmp_path) as found:
        accepted = await found.call("tool:ask")
        found.person.reply = Reply("decline")
        declined = await found.call("tool:ask")
    assert "accept sure=True" in text_of(accepted)
    assert "decline" in text_of(declined)
    assert [question.message for _, question in found.person.asked] == ["Are you sure?"] * 2


@BOTH
async def test_calls_of_a_job_run_at_once_over_one_session(
    transport: Transport, tmp_path: Path
) -> None:
    world = World()
    async with at_work(world, transport, tmp_path) as found, asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(found.call("tool:slow"))
        await world.begun.wait()
        sums = [tasks.create_task(found.call("tool:add", f"r{n}", a=n, b=n)) for n in range(8)]
        for number, task in enumerate(sums):
            assert f'"total": {2 * number}' in text_of(await task)
        assert not slow.done()
        world.go_on.set()
        await slow
    sessions = {seen.headers.get("mcp-session-id") for seen in world.seen if seen.is_call}
    assert len(sessions) == 1


async def test_a_server_that_knows_the_newest_protocol_only_is_spoken_with(tmp_path: Path) -> None:
    world = World()

    async def newest_only(seen: Seen) -> Instead | None:
        if b'"initialize"' not in seen.body:
            return None
        error = {"code": METHOD_NOT_FOUND, "message": "no initialize here"}
        body = {"jsonrpc": "2.0", "id": json.loads(seen.body)["id"], "error": error}
        return Instead(404, json.dumps(body).encode(), {"content-type": "application/json"})

    world.meddle = newest_only
    async with at_work(world, "streamable_http", tmp_path) as found:
        assert found.skill.catalogue is not None
        assert found.skill.catalogue.protocol >= "2026"
        result = await found.call("tool:add", a=2, b=3)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(found.call("tool:slow"))
            await world.begun.wait()
            call.cancel()
            await world.cancelled.wait()
    assert '"total": 5' in text_of(result)
    assert not any("mcp-session-id" in seen.headers for seen in world.seen)


async def test_a_result_that_is_no_result_reaches_the_model_as_a_failure(tmp_path: Path) -> None:
    async with at_work(World(), "streamable_http", tmp_path) as found:
        result = await found.call("tool:nothing")
    assert result.is_error
    assert "unknown_tool" in text_of(result)


async def test_a_call_goes_on_when_the_server_hangs_up_and_is_asked_again(tmp_path: Path) -> None:
    world = World()
    back = asyncio.Event()

    async def look(seen: Seen) -> Instead | None:
        if "last-event-id" in seen.headers:
            back.set()
        return None

    world.meddle = look
    async with (
        at_work(world, "streamable_http", tmp_path, resumable=True) as found,
        asyncio.TaskGroup() as tasks,
    ):
        call = tasks.create_task(found.call("tool:leave"))
        await back.wait()
        world.go_on.set()
        result = await call
    assert not result.is_error
    assert "you came back" in text_of(result)
    assert world.calls == ["leave"]


@pytest.mark.parametrize(("shared", "sessions"), [(False, 2), (True, 1)])
async def test_jobs_share_a_connection_where_the_definition_says_so(
    shared: bool,  # noqa: FBT001
    sessions: int,
    tmp_path: Path,
) -> None:
    world = World()
    async with at_work(world, "streamable_http", tmp_path) as found:
        found.skill = found.skill.model_copy(update={"shared": shared})
        await found.pin(found.skill.catalogue or Catalogue())
        for job in ("j1", "j2", "j1"):
            call = found.a_call("tool:add", a=1, b=2)
            call = replace(call, ref=call.ref._replace(job=job))
            assert not (await found.box.call(call, found.hear)).is_error
    used = {seen.headers["mcp-session-id"] for seen in world.seen if seen.is_call}
    assert len(used) == sessions


async def test_a_call_of_a_tool_that_was_not_offered_is_a_failure(tmp_path: Path) -> None:
    world = World()
    async with at_work(world, "streamable_http", tmp_path) as found:
        call = replace(found.a_call("tool:add"), remote="", tool="own")
        result = await found.box.call(call, found.hear)
    assert result.is_error
    assert "unknown_tool" in text_of(result)
    assert not any(seen.is_call for seen in world.seen)


@pytest.mark.parametrize("change", [{"skill": "other"}, {"expert": "other"}])
async def test_a_call_of_no_skill_of_the_definition_is_a_failure(
    change: dict[str, Any], tmp_path: Path
) -> None:
    async with at_work(World(), "streamable_http", tmp_path) as found:
        call = replace(found.a_call("tool:add", a=1, b=2), **change)
        result = await found.box.call(call, found.hear)
    assert result.is_error
    assert "unknown_skill" in text_of(result)
