"""One sandbox of Landlock: a keeper for each command, and a folder for its temporary files.

The command sees the host's own paths: the workspace is where it really is, not at /workspace.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from services.sandbox.capture import Capture
from services.sandbox.environment import SYSTEM_PATH, whole_env
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.folders import open_folders
from services.sandbox.landlock.launcher import (
    FAILED,
    FREEZE,
    FROZEN,
    STANDS,
    TERMINATE,
    THAW,
    THAWED,
)
from services.sandbox.landlock.rules import make_rules
from services.sandbox.paths import MOUNT
from services.sandbox.port import Command, OnBytes, Outcome, SandboxSpec
from services.sandbox.process import (
    Child,
    Ends,
    Pipes,
    Staying,
    bury,
    in_memory,
    readable,
    run_to_end,
    spawn,
)
from services.worker.process import Process

GRACE_S = 2.0
START_S = 30.0
MESSAGE_BYTES_MAX = 8192
LABEL = "PERITUS_SANDBOX"
"""A variable of every command that says whose it is, so that what is left can be found (C10)."""


@dataclass(frozen=True)
class Fence:
    """What is the same for every command of a sandbox."""

    spec: SandboxSpec
    filters: tuple[bytes, ...]
    owner: tuple[int, int] | None  # user and group to become
    label: str
    readable: tuple[str, ...]
    path: str
    tmp: Path

    @property
    def root(self) -> str:
        """Where the workspace is."""
        return os.readlink(f"/proc/self/fd/{self.spec.workspace.fileno()}")  # noqa: PTH115

    def launch(self, command: Command, *, stays: bool) -> tuple["Kept", Ends]:
        """Start a keeper with a command.

        Raises:
            SandboxUnavailable: it cannot be started.
        """
        try:
            with ExitStack() as opened:
                return self._launch(opened, command, stays=stays)
        except OSError as error:
            message = f"a fenced command cannot be started: {error}"
            raise SandboxUnavailable(message) from error

    def _launch(self, opened: ExitStack, command: Command, *, stays: bool) -> tuple["Kept", Ends]:
        pipes = Pipes(None if stays else command.stdin, self.owner)
        opened.callback(pipes.close)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        opened.enter_context(theirs)
        kept = opened.enter_context(ExitStack())
        kept.enter_context(ours).setblocking(False)  # noqa: FBT003
        workspace = self.spec.workspace.fileno()
        tmp = os.open(self.tmp, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        opened.callback(os.close, tmp)
        given = open_folders(opened, self.spec.folders).values()
        rules = make_rules(
            self.readable,
            changeable=(tmp,) if self.spec.read_only else (workspace, tmp),
            read_only=(workspace, *given) if self.spec.read_only else tuple(given),
        )
        opened.callback(os.close, rules)
        filters = [_held(opened, one) for one in self.filters]
        told = {
            **self._told(command),
            "workspace": workspace,
            "rules": rules,
            "filters": filters,
            "leash": theirs.fileno(),
        }
        order = _held(opened, json.dumps(told).encode())
        source = files("services.sandbox.landlock").joinpath("launcher.py").read_text()
        child = spawn(
            (sys.executable, "-I", "-S", "-c", source, str(order)),
            pipes,
            pass_fds=(order, workspace, rules, *filters, theirs.fileno()),
            env={"PATH": SYSTEM_PATH, LABEL: self.label},
        )
        kept.pop_all()
        return Kept(child, ours), pipes.keep()

    def _told(self, command: Command) -> dict[str, object]:
        limits = self.spec.limits
        user, group = self.owner or (None, None)
        secret = {name: value.reveal() for name, value in command.secret_env.items()}
        return {
            "program": command.program,
            "args": command.args,
            "cwd": command.cwd.removeprefix(MOUNT).lstrip("/") or ".",
            "env": {
                **whole_env({**command.env, **secret}, path=self.path),
                "HOME": self.root,
                "TMPDIR": str(self.tmp),
                LABEL: self.label,
            },
            "user": user,
            "group": group,
            "limits": {
                "CORE": 0,
                "DATA": limits.memory_bytes,
                "NPROC": limits.processes,
                "NOFILE": limits.open_files,
                "FSIZE": limits.file_bytes,
            },
        }


def _held(opened: ExitStack, content: bytes) -> int:
    descriptor = in_memory(content)
    opened.callback(os.close, descriptor)
    return descriptor


class Kept:
    """A keeper at work: fills the port `Body`. What it says arrives on the leash."""

    def __init__(self, child: Child, leash: socket.socket) -> None:
        self._child = child
        self._leash = leash
        self._said: list[bytes] = []
        self._over = False
        self._hearing = asyncio.Lock()

    async def ended(self) -> int:
        """Wait until the command and all it started are over; the command's exit code."""
        return await self._child.ended()

    def terminate(self) -> None:
        """SIGTERM to the command's group; harmless once it is over."""
        self._tell(TERMINATE)

    async def kill(self) -> None:
        """End all of it: the keeper does that when the leash is let go."""
        self._hear()
        with contextlib.suppress(OSError):
            self._leash.shutdown(socket.SHUT_RDWR)
        await self._child.ended()
        async with self._hearing:
            self._hear()
            self._leash.close()

    async def stands(self) -> bool:
        """Wait until the command has begun; whether it has."""
        await self._until(STANDS, FAILED)
        return self.reached()

    def reached(self) -> bool:
        """Whether the command itself was started, as far as was heard."""
        return STANDS in self._said

    @property
    def complaint(self) -> str:
        """Why it was not."""
        said = [one[1:] for one in self._said if one.startswith(FAILED)]
        return b"".join(said).decode("utf-8", "replace") or "it said nothing"

    async def freeze(self) -> bool:
        """Stop all of it; False when it is over."""
        self._tell(FREEZE)
        return await self._until(FROZEN)

    async def thaw(self) -> None:
        """Let it go on."""
        self._said = [one for one in self._said if one != FROZEN]
        self._tell(THAW)
        await self._until(THAWED)
        self._said = [one for one in self._said if one != THAWED]

    def _tell(self, order: bytes) -> None:
        with contextlib.suppress(OSError):
            self._leash.send(order)

    async def _until(self, *words: bytes) -> bool:
        async with self._hearing:
            while not any(one[:1] in words for one in self._said):
                self._hear()
                if self._over:
                    break
                if not any(one[:1] in words for one in self._said):
                    await readable(self._leash.fileno())
            return any(one[:1] in words for one in self._said)

    def _hear(self) -> None:
        try:
            while said := self._leash.recv(MESSAGE_BYTES_MAX):
                self._said.append(said)
            self._over = True
        except BlockingIOError:
            pass
        except OSError:
            self._over = True


