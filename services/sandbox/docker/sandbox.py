"""One container at work: fills the port `Sandbox`. Not how it is made: see `opening.py`.

A shell always waits in the container to become the next command, so that a command starts at once.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from services.sandbox.capture import Capture
from services.sandbox.docker import script
from services.sandbox.docker.attach import Attached
from services.sandbox.docker.engine import Api, Engine, EngineError
from services.sandbox.docker.opening import GONE, Opened
from services.sandbox.docker.running import KILLED, Running, to_the_end
from services.sandbox.docker.shell import Shell, prepare
from services.sandbox.docker.staying import StayingProcess
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Command, OnBytes, Outcome
from services.sandbox.room import Gate

GRACE_S = 2.0
"""What a command has between SIGTERM and SIGKILL, in seconds."""

START_S = 10.0
"""How long a waiting shell may take to become a command, in seconds."""

ATTEMPTS = 3
"""How many shells are tried: what runs in the sandbox may have killed those that waited."""

FREEZES = 5
SERVER_ERROR = 500


class DockerSandbox:
    """See the port."""

    def __init__(
        self,
        engine: Engine,
        opened: Opened,
        *,
        spare: bool,
        on_close: Callable[["DockerSandbox"], None],
    ) -> None:
        self.engine = engine
        self._opened = opened
        self._on_close = on_close
        self._gate = Gate()
        self._freezing = asyncio.Lock()
        self._running: set[Running] = set()
        self._spare: asyncio.Future[Shell] | None = None
        self._closed = False
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._keep_spare = spare
        self._refill()

    @property
    def proxy(self) -> socket.socket | None:
        """The listener of the proxy inside."""
        return self._opened.proxy

    def where(self, inner: str) -> str:
        """A path in a folder that was given: the same, in a root of its own."""
        return inner

    async def exec(
        self,
        command: Command,
        *,
        on_stdout: OnBytes | None = None,
        on_stderr: OnBytes | None = None,
    ) -> Outcome:
        """Run a command to its end; see the port.

        Raises:
            SandboxUnavailable: the command did not run.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        stdout, stderr = command.captures()
        killed_before = self._out_of_memory()
        running = await self._launch(command)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_feed(running.stream, command.stdin))
                group.create_task(_pump(running.stream, (stdout, on_stdout), (stderr, on_stderr)))
                timed_out = await running.within(command.timeout_s, GRACE_S)
                await running.kill()  # what runs on in the background holds the pipes open
        finally:
            await running.kill()
            self._refill()  # not before: making a shell would slow the command down
        code = await running.exit_code()
        memory = code == KILLED and self._out_of_memory() > killed_before
        return Outcome(
            exit_code=code,
            timed_out=timed_out,
            stdout=stdout,
            stderr=stderr,
            duration_ms=round((loop.time() - started) * 1000),
            killed_by="timeout" if timed_out else "memory" if memory else "",
        )

    async def start(self, command: Command) -> StayingProcess:
        """Start a process that stays; see the port.

        Raises:
            SandboxUnavailable: it did not start.
        """
        running = await self._launch(command)
        self._refill()
        return StayingProcess(running)

    async def _launch(self, command: Command) -> Running:
        """A command that has begun; a line that was not obeyed is safe to say again."""
        line = script.running(command)
        for _ in range(ATTEMPTS):
            async with self._gate.writing():  # not while it is frozen: nothing could begin
                running = await self._shell()
                said = await self._said(running, line)
            if said == script.GO:
                if self._opened.host is None or self._opened.host.cgroup is None:
                    self._refill()  # to end the command with, however little room it leaves
                return running
            await running.kill()
            if said == script.NO_FOLDER:
                message = f"the sandbox cannot build its place: no folder {command.cwd!r}"
                raise SandboxUnavailable(message)
        message = "no command can be started in the container: what runs there prevents it"
        raise SandboxUnavailable(message)

    async def _shell(self) -> Running:
        """A shell that waits: the one kept ready, or a new one."""
        spare, self._spare = self._spare, None
        shell: Shell | None = None
        if spare is not None:
            with suppress(EngineError, OSError):
                shell = await _kept(spare)
        if shell is None:
            shell = await _kept(self.engine.begin(self._prepare))
        stream = Attached()
        loop = asyncio.get_running_loop()
        connect = (
            loop.create_unix_connection
            if shell.connection.family == socket.AF_UNIX
            else loop.create_connection
        )
        shell.connection.settimeout(0)
        try:
            await connect(lambda: stream, sock=shell.connection)
        except BaseException:
            shell.connection.close()
            raise
        running = Running(shell, stream, self)
        self._running.add(running)
        return running

    def _prepare(self, api: Api) -> Shell:
        opened = self._opened
        try:
            return prepare(self.engine, api, opened.host, opened.name, opened.user)
        except EngineError as error:
            if error.status in GONE:
                message = f"the container is gone: {error}; open another sandbox"
                raise EngineError(message, error.status) from error
            raise

    def _refill(self) -> None:
        if self._keep_spare and self._spare is None and not self._closed:
            self._spare = self.engine.begin(self._prepare)

    async def _said(self, running: Running, line: bytes) -> bytes:
        """What a shell answers to a line; nothing when it is gone or says nothing in time."""
        try:
            async with asyncio.timeout(START_S):
                await running.stream.write(line)
                return await running.stream.line()
        except (BrokenPipeError, TimeoutError):
            return b""
        except asyncio.CancelledError:
            await running.kill()
            raise

    async def thawed(self) -> None:
        """Wait until the sandbox is not frozen."""
        await self._thawed.wait()

    async def inside(self, line: bytes) -> None:
        """Have another shell of the container obey a line."""
        if self._closed:
            return
        async with self._gate.writing():
            running = await self._shell()
        self._running.discard(running)
        with suppress(BrokenPipeError):
            await running.stream.write(line)
            running.stream.finish()
        await running.stream.over.wait()
        running.stream.close()

    def alone(self, command: Running) -> bool:
        """Whether no other command runs in the sandbox."""
        return self._running <= {command}

    def forget(self, command: Running) -> None:
        """The command is over, and nothing of it is left."""
        self._running.discard(command)

    async def condemn(self) -> None:
        """End the container with all that is in it."""
        name = self._opened.name
        try:
            await self.engine.call(lambda api: api.remove_container(name, v=True, force=True))
        except EngineError as error:
            if error.status not in GONE:
                raise

    @asynccontextmanager
    async def frozen(self) -> AsyncGenerator[bool]:
        """Nothing in it runs meanwhile; False where the engine cannot get hold of all of it."""
        async with self._freezing, self._gate.looking(patience_s=START_S):
            if self._spare is not None:
                await asyncio.wait([self._spare])
            self._thawed.clear()
            try:
                yield await self._freeze()
            finally:
                await to_the_end(self._thaw)
                self._thawed.set()

    async def _freeze(self) -> bool:
        """Freeze it. Runc gives up on what forks all the time, and does better the next time."""
        name = self._opened.name
        for _ in range(FREEZES):
            try:
                await self.engine.call(lambda api: api.pause(name))
            except EngineError as error:
                if error.status != SERVER_ERROR:
                    raise
            else:
                return True
        return False

    async def _thaw(self) -> None:
        name = self._opened.name
        try:
            await self.engine.call(lambda api: api.unpause(name))
        except EngineError as error:
            if error.status not in {*GONE, SERVER_ERROR}:  # it runs already, or is gone
                raise

    async def close(self) -> None:
        """End everything and leave nothing behind; twice is harmless."""
        await to_the_end(self._close)

    async def _close(self) -> None:
        if self._closed:
            return
        with suppress(EngineError):  # without an engine, the container ends with our hold on it
            await self.condemn()
        self._opened.let_go()
        self._closed = True
        self._thawed.set()  # what was frozen is gone
        if self._spare is not None:
            with suppress(EngineError, OSError):
                (await self._spare).connection.close()
            self._spare = None
        for running in list(self._running):
            await running.kill()
        self._on_close(self)

    def _out_of_memory(self) -> int:
        return 0 if self._opened.host is None else self._opened.host.out_of_memory()


async def _kept(future: "asyncio.Future[Shell]") -> Shell:
    """Wait for a shell; one that is made although we were cancelled meanwhile is let go."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_let_go)
        raise


def _let_go(future: "asyncio.Future[Shell]") -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().connection.close()


async def _feed(stream: Attached, data: bytes) -> None:
    with suppress(BrokenPipeError):
        await stream.write(data)
        stream.finish()


async def _pump(
    stream: Attached, stdout: tuple[Capture, OnBytes | None], stderr: tuple[Capture, OnBytes | None]
) -> None:
    while (chunk := await stream.piece()) is not None:
        capture, listener = stdout if chunk.stream == "stdout" else stderr
        shown = capture.add(chunk.data)
        if listener is not None and shown:
            await listener(shown)
