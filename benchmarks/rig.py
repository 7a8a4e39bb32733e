"""One worker over a real embedded server, with a model and a tool that cost nothing."""

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands.client import CommandClient
from commands.desk import Desk
from domain.commands import StartRun
from domain.content import AssistantPart, CallPart, TextPart
from domain.definition import Definition, Expert, LocalSkill, Skill
from domain.envelope import Envelope, decode
from domain.events import TERMINAL_TYPES
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Usage
from domain.prompt import ModelRequest
from domain.tools import Lane, LocalTool, Safety, ToolSpec
from eventlog.embedded import join_state_folder
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.durability import Durability
from eventlog.port import Backbone
from peritus.worker import WorkerParts, run_worker
from services.loop.generations import Generate
from services.loop.models.port import Delta, ModelReply
from services.tool.local import LocalToolBox, RegisteredTool
from services.worker.epoch import this_epoch
from services.worker.toolbox import ToolCall

ASSISTANT = "a" * 500
RESULT = "r" * 1_000
MODEL = ModelChoice(provider="bench", model="bench", output_tokens_max=100)
PING = LocalTool(
    spec=ToolSpec(name="ping", description="ping", parameters={"type": "object"}),
    safety=Safety.UNSAFE,
)


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A fresh id."""
    return uuid.uuid1().hex


async def ping(arguments: dict[str, Any], call: ToolCall) -> str:
    """A tool that costs nothing and answers 1 KB."""
    del arguments, call
    return RESULT


def definition() -> Definition:
    """Experts of k steps each: `w20` makes 20 steps; `fan` starts 16 children of one step."""
    skills: dict[str, Skill] = {"bench": LocalSkill(tools=("ping",))}
    experts = {
        f"w{k}": Expert(key=f"w{k}", instruction="bench", skills=skills, model=MODEL)
        for k in (1, 20, 300, 1_000)
    }
    experts["fan"] = Expert(
        key="fan", instruction="fan", delegates=("w1",), skills=skills, model=MODEL
    )
    return Definition(experts=dict(sorted(experts.items())), limits=Limits(steps_max=2_000))


async def generate(
    request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
) -> ModelReply:
    """The model of workload W(k): a call in each of k-1 steps, then a text; zero latency."""
    del on_delta
    said = len(request.messages) // 2
    expert = next(block.text for block in request.context.system if block.name == "expert")
    parts: list[AssistantPart] = [TextPart(text=ASSISTANT)]
    if expert == "fan" and said == 0:
        parts += [
            CallPart(provider_id=f"p{n}", tool="w1", arguments='{"query":"go"}') for n in range(16)
        ]
    elif expert.startswith("w") and said < int(expert[1:]) - 1:
        parts.append(CallPart(provider_id=f"p{said}", tool="ping", arguments="{}"))
    calls = len(parts) > 1
    return ModelReply(tuple(parts), "tool_calls" if calls else "end", Usage(input=1, output=1))


@dataclass(frozen=True, slots=True)
class Rig:
    """A worker that serves, and a way to give it runs."""

    backbone: Backbone
    desk: Desk
    definition: str
    folder: Path
    floor: Backbone  # the same server, streams of its own

    async def run(self, expert: str, name: str) -> tuple[list[tuple[float, Envelope]], float]:
        """One run to its end: its envelopes and when each was seen, and when it was asked for."""
        ref = RunRef("bench", f"j{name}", f"r{name}")
        command = StartRun(
            id=f"s{name}", expert=expert, definition=self.definition, parts=(TextPart(text="go"),)
        )
        seen: list[tuple[float, Envelope]] = []
        async with self.backbone.log.follow(
            after_seq=0, tenant=ref.tenant, job=ref.job, run=ref.run
        ) as stored:
            begun = time.perf_counter()
            await CommandClient(self.backbone).submit(ref, command, command.id)
            async for item in stored:
                envelope = decode(item.data)
                seen.append((time.perf_counter(), envelope))
                if any(event.type in TERMINAL_TYPES for event in envelope.events):
                    return seen, begun
        raise RuntimeError("the log ended")


@dataclass(frozen=True, slots=True)
class Workload:
    """Experts, what their model says, and their tools."""

    definition: Definition
    generate: Generate
    tools: Mapping[str, RegisteredTool]


def pings() -> Workload:
    """The workloads W(k), and the fan of 16."""
    return Workload(definition(), generate, {"ping": RegisteredTool(PING, ping)})


@asynccontextmanager
async def rig(durability: Durability, work: Workload | None = None) -> AsyncGenerator[Rig]:
    """A fresh server and one worker with all services but the sandbox."""
    work = work or pings()
    with tempfile.TemporaryDirectory(prefix="peritus-bench-") as name:
        folder = Path(name)
        async with (
            join_state_folder(folder, durability) as endpoint,
            connect_backbone(endpoint.url, token=endpoint.token, durability=durability) as backbone,
            connect_backbone(
                endpoint.url, token=endpoint.token, durability=durability, prefix="floor"
            ) as floor,
            asyncio.TaskGroup() as tasks,
        ):
            digest = await backbone.blobs.put("bench", work.definition.to_bytes())
            box = LocalToolBox(work.tools)
            parts = WorkerParts(
                backbone=backbone,
                epoch=str(this_epoch()),
                now_ms=now_ms,
                new_id=new_id,
                certainly_dead=lambda _: False,
                generate=work.generate,
                toolboxes={Lane.TOOL: box},
                local_tools=box.specs(),
            )
            ready: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()
            worker = tasks.create_task(run_worker(parts, ready.set_result))
            yield Rig(backbone, await ready, digest, folder, floor)
            worker.cancel()
