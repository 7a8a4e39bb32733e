"""`peritus mcp` as MCP clients meet it: a child process with pipes, or a server with a port."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.e2e.cli_project import (
    BOUND_S,
    DEFINITION,
    Project,
    Started,
    environment,
    scripted,
)
from tests.e2e.people_project import DEFINITION as PEOPLE
from tests.e2e.people_project import QUESTION
from tests.support.mcp_server import (
    ERAS,
    Era,
    Heard,
    Person,
    accepts,
    connected,
    facts,
    message,
    text_of,
)

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.slow]

HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "1"},
}
SLOW = '[[reply]]\ntext = "At last."\ndelay_ms = 2000\n'
NEVER = '[[reply]]\ntext = "Never."\ndelay_ms = 600000\n'
GO = {"query": "Go"}


@asynccontextmanager
async def over_stdio(
    project: Project, script: str, era: Era, *words: str, person: Person | None = None
) -> AsyncGenerator[Client]:
    """A client of `peritus mcp` as its child."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "peritus", "mcp", *scripted(script), *words],
        cwd=project.folder,
        env=environment(PERITUS_DRAIN_S="0"),
    )
    with (project.folder / "stderr").open("w") as said:
        async with Client(
            stdio_client(parameters, errlog=said), mode=era, elicitation_callback=person
        ) as client:
            yield client


