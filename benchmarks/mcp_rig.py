"""A small MCP server, and the ways to it: the SDK's own client, our host, a worker. No figures."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcp.client import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from domain.commands import RecordToolResult
from domain.content import TextPart
from domain.definition import McpStdioSkill
from domain.ids import RunRef
from domain.limits import Usage
from domain.mcp import Catalogue, RemoteTool
from domain.prompt import ModelRequest
from domain.tools import Lane
from domain.work import CallToolWork, SnapshotWork
from peritus.sandbox import SandboxLane
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import Delta, ModelReply
from services.loop.service import LoopLimits
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.port import Command
from services.sandbox.workspace import Workspace
from services.tool.mcp.host import McpHost
from services.worker.keeper import Admission, Elsewhere, Keeper, Later
from services.worker.reporter import Reporter
from services.worker.skills import Site
from services.worker.toolbox import OnOutput, ToolBox, ToolCall, ToolResult
from tests.contract.sandbox_backends import spec
from tests.support.cluster import asks
from tests.support.service import BOUND_S, Place, Yard
from tests.support.skills import CALL, Person

SERVER = """
import json, sys
tool = {"name": "echo", "description": "Says it again.", "inputSchema": {"type": "object"}}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        said = {"protocolVersion": asked["params"]["protocolVersion"],
                "capabilities": {"tools": {}}, "serverInfo": {"name": "echo", "version": "1"}}
    elif asked["method"] == "tools/list":
        said = {"tools": [tool]}
    elif asked["method"] == "tools/call":
        said = {"content": [{"type": "text", "text": asked["params"]["arguments"]["text"]}]}
    else:
        said = {}
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}) + "\\n")
    sys.stdout.flush()
"""

TOOL = RemoteTool(name="echo", description="Says it again.", input_schema={"type": "object"})
KNOWN = Catalogue(server="echo", version="1", tools=(TOOL,))
SKILL = McpStdioSkill(command="python3", args=("-c", SERVER), catalogue=KNOWN)
GIVEN = {"text": "hello"}
SYSTEM = "/usr/local/bin:/usr/bin:/bin"


@asynccontextmanager
async def direct() -> AsyncGenerator[ClientSession]:
    """The SDK's own client over its own pipes: what nothing built on it can beat."""
    python = shutil.which("python3", path=SYSTEM) or "python3"
    server = StdioServerParameters(command=python, args=["-c", SERVER])
    async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as made:
        await made.initialize()
        yield made


async def say_direct(session: ClientSession) -> None:
    """One call of the SDK."""
    answer = await session.call_tool("echo", GIVEN)
    assert not answer.is_error, answer


@dataclass
class Hosted:
    """Our host, over processes of one sandbox."""

    host: McpHost
    site: Site

    async def say(self, number: int, place: str = "") -> None:
        """One call, to the server of a place."""
        call = replace(
            CALL, call=f"c{number}-0", tool="echo", arguments=json.dumps(GIVEN), remote=TOOL.remote
        )
        site = replace(self.site, key=place or self.site.key)
        answer = await self.host.call(call, SKILL, TOOL, site, silent)
        assert not answer.is_error, answer


async def silent(text: str) -> None:
    """Hears nothing."""
    del text


@asynccontextmanager
async def hosted(state: Path) -> AsyncGenerator[Hosted]:
    """A host whose servers run under bubblewrap."""
    folder = state / "workspace"
    folder.mkdir(mode=0o777)
    backend = BubblewrapBackend(state / "state")
    with Workspace(folder) as workspace:
        sandbox = await backend.open(spec(workspace))
        site = Site("acme", "job:1", lambda: sandbox.start(Command(SKILL.command, SKILL.args)))
        try:
            async with asyncio.TaskGroup() as tasks:
                host = McpHost(tasks, Person())
                yield Hosted(host, site)
                await host.close()
        finally:
            await sandbox.close()
            await backend.close()


@dataclass
class Stopwatch:
    """How long the calls of a worker took, from admission to the record, and parts of that."""

    admitted: list[float] = field(default_factory=list[float])
    """Placement, and the journal on disk that the call begins."""
    in_box: list[float] = field(default_factory=list[float])
    kept: list[float] = field(default_factory=list[float])
    """The journal on disk that it ended, and how."""
    whole: list[float] = field(default_factory=list[float])


@dataclass(frozen=True)
class TimedBox:
    """Fills `ToolBox`: another one, with a watch."""

    inner: ToolBox
    watch: Stopwatch

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call."""
        begun = time.perf_counter()
        answer = await self.inner.call(call, on_output)
        self.watch.in_box.append(time.perf_counter() - begun)
        assert not answer.is_error, answer
        return answer


@dataclass
class TimedKeeper:
    """Fills `Keeper`: another one, with a watch from a call's admission until it is recorded."""

    inner: Keeper
    watch: Stopwatch
    begun: dict[tuple[RunRef, str], float] = field(default_factory=dict[tuple[RunRef, str], float])

    async def admit(self, ref: RunRef, work: CallToolWork) -> Admission:
        self.begun[ref, work.call] = begun = time.perf_counter()
        admission = await self.inner.admit(ref, work)
        self.watch.admitted.append(time.perf_counter() - begun)
        return admission

    async def ended(self, ref: RunRef, result: RecordToolResult) -> None:
        begun = time.perf_counter()
        await self.inner.ended(ref, result)
        self.watch.kept.append(time.perf_counter() - begun)

    async def recorded(self, ref: RunRef, call: str) -> None:
        await self.inner.recorded(ref, call)
        self.watch.whole.append(time.perf_counter() - self.begun.pop((ref, call)))

    async def snapshot(self, ref: RunRef, work: SnapshotWork) -> Elsewhere | Later | None:
        return await self.inner.snapshot(ref, work)


@dataclass
class TurnModel:
    """A model that asks for the tool once more whenever it is let."""

    due: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    waiting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    over: bool = False

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """The next reply, in its turn."""
        del request, on_delta
        self.waiting.release()
        await self.due.acquire()
        if self.over:
            return ModelReply((TextPart(text="done"),), "end", Usage(input=1, output=1))
        return asks(("echo", json.dumps(GIVEN)))

    async def turn(self) -> None:
        """Have one step made; returns when the next one could be."""
        self.due.release()
        await self.waiting.acquire()

    def end(self) -> None:
        """Have the run end."""
        self.over = True
        self.due.release()


@asynccontextmanager
async def worker(yard: Yard, place: Place, watch: Stopwatch) -> AsyncGenerator[SandboxLane]:
    """A whole worker as `Yard.sandboxed` has it, whose calls are timed."""
    lane = SandboxLane(lambda: yard.parts("bench", place))
    ready: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def keeper(reporter: Reporter) -> Keeper:
        return TimedKeeper(lane.keeper(reporter), watch)

    numbers = iter(range(10**9))
    parts = WorkerParts(
        backbone=yard.server.ports(yard.server.client()),
        epoch="bench",
        now_ms=yard.now_ms,
        new_id=lambda: f"id{next(numbers)}",
        certainly_dead=lambda _: False,
        generate=yard.model,
        toolboxes={Lane.SANDBOX: TimedBox(lane, watch)},
        keepers={Lane.SANDBOX: keeper},
        beside=(lane.run,),
        loop_limits=LoopLimits(pass_s=0.02),
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run_worker(parts, ready.set_result))
        try:
            async with asyncio.timeout(BOUND_S):
                await ready
            yield lane
        finally:
            task.cancel()
