"""What a worker leaves when it is killed, and how whoever comes later ends it (C10).

Every epoch keeps a record of what it makes outside itself, in `<state>/sandboxes/<epoch>/`; control
groups and command lines carry the same names, so they are found without it too. Not the living.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from services.sandbox.bubblewrap.program import Program
from services.sandbox.cgroups import Cgroups, end_epoch, forget

PROC = Path("/proc")
LABEL = "peritus-sandbox"
BWRAP = "bwrap"
WRITING = ".new"
OVER = "ZX"
"""The states of a process that is no more but for its name."""

POLL_S = 0.005
GONE_S = 10.0


def label(place: str, epoch: str) -> str:
    """What stands on the command line of every bubblewrap, so that it can be found."""
    return ":".join((LABEL, quote(place, safe=""), quote(epoch, safe="")))


class Remains:
    """The records of one state folder, and the control groups of this machine."""

    def __init__(self, state: Path, cgroups: Cgroups | None) -> None:
        self._folder = state / "sandboxes"
        self._cgroups = cgroups
        self._recorded: dict[tuple[str, str], str] = {}

    def record(self, place: str, epoch: str, program: Program) -> None:
        """Note what is about to be made, before it is."""
        groups = () if self._cgroups is None else self._cgroups.of_epoch(place, epoch)
        content = json.dumps({"groups": [str(one) for one in groups],
                              "copies": [str(one) for one in program.copies]})  # fmt: skip
        if self._recorded.get((place, epoch)) == content:
            return
        file = self._file(place, epoch)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(WRITING)
        beside.write_text(content)
        beside.replace(file)
        self._recorded[place, epoch] = content

    def forget(self, of: str | None = None) -> None:
        """Remove our own records and empty groups, of a place or all: everything was closed."""
        for place, epoch in [one for one in self._recorded if of in (None, one[0])]:
            if self._cgroups is not None:
                forget(list(self._cgroups.of_epoch(place, epoch)))
            _remove_record(self._file(place, epoch))
            del self._recorded[place, epoch]

    async def reap(self, place: str, alive: Callable[[str], bool]) -> list[str]:
        """End what dead epochs of a place left; says what, one line each.

        Raises:
            SandboxUnavailable: the kernel does not let go of a process.
        """
        said: list[str] = []
        groups = {} if self._cgroups is None else self._cgroups.epochs(place)
        known = {*self._epochs(place), *groups, *(epoch for _, epoch in _labelled(place))}
        for epoch in sorted(epoch for epoch in known if not alive(epoch)):
            killed = await _kill_labelled(place, epoch)
            file = self._file(place, epoch)
            record = _read_record(file)
            folders = {*map(Path, record["groups"]), *groups.get(epoch, ())}
            ended = await end_epoch(sorted(folders))
            for copy in record["copies"]:
                shutil.rmtree(copy, ignore_errors=True)
            _remove_record(file)
            said.append(f"epoch {epoch}: {killed} processes, {ended} control groups")
        return said

    def _file(self, place: str, epoch: str) -> Path:
        return self._folder / quote(epoch, safe="") / f"{quote(place, safe='')}.json"

    def _epochs(self, place: str) -> list[str]:
        pattern = f"*/{quote(place, safe='')}.*"  # also one that was being written
        return [unquote(file.parent.name) for file in self._folder.glob(pattern)]


def _read_record(file: Path) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {"groups": [], "copies": []}
    return found


def _remove_record(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.with_suffix(WRITING).unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        file.parent.rmdir()
    with contextlib.suppress(OSError):
        file.parent.parent.rmdir()


async def _kill_labelled(place: str, epoch: str) -> int:
    """Kill every bubblewrap of an epoch, and wait until they are gone; how many there were."""
    killed: set[int] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GONE_S):
            while (pids := [pid for pid, of in _labelled(place) if of == epoch]) or _dying():
                for pid in pids:
                    _kill(pid, label(place, epoch))
                killed.update(pids)
                await asyncio.sleep(POLL_S)
    return len(killed)


def _dying() -> bool:
    """Whether a bubblewrap is at its end but still takes its processes with it: it has no label."""
    for entry in PROC.iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "comm").read_text().strip() == BWRAP:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in OVER and not (entry / "cmdline").read_bytes():
                    return True
    return False


def _kill(pid: int, expected: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if _label_of(PROC / str(pid)) == expected:  # still the same process
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _labelled(place: str) -> Iterator[tuple[int, str]]:
    """The processes of bubblewrap that serve a place, with their epoch."""
    prefix = label(place, "")
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            found = _label_of(entry)
            if found is not None and found.startswith(prefix):
                yield int(entry.name), unquote(found.removeprefix(prefix))


def _label_of(entry: Path) -> str | None:
    """The label of a process of a sandbox in the making or at work."""
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:  # gone meanwhile, or not ours to look at
        return None
    found = (word.decode("utf-8", "replace") for word in words)
    return next((word for word in found if word.startswith(f"{LABEL}:")), None)
