"""Control groups: a labelled one for each sandbox, in either version. Not who gets one, or when.

A group is named `<root>/peritus/<place>/<epoch>/<number>`, so that whoever comes later knows whose
it was (C10). The root is our own group, so what holds for us holds for every sandbox too.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from domain.sandbox import SandboxLimits
from services.sandbox.failures import SandboxUnavailable

NAME = "peritus"
LIMITING = ("memory", "pids", "cpu")
PERIOD_US = 100_000
OVERHEAD_PROCESSES = 16
"""What the sandbox itself needs beside the processes an agent may have: a few for each command."""

NAMESAKES_MAX = 100
"""How many groups of one number there may be: one epoch may have several backends."""

POLL_S = 0.001
WAIT_S = 10.0
"""How long the kernel may take to freeze or to remove processes, in seconds."""


@dataclass(frozen=True)
class Cgroups:
    """Where groups can be made on this machine: a folder for each controller.

    Either everything is of version 2, in `core`, or it limits and freezes by version 1. Where that
    cannot freeze, the core of version 2 does, which it can without any controller.
    """

    limiting: dict[str, Path]
    core: Path | None
    freezer: Path | None  # of version 1

    @classmethod
    def find(cls, proc: Path = Path("/proc/self")) -> Self | None:
        """The groups we may make, or None."""
        own = dict(_own_groups(proc))
        found = {
            name: folder
            for name, folder in _mounted(proc, own).items()
            if os.access(folder, os.W_OK)
        }
        core = found.pop("", None)
        if core is not None and (delegated := _delegated(core)) is not None:
            return cls(dict.fromkeys(LIMITING, delegated), delegated, None)
        limiting = {name: found[name] for name in LIMITING if name in found}
        freezer = found.get("freezer")
        core = core if freezer is None else None
        return cls(limiting, core, freezer) if limiting or core or freezer else None

    def roots(self) -> tuple[Path, ...]:
        """Every folder that groups are made in, once."""
        found = (*self.limiting.values(), self.core, self.freezer)
        return tuple(dict.fromkeys(folder for folder in found if folder is not None))

    def epochs(self, place: str) -> dict[str, list[Path]]:
        """The epochs that have groups here, with their folders."""
        found: dict[str, list[Path]] = {}
        for root in self.roots():
            for folder in _folders(root / NAME / quote(place, safe="")):
                found.setdefault(unquote(folder.name), []).append(folder)
        return found

    def of_epoch(self, place: str, epoch: str) -> tuple[Path, ...]:
        """The folders that hold the groups of an epoch."""
        label = Path(NAME, quote(place, safe=""), quote(epoch, safe=""))
        return tuple(root / label for root in self.roots())

    def make(self, place: str, epoch: str, number: int, limits: SandboxLimits) -> "Group":
        """Make the group of one sandbox; beside those that others made under the same number.

        Raises:
            SandboxUnavailable: the kernel refuses; nothing of it is left.
        """
        above = Path(NAME, quote(place, safe=""), quote(epoch, safe=""))
        names = (str(number), *(f"{number}-{other}" for other in range(1, NAMESAKES_MAX)))
        for name in names:
            with contextlib.suppress(FileExistsError):
                return self._make(above / name, limits)
        message = f"no control group can be made: {NAMESAKES_MAX} are there by the number {number}"
        raise SandboxUnavailable(message)

    def _make(self, label: Path, limits: SandboxLimits) -> "Group":
        """Make a group of that name.

        Raises:
            FileExistsError: it is another's.
            SandboxUnavailable: the kernel refuses; nothing of it is left.
        """
        group = Group(
            folders=tuple(root / label for root in self.roots()),
            memory=_below(self.limiting.get("memory"), label),
            core=_below(self.core, label),
            freezer=_below(self.freezer, label),
        )
        try:
            group.folders[0].mkdir(parents=True)  # whoever makes this one has the name
        except FileExistsError:
            raise
        except OSError as error:
            raise _refused(error) from error
        try:
            for folder in group.folders[1:]:
                folder.mkdir(parents=True, exist_ok=True)
            self._limit(label, limits)
        except OSError as error:
            group.discard()
            raise _refused(error) from error
        return group

    def _limit(self, label: Path, limits: SandboxLimits) -> None:
        for name, root in self.limiting.items():
            second = root == self.core
            if second:
                _pass_down(root, label)
            settings = _settings(name, limits, second=second)
            for file, value in settings.items():
                place = root / label / file
                if place.exists():  # swap is not counted everywhere
                    _write(place, value, refusable=name == "cpu")


@dataclass(frozen=True)
class Group:
    """The control group of one sandbox: a folder in each hierarchy."""

    folders: tuple[Path, ...]
    memory: Path | None = None
    core: Path | None = None
    freezer: Path | None = None

    def entries(self) -> tuple[str, ...]:
        """What a process with a single thread writes 0 to in order to enter.

        Nobody can put it in as cheaply: to move another process, or by `cgroup.procs`, the kernel
        first waits until no process of the machine is being made.
        """
        return tuple(
            str(folder / ("cgroup.procs" if folder == self.core else "tasks"))
            for folder in self.folders
        )

    def there(self) -> bool:
        """Whether nobody has removed it."""
        return all(folder.is_dir() for folder in self.folders)

    def oom_kills(self) -> int:
        """How many processes were killed because memory ran out."""
        if self.memory is None:
            return 0
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(FileNotFoundError):
                for line in (self.memory / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncGenerator[bool]:
        """Nothing in it runs meanwhile; False where it cannot be frozen."""
        try:
            frozen = await self._freeze()
            yield frozen
        finally:
            self.thaw()

    async def _freeze(self) -> bool:
        if self.core is not None and (self.core / "cgroup.freeze").exists():
            (self.core / "cgroup.freeze").write_text("1")
            return await _until(self._is_frozen)
        if self.freezer is not None:
            (self.freezer / "freezer.state").write_text("FROZEN")
            return await _until(self._is_frozen)
        return False

    def _is_frozen(self) -> bool:
        if self.freezer is not None:
            return (self.freezer / "freezer.state").read_text().strip() == "FROZEN"
        core = self.core or Path()
        return "frozen 1" in (core / "cgroup.events").read_text().splitlines()

    def thaw(self) -> None:
        """Let everything in it run again; harmless when nothing is frozen or left."""
        with contextlib.suppress(OSError):
            if self.core is not None:
                (self.core / "cgroup.freeze").write_text("0")
        with contextlib.suppress(OSError):
            if self.freezer is not None:
                (self.freezer / "freezer.state").write_text("THAWED")

    async def end(self) -> None:
        """Kill everything in it and remove it; twice is harmless.

        Raises:
            SandboxUnavailable: the kernel does not let go of a process.
        """
        if self.core is None:
            with contextlib.suppress(OSError):  # somebody else ended it
                await self._freeze()  # so that none is born while they are killed one by one

        def gone() -> bool:
            for folder in (self.core,) if self.core is not None else self.folders:
                _kill_all(folder)
            self.thaw()
            return self.discard()

        if not await _until(gone):
            message = f"the control group {self.folders[0]} cannot be emptied"
            raise SandboxUnavailable(message)

    def discard(self) -> bool:
        """Remove what is empty of it; whether nothing is left."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return not any(folder.exists() for folder in self.folders)


