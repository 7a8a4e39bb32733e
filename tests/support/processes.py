"""A process on this machine as the port `Process` has it, without a sandbox. Only for tests."""

import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.sandbox.process import Child, Pipes, Staying, spawn
from services.worker.process import Process

SERVERS = Path(__file__).parents[1] / "mcp_servers"


@dataclass(frozen=True, slots=True)
class Ground:
    """Where servers run: how they are started there, and how they name their files."""

    start: Callable[[Sequence[str]], Awaitable[Process]]
    python: str
    servers: str
    """The folder of tests/mcp_servers, as they see it."""
    inside: str
    """A folder for their files, as they see it."""
    folder: Path
    """The same, as we see it."""

    def argv(self, server: str, *args: str) -> list[str]:
        return [self.python, "-u", f"{self.servers}/{server}.py", *args]


class Group:
    """A process and its group: what leaves the group is not found, as no sandbox holds it."""

    def __init__(self, child: Child) -> None:
        self._child = child

    async def ended(self) -> int:
        return await self._child.ended()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        await self._child.ended()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)


async def start_process(argv: Sequence[str], env: dict[str, str] | None = None) -> Staying:
    pipes = Pipes(None)
    given = {"PATH": os.environ["PATH"], **(env or {})}
    child = spawn(argv, pipes, pass_fds=(), env=given)
    return Staying(Group(child), pipes.keep(), lambda _: None)


def on_this_machine(folder: Path) -> Ground:
    """As plain processes, in no sandbox."""
    return Ground(start_process, sys.executable, str(SERVERS), str(folder), folder)


def processes_with(word: str) -> list[int]:
    """The processes of the whole machine whose command line holds a word."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            if word.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]
