"""A skill host that speaks JSON lines with a server that does as it is told. Not MCP.

For what is the sandbox's own: where servers run, what they get, and how they end. The protocol has
a host and tests of its own.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from domain.content import TextPart
from domain.definition import BASE_SKILL, BaseSkill, Definition, Expert, McpStdioSkill
from domain.ids import RunRef
from domain.limits import ModelChoice
from domain.mcp import Catalogue, RemoteTool
from domain.sandbox import SandboxSettings
from domain.tools import Safety
from peritus.sandbox import SandboxLane
from services.worker.process import Chunk, Process
from services.worker.skills import Site, SkillFailed
from services.worker.toolbox import OnOutput, ToolCall, ToolResult
from tests.support.service import BOUND_S, JOB, Yard

SERVER = """
import json, os, pathlib, signal, subprocess, sys, urllib.error, urllib.request
print('a server begins', file=sys.stderr, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        said = eval(asked['python'])
    except Exception as error:
        said = f'{type(error).__name__}: {error}'
    print(json.dumps(said), flush=True)
"""
"""Evaluates an expression for each line it gets, and says what it came to."""

TOOL = RemoteTool(name="run", input_schema={"type": "object"})
LOOK = RemoteTool(name="look", input_schema={"type": "object"}, read_only=True)
KNOWN = Catalogue(server="line", tools=(LOOK, TOOL))


def line_skill(**more: Any) -> McpStdioSkill:
    """A skill whose server is SERVER, unless it is said otherwise."""
    plain: dict[str, Any] = {"command": "python3", "args": ("-c", SERVER), "catalogue": KNOWN}
    return McpStdioSkill.model_validate({**plain, **more})


def skilled(sandbox: SandboxSettings | None = None, /, **skills: McpStdioSkill) -> Definition:
    """A boss with skills and the base tools."""
    boss = Expert(
        key="boss",
        instruction="You are boss.",
        skills={BASE_SKILL: BaseSkill(), **skills},
        model=ModelChoice(provider="scripted", model="script"),
        sandbox=sandbox or SandboxSettings(),
    )
    return Definition(experts={"boss": boss})


@dataclass(eq=False)
class Talk:
    """One server, and what it still has to say."""

    process: Process
    output: AsyncIterator[Chunk]
    held: bytes = b""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, python: str) -> str | None:
        """What an expression comes to, as JSON; None when the server is gone."""
        with suppress(BrokenPipeError):
            await self.process.write(json.dumps({"python": python}).encode() + b"\n")
        while b"\n" not in self.held:
            chunk = await anext(self.output, None)
            if chunk is None:
                return None
            self.held += chunk.data if chunk.stream == "stdout" else b""
        line, _, self.held = self.held.partition(b"\n")
        return line.decode()


@dataclass
class LineHost:
    """Fills the port `SkillHost`: one server for a site, started at its first call."""

    open: dict[tuple[str, str], Talk] = field(default_factory=dict[tuple[str, str], Talk])
    sites: list[Site] = field(default_factory=list[Site])
    """Of the servers that were started, in this order."""
    left: list[str] = field(default_factory=list[str])

    async def call(
        self,
        call: ToolCall,
        skill: McpStdioSkill,
        tool: RemoteTool,
        site: Site,
        on_output: OnOutput,
    ) -> ToolResult:
        """Have the server evaluate the expression of the call."""
        del skill, tool, on_output
        talk = self.open.get((site.tenant, site.key))
        if talk is None:
            talk = await self._started(site)
        try:
            async with talk.turn:
                said = await talk.ask(json.loads(call.arguments)["python"])
        except asyncio.CancelledError:  # it cannot be told, so it is let go of
            self.open.pop((site.tenant, site.key), None)
            await talk.process.stop(grace_s=0)
            raise
        if said is None:
            self.open.pop((site.tenant, site.key), None)
            code = await talk.process.wait()
            return ToolResult((TextPart(text=f"the server ended: {code}"),), is_error=True)
        return ToolResult((TextPart(text=said),), is_error=False)

    async def discover(self, skill: McpStdioSkill, site: Site) -> Catalogue:
        """What the server says of the folder it is in."""
        del skill
        talk = await self._started(site)
        said = await talk.ask("sorted(os.listdir('.'))")
        if said is None:
            message = "the server said nothing"
            raise SkillFailed(message)
        return Catalogue(server=said, tools=(TOOL,))

    async def leave(self, tenant: str, key: str) -> None:
        """End the server of a site."""
        self.left.append(key)
        talk = self.open.pop((tenant, key), None)
        if talk is not None:
            await talk.process.stop()

    async def _started(self, site: Site) -> Talk:
        process = await site.start()
        talk = self.open[site.tenant, site.key] = Talk(process, aiter(process.output()))
        self.sites.append(site)
        return talk


@dataclass
class Desk:
    """Calls tools of skills as a worker does, without a run around them."""

    yard: Yard
    lane: SandboxLane
    heard: list[str] = field(default_factory=list[str])
    _calls: int = 0

    async def call(
        self,
        python: str,
        *,
        skill: str = "line",
        remote: str = "tool:run",
        safety: Safety = Safety.UNSAFE,
        ref: RunRef = JOB,
        expert: str = "boss",
        parent: str = "",
        definition: Definition | None = None,
    ) -> ToolResult:
        """Call a tool whose server evaluates an expression."""
        wanted = definition or self.yard.definition
        digest = await self.yard.outside.blobs.put(ref.tenant, wanted.to_bytes())
        self._calls += 1
        name = f"c{self._calls}-0"
        call = ToolCall(
            ref=ref,
            call=name,
            key=name,
            tool="run",
            arguments=json.dumps({"python": python}),
            timeout_ms=60_000,
            expert=expert,
            definition=digest,
            parent=parent,
            skill=skill,
            remote=remote,
            safety=safety,
        )
        async with asyncio.timeout(BOUND_S):
            return await self.lane.call(call, self._hear)

    async def says(self, python: str, **more: Any) -> Any:
        """What the server says, when it says something."""
        result = await self.call(python, **more)
        assert not result.is_error, text_of(result)
        return json.loads(text_of(result))

    async def _hear(self, text: str) -> None:
        self.heard.append(text)


def text_of(result: ToolResult) -> str:
    """What the model reads."""
    return "".join(
        part.text
        for part in result.content
        if isinstance(part, TextPart) and isinstance(part.text, str)
    )
