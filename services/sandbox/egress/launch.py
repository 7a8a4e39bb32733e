"""Starting the proxy process and talking with it until it ends. Not what is asked of it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from services.sandbox.egress.wire import (
    Attach,
    Channel,
    Denied,
    Detach,
    Message,
    Prepare,
    Ready,
    Spent,
    Start,
    Take,
    Trouble,
)
from services.sandbox.failures import SandboxUnavailable

START_S = 30.0
END_S = 5.0
SAID_BYTES_MAX = 2000

BASE_ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
KEPT = (
    "CREDENTIALS_DIRECTORY",
    "DBUS_SESSION_BUS_ADDRESS",
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
)
"""What places of secrets need to be found. No sandbox ever sees this process or its environment."""

SOPS_KEY = "SOPS_AGE_KEY"
"""The key to sops files, handed on where there are some."""

Ask = Prepare | Attach | Detach | Take


class ProxyDied(Exception):
    """The process ended before it answered."""


@dataclass
class Life:
    """One proxy process, from its start to its end."""

    process: "subprocess.Popen[bytes]"
    pidfd: int
    channel: Channel
    _waiting: dict[int, "asyncio.Future[Message]"] = field(
        default_factory=dict[int, "asyncio.Future[Message]"]
    )
    over: bool = False

    async def ask(self, message: Ask, descriptor: int | None = None) -> Message:
        """Send something and wait for its answer.

        Raises:
            ProxyDied: there will be none.
            SandboxUnavailable: the process cannot do it.
        """
        if self.over:
            raise ProxyDied
        answer = self._waiting[message.number] = asyncio.get_running_loop().create_future()
        try:
            with contextlib.suppress(OSError):  # then it is about to be noticed that it ended
                await self.channel.send(message, descriptor)
            reply: Message = await answer
        finally:
            self._waiting.pop(message.number, None)
        if isinstance(reply, Trouble):
            problem = f"the egress proxy cannot do that: {reply.message}"
            raise SandboxUnavailable(problem)
        return reply

    async def listen(self, told: Callable[[Denied | Spent], None]) -> None:
        """Hand out what the process says until it ends."""
        try:
            # What a process says that is none of this cannot harm more than itself.
            with contextlib.suppress(OSError, ValueError):
                while (received := await self.channel.receive()) is not None:
                    message = received[0]
                    if isinstance(message, Denied | Spent):
                        told(message)
                    else:
                        answer = self._waiting.get(getattr(message, "number", -1))
                        if answer is not None and not answer.done():
                            answer.set_result(message)
        finally:
            self.over = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ProxyDied())

    async def end(self) -> None:
        """Let it end, or end it; it is reaped afterwards."""
        self.channel.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await _ended(self.pidfd)
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.process.wait()
            os.close(self.pidfd)


async def launch(start: Start) -> Life:
    """Start a proxy process; it is ready afterwards.

    Raises:
        SandboxUnavailable: it did not start; the message has what it said.
    """
    ours, theirs = socket.socketpair()
    said = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        with theirs:
            secrets = start.settings.secrets
            kept = (*KEPT, SOPS_KEY) if secrets is not None and secrets.sops else KEPT
            life = _spawn(ours, theirs, said, kept)
        try:
            async with asyncio.timeout(START_S):
                await life.channel.send(start)
                first = await life.channel.receive()
        except OSError:
            first = None
        except BaseException:
            await life.end()
            raise
        if first is None or not isinstance(first[0], Ready):
            await life.end()
            text = os.pread(said, os.fstat(said).st_size, 0)[-SAID_BYTES_MAX:]
            problem = f"the egress proxy did not start: {text.decode('utf-8', 'replace').strip()}"
            raise SandboxUnavailable(problem)
    finally:
        os.close(said)
    return life


def _spawn(ours: socket.socket, theirs: socket.socket, said: int, kept: tuple[str, ...]) -> Life:
    """The process, with next to no environment and no descriptor of ours but its socket.

    It is spawned from the thread of the event loop: it dies with that thread.
    """
    number = theirs.fileno()
    try:
        process = subprocess.Popen(  # noqa: S603 - the vector is ours
            [sys.executable, "-I", "-m", "services.sandbox.egress", str(number), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            close_fds=True,
            pass_fds=[number],
            cwd="/",
            env={**BASE_ENV, **{name: os.environ[name] for name in kept if name in os.environ}},
            start_new_session=True,
        )
        return Life(process, os.pidfd_open(process.pid), Channel(ours))
    except OSError as error:
        ours.close()
        problem = f"the egress proxy cannot be started: {error}"
        raise SandboxUnavailable(problem) from error


async def _ended(pidfd: int) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(pidfd)
