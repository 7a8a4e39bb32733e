"""A host of MCP servers on this machine, a person who answers, and calls. Only for tests."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from domain.content import TextPart
from domain.definition import McpStdioSkill
from domain.ids import RunRef
from domain.mcp import Catalogue, RemoteTool
from domain.tools import Safety
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.host import McpHost
from services.worker.process import Process
from services.worker.skills import Question, Reply, Sample, Sampled, SampleRefused, Site
from services.worker.toolbox import ToolCall, ToolResult
from tests.support.processes import server_argv, start_process

BOUND_S = 30.0
"""How long a test waits for anything, in seconds."""

QUICK = Bounds(open_s=10.0, close_s=2.0, grace_s=0.5, list_s=5.0, ping_s=1.0, backoff_s=0.01)

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
WORK = RemoteTool(name="work", description="Does work.", input_schema=SCHEMA)

CALL = ToolCall(
    ref=RunRef("acme", "j1", "r1"),
    call="c1-0",
    key="k1",
    tool="work",
    arguments='{"text": "x"}',
    timeout_ms=20_000,
    skill="things",
    remote="tool:work",
)


@dataclass(slots=True)
class Person:
    """Fills `Asks`: answers what was prepared, and keeps what was asked."""

    reply: Reply = field(default_factory=lambda: Reply("accept", {"name": "Ada"}))
    sampled: Sampled | None = None
    asked: list[tuple[str, Question | Sample]] = field(
        default_factory=list[tuple[str, Question | Sample]]
    )
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """Until it is set, nobody answers."""

    async def elicit(self, call: ToolCall, question: Question) -> Reply:
        self.asked.append((call.call, question))
        await self.may_answer.wait()
        return self.reply

    async def sample(self, call: ToolCall, sample: Sample) -> Sampled:
        self.asked.append((call.call, sample))
        if self.sampled is None:
            msg = "the budget is used up"
            raise SampleRefused(msg)
        return self.sampled


@dataclass(slots=True)
class Stage:
    """A host, a place where its servers run, and what was started there."""

    host: McpHost
    person: Person
    argv: list[str]
    start: Callable[[Sequence[str]], Awaitable[Process]] = start_process
    skill: McpStdioSkill = field(default_factory=lambda: McpStdioSkill(command="hostile"))
    started: list[Process] = field(default_factory=list[Process])
    heard: list[str] = field(default_factory=list[str])
    place: str = "job:1"

    @property
    def site(self) -> Site:
        async def start() -> Process:
            self.started.append(await self.start(self.argv))
            return self.started[-1]

        return Site("acme", self.place, start)

    async def hear(self, text: str) -> None:
        self.heard.append(text)

    async def call(
        self,
        tool: RemoteTool = WORK,
        *,
        arguments: str = '{"text": "x"}',
        name: str = "c1-0",
        timeout_ms: int = 20_000,
        safety: Safety = Safety.UNSAFE,
    ) -> ToolResult:
        call = replace(
            CALL,
            call=name,
            arguments=arguments,
            timeout_ms=timeout_ms,
            safety=safety,
            remote=tool.remote,
        )
        async with asyncio.timeout(BOUND_S):
            return await self.host.call(call, self.skill, tool, self.site, self.hear)

    async def discover(self) -> Catalogue:
        async with asyncio.timeout(BOUND_S):
            return await self.host.discover(self.skill, self.site)


@asynccontextmanager
async def stage(server: str, *args: str, bounds: Bounds = QUICK) -> AsyncGenerator[Stage]:
    """A stage for a server of tests/mcp_servers; nothing of it is left after."""
    before = Traces.now()
    person = Person()
    person.may_answer.set()
    async with asyncio.TaskGroup() as tasks:
        host = McpHost(tasks, person, bounds)
        made = Stage(host, person, server_argv(server, *args))
        try:
            yield made
        finally:
            async with asyncio.timeout(BOUND_S):
                await host.close()
    await before.same()


@dataclass(frozen=True, slots=True)
class Traces:
    """What this process has: tasks, open files, children."""

    tasks: int
    files: int
    children: frozenset[int]

    @staticmethod
    def now() -> "Traces":
        return Traces(
            len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir())), children()
        )

    async def same(self) -> None:
        """Wait until there is not more than there was."""
        try:
            await until(lambda: self._holds(Traces.now()))
        except TimeoutError:
            raise AssertionError(f"left behind: {self} became {Traces.now()}") from None

    def _holds(self, now: "Traces") -> bool:
        kept = now.tasks <= self.tasks and now.files <= self.files
        return kept and now.children <= self.children


def children() -> frozenset[int]:
    """The processes this one started, and those that were left to it."""
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return frozenset(int(pid) for pids in found for pid in pids)


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that nobody can be told of."""
    async with asyncio.timeout(BOUND_S):
        while not true():  # noqa: ASYNC110 - nothing to await
            await asyncio.sleep(0.01)


def is_there(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def text(result: ToolResult) -> str:
    """What a model reads of a result."""
    return "".join(
        part.text
        for part in result.content
        if isinstance(part, TextPart) and isinstance(part.text, str)
    )
