"""Servers nobody here wrote in a deployment of processes of their own, by pipes and by HTTP."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest

from domain.events import ContextPinned, ToolCallEnded
from peritus.feed import stored_events
from tests.e2e.cli_project import Project
from tests.e2e.conftest import Locked
from tests.e2e.mcp_project import EVERYTHING_SKILL, HELPER, call, script_of, servers, turn
from tests.e2e.processes import TOKEN, Team, Watch, server, start_run, team, until
from tests.support import registries
from tests.support.gateway import listening
from tests.wire.mcp_http import free_listener

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.sandbox, pytest.mark.registries]

SERVICES = ("loop", "sandbox", "tool", "projections", "gateway")
LOOPBACK = {"PERITUS_MCP_ALLOW_CIDRS": "127.0.0.0/8"}

ON_LOOPBACK = """\
import net from "node:net";
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, { port: Number(port), host: "127.0.0.1" }, ...rest);
};
"""
"""The server would listen on all addresses of this machine, and has no option for that."""

BODY = {"expert": "helper", "query": "Go", "provider": "scripted", "model": "script.toml"}

TURNS = (
    turn(call("get-roots-list"), call("there__get-sum", a=1, b=2)),
    turn(
        call("here__trigger-long-running-operation", duration=1, steps=4),
        call("there__trigger-long-running-operation", duration=1, steps=5),
        call("here__toggle-simulated-logging"),
        expect=("URI: file:///workspace", "The sum of 1 and 2 is 3."),
    ),
    turn(
        call("there__echo", message="over HTTP"),
        call("there__prompt_args-prompt", city="Graz"),
        call("there__readResource", uri="demo://resource/dynamic/text/7"),
        expect=("Duration: 1 seconds, Steps: 4.", "Duration: 1 seconds, Steps: 5."),
    ),
    turn(expect=("Echo: over HTTP", "What's weather in Graz?", "Resource 7:")),
)


@asynccontextmanager
async def by_http() -> AsyncGenerator[str]:
    """server-everything over Streamable HTTP on loopback: where."""
    tree = f"*/tree/node_modules/{registries.EVERYTHING.rpartition('@')[0]}/dist/index.js"
    program = next(registries.PACKAGES.glob(tree))
    with free_listener() as listener:
        port = listener.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *("node", "--import", f"data:text/javascript,{ON_LOOPBACK}", program, "streamableHttp"),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:

            async def answers() -> bool:
                assert process.returncode is None, "the server ended"
                try:
                    return bool(await client.get(f"http://127.0.0.1:{port}/mcp"))
                except httpx2.TransportError:
                    return False

            await until("the server", answers)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        await process.wait()


def lock_of(project: Project, endpoint: str) -> str:
    """The lock of that definition, made in a place of its own."""
    asking = Project(project.folder / "asking", {**project.settings, **LOOPBACK})
    asking.folder.mkdir()
    asking.write("perstack.toml", definition(endpoint))
    outcome = asking.peritus("lock")
    assert outcome.code == 0, outcome.said
    return (asking.folder / "perstack.lock").read_text()


def definition(endpoint: str) -> str:
    """A helper that has the server twice."""
    here = EVERYTHING_SKILL.replace("everything]", "here]")
    there = f'[experts.helper.skills.there]\ntype = "mcpHttpSkill"\nendpoint = "{endpoint}"\n'
    return HELPER + here + there


@asynccontextmanager
async def deployment(project: Project, endpoint: str) -> AsyncGenerator[tuple[Team, Watch]]:
    """A process for each service; nothing is known of a run yet."""
    project.write("perstack.toml", definition(endpoint))
    project.write("script.toml", script_of(*TURNS))
    async with server(project.folder / "nats") as (nats, backbone):
        settings = {
            **registries.settings(),
            **LOOPBACK,
            "PERITUS_HANDOFF": "false",
            "PERITUS_NATS_URL": nats.url,
            "PERITUS_NATS_TOKEN": TOKEN,
            "PERITUS_GATEWAY_PORT": "0",
            "PERITUS_GATEWAY_AUTH": "none",
        }
        with team(project.folder, settings) as services:
            for name in SERVICES:
                services.start(name)
            await services.ready()
            ref = await start_run(services, BODY, "once")
            yield services, Watch(backbone, ref)


async def live_output(services: Team, watch: Watch) -> dict[str, str]:
    """What is said live of calls, until the end of the run."""
    said: dict[str, str] = {}
    async with httpx2.AsyncClient(
        base_url=services.urls[0], trust_env=False, timeout=60.0
    ) as client:
        path = f"/v1/runs/{watch.ref.run}/events"
        query = f"?job={watch.ref.job}&live=1"
        async with listening(client, path, query=query) as messages:
            async for message in messages:
                if message.event == "so_far" and message.json.get("offset") == 0:
                    said[message.json["call"]] = message.json["text"]
                if message.event == "live" and message.json["type"] == "tool_output.v1":
                    call = message.json["call"]
                    said[call] = said.get(call, "") + message.json["text"]
                if message.event == "end":
                    break
    return said


@pytest.mark.parametrize("with_lock", [True, False], ids=["with a lock", "without one"])
async def test_a_run_over_processes_uses_servers_by_pipes_and_by_http_and_tells_progress(
    shop: Project, locked: Locked, *, with_lock: bool
) -> None:
    await asyncio.to_thread(locked, HELPER + EVERYTHING_SKILL)  # it is fetched, if it is not
    async with by_http() as endpoint:
        if with_lock:
            shop.write("perstack.lock", await asyncio.to_thread(lock_of, shop, endpoint))
        async with deployment(shop, endpoint) as (services, watch):
            said = await live_output(services, watch)
            state = await watch.at_rest()
            heard = await stored_events(watch.backbone.log, [watch.ref])

        assert state.status == "completed", state.failure_message
        events = [one.event for one in heard]
        (pinned,) = [event for event in events if isinstance(event, ContextPinned)]
        lanes = {tool.name: tool.lane.value for tool in pinned.tools}
        assert "there__get-roots-list" not in lanes  # it is shown no folder
        assert (lanes["here__echo"], lanes["there__echo"]) == ("sandbox", "mcp")
        ends = [event for event in events if isinstance(event, ToolCallEnded)]
        assert [one.outcome for one in ends] == ["succeeded"] * 8
        assert all(f"[{step}/4]" in said["c2-0"] for step in range(1, 5)), said
        assert all(f"[{step}/5]" in said["c2-1"] for step in range(1, 6)), said
        assert re.search(r"\[\w+\] \w+[- ]level[- ]message", said["c2-2"]), said
        assert servers() == []
