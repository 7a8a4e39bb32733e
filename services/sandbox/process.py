"""One bubblewrap process from start to reaping: its pipes, its clock, its end. Not what it runs.

It is spawned from the thread of the event loop, because bubblewrap's --die-with-parent follows the
thread that started it, and it is watched by a pidfd, so no other thread is needed to reap it.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from services.sandbox.failures import SandboxUnavailable

TERMINATE_GRACE_S = 2.0
REAP_S = 10.0
CHUNK_BYTES = 64 * 1024

OnBytes = Callable[[bytes], Awaitable[None]]


class Launch(NamedTuple):
    """What to start: `status` is the read end of bubblewrap's --json-status-fd."""

    argv: Sequence[str]
    pass_fds: Sequence[int]
    status: int
    owner: tuple[int, int] | None  # user and group to become first; only root can


class Ended(NamedTuple):
    """How it ended: `reached` says whether bubblewrap got as far as the command itself."""

    exit_code: int
    timed_out: bool
    reached: bool


async def run_to_end(
    launch: Launch,
    *,
    timeout_s: float,
    on_stdout: OnBytes,
    on_stderr: OnBytes,
    release: Callable[[], None],
) -> Ended:
    """Start a sandbox and wait until nothing of it is left, also when cancelled.

    `release` is called as soon as the process has its own copies of what it was passed.

    Raises:
        SandboxUnavailable: the process cannot be started, or the kernel does not let it die.
    """
    with ExitStack() as opened:
        stdout_read, stdout_write = _pipe(opened)
        stderr_read, stderr_write = _pipe(opened)
        process = _spawn(launch, stdout_write, stderr_write)
        try:
            release()
            os.close(stdout_write)
            os.close(stderr_write)
            pidfd = os.pidfd_open(process.pid)
            opened.callback(os.close, pidfd)
        except OSError:
            process.kill()
            process.wait()
            raise
        sandboxed = _Sandboxed(process, pidfd, launch.status, opened)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(stdout_read, on_stdout))
                group.create_task(_pump(stderr_read, on_stderr))
                timed_out = await sandboxed.within(timeout_s)
        finally:
            await sandboxed.kill()
        return Ended(process.wait(), timed_out, sandboxed.reached())


class _Sandboxed:
    """A running sandbox: the process we started, and the first process of its namespace.

    The outer one is ours to reap. Only the end of the inner one means that every process of the
    sandbox is gone: the kernel removes all others first.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], pidfd: int, status: int, opened: ExitStack
    ) -> None:
        self._process = process
        self._outer = pidfd
        self._inner: int | None = None
        self._inner_pid: int | None = None
        self._status = status
        self._said = b""
        self._said_all = False
        self._opened = opened

    async def within(self, timeout_s: float) -> bool:
        """Wait for the end, and bring it about after the time; whether that was necessary."""
        timed_out = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._meet()
                await _readable(self._outer)
        except TimeoutError:
            timed_out = True
            await self._terminate()
        await self.kill()  # what runs on in the background holds the pipes open
        return timed_out

    async def kill(self) -> None:
        """End every process of the sandbox and wait until the kernel has removed them.

        A cancellation that arrives meanwhile is kept until that is done.

        Raises:
            SandboxUnavailable: the kernel does not let go of a process.
        """
        cancelled: asyncio.CancelledError | None = None
        deadline = asyncio.get_running_loop().time() + REAP_S
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._kill()
                break
            except TimeoutError:
                self._process.kill()
                message = f"process {self._process.pid} of the sandbox cannot be killed"
                raise SandboxUnavailable(message) from None
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def reached(self) -> bool:
        """Whether the command itself was started: only then bubblewrap reports its end."""
        return any("exit-code" in said for said in self._statements())

    async def _meet(self) -> None:
        """Wait until bubblewrap says which process is the first inside, or that there is none.

        Before that it must not be killed: a process inside that has just been made would not
        yet be bound to die with it.
        """
        while self._inner is None:
            for said in self._statements():
                if "child-pid" in said:
                    self._hold(said["child-pid"])
                    return
            if self._said_all:
                return
            await _readable(self._status)

    def _hold(self, inner: int) -> None:
        try:
            self._inner = os.pidfd_open(inner)
        except ProcessLookupError:
            self._said_all = True  # over already, and reaped: there is nobody to wait for
        else:
            self._inner_pid = inner
            self._opened.callback(os.close, self._inner)

    async def _terminate(self) -> None:
        """Ask the command's process group to end. Bubblewrap's own init in it ignores that."""
        if self._inner_pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._inner_pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERMINATE_GRACE_S):
                await _readable(self._outer)

    async def _kill(self) -> None:
        await self._meet()
        if self._inner is None:
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._inner, signal.SIGKILL)
            await _readable(self._inner)
        await _readable(self._outer)
        self._process.wait()

    def _statements(self) -> list[dict[str, int]]:
        """What bubblewrap has said so far; a line comes in several pieces."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._status, CHUNK_BYTES):
                self._said += chunk
            self._said_all = True
        return [json.loads(line) for line in self._said.split(b"\n")[:-1]]


def _spawn(launch: Launch, stdout: int, stderr: int) -> "subprocess.Popen[bytes]":
    user, group = launch.owner or (None, None)
    try:
        return subprocess.Popen(  # noqa: S603 - the vector is ours, the command is its last part
            launch.argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            close_fds=True,
            pass_fds=launch.pass_fds,
            cwd="/",
            # The command can read this in /proc/1/environ: nothing of ours may be in it.
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,
            umask=0o022,
            user=user,
            group=group,
            extra_groups=None if launch.owner is None else [],
        )
    except (OSError, subprocess.SubprocessError) as error:
        message = f"bubblewrap cannot be started: {error}"
        raise SandboxUnavailable(message) from error


def _pipe(opened: ExitStack) -> tuple[int, int]:
    """A pipe whose read end does not block and is closed with the stack."""
    read, write = os.pipe2(os.O_CLOEXEC)
    opened.callback(os.close, read)
    os.set_blocking(read, False)
    return read, write


async def _pump(descriptor: int, on_bytes: OnBytes) -> None:
    """Hand on what comes out of a pipe until nobody holds its other end any more."""
    while True:
        await _readable(descriptor)
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                return
            await on_bytes(chunk)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
