"""Workers over the in-memory form: whole ones, put together as in production. Not a simulation."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from commands.client import CommandClient
from commands.desk import Desk
from commands.history import Loaded, fold_stored
from domain.commands import StartRun
from domain.content import AssistantPart, CallPart, ContentPart, TextPart
from domain.definition import BASE_SKILL, BaseSkill, Definition, Expert, LocalSkill, Skill
from domain.effects import StartChild, effects
from domain.envelope import decode
from domain.events import Event
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Usage
from domain.prompt import ModelRequest
from domain.rate import Quota
from domain.state import RunState
from domain.tools import Lane, LocalTool, Safety, ToolSpec
from eventlog.memory.server import MemoryServer
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.loop.models.script import ScriptReply
from services.loop.models.scripted import Replies, ScriptedModel
from services.loop.service import LoopLimits
from services.tool.local import Function, LocalToolBox, RegisteredTool
from services.worker.asks import LogAsks
from services.worker.keeper import Keeper
from services.worker.skills import Asks
from services.worker.toolbox import ToolBox

REF = RunRef("acme", "job1", "root")
EPOCH_MS = 1_700_000_000_000
WAIT_S = 20.0

Generate = Callable[[ModelRequest, Callable[[Delta], Awaitable[None]]], Awaitable[ModelReply]]


def local_tool(function: Function, safety: Safety = Safety.UNSAFE) -> RegisteredTool:
    spec = ToolSpec(name="local", description="A tool of this test.", parameters={"type": "object"})
    return RegisteredTool(LocalTool(spec=spec, safety=safety), function)


def experts(
    tools: Sequence[str] = (), delegates: Sequence[str] = (), limits: Limits | None = None
) -> Definition:
    """A boss with local tools and delegates; every delegate has the same tools."""
    skills: dict[str, Skill] = {
        BASE_SKILL: BaseSkill(pick=("todo", "clearTodo", "attemptCompletion")),
        "own": LocalSkill(tools=tuple(tools)),
    }
    model = ModelChoice(provider="scripted", model="script")
    found = {
        name: Expert(
            key=name,
            instruction=f"You are {name}.",
            delegates=tuple(delegates) if name == "boss" else (),
            skills=skills,
            model=model,
        )
        for name in ("boss", *delegates)
    }
    return Definition(experts=found, limits=limits or Limits())


@dataclass
class Cluster:
    """One in-memory server, and the workers that come and go."""

    definition: Definition
    model: Generate
    tools: Mapping[str, RegisteredTool] = field(default_factory=dict[str, RegisteredTool])
    dead: set[str] = field(default_factory=set[str])
    toolbox: ToolBox | None = None  # instead of one that runs `tools`
    asking: Callable[[Asks], ToolBox] | None = None  # one that asks in the middle of a call
    keeper: Keeper | None = None
    quotas: Mapping[str, Quota] = field(default_factory=dict[str, Quota])
    step_ms: int = 0  # how far the clock moves with each look; 0: as the loop's

    def __post_init__(self) -> None:
        self.server = MemoryServer(now_ms=self.now_ms)
        self.outside = self.server.backbone()
        self._ids = itertools.count(1)
        self._looks = itertools.count()

    def now_ms(self) -> int:
        if self.step_ms:
            return EPOCH_MS + next(self._looks) * self.step_ms
        return EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)

    @asynccontextmanager
    async def worker(
        self, epoch: str, *, handoff: bool = True, loop: bool = True, lanes: bool = True
    ) -> AsyncGenerator[Desk]:
        """One worker that serves while the context is open, and is killed at its end."""
        client = self.server.client()
        ready: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()
        local = LocalToolBox(self.tools)
        box: ToolBox = self.toolbox or local
        keeper = self.keeper
        backbone = self.server.ports(client)
        asks = LogAsks(backbone.log, backbone.blobs, epoch) if self.asking and lanes else None
        if self.asking and asks:
            box = self.asking(asks)
        served = (Lane.TOOL, *((Lane.MCP,) if self.asking else ())) if lanes else ()
        parts = WorkerParts(
            backbone=backbone,
            asks=asks,
            epoch=epoch,
            now_ms=self.now_ms,
            new_id=lambda: f"id{next(self._ids)}",
            certainly_dead=self.dead.__contains__,
            generate=self.model if loop else None,
            toolboxes=dict.fromkeys(served, box),
            local_tools=local.specs(),
            handoff=handoff,
            loop_limits=LoopLimits(pass_s=0.02, quotas=self.quotas),
            renew_s=0.02,
            keepers={} if keeper is None else {Lane.TOOL: lambda _: keeper},
        )
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run_worker(parts, ready.set_result))
            try:
                async with asyncio.timeout(WAIT_S):
                    yield await ready
            finally:
                task.cancel()

    async def start(
        self, ref: RunRef = REF, text: str = "go", parts: tuple[ContentPart, ...] | None = None
    ) -> None:
        digest = await self.outside.blobs.put(ref.tenant, self.definition.to_bytes())
        command = StartRun(
            id="start",
            expert="boss",
            definition=digest,
            parts=parts or (TextPart(text=text),),
        )
        await self.client.submit(ref, command, "start")

    @property
    def client(self) -> CommandClient:
        return CommandClient(self.outside)

    async def state(self, ref: RunRef = REF) -> RunState:
        """The run as the log has it, its chain checked."""
        loaded = Loaded(RunState(ref=ref))
        for stored in await self.outside.log.load(ref):
            loaded = fold_stored(loaded, stored)
        return loaded.state

    async def until(self, reached: Callable[[RunState], bool], ref: RunRef = REF) -> RunState:
        """The first state of a run that is so, as the log shows it."""
        loaded = Loaded(RunState(ref=ref))
        async with (
            asyncio.timeout(WAIT_S),
            self.outside.log.follow(after_seq=0, job=ref.job, run=ref.run) as stored,
        ):
            async for one in stored:
                loaded = fold_stored(loaded, one)
                if reached(loaded.state):
                    break
        return loaded.state

    async def rest(self, ref: RunRef = REF) -> RunState:
        """The run when it has come to rest."""
        return await self.until(lambda state: state.at_rest, ref)

    async def events(self, ref: RunRef = REF) -> list[Event]:
        return [
            event
            for stored in await self.outside.log.load(ref)
            for event in decode(stored.data).events
        ]

    async def types(self, ref: RunRef = REF) -> list[str]:
        return [event.type for event in await self.events(ref)]


def script(
    *replies: ModelReply | ModelFailure | ScriptReply | str, **by_expert: Replies
) -> Generate:
    """A model that replies what it is told to, by expert."""
    return ScriptedModel(replies, experts=by_expert).generate


def asks(*calls: tuple[str, str], text: str = "") -> ModelReply:
    """A reply that asks for tools: (name, arguments)."""
    parts: list[AssistantPart] = [TextPart(text=text)] if text else []
    parts.extend(
        CallPart(provider_id=f"p{index}", tool=tool, arguments=arguments)
        for index, (tool, arguments) in enumerate(calls)
    )
    return ModelReply(tuple(parts), "tool_calls", Usage(input=10, output=5))


def child_of(state: RunState) -> RunRef:
    """The child that the first open delegate call of a run starts."""
    return next(effect.child for effect in effects(state) if isinstance(effect, StartChild))
