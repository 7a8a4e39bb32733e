"""How one command gets into its sandbox: the chain of programs, and what they are handed.

A shell enters the control group, nsenter the network, and bubblewrap makes the rest. Its options
come by descriptor, because every user can read a command line.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from domain.sandbox import SandboxLimits
from domain.secrets import SecretValue
from services.sandbox.bubblewrap.body import Caged
from services.sandbox.bubblewrap.program import Program
from services.sandbox.bubblewrap.remains import label
from services.sandbox.bubblewrap.view import (
    GROUP,
    HOSTS,
    PASSWD,
    Descriptors,
    View,
    options,
    state_folder_is_real,
)
from services.sandbox.cgroups import Group
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.folders import open_folders
from services.sandbox.namespaces import Network
from services.sandbox.port import Command, SandboxSpec
from services.sandbox.process import Ends, Pipes, in_memory, spawn

# Run by the shell inside, so that the limits count what the sandbox does and not what else the
# same user runs. Shells differ in the letter for processes.
LIMITING = (
    "ulimit -c 0; ulimit -f {blocks}; ulimit -n {files}; {more}"
    'ulimit -u {processes} 2>/dev/null || ulimit -p {processes} 2>/dev/null; {hello}exec "$@"'
)
ENTERING = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@"'
BLOCK_BYTES = 512
KIB = 1024

HELLO = b"\0"
"""What a command that stays says on its standard error before it begins: the sandbox stands."""

# The command can read this in /proc/1/environ: nothing of ours may be in it.
CLEAN = {"PATH": "/usr/bin:/bin"}


@dataclass(frozen=True)
class Launcher:
    """Starts the commands of one sandbox; `owner` is the user and group to become first."""

    program: Program
    spec: SandboxSpec
    network: Network
    group: Group | None
    owner: tuple[int, int] | None
    seccomp: bytes | None

    def launch(self, command: Command, *, stays: bool = False) -> tuple[Caged, Ends]:
        """Start a command; one that stays has a pipe for its input and says HELLO.

        Raises:
            SandboxUnavailable: it cannot be started; nothing of it is left.
        """
        try:
            with ExitStack() as opened:
                return self._launch(opened, command, stays=stays)
        except OSError as error:
            message = f"bubblewrap cannot be started: {error}"
            raise SandboxUnavailable(message) from error

    def _launch(self, opened: ExitStack, command: Command, *, stays: bool) -> tuple[Caged, Ends]:
        pipes = Pipes(None if stays else command.stdin, self.owner)
        opened.callback(pipes.close)
        status, status_write = os.pipe2(os.O_CLOEXEC)
        kept = opened.enter_context(ExitStack())
        kept.callback(os.close, status)
        opened.callback(os.close, status_write)
        os.set_blocking(status, False)
        descriptors, view = self._view(opened, command, status_write)
        vector = options(descriptors, view, disable_userns=self.program.disable_userns)
        arguments = self._memory(opened, b"".join(os.fsencode(one) + b"\0" for one in vector))
        child = spawn(
            (
                *(*self._entering(), str(self.program.for_user(view.user))),
                *("--args", str(arguments), "--"),
                *("/bin/sh", "-c", self._limiting(stays=stays), self._label),
                *(command.program, *command.args),
            ),
            pipes,
            pass_fds=(*descriptors.all(), *view.descriptors(), arguments),
            env=CLEAN,
        )
        kept.pop_all()
        return Caged(child, status), pipes.keep()

    def _entering(self) -> list[str]:
        """Into the group and the network, and out of root; what we hold open is named as ours."""
        ours = f"/proc/{os.getpid()}/fd"
        user, group = self.owner or (None, None)
        entries = () if self.group is None else self.group.entries()
        return [
            *(("/bin/sh", "-c", ENTERING, "sh", *entries, "--") if entries else ()),
            str(self.program.nsenter),
            *((f"--user={ours}/{self.network.user}",) if self.network.user is not None else ()),
            *(("--preserve-credentials",) if self.network.user is not None else ()),
            f"--net={ours}/{self.network.net}",
            *(("-S", str(user), "-G", str(group)) if user is not None else ()),
            "--",
        ]

    def _view(self, opened: ExitStack, command: Command, status: int) -> tuple[Descriptors, View]:
        workspace = self.spec.workspace.fileno()
        if not state_folder_is_real(workspace):
            message = "the state folder of the workspace is no folder; remove what is in its place"
            raise SandboxUnavailable(message)
        descriptors = Descriptors(
            workspace=workspace,
            passwd=self._memory(opened, PASSWD.encode()),
            group=self._memory(opened, GROUP.encode()),
            hosts=self._memory(opened, HOSTS.encode()),
            seccomp=None if self.seccomp is None else self._memory(opened, self.seccomp),
            status=status,
        )
        view = View(
            user=os.geteuid() if self.owner is None else self.owner[0],
            limits=self.spec.limits,
            env={**command.env, **_revealed(command.secret_env)},
            cwd=command.cwd,
            read_only=self.spec.read_only,
            files={name: self._memory(opened, data) for name, data in self.spec.files.items()},
            secret_files={
                name: self._memory(opened, value.encode())
                for name, value in _revealed(self.spec.secret_files).items()
            },
            folders=open_folders(opened, self.spec.folders),
        )
        return descriptors, view

    @property
    def _label(self) -> str:
        return label(self.spec.owner.place, self.spec.owner.epoch)

    def _memory(self, opened: ExitStack, content: bytes) -> int:
        descriptor = in_memory(content)
        opened.callback(os.close, descriptor)
        return descriptor

    def _limiting(self, *, stays: bool) -> str:
        limits: SandboxLimits = self.spec.limits
        counted = self.group is not None and self.group.memory is not None
        return LIMITING.format(
            blocks=limits.file_bytes // BLOCK_BYTES,
            files=limits.open_files,
            processes=limits.processes,
            more="" if counted else f"ulimit -d {limits.memory_bytes // KIB}; ",
            hello="printf '\\000' >&2; " if stays else "",
        )


def _revealed(secrets: Mapping[str, SecretValue]) -> dict[str, str]:
    """For bubblewrap alone, which gets them in memory."""
    return {name: value.reveal() for name, value in secrets.items()}
