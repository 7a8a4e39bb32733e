"""Sandboxes by bubblewrap: the backend that needs no engine, as root or as anybody. Not a fallback.

Where bubblewrap is missing or does not hold, everything is `SandboxUnavailable`.
"""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from domain.sandbox import SandboxLimits
from services.sandbox.bubblewrap.launch import Launcher
from services.sandbox.bubblewrap.program import Program
from services.sandbox.bubblewrap.remains import Remains
from services.sandbox.bubblewrap.sandbox import BubblewrapSandbox
from services.sandbox.bubblewrap.seccomp import compiled_filter
from services.sandbox.cgroups import Cgroups, Group
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.folders import check_folders, check_reachable
from services.sandbox.namespaces import Network, make_network
from services.sandbox.port import CapabilityReport, Kind, Owner, Sandbox, SandboxSpec
from services.sandbox.self_test import PLACE, self_test
from services.sandbox.workspace import Workspace


class BubblewrapBackend:
    """Fills the port `Backend`. `state` is a folder of the place it serves, for what must be found.

    `privileged` is whether to work as root does; by default, whether we are root.
    """

    name = "bubblewrap"

    def __init__(
        self, state: Path, *, privileged: bool | None = None, program: Program | None = None
    ) -> None:
        self.privileged = os.geteuid() == 0 if privileged is None else privileged
        self.seccomp = compiled_filter()
        self._program = program
        self._cgroups = Cgroups.find() if self.privileged else None
        self._remains = Remains(state, self._cgroups)
        self._numbers = itertools.count(1)
        self._open: set[BubblewrapSandbox] = set()

    async def report(self) -> CapabilityReport:
        """Attack a sandbox of its own and say what held.

        Raises:
            SandboxUnavailable: an attack got through, or no sandbox can be made.
        """
        try:
            return await self_test(
                self,
                version=self.program().version,
                promises={"cpu_limit": self._limited("cpu"), "own_network": True},
                notes=self._notes(),
            )
        finally:
            # Now, not when the worker ends: nobody reaps that place when it does not end in order.
            self._remains.forget(PLACE)

    def _notes(self) -> tuple[str, ...]:
        notes: list[str] = []
        if not self._limited("memory"):
            notes.append(
                "memory is limited for each process alone, and CPU not at all: run as root, or "
                "give this service control groups (systemd: Delegate=yes, DelegateSubgroup=)"
            )
        if not self.privileged:
            notes.append("commands run as the user of this service: run as root to change that")
        if self.seccomp is None:
            notes.append("system calls are not filtered: this machine's are not known")
        return tuple(notes)

    def _limited(self, controller: str) -> bool:
        return self._cgroups is not None and controller in self._cgroups.limiting

    async def open(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox.

        Raises:
            SandboxUnavailable: it cannot be made; nothing of it is left.
        """
        program, owner = self._planned(spec)
        self._remains.record(spec.owner.place, spec.owner.epoch, program)
        group, network = await self._make(spec.owner, spec.limits, listen=spec.egress)
        return self._sandbox(program, owner, spec, group, network)

    async def make_ahead(self, kind: Kind) -> "BubblewrapAhead":
        """Make a control group and a network with a listener; see `MakesAhead`.

        Raises:
            SandboxUnavailable: they cannot be made; nothing is left.
        """
        self._remains.record(kind.owner.place, kind.owner.epoch, self.program())
        group, network = await self._make(kind.owner, kind.limits, listen=True)

        async def become(spec: SandboxSpec) -> Sandbox:
            try:
                _check(group)
                program, owner = self._planned(spec)
                self._remains.record(spec.owner.place, spec.owner.epoch, program)
            except BaseException:
                await discard()
                raise
            used = network if spec.egress else network.deaf()
            return self._sandbox(program, owner, spec, group, used)

        async def discard() -> None:
            network.close()
            if group is not None:
                group.discard()

        return BubblewrapAhead(become, discard)

    def _planned(self, spec: SandboxSpec) -> tuple[Program, tuple[int, int] | None]:
        """The program, for whom commands run as."""
        check_folders(spec.folders)
        program, owner = self.program(), self._owner_to_become(spec.workspace)
        user = os.geteuid() if owner is None else owner[0]
        check_reachable(spec.folders, user)
        program.plan(user)
        return program, owner

    async def _make(
        self, owner: Owner, limits: SandboxLimits, *, listen: bool
    ) -> tuple[Group | None, Network]:
        group = self._make_group(owner, limits)
        try:
            return group, await make_network(privileged=self.privileged, listen=listen)
        except BaseException:
            if group is not None:
                group.discard()
            raise

    def _sandbox(
        self,
        program: Program,
        owner: tuple[int, int] | None,
        spec: SandboxSpec,
        group: Group | None,
        network: Network,
    ) -> BubblewrapSandbox:
        launcher = Launcher(program, spec, network, group, owner, self.seccomp)
        sandbox = BubblewrapSandbox(launcher, self._open.discard)
        self._open.add(sandbox)
        return sandbox

    async def reap(self, place: str, alive: Callable[[str], bool]) -> list[str]:
        """End what dead epochs of this place left behind; says what, one line each (C10)."""
        return await self._remains.reap(place, alive)

    async def close(self) -> None:
        """End every sandbox that is still open."""
        async with asyncio.TaskGroup() as group:
            for sandbox in tuple(self._open):
                group.create_task(sandbox.close())
        if self._program is not None:
            self._program.close()
        self._remains.forget()

    def program(self) -> Program:
        """The bubblewrap that is used, found at the first call.

        Raises:
            SandboxUnavailable: there is none that is fit.
        """
        if self._program is None:
            self._program = Program.find()
        return self._program

    def _make_group(self, owner: Owner, limits: SandboxLimits) -> Group | None:
        if self._cgroups is None:
            return None
        return self._cgroups.make(owner.place, owner.epoch, next(self._numbers), limits)

    def _owner_to_become(self, workspace: Workspace) -> tuple[int, int] | None:
        """Root does not run commands in the workspace of somebody else: it becomes that somebody.

        The files then belong to whom they belonged before. In root's own workspace commands run
        as root without capabilities, since nobody else could write there.
        """
        user, group = workspace.owner()
        return (user, group) if self.privileged and user != 0 else None


@dataclass(frozen=True, slots=True)
class BubblewrapAhead:
    """What waits for a workspace; fills the port `Ahead`."""

    become: Callable[[SandboxSpec], Awaitable[Sandbox]]
    close: Callable[[], Awaitable[None]]


def _check(group: Group | None) -> None:
    """A group that was made ahead may have been reaped.

    Raises:
        SandboxUnavailable: it was.
    """
    if group is not None and not group.there():
        message = "the control group that was made ahead is gone"
        raise SandboxUnavailable(message)
