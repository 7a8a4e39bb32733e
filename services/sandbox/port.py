"""The port to sandboxes: what every backend offers, and nothing of how. One contract suite for all.

A *backend* makes sandboxes; a *sandbox* is one workspace with its limits, its processes and its own
network, which is none; a *process* in it either runs to its end (`exec`) or stays (`start`).
"""

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from domain.record import Record
from domain.sandbox import SandboxLimits
from domain.secrets import SecretValue
from services.sandbox.capture import Capture, Clean
from services.sandbox.paths import MOUNT
from services.sandbox.workspace import Workspace
from services.worker.process import Process

OnBytes = Callable[[bytes], Awaitable[None]]
"""Hears what a command prints while it runs; the command waits for it."""

PROXY_PORT = 3128
"""Where the egress proxy listens inside a sandbox, on 127.0.0.1: there is no other way out."""

FILES_FOLDER = "/run/peritus"
"""Where `SandboxSpec.files` lie inside, read-only."""

SECRETS_FOLDER = "/run/secrets"
"""Where `SandboxSpec.secret_files` lie inside, in memory, mode 0400."""

GIVEN_FOLDER = "/opt/peritus"
"""Where `SandboxSpec.folders` lie inside."""

STDIN_BYTES_MAX = 1024 * 1024

WINDOW_BYTES = 256 * 1024
"""How far a process may run ahead of whoever reads its output, for each stream, in bytes."""


class Owner(NamedTuple):
    """Whose sandbox it is: a label on everything that is made for it (C10).

    `place` names the store of workspaces a worker serves, `epoch` the life of that worker.
    """

    place: str
    epoch: str
    tenant: str
    job: str
    run: str


class CapabilityReport(Record):
    """What a backend promises here, found by attacking it: for the log and for `doctor`.

    `checks` are the attacks that were tried and whether each was held off; `promises` what the
    backend does beside isolation (`memory_limit`, `own_uid`, `freeze`, `egress`), true or not.
    """

    backend: str
    version: str
    checks: dict[str, bool]
    promises: dict[str, bool]
    notes: tuple[str, ...] = ()  # what is weaker here, and what would mend it, in plain words


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One sandbox as it is to be made. Nothing in it comes from a model or a workspace file."""

    owner: Owner
    workspace: Workspace
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    read_only: bool = False  # the workspace, for commands
    egress: bool = False  # whether a listener for the proxy is made inside
    image: str | None = None  # for backends that have images; None: the operator's
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])  # by plain name
    secret_files: Mapping[str, SecretValue] = field(default_factory=dict[str, SecretValue])
    folders: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Folders of the host that are read and run inside, by their place there: in GIVEN_FOLDER."""


class Kind(NamedTuple):
    """What is known of a sandbox before anybody has asked for it. `owner` names no job."""

    owner: Owner
    limits: SandboxLimits


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its circumstances; `cwd` as the sandbox names it."""

    program: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    secret_env: Mapping[str, SecretValue] = field(default_factory=dict[str, SecretValue])
    cwd: str = MOUNT
    timeout_s: float = 60.0  # of `exec`; what is started stays until it is stopped
    stdin: bytes = b""  # of `exec`, at most STDIN_BYTES_MAX; what is started is written to
    clean: Callable[[], Clean] | None = None  # of `exec`, for each of its streams

    def captures(self) -> tuple[Capture, Capture]:
        """Where its two streams are kept."""
        if self.clean is None:
            return Capture(), Capture()
        return Capture(self.clean()), Capture(self.clean())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to; a command killed by signal n has exit code 128 + n.

    `killed_by` names the limit that ended it, where the backend can tell: `timeout` or `memory`.
    """

    exit_code: int
    timed_out: bool
    stdout: Capture
    stderr: Capture
    duration_ms: int
    killed_by: Literal["", "timeout", "memory"] = ""


class Sandbox(Protocol):
    """One sandbox. Everything in it ends with it."""

    @property
    def proxy(self) -> socket.socket | None:
        """The listening socket at 127.0.0.1:PROXY_PORT inside, served from outside.

        It stays the sandbox's: duplicate it to hand it on. None when the spec wants no egress.
        """
        ...

    def where(self, inner: str) -> str:
        """What a command is to call a path in one of the spec's folders.

        The path itself, where the sandbox has a root of its own.
        """
        ...

    async def exec(
        self,
        command: Command,
        *,
        on_stdout: OnBytes | None = None,
        on_stderr: OnBytes | None = None,
    ) -> Outcome:
        """Run a command to its end; what it leaves in the background is ended with it.

        Cancelling ends all its processes first.

        Raises:
            SandboxUnavailable: the command did not run.
        """
        ...

    async def start(self, command: Command) -> Process:
        """Start a process that stays until it is stopped or the sandbox is closed.

        Raises:
            SandboxUnavailable: it did not start.
        """
        ...

    def frozen(self) -> AbstractAsyncContextManager[bool]:
        """Nothing in it runs meanwhile; False where the backend cannot do that."""
        ...

    async def close(self) -> None:
        """End everything and leave nothing behind; closing twice is harmless."""
        ...


class Backend(Protocol):
    """A way to make sandboxes on this machine."""

    @property
    def name(self) -> str:
        """`bubblewrap`, `docker` or `landlock`: a word for the log."""
        ...

    async def report(self) -> CapabilityReport:
        """Attack a sandbox of its own and say what held (`self_test.py` has the attacks).

        Raises:
            SandboxUnavailable: an attack got through, or no sandbox can be made.
        """
        ...

    async def open(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox.

        Raises:
            SandboxUnavailable: it cannot be made; nothing of it is left.
        """
        ...

    async def reap(self, place: str, alive: Callable[[str], bool]) -> list[str]:
        """End what dead epochs of this place left behind; says what, one line each (C10)."""
        ...

    async def close(self) -> None:
        """End every sandbox that is still open."""
        ...


class Ahead(Protocol):
    """Part of a sandbox that was made before it was known whose it is to be. It runs nothing."""

    @property
    def become(self) -> Callable[[SandboxSpec], Awaitable[Sandbox]]:
        """Make it the sandbox of a spec of its kind; it is used up, whatever comes of it.

        Raises SandboxUnavailable: it cannot be; nothing of it is left.
        """
        ...

    @property
    def close(self) -> Callable[[], Awaitable[None]]:
        """End it, unused.

        Raises SandboxUnavailable: it cannot be ended now; it is left to the reaper.
        """
        ...


@runtime_checkable
class MakesAhead(Protocol):
    """What a backend offers besides, if it can make part of a sandbox ahead of need."""

    async def make_ahead(self, kind: Kind) -> Ahead:
        """Make such a part, labelled like all else.

        Raises:
            NotAhead: that is not possible here, now or later.
            SandboxUnavailable: it cannot be made now; nothing of it is left.
        """
        ...
