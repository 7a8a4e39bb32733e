"""A bubblewrap at work: the process we started, and the first process of its namespace.

The outer one is ours to reap. Only the end of the inner one means that every process of the sandbox
is gone: the kernel removes all others first. Not its pipes.
"""

import asyncio
import contextlib
import json
import os
import signal

from services.sandbox.process import CHUNK_BYTES, Child, readable


class Caged:
    """Fills the port `Body`; `status` is the read end of bubblewrap's --json-status-fd."""

    def __init__(self, child: Child, status: int) -> None:
        self._child = child
        self._status = status
        self._said = b""
        self._said_all = False
        self._inner_pid: int | None = None
        self._inner: int | None = None  # its pidfd
        self._meeting = asyncio.Lock()
        self._killed = False

    async def ended(self) -> int:
        """Wait until the command is over; its exit code, 128 + n for signal n."""
        await self.met()
        return await self._child.ended()

    def terminate(self) -> None:
        """SIGTERM to the command's group. Bubblewrap's own init in it ignores that."""
        if self._inner_pid is not None and not self._killed:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._inner_pid, signal.SIGTERM)

    async def kill(self) -> None:
        """End every process in it, and wait until the kernel has removed them."""
        await self.met()
        async with self._meeting:
            if self._killed:
                return
            if self._inner is None:
                self._child.kill()
            else:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._inner, signal.SIGKILL)
                await readable(self._inner)
            await self._child.ended()
            self._close()

    def reached(self) -> bool:
        """Whether the command itself was started: only then bubblewrap reports its end."""
        return any("exit-code" in said for said in self._statements())

    async def met(self) -> None:
        """Wait until bubblewrap says which process is the first inside, or that there is none.

        Before that it must not be killed: a process inside that has just been made would not
        yet be bound to die with it.
        """
        async with self._meeting:
            while self._inner is None and not self._killed:
                for said in self._statements():
                    if "child-pid" in said:
                        self._hold(said["child-pid"])
                        return
                if self._said_all:
                    return
                await readable(self._status)

    def _hold(self, inner: int) -> None:
        try:
            self._inner = os.pidfd_open(inner)
        except ProcessLookupError:
            self._said_all = True  # over already, and reaped: there is nobody to wait for
        else:
            self._inner_pid = inner

    def _statements(self) -> list[dict[str, int]]:
        """What bubblewrap has said so far; a line comes in several pieces."""
        if not self._killed:
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(self._status, CHUNK_BYTES):
                    self._said += chunk
                self._said_all = True
        return [json.loads(line) for line in self._said.split(b"\n")[:-1]]

    def _close(self) -> None:
        self._statements()  # the last of what it said
        self._killed = True
        os.close(self._status)
        if self._inner is not None:
            os.close(self._inner)
