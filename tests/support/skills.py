"""A host of MCP servers on this machine, a person who answers, and calls. Only for tests."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
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
from tests.support.processes import Ground, on_this_machine, processes_with

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
    left: list[str] = field(default_factory=list[str])
    """The calls whose questions were taken back."""
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """Until it is set, nobody answers."""

    async def elicit(self, call: ToolCall, question: Question) -> Reply:
        self.asked.append((call.call, question))
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.left.append(call.call)
            raise
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
    ground: Ground
    argv: list[str]
    word: str
    """Stands in the command line of the server, and of what it starts."""
    skill: McpStdioSkill = field(default_factory=lambda: McpStdioSkill(command="hostile"))
    started: list[Process] = field(default_factory=list[Process])
    heard: list[str] = field(default_factory=list[str])
    place: str = "job:1"

    @property
    def site(self) -> Site:
        async def start() -> Process:
            self.started.append(await self.ground.start(self.argv))
            return self.started[-1]

        return Site("acme", self.place, start)

    async def hear(self, text: str) -> None:
        self.heard.append(text)

    def processes(self) -> list[int]:
        """What runs of the server, anywhere on this machine."""
        return processes_with(self.word)

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
async def stage(
    server: str, name: str = "", *, ground: Ground | None = None, bounds: Bounds = QUICK
) -> AsyncGenerator[Stage]:
    """A stage for a server of tests/mcp_servers; nothing of it is left after."""
    ground = ground or on_this_machine(Path())
    word = secrets.token_hex(8)
    before = Traces.now()
    person = Person()
    person.may_answer.set()
    async with asyncio.TaskGroup() as tasks:
        host = McpHost(tasks, person, bounds)
        argv = ground.argv(server, name, f"{ground.inside}/note", word)
        made = Stage(host, person, ground, argv, word)
        try:
            yield made
        finally:
            async with asyncio.timeout(BOUND_S):
                await host.close()
    await before.same()
    await until(lambda: not made.processes())


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


def text(result: ToolResult) -> str:
    """What a model reads of a result."""
    return "".join(
        part.text
        for part in result.content
        if isinstance(part, TextPart) and isinstance(part.text, str)
    )