@contextmanager
def child(project: Project, *words: str, **env: str) -> Generator[subprocess.Popen[bytes]]:
    """`peritus mcp` with pipes that the test reads and writes itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "peritus", "mcp", *words],
        cwd=project.folder,
        env=environment(PERITUS_DRAIN_S="0", **env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def write(process: subprocess.Popen[bytes], *messages: dict[str, Any] | bytes) -> None:
    assert process.stdin is not None
    for one in messages:
        data = one if isinstance(one, bytes) else json.dumps(one).encode()
        process.stdin.write(data + b"\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[bytes], number: int) -> dict[str, Any]:
    """The answer of that number; what comes before it must be messages, too."""
    assert process.stdout is not None
    for line in process.stdout:
        said: dict[str, Any] = json.loads(line)
        assert said["jsonrpc"] == "2.0"
        if said.get("id") == number:
            return said
    raise AssertionError(process.stderr and process.stderr.read())


def begun(process: subprocess.Popen[bytes]) -> str:
    """Shake hands and call the helper; the run."""
    call = {"name": "helper", "arguments": GO, "_meta": {"progressToken": "p"}}
    write(process, message("initialize", HELLO, 1))
    assert answer(process, 1)["result"]["serverInfo"]["name"] == "peritus"
    write(process, message("notifications/initialized", {}), message("tools/call", call, 2))
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(rb"run (\w+) is at work", line)
        if found:
            return found[1].decode()
    raise AssertionError


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_with_pipes_calls_an_expert_and_reads_its_run(
    project: Project, era: Era
) -> None:
    heard = Heard()
    async with over_stdio(project, "hello.toml", era) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("helper", GO, progress_callback=heard)
        run = facts(result, "run")
        found = await client.read_resource(f"peritus://runs/{run}")
        listed = {one.uri for one in (await client.list_resources()).resources}

    assert names == {
        "helper",
        "peritus_status",
        "peritus_answer",
        "peritus_cancel",
        "peritus_continue",
    }
    assert (text_of(result), result.is_error) == ("Hello there.", False)
    assert "helper, step 1: asks the model" in heard.texts
    assert isinstance(found.contents[0], types.TextResourceContents)
    assert json.loads(found.contents[0].text)["status"] == "completed"
    assert f"peritus://runs/{run}" in listed
    shown = json.loads(project.peritus("show", run, "--json").out)
    assert shown["status"] == "completed"


@pytest.mark.parametrize("era", ERAS)
async def test_cancelling_over_pipes_cancels_the_run(project: Project, era: Era) -> None:
    project.write("never.toml", NEVER)
    heard = Heard()
    async with over_stdio(project, "never.toml", era) as client:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(client.call_tool("helper", GO, progress_callback=heard))
            run = await heard.run()
            call.cancel()
        async with asyncio.timeout(BOUND_S):
            while await status_of(client, run) == "running":
                pass
        status = await status_of(client, run)

    assert status == "cancelled"


async def status_of(client: Client, run: str) -> str:
    found = await client.call_tool("peritus_status", {"run": run})
    return str(found.structured_content["status"])


@pytest.mark.parametrize("era", ERAS)
async def test_a_person_at_the_client_answers(project: Project, era: Era) -> None:
    project.write("perstack.toml", PEOPLE)
    project.write("question.toml", QUESTION)
    ada = Person([accepts(answer="dark blue")])
    async with over_stdio(project, "question.toml", era, person=ada) as client:
        result = await client.call_tool("clerk", GO)

    assert text_of(result) == "Blue it is."
    assert "Which colour?" in ada.asked[0]


@pytest.mark.parametrize("era", ERAS)
async def test_a_person_at_another_terminal_answers_as_the_progress_says(
    project: Project, era: Era
) -> None:
    project.write("perstack.toml", PEOPLE)
    project.write("question.toml", QUESTION)
    heard = Heard()
    async with (
        over_stdio(project, "question.toml", era) as client,
        asyncio.TaskGroup() as tasks,
    ):
        call = tasks.create_task(client.call_tool("clerk", GO, progress_callback=heard))
        told = await heard.until("peritus answer")
        command = told.partition("peritus ")[2].removesuffix("TEXT").split()
        answered = await asyncio.to_thread(project.peritus, *command, "dark blue")
        result = await call

    assert answered.code == 0, answered.said
    assert text_of(result) == "Blue it is."


def test_standard_output_holds_messages_alone_and_the_server_ends_with_its_input(
    project: Project,
) -> None:
    with child(project, *scripted("hello.toml"), PERITUS_LOG_LEVEL="debug") as process:
        begun(process)
        assert answer(process, 2)["result"]["content"][0]["text"] == "Hello there."
        write(process, b"this is no message", b"", message("ping", {}, 3))
        assert answer(process, 3)["result"] == {}
        out, said = process.communicate(timeout=BOUND_S)

    assert process.returncode == 0
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out.splitlines())
    assert b"Traceback" not in said


def test_a_message_above_the_limit_is_passed_over(project: Project) -> None:
    with child(project, *scripted("hello.toml")) as process:
        write(process, message("initialize", HELLO, 1))
        answer(process, 1)
        write(process, message("ping", {"x": "y" * 5_000_000}, 2), message("ping", {}, 3))
        assert answer(process, 3)["result"] == {}
        process.communicate(timeout=BOUND_S)

    assert process.returncode == 0


@pytest.mark.parametrize("how", ["its input ends", "SIGTERM", "SIGKILL"])
def test_a_run_whose_client_and_server_are_gone_is_taken_up_again(
    project: Project, how: str
) -> None:
    project.write("slow.toml", SLOW)
    with child(project, *scripted("slow.toml")) as process:
        run = begun(process)
        assert process.stdin is not None
        if how == "its input ends":
            process.stdin.close()
            process.stdin = None
        else:
            process.send_signal(getattr(signal, how))
        code = process.wait(BOUND_S)

    assert code == (-signal.SIGKILL if how == "SIGKILL" else 0)
    assert json.loads(project.peritus("show", run, "--json").out)["status"] == "running"
    resumed = project.peritus("resume", run)
    assert resumed.code == 0, resumed.said
    assert resumed.events[-1]["event"]["type"] == "run.completed.v2"


def test_a_client_that_is_killed_leaves_no_server_behind(project: Project) -> None:
    """Both pipes end at once, and what the run has to say is written to nobody."""
    project.write("slow.toml", SLOW)
    with child(project, *scripted("slow.toml")) as process:
        begun(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.close()
        process.stdin = process.stdout = None
        code = process.wait(BOUND_S)
        said = process.stderr.read() if process.stderr else b""

    assert code == 0
    assert b"Traceback" not in said


@contextmanager
def http_server(project: Project, *words: str, **env: str) -> Generator[tuple[str, Any]]:
    """The URL of `peritus mcp --http` and its process."""
    with child(project, "--http", "--port", "0", *words, **env) as process:
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(rb"MCP at (http://\S+/mcp);", line)
            if found:
                yield found[1].decode(), process
                return
    raise AssertionError


@pytest.mark.parametrize("era", ERAS)
async def test_over_http_calls_are_told_when_the_server_is_stopped(
    project: Project, era: Era
) -> None:
    project.write("never.toml", NEVER)
    heard = Heard()
    with http_server(project, *scripted("never.toml")) as (url, process):
        async with connected(url, era) as client, asyncio.TaskGroup() as tasks:
            call = tasks.create_task(client.call_tool("helper", GO, progress_callback=heard))
            run = await heard.run()
            process.send_signal(signal.SIGTERM)
            result = await call
        code = await asyncio.to_thread(process.wait, BOUND_S)

    assert facts(result, "reason") == {"kind": "closing"}
    assert code == 0
    assert json.loads(project.peritus("show", run, "--json").out)["status"] == "running"


async def test_over_http_the_token_of_the_gateway_is_asked_for(project: Project) -> None:
    token = "a-token-of-some-length"
    with http_server(project, *scripted("hello.toml"), PERITUS_GATEWAY_TOKEN=token) as (url, _):
        async with httpx2.AsyncClient(trust_env=False) as http:
            refused = await http.post(url, json=message("initialize", HELLO, 1))
        async with connected(url, token=token) as client:
            result = await client.call_tool("helper", GO)

    assert refused.status_code == 401
    assert text_of(result) == "Hello there."


async def test_the_gateway_can_be_the_server_too(project: Project) -> None:
    head = 'model = "hello.toml"\n[provider]\nproviderName = "scripted"\n'
    project.write("perstack.toml", head + DEFINITION)
    token = "a-token-of-some-length"
    environ = {"PERITUS_GATEWAY_MCP": "true", "PERITUS_GATEWAY_TOKEN": token}
    started = project.start(
        "serve", "loop", "projections", "gateway", env={**environ, "PERITUS_GATEWAY_PORT": "0"}
    )
    try:
        url = f"{await asyncio.to_thread(gateway_of, started)}/mcp"
        for era in ERAS:
            async with connected(url, era, token=token) as client:
                result = await client.call_tool("helper", GO)
                found = await client.read_resource(f"peritus://runs/{facts(result, 'run')}")
            assert text_of(result) == "Hello there."
            assert isinstance(found.contents[0], types.TextResourceContents)
            assert json.loads(found.contents[0].text)["status"] == "completed"
    finally:
        started.interrupt()
        code = await asyncio.to_thread(started.end)

    assert code == 0, started.said


def gateway_of(started: Started) -> str:
    """Where the gateway says that it is."""
    deadline = time.monotonic() + BOUND_S
    while (found := re.search(r"gateway at (\S+)", started.said)) is None:
        assert time.monotonic() < deadline, started.said
        time.sleep(0.01)
    return found[1]


async def test_each_call_may_work_in_a_folder_of_its_own(project: Project) -> None:
    async with over_stdio(project, "hello.toml", "auto", "--own-workspaces") as client:
        runs = [facts(await client.call_tool("helper", GO), "run") for _ in range(2)]

    own = project.folder / ".peritus" / "workspaces" / "default"
    assert sorted(one.name for one in own.iterdir()) == sorted(runs)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--http", "--host", "0.0.0.0"), "PERITUS_GATEWAY_TOKEN"),
        (("--wait", "soon"), "soon"),
        (("--workspace", "x", "--own-workspaces"), "--own-workspaces"),
        (("--config", "broken.toml"), "broken.toml"),
    ],
)
def test_what_is_wrong_is_said_before_anybody_is_served(
    project: Project, words: tuple[str, ...], said: str
) -> None:
    project.write("broken.toml", "[experts.x]\ninstructon = 'Help.'\n")
    refused = project.peritus("mcp", *words)

    assert (refused.code, refused.out) == (2, "")
    assert said in refused.said


def test_the_protocol_is_imported_by_no_other_command() -> None:
    modules = "peritus.cli.mcp, peritus.cli.serve, peritus.serve, peritus.api, gateway.app"
    code = f"import sys, {modules}; print([x for x in sys.modules if x.split('.')[0] == 'mcp'])"
    root = Path(__file__).parents[2]

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )

    assert ended.stdout.strip() == "[]"


def test_the_input_is_nobody_elses(project: Project) -> None:
    """Whoever else reads our input, a child or a library, finds it empty instead of a message."""
    with child(project, *scripted("hello.toml")) as process:
        write(process, message("initialize", HELLO, 1))
        answer(process, 1)
        target = Path(f"/proc/{process.pid}/fd/0").readlink()

    assert str(target) == os.devnull
