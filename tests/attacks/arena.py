"""A model that attacks: a tool box over a real sandbox, and the outside it must not touch."""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from domain.content import TextPart
from domain.ids import RunRef
from domain.sandbox import MIB, SandboxLimits
from services.sandbox.port import Backend, Owner, Sandbox, SandboxSpec
from services.sandbox.room import Room, Seat
from services.sandbox.tools.box import BaseToolBox
from services.sandbox.tools.processes import Processes
from services.sandbox.workspace import Workspace
from services.worker.toolbox import ToolCall, ToolResult
from tests.attacks.outside import Outside, outside
from tests.contract.sandbox_backends import BackendUnderTest

WAIT_S = 60.0
RUN = RunRef("acme", "job", "run")

LIMITS = SandboxLimits(
    memory_bytes=256 * MIB,
    processes=64,
    open_files=256,
    file_bytes=16 * MIB,
    tmp_bytes=8 * MIB,
    shared_memory_bytes=4 * MIB,
)


class Attack(NamedTuple):
    """`script` runs inside, after PREAMBLE; `needs` are promises it is pointless without."""

    name: str
    tries: str
    script: str
    needs: tuple[str, ...] = ()


PREAMBLE = """
import contextlib, ctypes, errno, fcntl, json, mmap, os, pathlib, platform, resource, shutil
import signal, socket, stat, struct, subprocess, sys, termios, threading, time
told = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
def tries(attack, wanted=None):
    try:
        got = attack()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print('denied', type(error).__name__)
        return
    if wanted is None or wanted in str(got):
        print('GOT', repr(got)[:200])
    else:
        print('denied', 'something else')
def call(function, *arguments):
    result = function(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), 'refused')
    return result
def syscall(x86_64, aarch64, *arguments):
    return call(libc.syscall, x86_64 if x86 else aarch64, *arguments)
def apart(work):
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            work()
            os._exit(7)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) != 7:
        raise OSError('killed or refused')
    return 'it ran'
def read(path):
    return pathlib.Path(path).read_bytes()
def write(path, text='pwned'):
    return pathlib.Path(path).write_text(text)
def reach(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as tried:
        tried.settimeout(3)
        tried.connect(address)
        return 'reached'
def send(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as tried:
        tried.settimeout(3)
        return tried.sendto(b'x', address)
"""


@dataclass(frozen=True)
class Said:
    """What a model reads as the answer to a call."""

    failed: bool
    answer: dict[str, Any]
    result: ToolResult

    @property
    def error(self) -> str:
        """The word for what was wrong, of a tool that refused."""
        return str(self.answer.get("error", ""))

    @property
    def output(self) -> str:
        """What a command printed."""
        return str(self.answer.get("output", ""))


@dataclass
class Arena:
    """One sandbox with its tool box, over a workspace that is there for attacks only."""

    name: str
    backend: Backend
    outside: Outside
    folder: Path
    room: Room
    processes: Processes
    promises: Mapping[str, bool]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    opened: Sandbox | None = None
    results: dict[tuple[RunRef, str], bytes] = field(default_factory=dict[Any, bytes])

    def __post_init__(self) -> None:
        self._box = BaseToolBox(self._seat, self._read_whole, self.processes)
        self._calls = 0

    @property
    def owner(self) -> Owner:
        """Nobody else's: arenas live side by side."""
        return Owner("attacks", self.outside.token, *RUN)

    async def sandbox(self) -> Sandbox:
        """The sandbox, made at its first use."""
        if self.opened is None:
            spec = SandboxSpec(self.owner, self.room.workspace, limits=LIMITS)
            self.opened = await self.backend.open(spec)
        return self.opened

    async def anew(self) -> None:
        """Let go of the sandbox: the next call gets another."""
        if self.opened is not None:
            await self.opened.close()
            self.opened = None

    async def raw(self, arguments: str) -> ToolResult:
        """A call of `exec` whose arguments may be no arguments at all."""
        call = ToolCall(RUN, "raw", "key-raw", "exec", arguments, 10_000)
        async with asyncio.timeout(WAIT_S):
            return await self._box.call(call, unheard)

    @asynccontextmanager
    async def _seat(self, call: ToolCall) -> AsyncGenerator[Seat]:
        yield Seat(self.room, call.ref.run, False, self.sandbox, self.env)  # noqa: FBT003

    async def _read_whole(self, ref: RunRef, call: str) -> bytes | None:
        return self.results.get((ref, call))

    async def call(self, tool: str, by: RunRef = RUN, /, **arguments: object) -> Said:
        """What a model asks for, and what it is told."""
        self._calls += 1
        name = f"c{self._calls}"
        call = ToolCall(by, name, f"key-{name}", tool, json.dumps(arguments), int(WAIT_S * 1000))
        async with asyncio.timeout(WAIT_S):
            result = await self._box.call(call, unheard)
        if result.full_output is not None:
            self.results[by, name] = result.full_output
        (part,) = result.content[:1]
        assert isinstance(part, TextPart)
        assert isinstance(part.text, str)
        return Said(result.is_error, json.loads(part.text), result)

    async def python(self, script: str, *, timeout_ms: int = 30_000) -> Said:
        """Run a script inside, with what an attacker knows."""
        return await self.call(
            "exec",
            command="python3",
            args=["-c", PREAMBLE + script + "\nprint('over')", json.dumps(self.outside.told())],
            timeout=timeout_ms,
        )

    async def shell(self, script: str) -> Said:
        """Run a line of shell inside."""
        return await self.call("exec", shell=script)

    async def held(self, attack: Attack) -> None:
        """Run an attack to its end: all of it was denied, and nothing happened outside."""
        said = await self.python(attack.script)
        lines = said.output.split("\n")
        assert "over" in lines, (attack.tries, said.output)  # else nothing was tried
        assert any(line.startswith("denied") for line in lines), said.output
        assert not [line for line in lines if line.startswith("GOT")], (attack.tries, said.output)
        self.unharmed()

    def unharmed(self) -> None:
        """Nothing happened outside, and the workspace has only what belongs there."""
        assert self.outside.touched() == []


async def unheard(_text: str) -> None:
    """Nobody watches."""


@asynccontextmanager
async def arena(under_test: BackendUnderTest) -> AsyncGenerator[Arena]:
    """Everything of it is gone afterwards."""
    async with AsyncExitStack() as stack:
        around = stack.enter_context(outside())
        state = stack.enter_context(tempfile.TemporaryDirectory(prefix="peritus-state-"))
        backend = await stack.enter_async_context(under_test.open(Path(state)))
        folder = around.base / "workspace"
        folder.mkdir()
        if under_test.user is not None:
            os.chown(folder, under_test.user, under_test.user)
        held = stack.enter_context(Workspace(folder))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        processes = Processes(tasks)
        room = Room("job", held)
        stack.push_async_callback(processes.leave, room)
        report = await backend.report()
        yield Arena(under_test.name, backend, around, folder, room, processes, report.promises)
