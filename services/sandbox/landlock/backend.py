"""Sandboxes by Landlock: the degraded tier, where namespaces are forbidden. Never a fallback.

It keeps files, the network, signals and tracing out of reach. It does not hide that files and
processes of the host exist, counts memory for each process alone, and has no network at all, so no
way out either. Its notes say all of that.
"""

import asyncio
import os
import platform
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from services.sandbox.bubblewrap.seccomp import compiled_filter
from services.sandbox.bubblewrap.view import ETC_FILES, ROOT_FOLDERS, python_folders
from services.sandbox.environment import SYSTEM_PATH
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.folders import check_folders, check_reachable
from services.sandbox.landlock.filters import landlock_filter
from services.sandbox.landlock.rules import ABI_NEEDED, abi
from services.sandbox.landlock.sandbox import LABEL, Fence, LandlockSandbox
from services.sandbox.port import CapabilityReport, SandboxSpec
from services.sandbox.self_test import self_test

PREFIX = "peritus-landlock-"
GONE_S = 10.0
POLL_S = 0.005

LACKS = frozenset({"state_hidden"})
"""Rules only add up: nothing below a workspace that is open can be closed."""

NOTES = (
    "degraded: commands run on the host's own root, and see that its files and processes exist",
    "no loopback network and no way out: experts with allowedDomains cannot run",
    "the workspace is at its real place in the host's tree; process and temporary folders of the "
    "host are closed",
    "the state folder in the workspace can be read and changed",
    "memory is limited for each process alone, CPU and temporary files not at all",
    "what a killed keeper leaves is found by its environment, which a program can change",
    "use Docker, or bubblewrap where user namespaces are allowed, to mend all of this",
)
OWN_USER = "commands run as the user of this service, and cannot change modes or times of files"


class LandlockBackend:
    """Fills the port `Backend`."""

    name = "landlock"

    def __init__(self) -> None:
        self._open: set[LandlockSandbox] = set()

    async def report(self) -> CapabilityReport:
        """Attack a sandbox of its own and say what held.

        Raises:
            SandboxUnavailable: an attack got through, or no sandbox can be made.
        """
        own_user = () if os.geteuid() == 0 else (OWN_USER,)
        return await self_test(
            self,
            version=f"ABI {abi()}",
            promises={"cpu_limit": False},
            notes=(*NOTES, *own_user),
            lacks=LACKS,
        )

    async def open(self, spec: SandboxSpec) -> LandlockSandbox:
        """Make a sandbox.

        Raises:
            SandboxUnavailable: this kernel cannot do it, or the spec wants what there is not.
        """
        _check(spec)
        user, group = spec.workspace.owner()
        owner = (user, group) if os.geteuid() == 0 and user != 0 else None
        filters = (compiled_filter(), landlock_filter(own_user=owner is not None))
        known = tuple(one for one in filters if one is not None)
        if len(known) < len(filters):
            message = f"the system calls of {platform.machine()} are not known"
            raise SandboxUnavailable(message)
        runs_as = os.geteuid() if owner is None else user
        check_folders(spec.folders)
        check_reachable(spec.folders, runs_as)
        python = python_folders(runs_as)
        tmp = Path(tempfile.mkdtemp(prefix=_prefix(spec.owner.place, spec.owner.epoch)))
        if owner is not None:
            os.chown(tmp, *owner)
        fence = Fence(
            spec=spec,
            filters=known,
            owner=owner,
            label=_label(spec.owner.place, spec.owner.epoch),
            readable=(
                *("/usr", *(f"/{name}" for name in ROOT_FOLDERS), *map(str, python)),
                *(f"/etc/{name}" for name in ETC_FILES),
            ),
            path=":".join((*(str(one) for one in python if one.name == "bin"), SYSTEM_PATH)),
            tmp=tmp,
        )
        sandbox = LandlockSandbox(fence, self._open.discard)
        self._open.add(sandbox)
        return sandbox

    async def reap(self, place: str, alive: Callable[[str], bool]) -> list[str]:
        """End what dead epochs of this place left behind; says what, one line each (C10)."""
        dead = {epoch for _, epoch in labelled(place) if not alive(epoch)}
        killed = {epoch: await _end(place, epoch) for epoch in sorted(dead)}
        folders = Counter(
            epoch for epoch, folder in _folders(place) if not alive(epoch) and _removed(folder)
        )
        return [
            f"epoch {epoch}: {killed.get(epoch, 0)} processes, {folders[epoch]} folders"
            for epoch in sorted({*killed, *folders})
        ]

    async def close(self) -> None:
        """End every sandbox that is still open."""
        for sandbox in tuple(self._open):
            await sandbox.close()


def _check(spec: SandboxSpec) -> None:
    if abi() < ABI_NEEDED:
        message = f"Landlock here has ABI {abi()} and {ABI_NEEDED} is needed (Linux 6.12)"
        raise SandboxUnavailable(message)
    if spec.egress:
        message = "without a network of its own there is no way out: use docker or bubblewrap"
        raise SandboxUnavailable(message)
    if spec.files or spec.secret_files:
        message = "without a root of its own there is no place for files: use docker or bubblewrap"
        raise SandboxUnavailable(message)


def _prefix(place: str, epoch: str) -> str:
    """How the folders of an epoch begin; of all epochs of the place, if it is empty."""
    of_place = f"{PREFIX}{sha256(place.encode()).hexdigest()[:16]}-"
    return f"{of_place}{epoch.encode().hex()}-" if epoch else of_place


def _folders(place: str) -> Iterator[tuple[str, Path]]:
    """The folders for temporary files of a place, with their epoch."""
    start = _prefix(place, "")
    for folder in Path(tempfile.gettempdir()).glob(f"{start}*"):
        epoch = folder.name.removeprefix(start).partition("-")[0]
        yield bytes.fromhex(epoch).decode(), folder


def _removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _label(place: str, epoch: str) -> str:
    return f"{place.encode().hex()}/{epoch.encode().hex()}"


def labelled(place: str) -> Iterator[tuple[int, str]]:
    """The processes of a place, each with its epoch: commands, what they started, keepers."""
    start = f"{LABEL}={place.encode().hex()}/".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if entry.name.isdecimal():
                for one in (entry / "environ").read_bytes().split(b"\0"):
                    if one.startswith(start):
                        epoch = bytes.fromhex(one.removeprefix(start).decode()).decode()
                        yield int(entry.name), epoch


async def _end(place: str, epoch: str) -> int:
    """Kill all processes of an epoch and wait until they are gone; how many there were."""
    killed: set[int] = set()
    with suppress(TimeoutError):
        async with asyncio.timeout(GONE_S):
            while pids := [pid for pid, of in labelled(place) if of == epoch]:
                for pid in pids:
                    with suppress(OSError):
                        held = os.pidfd_open(pid)
                        try:
                            if (pid, epoch) in labelled(place):  # still the same process
                                signal.pidfd_send_signal(held, signal.SIGKILL)
                        finally:
                            os.close(held)
                killed.update(pids)
                await asyncio.sleep(POLL_S)
    return len(killed)
