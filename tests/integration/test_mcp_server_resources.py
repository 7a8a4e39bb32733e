"""Runs, events and checkpoints as resources, log lines, and who is let in over HTTP."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError

from domain.definition import Definition, Expert
from domain.errors import Rejected
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.mcp import resources
from gateway.mcp.http import serve_http
from gateway.mcp.server import create_server
from tests.support.gateway import projecting, working
from tests.support.mcp_server import (
    BOUND_S,
    ERAS,
    Era,
    Heard,
    connected,
    deps_of,
    facts,
    message,
    served,
    text_of,
)
from tests.support.people import CHOICE, at_work, calls, team

pytestmark = pytest.mark.anyio

GO = {"query": "Go"}
HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "somebody", "version": "1"},
}
PLAIN = Definition(
    experts={"clerk": Expert(key="clerk", instruction="Write.", skills={}, model=CHOICE)}
)
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def url(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[str]:
    async with (
        projecting(backbone, tmp_path),
        working(backbone),
        served(deps_of(backbone, tmp_path, PLAIN)) as found,
    ):
        yield found


async def read(client: Client, uri: str) -> tuple[Any, dict[str, Any]]:
    found = await client.read_resource(uri)
    (content,) = found.contents
    assert isinstance(content, types.TextResourceContents)
    assert content.uri == uri
    if content.mime_type == "application/jsonl":
        return [json.loads(line) for line in content.text.splitlines()], content.meta or {}
    return json.loads(content.text), content.meta or {}


@pytest.mark.parametrize("era", ERAS)
async def test_a_run_its_events_and_its_checkpoints_can_be_read(url: str, era: Era) -> None:
    async with connected(url, era) as client:
        run = facts(await client.call_tool("clerk", GO), "run")
        facts_of_run, _ = await read(client, f"peritus://runs/{run}")
        events, meta = await read(client, f"peritus://runs/{run}/events")
        steps, _ = await read(client, f"peritus://runs/{run}/checkpoints")
        templates = (await client.list_resource_templates()).resource_templates

    assert (facts_of_run["status"], facts_of_run["result"]) == ("completed", "done")
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["event"]["type"] == "run.started.v2"
    assert events[-1]["event"]["type"] == "run.completed.v2"
    assert (meta["peritus/cursor"], meta["peritus/more"]) == (events[-1]["cursor"], False)
    assert [step["step"] for step in steps["checkpoints"]] == [1]
    assert {one.uri_template for one in templates} == {
        "peritus://runs{?cursor}",
        "peritus://runs/{run}",
        "peritus://runs/{run}/events{?cursor}",
        "peritus://runs/{run}/checkpoints",
    }


async def test_events_are_read_in_pieces_that_fit_together(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "EVENTS_MAX", 2)
    async with connected(url) as client:
        run = facts(await client.call_tool("clerk", GO), "run")
        uri, found, more = f"peritus://runs/{run}/events", list[Any](), True
        while more:
            lines, meta = await read(client, uri)
            assert len(lines) <= 2
            found += lines
            more = meta["peritus/more"]
            uri = f"peritus://runs/{run}/events?cursor={meta['peritus/cursor']}"
        rest, _ = await read(client, uri)
        monkeypatch.undo()
        whole, _ = await read(client, f"peritus://runs/{run}/events")

    assert found == whole
    assert rest == []


@pytest.mark.parametrize("era", ERAS)
async def test_runs_are_listed_newest_first_a_page_at_a_time(
    url: str, monkeypatch: pytest.MonkeyPatch, era: Era
) -> None:
    monkeypatch.setattr(resources, "LIMIT_DEFAULT", 2)
    async with connected(url, era) as client:
        runs = [facts(await client.call_tool("clerk", GO), "run") for _ in range(3)]
        first = await client.list_resources()
        second = await client.list_resources(cursor=first.next_cursor)
        body, _ = await read(client, "peritus://runs")
        more, _ = await read(client, f"peritus://runs?cursor={body['next_cursor']}")
        with pytest.raises(MCPError, match="cursor"):
            await client.list_resources(cursor="x")

    uris = [f"peritus://runs/{run}" for run in reversed(runs)]
    assert [one.uri for one in first.resources] == ["peritus://runs", *uris[:2]]
    assert ([one.uri for one in second.resources], second.next_cursor) == (uris[2:], None)
    assert first.resources[1].description == "completed: Go"
    assert [run["run"] for run in body["runs"] + more["runs"]] == list(reversed(runs))


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "uri",
    ["peritus://runs/nobody", "peritus://runs/nobody/events", "peritus://runs/x/y", "file:///etc"],
)
async def test_a_resource_that_is_not_there_is_not_found(url: str, era: Era, uri: str) -> None:
    async with connected(url, era) as client:
        with pytest.raises(MCPError) as missing:
            await client.read_resource(uri)

    assert missing.value.code == {"legacy": -32002, "auto": types.INVALID_PARAMS}[era]
    assert missing.value.data == {"uri": uri}


async def test_who_listens_is_told_when_runs_change(url: str) -> None:
    async with connected(url, "auto") as client, connected(url, "auto") as other:
        run = facts(await client.call_tool("clerk", GO), "run")
        uri = f"peritus://runs/{run}"
        listening = client.listen(
            tools_list_changed=True, resources_list_changed=True, resource_subscriptions=[uri]
        )
        async with asyncio.timeout(BOUND_S), listening as heard:
            await other.call_tool("peritus_continue", {"run": run, "text": "More."})
            first = await anext(aiter(heard))
            await other.call_tool("clerk", GO)
            async for event in heard:
                if isinstance(event, ResourcesListChanged):
                    break
                assert event == ResourceUpdated(uri)
            honoured = heard.honored
        announced = client.server_capabilities

    assert first == ResourceUpdated(uri)
    assert honoured.tools_list_changed is None
    assert honoured.resource_subscriptions == [uri]
    assert announced.resources == types.ResourcesCapability(subscribe=True, list_changed=True)
    assert announced.tools == types.ToolsCapability(list_changed=False)


async def test_a_server_that_closes_ends_what_listens(backbone: Backbone, tmp_path: Path) -> None:
    deps = deps_of(backbone, tmp_path, PLAIN)
    async with (
        served(deps) as url,
        connected(url, "auto") as client,
        client.listen(resources_list_changed=True) as heard,
    ):
        deps.closing.set()
        async with asyncio.timeout(BOUND_S):
            events = [event async for event in heard]

    assert events == []


async def test_a_cursor_of_another_log_is_refused(url: str) -> None:
    async with connected(url) as client:
        run = facts(await client.call_tool("clerk", GO), "run")
        with pytest.raises(MCPError, match="not one of this log"):
            await client.read_resource(f"peritus://runs/{run}/events?cursor=ffff-1-0")


async def test_a_definition_that_cannot_be_read_is_told_and_mended_without_a_restart(
    backbone: Backbone, tmp_path: Path
) -> None:
    broken = [True]

    async def current(*, wanted: str | None) -> Any:
        del wanted
        if broken:
            raise Rejected("bad_definition", "line 3 is wrong")
        return team()

    deps = deps_of(backbone, tmp_path, team(), definition=current)
    async with served(deps) as url, connected(url) as client:
        with pytest.raises(MCPError, match="line 3 is wrong"):
            await client.list_tools()
        call = await client.call_tool("clerk", GO)
        broken.clear()
        names = {tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools}

    assert facts(call, "reason")["kind"] == "bad_definition"
    assert names >= {"boss", "clerk"}


async def test_lines_of_a_log_come_at_the_level_that_is_asked_for(
    backbone: Backbone, tmp_path: Path
) -> None:
    said: list[types.LoggingMessageNotificationParams] = []

    async def hear(params: types.LoggingMessageNotificationParams) -> None:
        said.append(params)

    async with (
        working(backbone),
        served(deps_of(backbone, tmp_path, PLAIN)) as url,
        httpx2.AsyncClient(trust_env=False, timeout=BOUND_S) as http,
        Client(
            streamable_http_client(url, http_client=http), mode="legacy", logging_callback=hear
        ) as client,
    ):
        runs: list[str] = []
        counts: list[int] = []
        for level in (None, "debug", "error"):
            if level is not None:
                params = types.SetLevelRequestParams(level=level)
                await client.session.send_request(
                    types.SetLevelRequest(params=params), types.EmptyResult
                )
            said.clear()
            runs.append(facts(await client.call_tool("clerk", GO), "run"))
            counts.append(len(said))
            if level is None:
                assert said[0].data == {"run": runs[0], "message": f"run {runs[0]} is at work"}

    assert counts[0] == 1
    assert counts[1] > 3
    assert counts[2] == 0


async def test_without_a_token_only_this_machines_names_are_let_in(url: str) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=BOUND_S, headers=ACCEPT) as http:
        hello = message("initialize", HELLO, 1)
        answers = [
            await http.post(url, json=hello, headers=headers)
            for headers in (
                {"Host": "evil.example"},
                {"Origin": "http://evil.example"},
                {"Origin": "http://localhost:3000"},
                {},
            )
        ]
        plain = await http.post(url, content=json.dumps(hello))
        large = await http.post(url, json=message("ping", {"x": "y" * 5_000_000}, 1))

    assert [one.status_code for one in answers] == [421, 403, 200, 200]
    assert (plain.status_code, large.status_code) == (415, 413)


async def test_with_a_token_only_who_bears_it_is_let_in(backbone: Backbone, tmp_path: Path) -> None:
    token = "t0ken"
    async with served(deps_of(backbone, tmp_path, team()), token=token) as url:
        async with httpx2.AsyncClient(trust_env=False, timeout=BOUND_S, headers=ACCEPT) as http:
            hello = message("initialize", HELLO, 1)
            answers = [
                await http.post(url, json=hello, headers=headers)
                for headers in ({}, {"Authorization": "Bearer x"})
            ]
        async with connected(url, token=token) as client:
            tools = (await client.list_tools()).tools

    assert [one.status_code for one in answers] == [401, 401]
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert tools


async def test_an_address_for_others_needs_a_token(backbone: Backbone, tmp_path: Path) -> None:
    deps = deps_of(backbone, tmp_path, team())
    with pytest.raises(Rejected, match="set a token"):
        await serve_http(create_server(deps), deps, host="0.0.0.0", port=0, token=None, ready=print)


async def test_a_long_result_is_cut_and_says_so(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.mcp.results.RESULT_CHARS_MAX", 100)
    heard = Heard()
    async with (
        at_work(backbone, {"clerk": [calls(("look", "{}")), "x" * 300]}),
        served(deps_of(backbone, tmp_path, team())) as url,
        connected(url) as client,
    ):
        result = await client.call_tool("clerk", GO, progress_callback=heard)

    text = text_of(result)
    assert text.startswith("x" * 100 + "\n[cut here: the text has 300 characters]")
    assert len(text) < 200
