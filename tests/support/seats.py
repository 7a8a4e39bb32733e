"""A fixed room over one folder with a real sandbox, for tests of the tool box. Not the service."""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.content import TextPart
from domain.ids import RunRef
from domain.redaction import Redactor
from domain.secrets import SecretValue
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.port import Backend, Owner, Sandbox, SandboxSpec
from services.sandbox.resolve import OpenBeneath
from services.sandbox.room import Room, Seat
from services.sandbox.tools.box import BaseToolBox
from services.sandbox.tools.processes import Processes
from services.sandbox.workspace import Workspace
from services.worker.toolbox import ToolBox, ToolCall, ToolResult

WAIT_S = 30
RUN = RunRef("tenant", "job", "run")


@dataclass
class Seating:
    """The seats of a room: every run of the job has one, over one sandbox made at its first use."""

    room: Room
    backend: Backend
    read_only: bool = False
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    secret_env: Mapping[str, SecretValue] = field(default_factory=dict[str, SecretValue])
    opened: Sandbox | None = None
    taken: int = 0  # seats that are taken now

    @asynccontextmanager
    async def seat(self, call: ToolCall) -> AsyncGenerator[Seat]:
        """The place a call works at."""
        self.taken += 1
        try:
            yield Seat(
                self.room, call.ref.run, self.read_only, self.sandbox, self.env, self.secret_env
            )
        finally:
            self.taken -= 1

    async def sandbox(self) -> Sandbox:
        """The sandbox, made now if there is none."""
        if self.opened is None:
            owner = Owner("place", "epoch", *RUN)
            spec = SandboxSpec(owner, self.room.workspace, read_only=self.read_only)
            self.opened = await self.backend.open(spec)
        return self.opened


@dataclass
class Bench:
    """A tool box at work, and what a test looks at beside its answers."""

    box: ToolBox
    seating: Seating
    processes: Processes
    outputs: dict[tuple[RunRef, str], bytes]  # what `readResult` finds

    async def run(self, call: ToolCall) -> ToolResult:
        """Execute a call; its whole output is there to be read afterwards."""
        async with asyncio.timeout(WAIT_S):
            result = await self.box.call(call, unheard)
        if result.full_output is not None:
            self.outputs[call.ref, call.call] = result.full_output
        return result

    async def done(self, tool: str, /, **arguments: object) -> dict[str, Any]:
        """The answer of a call that must work."""
        result = await self.run(call_of(tool, json.dumps(arguments)))
        assert not result.is_error, result.content
        return answer(result)

    async def failed(self, tool: str, /, **arguments: object) -> dict[str, Any]:
        """The answer of a call that must not."""
        result = await self.run(call_of(tool, json.dumps(arguments)))
        assert result.is_error, result.content
        said = answer(result)
        assert said["message"]
        return said

    async def as_run(self, run: str, tool: str, /, **arguments: object) -> dict[str, Any]:
        """The answer of a call of another run of the job, whether it worked or not."""
        call = call_of(tool, json.dumps(arguments), ref=RUN._replace(run=run))
        return answer(await self.run(call))


@asynccontextmanager
async def bench(
    folder: Path,
    configure: Callable[[Seating], None] = lambda _: None,
    opener: OpenBeneath | None = None,
    redactor: Callable[[], Redactor] = Redactor,
) -> AsyncGenerator[Bench]:
    """A tool box over a folder; nothing is left of it, or of what it started, afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="peritus-state-") as state,
        Workspace(folder, opener) as held,
    ):
        backend = BubblewrapBackend(Path(state))
        seating = Seating(Room("job", held), backend)
        configure(seating)
        outputs: dict[tuple[RunRef, str], bytes] = {}

        async def read_whole(ref: RunRef, call: str) -> bytes | None:
            return outputs.get((ref, call))

        async with asyncio.TaskGroup() as tasks:
            processes = Processes(tasks, redactor)
            try:
                box = BaseToolBox(seating.seat, read_whole, processes, redactor)
                yield Bench(box, seating, processes, outputs)
            finally:
                await processes.leave(seating.room)
                await backend.close()


async def unheard(_text: str) -> None:
    """Nobody watches."""


def call_of(
    tool: str,
    arguments: str,
    timeout_ms: int = WAIT_S * 1000,
    *,
    call: str = "c1-0",
    ref: RunRef = RUN,
) -> ToolCall:
    """A call as it leaves the log."""
    return ToolCall(ref, call, "key", tool, arguments, timeout_ms)


def answer(result: ToolResult) -> dict[str, Any]:
    """What the model reads, as it was put together."""
    (part,) = result.content
    assert isinstance(part, TextPart)
    assert isinstance(part.text, str)
    said: dict[str, Any] = json.loads(part.text)
    return said
