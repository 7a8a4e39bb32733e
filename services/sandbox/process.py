"""A process on this machine and its pipes: what backends without an engine share. Not a sandbox.

Everything is pulled: nothing is read before somebody wants it, so the kernel's pipe is the window,
and no task outlives a call. A process is watched by a pidfd, so no other thread is needed to reap
it; it is spawned from the thread of the event loop, because parent-death signals follow the thread.
"""

import asyncio
import contextlib
import fcntl
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple, Protocol

from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import WINDOW_BYTES, OnBytes
from services.worker.process import Chunk

CHUNK_BYTES = 64 * 1024
REAP_S = 10.0
"""How long the kernel may take to remove what was killed, in seconds."""

Stream = Literal["stdout", "stderr"]


class Body(Protocol):
    """A process that was started, with everything it starts in turn."""

    async def ended(self) -> int:
        """Wait until the process itself has ended; its exit code, 128 + n for signal n."""
        ...

    def terminate(self) -> None:
        """SIGTERM to its group; harmless once it is over."""
        ...

    async def kill(self) -> None:
        """SIGKILL to all of it; returns when the kernel has removed them. Twice is harmless."""
        ...


class Ends(NamedTuple):
    """Our ends of the pipes, which do not block; `stdin` is None where nothing is written."""

    stdin: int | None
    stdout: int
    stderr: int


class Pipes:
    """The pipes of one process: ours, and those it inherits until `release`."""

    def __init__(self, stdin: bytes | None, owner: tuple[int, int] | None = None) -> None:
        """Make them; `stdin` is all of the input, or None for a pipe to write to.

        `owner` is whose they are to be, or the process could not open /dev/stdout by its name.

        Raises:
            SandboxUnavailable: there are no descriptors left.
        """
        self._theirs = ExitStack()
        self._ours = ExitStack()
        try:
            self.stdin, writing = self._input(stdin)
            reading_out, self.stdout = self._output()
            reading_err, self.stderr = self._output()
            if owner is not None:
                for theirs in (self.stdin, self.stdout, self.stderr):
                    os.fchown(theirs, *owner)
        except OSError as error:
            self.close()
            message = f"no pipe can be made: {error.strerror}"
            raise SandboxUnavailable(message) from error
        self.ours = Ends(writing, reading_out, reading_err)

    def release(self) -> None:
        """Close what the process has its own copies of."""
        self._theirs.close()

    def keep(self) -> Ends:
        """Hand over our ends: whoever takes them closes them."""
        self._ours.pop_all()
        return self.ours

    def close(self) -> None:
        """Close everything that was not handed over."""
        self._theirs.close()
        self._ours.close()

    def _input(self, stdin: bytes | None) -> tuple[int, int | None]:
        if stdin is not None:
            read = in_memory(stdin)
            self._theirs.callback(os.close, read)
            return read, None
        read, write = os.pipe2(os.O_CLOEXEC)
        self._theirs.callback(os.close, read)
        self._ours.callback(os.close, write)
        os.set_blocking(write, False)
        return read, write

    def _output(self) -> tuple[int, int]:
        read, write = os.pipe2(os.O_CLOEXEC)
        self._ours.callback(os.close, read)
        self._theirs.callback(os.close, write)
        os.set_blocking(read, False)
        with contextlib.suppress(OSError):  # more than this user may have: it stays as it is
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, WINDOW_BYTES)
        return read, write


def in_memory(content: bytes, name: str = "peritus") -> int:
    """An open file with some content, at its beginning and without a place; the caller's to close.

    Raises:
        OSError: there are no descriptors left.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def spawn(
    argv: Sequence[str], pipes: Pipes, *, pass_fds: Sequence[int], env: dict[str, str]
) -> "Child":
    """Start a process in a session of its own that inherits nothing else of ours.

    Raises:
        SandboxUnavailable: it cannot be started.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the vector is ours, the command is its last part
            argv,
            stdin=pipes.stdin,
            stdout=pipes.stdout,
            stderr=pipes.stderr,
            close_fds=True,
            pass_fds=pass_fds,
            cwd="/",
            env=env,
            start_new_session=True,
            umask=0o022,
        )
    except (OSError, subprocess.SubprocessError) as error:
        message = f"{argv[0]} cannot be started: {error}"
        raise SandboxUnavailable(message) from error
    pipes.release()
    try:
        return Child(process)
    except OSError as error:
        process.kill()
        process.wait()
        message = f"{argv[0]} cannot be watched: {error}"
        raise SandboxUnavailable(message) from error


class Child:
    """A process we started, seen by its pidfd. Not what it starts in turn."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.pid = process.pid
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._waiting = asyncio.Lock()

    async def ended(self) -> int:
        """Wait for its end and reap it; its exit code, 128 + n for signal n."""
        async with self._waiting:
            if self._process.returncode is None:
                await readable(self._pidfd)
            code = self._process.wait()
            self._close()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """SIGKILL to this process alone; harmless once it is over."""
        self._process.kill()

    def _close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


async def run_to_end(
    body: Body,
    ends: Ends,
    *,
    timeout_s: float,
    grace_s: float,
    on_stdout: OnBytes,
    on_stderr: OnBytes,
) -> bool:
    """Wait until nothing of it is left, also when cancelled; whether its time ran out.

    Raises:
        SandboxUnavailable: the kernel does not let it die.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(ends.stdout, on_stdout))
            group.create_task(_pump(ends.stderr, on_stderr))
            timed_out = not await _ended_within(body, timeout_s)
            if timed_out:
                body.terminate()
                await _ended_within(body, grace_s)
            await bury(body)  # what runs on in the background holds the pipes open
    finally:
        await bury(body)
    return timed_out


