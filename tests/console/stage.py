"""A deployment with a console: real server, workers, gateway; a model whose words a test lets go.

Not the tests, and not the browser: `conftest` has that.
"""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from domain.content import AssistantMessage, TextPart, ThinkingPart
from domain.envelope import decode
from domain.events import TERMINAL_TYPES
from domain.ids import RunRef
from domain.limits import Usage
from domain.prompt import ModelRequest
from domain.record import canonical
from eventlog.jetstream.backbone import connect_backbone
from eventlog.port import Backbone
from peritus.api import Peritus, tool
from services.loop.models.port import Delta, ModelReply
from services.loop.models.scripted import EXPERT_BLOCK, ScriptedModel
from services.tool.local import RegisteredTool
from services.worker.toolbox import ToolCall
from tests.e2e.processes import Team, team, until
from tests.support.people import calls

BOUND_S = 60.0

DEFINITION = """\
provider = { providerName = "scripted" }
model = "script.toml"

[experts.talker]
description = "Talks at length."
instruction = "Talk."

[experts.clerk]
description = "Writes letters, and asks."
instruction = "Write."
[experts.clerk.skills.office]
type = "localSkill"
tools = ["send"]
[experts.clerk.skills.ask]
type = "interactiveSkill"
[experts.clerk.skills.ask.tools.question]
description = "Ask the person."
inputJsonSchema = '{"type":"object","properties":{"text":{"type":"string"}}}'

[experts.trickster]
description = "Writes what looks like something else."
instruction = "Write."
[experts.trickster.skills.office]
type = "localSkill"
tools = ["send"]

[experts.lead]
description = "Leads the clerk."
instruction = "Lead."
delegates = ["clerk"]

[experts.shouter]
description = "Says what is markup elsewhere."
instruction = "Shout."
[experts.shouter.skills.office]
type = "localSkill"
tools = ["echo"]

[experts.builder]
description = "Writes files."
instruction = "Build."
[experts.builder.skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"

[experts.flooder]
description = "Reads a lot."
instruction = "Read."
[experts.flooder.skills.office]
type = "localSkill"
tools = ["flood"]

[[policy]]
verdict = "ask"
tool = "send"
reason = "letters are read first"
"""

MARKUP = (
    '<img src=x onerror="window.owned=1"><script>window.owned=1</script>'
    "<b>bold</b> [link](javascript:alert(1)) <a href='javascript:alert(2)'>there</a> </pre></div>"
)
"""What a page that took text for markup would run, or draw."""

FLOOD = "".join(f"line {number}\n" for number in range(8_000))
"""More than an event holds: what is stored beside it is fetched when somebody asks."""

STORY = "Once upon a time, there was a log. Nothing in it ever changed. 👋 Grüße! "


@dataclass
class Talk:
    """A model that says one piece of its text each time a test lets it."""

    pieces: tuple[str, ...] = tuple(STORY.split(" "))
    thought: str = "I should tell a story."
    said: asyncio.Condition = field(default_factory=asyncio.Condition)
    allowed: int = 0
    told: int = 0

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(self.pieces)

    async def let(self, pieces: int) -> None:
        """Let it say so many more, and wait until it has."""
        async with self.said:
            self.allowed += pieces
            wanted = self.allowed
            self.said.notify_all()
            async with asyncio.timeout(BOUND_S):
                await self.said.wait_for(lambda: self.told >= wanted)

    async def finish(self) -> None:
        """Let it say the rest."""
        async with self.said:
            self.allowed = 1_000_000
            self.said.notify_all()

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """Think, then say the pieces."""
        block = canonical({"type": "thinking", "thinking": self.thought}).decode()
        async with self.said:
            await self.said.wait_for(lambda: self.allowed > 0)
        await on_delta(Delta("thinking", 0, 0, self.thought))
        offset = 0
        for index, piece in enumerate(self.pieces):
            async with self.said:
                await self.said.wait_for(lambda: self.allowed > self.told)
                self.told += 1
                self.said.notify_all()
            text = piece if index == len(self.pieces) - 1 else f"{piece} "
            await on_delta(Delta("text", 1, offset, text))
            offset += len(text)
        del request
        parts = (ThinkingPart(provider="scripted", block=block), TextPart(text=self.text))
        return ModelReply(parts, "end", Usage(input=100, output=50))

    async def aclose(self) -> None:
        """Nothing is held."""


@dataclass
class Cast:
    """The model of all experts: each has its own lines; talkers say theirs as they are let.

    Which talk is due follows from what the run was told first.
    """

    lines: Mapping[str, Sequence[Any]]
    talks: dict[str, Talk] = field(default_factory=dict[str, Talk])

    def talk(self, query: str) -> Talk:
        """The talk of a run that is asked this."""
        return self.talks.setdefault(query, Talk())

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """Have the expert of the request answer."""
        named = {block.name: block.text for block in request.context.system}
        expert = named.get(EXPERT_BLOCK, "").partition("\n")[0].strip()
        if expert in self.lines:
            return await ScriptedModel(self.lines[expert]).generate(request, on_delta)
        if any(isinstance(message, AssistantMessage) for message in request.messages):
            return ModelReply((TextPart(text="And more."),), "end", Usage(input=3, output=1))
        first = request.messages[0]
        texts = [request.text(part.text) for part in first.parts if isinstance(part, TextPart)]
        return await self.talk(texts[0]).generate(request, on_delta)

    async def aclose(self) -> None:
        """Nothing is held."""


