"""A sandbox for each single command: the way before the port. Not for new code."""

import os
from pathlib import Path
from typing import Self

from domain.sandbox import SandboxLimits
from services.sandbox.bubblewrap.launch import Launcher
from services.sandbox.bubblewrap.program import Program
from services.sandbox.bubblewrap.sandbox import BubblewrapSandbox
from services.sandbox.bubblewrap.seccomp import compiled_filter
from services.sandbox.namespaces import make_network
from services.sandbox.port import Command, OnBytes, Outcome, Owner, SandboxSpec
from services.sandbox.workspace import Workspace


class Bubblewrap:
    """A bubblewrap that was found on this machine, ready to run commands."""

    def __init__(self, program: Program, limits: SandboxLimits | None = None) -> None:
        self.seccomp = compiled_filter()
        self._program = program
        self._limits = limits or SandboxLimits()

    @classmethod
    def find(cls, limits: SandboxLimits | None = None) -> Self:
        """The bubblewrap of this machine.

        Raises:
            SandboxUnavailable: there is none that is fit.
        """
        return cls(Program.find(), limits)

    @property
    def binary(self) -> Path:
        """Where it is."""
        return self._program.binary

    @property
    def version(self) -> str:
        """Its version."""
        return self._program.version

    @property
    def disable_userns(self) -> bool:
        """Whether it can forbid nested user namespaces."""
        return self._program.disable_userns

    async def exec(
        self,
        workspace: Workspace,
        command: Command,
        *,
        on_stdout: OnBytes | None = None,
        on_stderr: OnBytes | None = None,
    ) -> Outcome:
        """Run one command in a sandbox of its own; nothing of it is left afterwards.

        Raises:
            SandboxUnavailable: the sandbox could not be built; the command did not run.
        """
        privileged = os.geteuid() == 0
        owner = workspace.owner() if privileged and workspace.owner()[0] != 0 else None
        spec = SandboxSpec(Owner("", "", "", "", ""), workspace, self._limits)
        network = await make_network(privileged=privileged, listen=False)
        launcher = Launcher(self._program, spec, network, None, owner, self.seccomp)
        sandbox = BubblewrapSandbox(launcher, lambda _closed: None)
        try:
            return await sandbox.exec(command, on_stdout=on_stdout, on_stderr=on_stderr)
        finally:
            await sandbox.close()
