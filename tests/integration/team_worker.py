"""One worker of a team: a model that does what its task says, and tools that count. Not a test.

`python -m tests.integration.team_worker URL FOLDER` serves until it is killed. Every begin and end
of a tool is a line of `FOLDER/ran`; calls wait for `FOLDER/gate`, but those of the first lead.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from domain.content import AssistantPart, CallPart, ResultPart, TextPart, text_of
from domain.definition import Definition, Expert, LocalSkill, Skill
from domain.limits import Limits, ModelChoice, Usage
from domain.prompt import ModelRequest
from domain.tools import Lane, LocalTool, Safety, ToolSpec
from eventlog.jetstream.backbone import connect_backbone
from peritus.ids import new_id, now_ms
from peritus.liveness import dead_by
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import Delta, ModelReply
from services.tool.local import LocalToolBox, RegisteredTool
from services.worker.epoch import this_epoch
from services.worker.toolbox import ToolCall
from tests.e2e.processes import TOKEN

LEADS, WORKERS = 4, 3
"""Sixteen delegates on two levels below the coordinator."""

HOLDERS = 20
"""Delegates whose tools run until they are stopped."""

POLL_S = 0.01
MODEL = ModelChoice(provider="test", model="test", output_tokens_max=100)


def _tool(name: str) -> LocalTool:
    spec = ToolSpec(name=name, description=name, parameters={"type": "object"})
    return LocalTool(spec=spec, safety=Safety.UNSAFE)


def definition() -> Definition:
    """A coordinator of leads of workers, and one of delegates that hold on."""
    skills: dict[str, Skill] = {"s": LocalSkill(tools=("hold", "note"))}
    below = {
        "boss": ("@boss/lead",),
        "@boss/lead": ("@boss/worker",),
        "@boss/worker": (),
        "wide": ("@wide/holder",),
        "@wide/holder": (),
    }
    experts = {
        key: Expert(key=key, instruction="x", delegates=delegates, skills=skills, model=MODEL)
        for key, delegates in sorted(below.items())
    }
    return Definition(experts=experts, limits=Limits(steps_max=1_000, fan_out_max=HOLDERS))


async def generate(
    request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
) -> ModelReply:
    """First the calls of a role, then what came of them, in the order it was read."""
    del on_delta
    expert = next(block.text for block in request.context.system if block.name == "expert")
    task = text_of(tuple(p for p in request.messages[0].parts if isinstance(p, TextPart)))
    parts: list[AssistantPart]
    if len(request.messages) == 1:
        parts = list(_calls(expert, task))
    else:
        answers = [p for p in request.messages[-1].parts if isinstance(p, ResultPart)]
        read = [text_of(answer.content) for answer in answers]
        said = f"{task} did" if expert.endswith(("worker", "holder")) else ", ".join(read)
        parts = [TextPart(text=f"[{said}]")]
    calls = any(isinstance(part, CallPart) for part in parts)
    return ModelReply(tuple(parts), "tool_calls" if calls else "end", Usage(input=9, output=1))


def _calls(expert: str, task: str) -> list[CallPart]:
    match expert:
        case "boss":
            return [_call("lead", str(n)) for n in range(LEADS)]
        case "@boss/lead":
            return [_call("worker", f"{task}.{n}") for n in range(WORKERS)]
        case "wide":
            return [_call("holder", str(n)) for n in range(HOLDERS)]
        case "@wide/holder":
            return [_call("hold", task)]
        case _:
            return [_call("note", task)]


def _call(tool: str, task: str) -> CallPart:
    return CallPart(provider_id=f"p{task}", tool=tool, arguments=f'{{"query": "{task}"}}')


class Counting:
    """The tools, and the file in which they count outside of the log."""

    def __init__(self, folder: Path) -> None:
        """`folder` is there."""
        self._folder = folder

    def _line(self, what: str, call: ToolCall) -> None:
        with (self._folder / "ran").open("a") as ran:
            ran.write(f"{what} {os.getpid()} {call.key}\n")

    async def note(self, arguments: dict[str, Any], call: ToolCall) -> str:
        """Begin, wait for the gate, end."""
        self._line("begin", call)
        first = arguments["query"].startswith("0.")
        while not (first or (self._folder / "gate").exists()):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(POLL_S)
        self._line("end", call)
        return "noted"

    async def hold(self, arguments: dict[str, Any], call: ToolCall) -> str:
        """Begin, and run until it is stopped."""
        del arguments
        self._line("begin", call)
        try:
            await asyncio.Event().wait()
        finally:
            self._line("end", call)
        return "never"


async def main(url: str, folder: str) -> None:
    """Serve until killed."""
    tools = Counting(Path(folder))
    box = LocalToolBox(
        {
            "note": RegisteredTool(_tool("note"), tools.note),
            "hold": RegisteredTool(_tool("hold"), tools.hold),
        }
    )
    async with connect_backbone(url, token=TOKEN) as backbone:
        parts = WorkerParts(
            backbone=backbone,
            epoch=str(this_epoch()),
            now_ms=now_ms,
            new_id=new_id,
            certainly_dead=dead_by(this_epoch()),
            generate=generate,
            toolboxes={Lane.TOOL: box},
            local_tools=box.specs(),
        )
        await run_worker(parts, lambda _: say("ready"))


def say(line: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
