"""A real registry of images on loopback, over a folder of its own. Not the engine that uses it."""

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support import debian

BOUND_S = 30.0
LOOPBACK = "127.0.0.1"

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {store}}}}}
http: {{addr: {address}}}
"""


def missing() -> str | None:
    """Why there can be none here."""
    if debian.program("docker-registry", "docker-registry") is None:
        return "no registry: apt-get install --no-install-recommends docker-registry"
    return None


@dataclass(frozen=True)
class Registry:
    """Where it listens, and where it keeps what it has."""

    address: str
    store: Path

    def manifest(self, digest: str) -> Path:
        """The file that a digest names."""
        kind, _, name = digest.partition(":")
        return self.store / "docker/registry/v2/blobs" / kind / name[:2] / name / "data"

    def layer(self, digest: str) -> Path:
        """The file of the first layer of an image."""
        manifest = json.loads(self.manifest(digest).read_text())
        return self.manifest(manifest["layers"][0]["digest"])


@contextmanager
def registry(folder: Path) -> Generator[Registry]:
    """One that answers, until the context ends."""
    program = debian.program("docker-registry", "docker-registry")
    assert program is not None
    made = Registry(f"{LOOPBACK}:{free_port()}", folder / "store")
    config = folder / "registry.yml"
    config.write_text(CONFIG.format(store=made.store, address=made.address))
    served = subprocess.Popen(
        [program, "serve", config],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + BOUND_S
        while not _answers(made.address):
            assert served.poll() is None, "the registry has ended"
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)
        yield made
    finally:
        served.kill()
        served.wait()


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as asked:
        asked.bind((LOOPBACK, 0))
        port: int = asked.getsockname()[1]
        return port


def _answers(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        return False
    finally:
        connection.close()