def _refused(error: OSError) -> SandboxUnavailable:
    return SandboxUnavailable(f"no control group can be made: {error}")


async def end_epoch(folders: list[Path]) -> int:
    """End every group of an epoch, given its folders; how many sandboxes that were.

    Raises:
        SandboxUnavailable: the kernel does not let go of a process.
    """
    numbers = {group.name for folder in folders for group in _folders(folder)}
    for number in numbers:
        places = tuple(folder / number for folder in folders if (folder / number).is_dir())
        freezer = next((one for one in places if (one / "freezer.state").exists()), None)
        core = next((one for one in places if (one / "cgroup.freeze").exists()), None)
        await Group(places, core=core, freezer=freezer).end()
    forget(folders)
    return len(numbers)


def forget(folders: list[Path]) -> None:
    """Remove the folders of an epoch, and those above that nobody else needs."""
    for folder in folders:
        for empty in (folder, folder.parent, folder.parent.parent):
            with contextlib.suppress(OSError):
                empty.rmdir()


def _own_groups(proc: Path) -> Iterator[tuple[str, str]]:
    """Which group we are in, by controller; the core of version 2 has no name."""
    with contextlib.suppress(OSError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for name in controllers.split(","):
                yield name, path


def _mounted(proc: Path, own: dict[str, str]) -> dict[str, Path]:
    """Our own group's folder for each controller that is mounted."""
    found: dict[str, Path] = {}
    with contextlib.suppress(OSError):
        for line in (proc / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            place = Path(before.split()[4])
            names = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
            for name in names:
                if name in own:
                    inner = place / own[name].lstrip("/")
                    found[name] = inner if inner.is_dir() else place
    return found


def _delegated(core: Path) -> Path | None:
    """Where controllers of version 2 can be handed on: our group, or the one above it.

    A group with processes in it cannot hand them on, and ours has us; systemd's DelegateSubgroup=
    puts a service one level down for that reason.
    """
    for folder in (core, core.parent):
        try:
            offered = (folder / "cgroup.controllers").read_text().split()
            if not set(LIMITING) <= set(offered) or not os.access(folder, os.W_OK):
                continue
            if not set(LIMITING) <= set((folder / "cgroup.subtree_control").read_text().split()):
                _hand_on(folder)
        except OSError:
            continue
        return folder
    return None


def _pass_down(root: Path, label: Path) -> None:
    folder = root
    for part in label.parts[:-1]:
        folder /= part
        _hand_on(folder)


def _hand_on(folder: Path) -> None:
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in LIMITING))


def _settings(name: str, limits: SandboxLimits, *, second: bool) -> dict[str, str]:
    memory, quota = str(limits.memory_bytes), str(round(limits.cpus * PERIOD_US))
    match name, second:
        case "memory", True:
            return {"memory.max": memory, "memory.swap.max": "0"}
        case "memory", False:  # the order matters: memory first, then memory and swap together
            return {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}
        case "cpu", True:
            return {"cpu.max": f"{quota} {PERIOD_US}"}
        case "cpu", False:
            return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": quota}
        case _:
            return {"pids.max": str(limits.processes + OVERHEAD_PROCESSES)}


def _write(place: Path, value: str, *, refusable: bool) -> None:
    """Set a limit. A share of the CPU that is more than we have ourselves is refused, and moot."""
    try:
        place.write_text(value)
    except OSError:
        if not refusable:
            raise


def _below(root: Path | None, label: Path) -> Path | None:
    return None if root is None else root / label


def _folders(place: Path) -> list[Path]:
    try:
        return [one for one in place.iterdir() if one.is_dir()]
    except OSError:
        return []


def _kill_all(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if (folder / "cgroup.kill").exists():
            (folder / "cgroup.kill").write_text("1")
            return
        for pid in map(int, (folder / "cgroup.procs").read_text().split()):
            if pid > 0:  # 0 is somebody of a pid namespace we cannot see into
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def _until(condition: Callable[[], bool]) -> bool:
    """Whether it came to be within the time the kernel may take; there is nothing to wait on."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + WAIT_S
    while not (true := condition()) and clock() < deadline:  # noqa: ASYNC110 - see above
        await asyncio.sleep(POLL_S)
    return true
