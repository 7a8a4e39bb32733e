"""One command in a container: its streams, its end, and the end of all it has started.

It is ended at once by its own control group where this machine's kernel lets us make one. Elsewhere
it is ended from inside: by its session, and, once nothing else runs in the sandbox, with whatever
else is left there.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from services.sandbox.docker import host, script
from services.sandbox.docker.attach import Attached
from services.sandbox.docker.engine import Engine, EngineError
from services.sandbox.docker.shell import Shell

KILLED = 137
REAP_S = 10.0
"""How long killing may take before the whole container goes, in seconds."""

ASK_FIRST_S, ASK_LAST_S = 0.002, 0.25


class Surroundings(Protocol):
    """What a command needs of its sandbox."""

    @property
    def engine(self) -> Engine:
        """Where it runs."""
        ...

    async def inside(self, line: bytes) -> None:
        """Have another shell of the container obey a line."""
        ...

    async def thawed(self) -> None:
        """Wait until the sandbox is not frozen."""
        ...

    def alone(self, command: "Running") -> bool:
        """Whether no other command runs in the sandbox."""
        ...

    async def condemn(self) -> None:
        """End the container with all that is in it."""
        ...

    def forget(self, command: "Running") -> None:
        """The command is over, and nothing of it is left."""
        ...


class Running:
    """A shell that became a command."""

    def __init__(self, shell: Shell, stream: Attached, around: Surroundings) -> None:
        self.stream = stream
        self._shell = shell
        self._around = around
        self._over = asyncio.Event()
        self._killed = False
        self._code: int | None = None
        self._pidfd = -1
        if shell.pid:
            with suppress(OSError):
                self._pidfd = os.pidfd_open(shell.pid)
                asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        """The command itself is over: what it left ends with it, and its last words are few."""
        self._unwatch()
        self._over.set()
        if self._shell.cell is not None:
            host.end(self._shell.cell)
        self.stream.lift()

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    async def ended(self) -> None:
        """Wait until the command itself is over."""
        if self._pidfd >= 0:
            await self._over.wait()
            return
        pause = ASK_FIRST_S
        while not self._over.is_set() and await self._asked() is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._over.wait()
            pause = min(2 * pause, ASK_LAST_S)
        self._ended()

    async def exit_code(self) -> int:
        """Its exit code, 128 + n for signal n; that of SIGKILL where the container is gone."""
        pause = ASK_FIRST_S
        while await self._asked() is None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, ASK_LAST_S)
        return KILLED if self._code is None else self._code

    async def _asked(self) -> int | None:
        """The exit code, if the engine knows of one."""
        if self._code is None:
            try:
                said = await self._around.engine.call(
                    lambda api: api.exec_inspect(self._shell.exec_id)
                )
            except EngineError:  # it has run, so this is an outcome: the container is gone
                self._code = KILLED
            else:
                if not said["Running"]:
                    self._code = KILLED if said["ExitCode"] is None else int(said["ExitCode"])
        return self._code

    async def terminate(self) -> None:
        """SIGTERM to its group; harmless once it is over."""
        if self._over.is_set():
            return
        if self._shell.ours:
            host.signal_group(self._shell.pid, signal.SIGTERM)
        else:
            await self._around.inside(script.ending_group(self._shell.number, "TERM"))

    async def kill(self) -> None:
        """SIGKILL to all of it; returns when it is gone, also when cancelled. Twice is harmless.

        What cannot be killed alone is killed with the container.
        """
        await to_the_end(self._kill)

    async def _kill(self) -> None:
        if self._killed:
            return
        await self._around.thawed()  # what is frozen cannot die
        try:
            async with asyncio.timeout(REAP_S):
                await self._end_all()
                self.stream.lift()
                await self.stream.over.wait()
        except (TimeoutError, EngineError):
            with suppress(EngineError):
                await self._around.condemn()
        self._over.set()
        self._unwatch()
        self.stream.close()
        self._killed = True
        self._around.forget(self)

    async def _end_all(self) -> None:
        cell = self._shell.cell
        if cell is None:
            if self._around.alone(self):
                await self._around.inside(script.ENDING_ALL)
            else:
                await self._around.inside(script.ending_session(self._shell.number))
            await self.ended()
            return
        pause = ASK_FIRST_S / 4
        while not (host.end(cell) and host.remove(cell)):
            await asyncio.sleep(pause)
            pause = min(2 * pause, ASK_LAST_S)

    async def within(self, timeout_s: float, grace_s: float) -> bool:
        """Wait for its end, and ask for it after the time; whether that was necessary."""
        if await in_time(self.ended, timeout_s):
            return False
        with suppress(EngineError):  # there may be no room inside to say it: then it is killed
            await self.terminate()
        await in_time(self.ended, grace_s)
        return True


async def in_time(work: Callable[[], Awaitable[None]], timeout_s: float) -> bool:
    """Do some work for a time; whether it was done."""
    try:
        async with asyncio.timeout(timeout_s):
            await work()
    except TimeoutError:
        return False
    return True


async def to_the_end(work: Callable[[], Awaitable[None]]) -> None:
    """Do some work that may be begun again; a cancellation is kept until it is done."""
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            await work()
            break
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
