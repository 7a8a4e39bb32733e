"""A tool box for MCP servers on loopback, and how it is asked. Not the servers."""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from commands.discovery import DiscoverSkill
from domain.content import TextPart
from domain.definition import Definition, Expert, McpHttpSkill
from domain.ids import RunRef
from domain.limits import ModelChoice
from domain.mcp import Catalogue
from domain.secrets import SecretRef, SecretValue
from domain.tools import Safety
from eventlog.memory.server import MemoryServer
from eventlog.port import Blobs
from peritus.ids import now_ms
from services.secrets.redactions import Redactions
from services.secrets.tokens import TokenStore
from services.tool.http_box import HttpToolBox
from services.tool.http_login import log_in
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.calls import Caller
from services.tool.mcp.http_connect import HttpMeans
from services.tool.mcp.http_settings import HttpSettings
from services.tool.mcp.oauth import Person as Logging
from services.worker.skills import Question, Reply, Sample, Sampled, SampleRefused
from services.worker.toolbox import ToolCall, ToolResult

TENANT = "t1"
LOOPBACK = HttpSettings(allow_cidrs=("127.0.0.0/8",), connect_s=5.0, answer_s=5.0)
HOUR_S = 3600.0


@dataclass
class Person:
    """Answers what servers ask. Fills the port `Asks`."""

    reply: Reply = field(default_factory=lambda: Reply("accept", {"sure": True}))
    asked: list[tuple[str, Question]] = field(default_factory=list[tuple[str, Question]])

    async def elicit(self, call: ToolCall, question: Question) -> Reply:
        self.asked.append((call.call, question))
        return self.reply

    async def sample(self, call: ToolCall, sample: Sample) -> Sampled:
        message = f"{call.call} may not sample {sample.output_tokens_max}"
        raise SampleRefused(message)


@dataclass
class Desk:
    """A tool box, and one skill it is asked to use."""

    box: HttpToolBox
    means: HttpMeans
    redactions: Redactions
    skill: McpHttpSkill
    blobs: Blobs
    person: Person
    caller: Caller
    _digest: str = ""
    _numbers: Any = field(default_factory=itertools.count)
    heard: list[str] = field(default_factory=list[str])
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def discover(self) -> Catalogue:
        """Have the skill know what its server offers."""
        question = DiscoverSkill(definition="", expert="helper", skill="tools")
        found = await self.box.discover(TENANT, self._definition(), question, self.skill)
        await self.pin(found)
        return found

    async def pin(self, catalogue: Catalogue) -> None:
        """Have the skill know this of its server."""
        self.skill = self.skill.model_copy(update={"catalogue": catalogue})
        self._digest = await self.blobs.put(TENANT, self._definition().to_bytes())

    async def call(self, remote: str, _run: str = "r1", **arguments: Any) -> ToolResult:
        """Call something the server offers."""
        return await self.box.call(self.a_call(remote, _run, **arguments), self.hear)

    def a_call(self, remote: str, _run: str = "r1", **arguments: Any) -> ToolCall:
        number = next(self._numbers)
        return ToolCall(
            ref=RunRef(TENANT, "j1", _run),
            call=f"c{number}",
            key=f"k{number}",
            tool=remote.partition(":")[2],
            arguments=json.dumps(arguments),
            timeout_ms=20_000,
            expert="helper",
            definition=self._digest,
            skill="tools",
            remote=remote,
            safety=Safety.UNSAFE,
        )

    async def log_in(self, person: Logging) -> Catalogue | None:
        """Have a person log in, and the skill know what its server offers them."""
        found = await log_in(self.means, TENANT, self.skill, person)
        if found is not None:
            await self.pin(found)
        return found

    async def until_heard(self, text: str) -> None:
        """Wait until people have heard that."""
        while not any(text in line for line in self.heard):
            await self._news.wait()
            self._news.clear()

    async def hear(self, text: str) -> None:
        self.heard.append(text)
        self._news.set()

    def _definition(self) -> Definition:
        expert = Expert(
            key="helper",
            instruction="Help.",
            skills={"tools": self.skill},
            model=ModelChoice(provider="scripted", model="none"),
        )
        return Definition(experts={"helper": expert})


def text_of(result: ToolResult) -> str:
    return "\n".join(str(part.text) for part in result.content if isinstance(part, TextPart))


@asynccontextmanager
async def desk(
    skill: McpHttpSkill,
    folder: Path,
    *,
    secrets: Mapping[str, str] | None = None,
    settings: HttpSettings = LOOPBACK,
    bounds: Bounds | None = None,
    behind_s: float = 0.0,
) -> AsyncGenerator[Desk]:
    """A tool box for a skill, with secrets by name, until it is left.

    With a clock that is behind, logins end the earlier.
    """
    redactions = Redactions()

    async def reveal(ref: SecretRef) -> SecretValue | None:
        value = (secrets or {}).get(ref.name)
        if value is None:
            return None
        found = SecretValue(ref, value, "test")
        redactions.learn(found)
        return found

    server = MemoryServer(now_ms=lambda: 0)
    blobs = server.ports(server.client()).blobs
    means = HttpMeans(
        settings=settings,
        reveal=reveal,
        tokens=TokenStore(folder / "tokens.age", folder / "identity.age", redactions),
        now_s=lambda: now_ms() / 1000 - behind_s,
        never=("ANTHROPIC_API_KEY",),
    )
    person = Person()
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, person, bounds or replace(Bounds(), backoff_s=0.01))
        box = HttpToolBox(caller, means, blobs, redactions.redactor)
        try:
            yield Desk(box, means, redactions, skill, blobs, person, caller)
        finally:
            await caller.close()
