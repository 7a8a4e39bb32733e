"""What this machine's kernel lets us see and end of a container. Not needed: see `cells.py`.

An engine names processes by numbers of its own pid namespace. Only where /proc says that such a
process is in the container's control group is it the same machine, and only then is it touched.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CGROUPS = Path("/sys/fs/cgroup")
EVENTS = "cgroup.events"


class Host(NamedTuple):
    """A container as this machine sees it; `pid` is its first process."""

    container: str
    pid: int
    cgroup: Path | None  # of version 2, where commands may have groups of their own
    memory: Path | None  # the file that counts what the kernel killed for memory
    privileged: bool  # whether we may signal its processes and enter its namespaces

    def sees(self, pid: int) -> bool:
        """Whether a process is one of the container's."""
        return self.container in _groups(pid).get("text", "")

    def cell(self, pid: int, name: str) -> Path | None:
        """A control group of its own for a process and all it will start.

        None where that is not possible.
        """
        if self.cgroup is None or not self.sees(pid):
            return None
        path = self.cgroup / name
        try:
            path.mkdir()
            (path / "cgroup.procs").write_text(str(pid))
        except OSError:
            with suppress(OSError):
                path.rmdir()
            return None
        return path

    def out_of_memory(self) -> int:
        """How often the kernel has killed in the container for want of memory."""
        if self.memory is None:
            return 0
        try:
            for line in self.memory.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        except (OSError, ValueError):
            pass
        return 0


def look(container: str, pid: int, *, privileged: bool) -> Host | None:
    """The container on this machine, or None where it is on another, or not to be seen."""
    if pid <= 0:
        return None
    groups = _groups(pid)
    if container not in groups.get("text", ""):
        return None
    cgroup = _unified(groups) if privileged else None
    return Host(container, pid, cgroup, _memory(groups), privileged)


def _groups(pid: int) -> dict[str, str]:
    """The control group of a process for each controller, "" being version 2; `text` is all."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return {}
    found = {"text": text}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    return found


def _unified(groups: dict[str, str]) -> Path | None:
    if "" not in groups:
        return None
    for root in (CGROUPS, CGROUPS / "unified"):
        path = root / groups[""]
        if groups[""] and (path / "cgroup.kill").exists():
            return path
    return None


def _memory(groups: dict[str, str]) -> Path | None:
    if "memory" in groups:
        return CGROUPS / "memory" / groups["memory"] / "memory.oom_control"
    return CGROUPS / groups[""] / "memory.events" if "" in groups else None


def signal_group(pid: int, number: signal.Signals) -> None:
    """A signal to the group that a process leads; harmless once it is over."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def end(cell: Path) -> bool:
    """Kill all in a control group at once; whether it is empty now."""
    try:
        (cell / "cgroup.kill").write_text("1")
        return "populated 0" in (cell / EVENTS).read_text()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def remove(cell: Path) -> bool:
    """Remove an empty control group; whether it is gone."""
    try:
        cell.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
