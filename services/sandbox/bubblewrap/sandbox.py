"""One sandbox of bubblewrap: a bubblewrap for every command, in one network and one control group.

/tmp is new for every command: one that stayed would be a mount of the host's that outlives us.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Callable

from services.sandbox.bubblewrap.body import Caged
from services.sandbox.bubblewrap.launch import HELLO, Launcher
from services.sandbox.capture import Capture
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Command, OnBytes, Outcome
from services.sandbox.process import CHUNK_BYTES, Body, Ends, Staying, bury, readable, run_to_end
from services.worker.process import Process

TERMINATE_GRACE_S = 2.0
START_S = 30.0
"""How long a process that stays may take until it begins, in seconds."""

KILLED = 137


class BubblewrapSandbox:
    """Fills the port `Sandbox`. `on_closed` is called once nothing of it is left."""

    def __init__(
        self, launcher: Launcher, on_closed: Callable[["BubblewrapSandbox"], None]
    ) -> None:
        self._launcher = launcher
        self._group = launcher.group
        self._on_closed = on_closed
        self._running: set[Body] = set()
        self._staying: set[Staying] = set()
        self._closing = asyncio.Lock()
        self._closed = False

    @property
    def proxy(self) -> socket.socket | None:
        """The listening socket inside, if the spec wants egress."""
        return self._launcher.network.listener

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
        """Run a command to its end; nothing of it is left afterwards, also when cancelled.

        Raises:
            SandboxUnavailable: the sandbox could not be built; the command did not run.
        """
        loop = asyncio.get_running_loop()
        stdout, stderr = command.captures()
        begun, oom_kills = loop.time(), self._oom_kills()
        body, ends = self._launch(command)
        try:
            timed_out = await run_to_end(
                body,
                ends,
                timeout_s=command.timeout_s,
                grace_s=TERMINATE_GRACE_S,
                on_stdout=_heard(stdout, on_stdout),
                on_stderr=_heard(stderr, on_stderr),
            )
        finally:
            self._running.discard(body)
            _close_all(ends)
        code = await body.ended()
        starved = code != 0 and self._oom_kills() > oom_kills
        if not (body.reached() or timed_out or starved or self._closed):
            stderr.finish()
            raise self._not_built(bytes(stderr.kept))
        return Outcome(
            exit_code=code,
            timed_out=timed_out,
            stdout=stdout,
            stderr=stderr,
            duration_ms=round((loop.time() - begun) * 1000),
            killed_by="timeout" if timed_out else "memory" if starved else "",
        )

    async def start(self, command: Command) -> Process:
        """Start a process that stays until it is stopped or the sandbox is closed.

        Raises:
            SandboxUnavailable: it did not start.
        """
        body, ends = self._launch(command, stays=True)
        staying = Staying(body, ends, self._staying.discard)
        self._staying.add(staying)
        self._running.discard(body)
        try:
            await body.met()
            said = await _first_words(ends.stderr)
        except BaseException:
            await staying.close()
            raise
        if said != HELLO:
            await staying.close()
            raise self._not_built(said)
        return staying

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncGenerator[bool]:
        """Nothing in it runs meanwhile; False without control groups."""
        if self._group is None or self._closed:
            yield False
            return
        async with self._group.frozen() as frozen:
            yield frozen

    async def close(self) -> None:
        """End everything and leave nothing behind; closing twice is harmless."""
        async with self._closing:
            if self._closed:
                return
            self._closed = True
            if self._group is not None:
                await self._group.end()
            for staying in tuple(self._staying):
                await staying.close()
            for body in tuple(self._running):
                await bury(body)
            self._launcher.network.close()
            self._on_closed(self)

    def _launch(self, command: Command, *, stays: bool = False) -> tuple[Caged, Ends]:
        if self._closed:
            message = "the sandbox is closed"
            raise SandboxUnavailable(message)
        body, ends = self._launcher.launch(command, stays=stays)
        self._running.add(body)
        return body, ends

    def _oom_kills(self) -> int:
        return 0 if self._group is None else self._group.oom_kills()

    def _not_built(self, said: bytes) -> SandboxUnavailable:
        words = said.decode("utf-8", "replace").strip()
        version = self._launcher.program.version
        return SandboxUnavailable(f"bubblewrap {version} cannot build a sandbox: {words}")


async def _first_words(stderr: int) -> bytes:
    """HELLO, or what bubblewrap says instead.

    Raises:
        SandboxUnavailable: it says nothing at all.
    """
    try:
        async with asyncio.timeout(START_S):
            await readable(stderr)
            said = os.read(stderr, len(HELLO))
            while said and said != HELLO:
                await readable(stderr)
                more = os.read(stderr, CHUNK_BYTES)
                if not more:
                    break
                said += more
    except TimeoutError:
        message = f"bubblewrap did not begin within {START_S:g} s"
        raise SandboxUnavailable(message) from None
    return said


def _close_all(ends: Ends) -> None:
    for descriptor in (ends.stdin, ends.stdout, ends.stderr):
        if descriptor is not None:
            os.close(descriptor)


def _heard(capture: Capture, listener: OnBytes | None) -> OnBytes:
    async def hear(chunk: bytes) -> None:
        shown = capture.add(chunk)
        if listener is not None and shown:
            await listener(shown)

    return hear