class LandlockSandbox:
    """Fills the port `Sandbox`. `on_closed` is called once nothing of it is left."""

    def __init__(self, fence: Fence, on_closed: Callable[["LandlockSandbox"], None]) -> None:
        self._fence = fence
        self._on_closed = on_closed
        self._running: set[Kept] = set()
        self._staying: set[Staying] = set()
        self._still = asyncio.Lock()
        self._closing = asyncio.Lock()
        self._closed = False

    @property
    def proxy(self) -> socket.socket | None:
        """None: there is no network of its own to put a listener in."""
        return None

    def where(self, inner: str) -> str:
        """A path in a folder that was given, where it really is."""
        for given, folder in self._fence.spec.folders.items():
            if inner == given or inner.startswith(f"{given}/"):
                return f"{folder}{inner.removeprefix(given)}"
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
            SandboxUnavailable: the command did not run.
        """
        loop = asyncio.get_running_loop()
        stdout, stderr = command.captures()
        begun = loop.time()
        body, ends = await self._launch(command, stays=False)
        try:
            timed_out = await run_to_end(
                body,
                ends,
                timeout_s=command.timeout_s,
                grace_s=GRACE_S,
                on_stdout=_heard(stdout, on_stdout),
                on_stderr=_heard(stderr, on_stderr),
            )
        finally:
            self._running.discard(body)
            for one in (ends.stdout, ends.stderr):
                os.close(one)
        code = await body.ended()
        if not (body.reached() or timed_out or self._closed):
            raise _not_built(body)
        return Outcome(
            exit_code=code,
            timed_out=timed_out,
            stdout=stdout,
            stderr=stderr,
            duration_ms=round((loop.time() - begun) * 1000),
            killed_by="timeout" if timed_out else "",
        )

    async def start(self, command: Command) -> Process:
        """Start a process that stays until it is stopped or the sandbox is closed.

        Raises:
            SandboxUnavailable: it did not start.
        """
        body, ends = await self._launch(command, stays=True)
        staying = Staying(body, ends, lambda over: self._over(over, body))
        self._staying.add(staying)
        try:
            async with asyncio.timeout(START_S):
                stands = await body.stands()
        except BaseException:
            await staying.close()
            raise
        if not stands:
            await staying.close()
            raise _not_built(body)
        return staying

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncGenerator[bool]:
        """Everything in it is stopped meanwhile, and nothing new begins."""
        async with AsyncExitStack() as afterwards:
            await afterwards.enter_async_context(self._still)
            for body in tuple(self._running):
                if await body.freeze():
                    afterwards.push_async_callback(body.thaw)
            yield not self._closed

    async def close(self) -> None:
        """End everything and leave nothing behind; closing twice is harmless."""
        async with self._closing:
            if self._closed:
                return
            self._closed = True
            for staying in tuple(self._staying):
                await staying.close()
            for body in tuple(self._running):
                await bury(body)
            shutil.rmtree(self._fence.tmp, ignore_errors=True)
            self._on_closed(self)

    async def _launch(self, command: Command, *, stays: bool) -> tuple[Kept, Ends]:
        async with self._still:
            if self._closed:
                message = "the sandbox is closed"
                raise SandboxUnavailable(message)
            body, ends = self._fence.launch(command, stays=stays)
            self._running.add(body)
            return body, ends

    def _over(self, staying: Staying, body: Kept) -> None:
        self._staying.discard(staying)
        self._running.discard(body)


def _not_built(body: Kept) -> SandboxUnavailable:
    return SandboxUnavailable(f"the fence cannot be built: {body.complaint}")


def _heard(capture: Capture, listener: OnBytes | None) -> OnBytes:
    async def hear(chunk: bytes) -> None:
        shown = capture.add(chunk)
        if listener is not None and shown:
            await listener(shown)

    return hear