SHORT = '{"path": "plan.md", "text": "# Plan\\n\\none\\n"}'
LONGER = '{"path": "plan.md", "text": "# Plan\\n\\none\\ntwo\\n"}'
LETTER = '{"to": "Ada", "text": "Dear Ada"}'

TRICK = '{"to": "gpj.\u202eexe", "id": 12345678901234567890, "to": "Eve"}'
"""Turned round, rounded by a page, and one name twice: all has to be seen."""

LINES: Mapping[str, Sequence[Any]] = {
    "clerk": [
        calls(("send", LETTER), text="I write a letter."),
        calls(("question", '{"text": "Which colour?"}'), text="I ask."),
        "Written, in your colour.",
        "And once more.",
    ],
    "trickster": [calls(("send", TRICK)), "Sent."],
    "flooder": [calls(("flood", "{}")), "Read."],
    "lead": [calls(("clerk", '{"query": "Write it."}'), text="Write for me."), "It is written."],
    "shouter": [calls(("echo", "{}"), text=MARKUP), MARKUP],
    "builder": [
        calls(
            ("writeTextFile", '{"path": "plan.md", "text": "# Plan\\n\\none\\n"}'), text="A plan."
        ),
        calls(("writeTextFile", LONGER), text="A longer plan."),
        "Built.",
    ],
}


@dataclass
class Stage:
    """The deployment as tests see it."""

    folder: Path
    backbone: Backbone
    services: Team
    port: int
    cast: Cast
    sent: list[dict[str, Any]]

    @property
    def url(self) -> str:
        """Where the console is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """The administrator's key, as the gateway wrote it."""
        return (self.folder / ".peritus" / "gateway.key").read_text().strip()

    async def restart_gateway(self) -> None:
        """Kill it without a word, and start another one at the same place."""
        self.kill_gateway()
        await self.start_gateway()

    def kill_gateway(self) -> None:
        """End it with SIGKILL."""
        next(one for one in self.services.services if one.alive and "gateway" in one.name).kill()

    async def start_gateway(self) -> None:
        """Start one, and wait until it serves."""
        self.services.start("gateway", "projections")
        await self.services.ready()

    async def start(self, expert: str, query: str) -> str:
        """Start a job over HTTP; its name."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx2.AsyncClient(
            base_url=self.url, headers=headers, trust_env=False, timeout=BOUND_S
        ) as client:
            answer = await client.post("/v1/runs", json={"expert": expert, "query": query})
            assert answer.status_code == 202, answer.text
            return str(answer.json()["job"])

    async def events(self, job: str) -> list[tuple[str, int]]:
        """All events of a job as the log has them: run and version, in order."""
        found = list[tuple[int, str, int]]()
        async for stored in self._stored(job):
            envelope = decode(stored.data)
            found += [
                (stored.seq, stored.ref.run, envelope.version + index)
                for index in range(len(envelope.events))
            ]
        return [(run, version) for _, run, version in found]

    async def _stored(self, job: str) -> AsyncGenerator[Any]:
        log = self.backbone.log
        _, last = await log.bounds()
        async with log.follow(after_seq=0, tenant="default", job=job) as all_:
            root = await log.load(RunRef("default", job, job))
            assert root, f"there is no job {job}"
            async for stored in all_:
                yield stored
                if stored.seq >= min(last, root[-1].seq):
                    return

    async def until_rest(self, job: str) -> None:
        """Wait until the first run of a job has ended."""
        ref = RunRef("default", job, job)

        async def rests() -> bool:
            stored = await self.backbone.log.load(ref)
            types = [event.type for one in stored for event in decode(one.data).events]
            return not TERMINAL_TYPES.isdisjoint(types)  # late facts may follow its end

        await until("the end of the job", rests)


def _tools(sent: list[dict[str, Any]]) -> list[RegisteredTool]:
    def send(arguments: dict[str, Any], call: ToolCall) -> str:
        del call
        sent.append(arguments)
        return f"sent to {arguments.get('to')}"

    def echo(arguments: dict[str, Any], call: ToolCall) -> str:
        del arguments, call
        return MARKUP

    def flood(arguments: dict[str, Any], call: ToolCall) -> str:
        del arguments, call
        return FLOOD

    schema = {"type": "object"}
    made = {"send": send, "echo": echo, "flood": flood}
    return [tool(name, name, schema, function) for name, function in made.items()]


@asynccontextmanager
async def stage(folder: Path) -> AsyncGenerator[Stage]:
    """A deployment in a folder while the context is open."""
    (folder / "perstack.toml").write_text(DEFINITION)
    script = folder / "script.toml"
    script.write_text('[[reply]]\ntext = "The worker has the lines."\n')
    cast, sent = Cast(LINES), list[dict[str, Any]]()
    port = free_port()
    settings = {"PERITUS_GATEWAY_PORT": str(port)}
    models = {str(script.resolve()): cast}
    async with Peritus.embedded(folder, tools=_tools(sent), models=models):
        there = json.loads((folder / ".peritus" / "endpoint.json").read_text())
        async with connect_backbone(there["url"], token=there["token"]) as backbone:
            with team(folder, settings) as services:
                made = Stage(folder, backbone, services, port, cast, sent)
                await made.start_gateway()
                yield made
                for talk in cast.talks.values():
                    await talk.finish()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
