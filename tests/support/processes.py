"""A process on this machine as the port `Process` has it, without a sandbox. Only for tests."""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from services.sandbox.process import Child, Pipes, Staying, spawn

SERVERS = Path(__file__).parents[1] / "mcp_servers"


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


def server_argv(name: str, *args: str) -> list[str]:
    """How a server of tests/mcp_servers is started."""
    return [sys.executable, "-u", str(SERVERS / f"{name}.py"), *args]