async def bury(body: Body) -> None:
    """End all of it and wait for that. A cancellation that arrives meanwhile is kept until then.

    Raises:
        SandboxUnavailable: the kernel does not let go of a process.
    """
    cancelled: asyncio.CancelledError | None = None
    deadline = asyncio.get_running_loop().time() + REAP_S
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                await body.kill()
            break
        except TimeoutError:
            message = "a process of the sandbox cannot be killed"
            raise SandboxUnavailable(message) from None
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def _ended_within(body: Body, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await body.ended()
    except TimeoutError:
        return False
    return True


class Staying:
    """A process that stays: fills the port `Process` over any body.

    `on_over` is called once nothing of it is left.
    """

    def __init__(self, body: Body, ends: Ends, on_over: Callable[["Staying"], None]) -> None:
        self._body = body
        self._stdin = ends.stdin
        self._streams: dict[Stream, int] = {"stdout": ends.stdout, "stderr": ends.stderr}
        self._offsets: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        self._on_over = on_over
        self._writing = asyncio.Lock()
        self._reading = False
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Write to its standard input; waits while the process does not read.

        Raises:
            BrokenPipeError: it reads no more.
        """
        left = memoryview(data)
        async with self._writing:
            while left:
                if self._stdin is None:
                    raise BrokenPipeError
                try:
                    left = left[os.write(self._stdin, left) :]
                except BlockingIOError:
                    await writable(self._stdin)

    async def close_stdin(self) -> None:
        """Let it read the end of its input; closing twice is harmless."""
        async with self._writing:
            self._drop_stdin()

    async def output(self) -> AsyncIterator[Chunk]:
        """What it prints, in order within each stream, until both have ended. For one reader."""
        if self._reading:
            message = "the output of a process is for one reader"
            raise RuntimeError(message)
        self._reading = True
        try:
            while self._streams:
                await any_readable(self._streams.values())
                for stream in tuple(self._streams):
                    data = self._read(stream)
                    if data:
                        offset = self._offsets[stream]
                        self._offsets[stream] += len(data)
                        yield Chunk(stream, offset, data)
        finally:
            self._reading = False
            if self._closed:
                self._drop_streams()

    def _read(self, stream: Stream) -> bytes:
        """What there is of a stream now; at its end it is closed."""
        if stream not in self._streams:  # closed while the reader looked elsewhere
            return b""
        try:
            data = os.read(self._streams[stream], CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            os.close(self._streams.pop(stream))
        return data

    async def wait(self) -> int:
        """Its exit code, once it has ended by itself or was stopped."""
        code = await self._body.ended()
        await bury(self._body)
        await self.close_stdin()  # nobody reads it any more; its output may still be read
        self._on_over(self)
        return code

    async def stop(self, grace_s: float = 2.0) -> int:
        """SIGTERM to its group, then SIGKILL to all it started; nothing of it is left after."""
        try:
            self._body.terminate()
            await _ended_within(self._body, grace_s)
        finally:
            await bury(self._body)
        return await self.wait()

    async def close(self) -> None:
        """Kill it and let go of its pipes; what nobody has read yet is lost."""
        await bury(self._body)
        self._closed = True
        self._drop_streams()
        await self.close_stdin()  # a writer that waits has woken: nobody reads any more
        self._on_over(self)

    def _drop_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def _drop_streams(self) -> None:
        if not self._reading:  # a reader that waits sees the end by itself, and closes then
            while self._streams:
                os.close(self._streams.popitem()[1])


async def _pump(descriptor: int, on_bytes: OnBytes) -> None:
    """Hand on what comes out of a pipe until nobody holds its other end any more."""
    while True:
        await readable(descriptor)
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                return
            await on_bytes(chunk)


async def readable(descriptor: int) -> None:
    """Wait until there is something to read, or the end; for one waiter at a time."""
    await any_readable((descriptor,))


async def any_readable(descriptors: Iterable[int]) -> None:
    """Wait until at least one of them has something to read, or has ended."""
    loop = asyncio.get_running_loop()
    await _ready(tuple(descriptors), loop.add_reader, loop.remove_reader)


async def writable(descriptor: int) -> None:
    """Wait until something can be written, or nobody reads it any more."""
    loop = asyncio.get_running_loop()
    await _ready((descriptor,), loop.add_writer, loop.remove_writer)


async def _ready(
    descriptors: Sequence[int],
    add: Callable[[int, Callable[[], None]], object],
    remove: Callable[[int], object],
) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        for descriptor in descriptors:
            add(descriptor, wake)
        await ready
    finally:
        for descriptor in descriptors:
            remove(descriptor)
