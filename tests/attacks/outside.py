"""What lies around a sandbox for attacks to find, open to everybody, and whether it was touched."""

import os
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    """One entry of a folder, as far as anybody could have changed it."""

    mode: int
    owner: int
    links: int
    content: bytes | str


class Outside:
    """A folder with a canary, listeners of every kind, a process, and a variable of ours."""

    def __init__(self, stack: ExitStack) -> None:
        self.token = secrets.token_hex(12)
        self.hidden = self.token[::-1]  # in no attack's own words, so what shows it has found it
        self.base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attacked-")))
        self.base.chmod(0o755)
        self.folder = self.base / "outside"
        self.folder.mkdir()
        self.folder.chmod(0o777)
        self.canary = self.folder / "canary"
        self.canary.write_text(self.token)
        self.canary.chmod(0o666)
        (self.folder / "below").mkdir(mode=0o777)
        (self.folder / "below" / "canary").write_text(self.token)
        self.tcp = self._listen(stack, socket.AF_INET, ("0.0.0.0", 0))
        self.tcp6 = self._listen(stack, socket.AF_INET6, ("::1", 0))
        self.abstract = self._listen(stack, socket.AF_UNIX, f"\0{self.token}")
        self.named = self._listen(stack, socket.AF_UNIX, str(self.base / "socket"))
        (self.base / "socket").chmod(0o777)
        self.udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("0.0.0.0", 0))
        self.udp.settimeout(0)
        self.neighbour = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "import signal; signal.pause()", self.hidden],
                stdout=subprocess.DEVNULL,
            )
        )
        stack.callback(self.neighbour.kill)
        self.variable = f"PERITUS_ATTACKED_{self.token}"
        os.environ[self.variable] = self.hidden
        stack.callback(os.environ.pop, self.variable)
        self._before = self._look()
        self._process_before = self._process()

    def _listen(
        self, stack: ExitStack, family: socket.AddressFamily, address: tuple[str, int] | str
    ) -> socket.socket:
        listener = stack.enter_context(socket.socket(family))
        listener.bind(address)
        listener.listen()
        listener.settimeout(0)
        return listener

    def told(self) -> dict[str, str | int]:
        """What an attack is told: it knows all of this, as the worst attacker would."""
        return {
            "canary": str(self.canary),
            "folder": str(self.folder),
            "socket": str(self.base / "socket"),
            "abstract": self.token,
            "tcp": self.tcp.getsockname()[1],
            "tcp6": self.tcp6.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "pid": self.neighbour.pid,
            "our_pid": os.getpid(),
        }

    def touched(self) -> list[str]:
        """Everything that is not as it was."""
        found: list[str] = []
        if self._look() != self._before:
            found.append("the folder outside changed")
        if self._process() != self._process_before:
            found.append("the process outside changed")
        for name in ("tcp", "tcp6", "abstract", "named"):
            listener: socket.socket = getattr(self, name)
            try:
                listener.accept()[0].close()
                found.append(f"somebody reached {name}")
            except BlockingIOError:
                pass
        try:
            self.udp.recv(1)
            found.append("somebody reached udp")
        except BlockingIOError:
            pass
        return found

    def _look(self) -> dict[str, Seen]:
        seen: dict[str, Seen] = {}
        for path in (self.folder, *sorted(self.folder.rglob("*"))):
            at = path.lstat()
            content = path.read_bytes() if path.is_file() else ""
            seen[str(path)] = Seen(at.st_mode, at.st_uid, at.st_nlink, content)
        return seen

    def _process(self) -> tuple[object, ...]:
        pid = self.neighbour.pid
        status = Path(f"/proc/{pid}/status").read_text()
        traced = next(line for line in status.splitlines() if line.startswith("TracerPid"))
        stopped = "T (" in status
        return (
            self.neighbour.poll(),
            traced,
            stopped,
            os.getpriority(os.PRIO_PROCESS, pid),
            resource.prlimit(pid, resource.RLIMIT_NOFILE),
            os.sched_getaffinity(pid),
        )


@contextmanager
def outside() -> Generator[Outside]:
    """Everything of it is gone afterwards."""
    with ExitStack() as stack:
        yield Outside(stack)
