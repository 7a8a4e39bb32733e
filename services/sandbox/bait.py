"""What the self-test puts around a sandbox for its attacks to find. Not the attacks."""

import os
import secrets
import socket
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER = 64_123  # nobody's number
PID_MIN = 1000  # below it, a number may well mean another process inside

CANARY = "PERITUS_SELF_TEST"
"""A variable that this process has while it tests, and no sandbox may have."""


@dataclass(frozen=True, slots=True)
class Bait:
    """What lies outside for the attacks to find: a folder, its canaries, and two listeners."""

    folder: Path
    token: str
    tcp: socket.socket
    abstract: socket.socket
    named: socket.socket

    @property
    def root(self) -> Path:
        """The workspace."""
        return self.folder / "workspace"

    def expected(self) -> dict[str, str]:
        """What the attacks are told."""
        return {
            "canary": str(self.folder / "canary"),
            "outside": str(self.folder / "outside"),
            "socket": str(self.folder / "socket"),
            "abstract": self.abstract.getsockname()[1:].decode(),
            "port": str(self.tcp.getsockname()[1]),
            "pid": str(os.getpid() if os.getpid() >= PID_MIN else 0),
            "token": self.token,
        }

    def untouched(self) -> bool:
        """Whether nothing happened outside, whatever the attacks say of themselves."""
        knocked = [accepts(one) for one in (self.tcp, self.abstract, self.named)]
        return (
            not any(knocked)
            and not list((self.folder / "outside").iterdir())
            and (self.folder / "canary").stat().st_nlink == 1
        )


@contextmanager
def make_bait() -> Generator[Bait]:
    """A folder of its own with a workspace in it, open to everybody: only the sandbox hides it."""
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-") as made,
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "workspace").mkdir()
        if os.geteuid() == 0:  # as the workspaces of jobs are; who is made it says who wrote there
            os.chown(folder / "workspace", USER, USER)
            (folder / "workspace").chmod(0o777)
        (folder / "outside").mkdir()
        (folder / "outside").chmod(0o777)
        token = secrets.token_hex(16)
        (folder / "canary").write_text(token)
        tcp.bind(("127.0.0.1", 0))
        abstract.bind(f"\0{token}")
        named.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        for listener in (tcp, abstract, named):
            listener.listen()
            listener.settimeout(0)
        os.environ[CANARY] = token
        try:
            yield Bait(folder, token, tcp, abstract, named)
        finally:
            del os.environ[CANARY]


def accepts(listener: socket.socket) -> bool:
    """Whether somebody has connected; the listener does not block."""
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True
