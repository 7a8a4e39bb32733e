"""A Docker Engine for tests, shared by all workers of a machine: the first starts it.

Who uses it holds a shared lock, which the kernel drops however a process ends. A process of its own
waits until nobody holds it, and then stops the engine. Two empty files in the folder for temporary
files stay: the locks.
"""

import atexit
import fcntl
import functools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import docker  # type: ignore[import-untyped]

from tests.support import docker_image

SCRIPT = Path(__file__).parents[2] / "scripts" / "docker-engine"
HOST_SETTING, IMAGE_SETTING = "PERITUS_TEST_DOCKER_HOST", "PERITUS_TEST_DOCKER_IMAGE"
IMAGE = "peritus-test:1"
START_S = 120.0
TOKEN = "token"  # in the engine's folder: which start of it this is
NOTHING: Mapping[str, str] = {}


class Running(NamedTuple):
    """Where it listens, and an image it has."""

    host: str
    image: str


def missing() -> str | None:
    """Why no engine can be had here."""
    if HOST_SETTING in os.environ:
        return None
    if os.geteuid() != 0:
        return f"an engine for tests needs root, or {HOST_SETTING} and {IMAGE_SETTING}"
    if shutil.which("dockerd") is None:
        return "dockerd is not installed: apt-get install --no-install-recommends docker.io"
    return docker_image.missing()


@functools.cache
def engine_of_session(kind: str = "engine", config: str = "") -> Running:
    """The shared engine until this process ends: for suites that open backends one by one.

    There is one for each kind; `config` is the text of its `daemon.json`.
    """
    held = ExitStack()
    atexit.register(held.close)
    return held.enter_context(shared_engine(kind, config))


@contextmanager
def shared_engine(kind: str = "engine", config: str = "") -> Generator[Running]:
    """An engine with an image, as long as somebody uses it."""
    if HOST_SETTING in os.environ and not config:
        yield Running(os.environ[HOST_SETTING], os.environ[IMAGE_SETTING])
        return
    base = Path(tempfile.gettempdir(), f"peritus-test-{kind}-{os.geteuid()}")
    folder, using = base.with_suffix(".d"), base.with_suffix(".users")
    with using.open("a") as users:
        while not _joined(base, users.fileno(), config):
            time.sleep(0.1)  # it is being stopped
        yield Running(_host(folder), IMAGE)


def _joined(base: Path, users: int, config: str) -> bool:
    """Hold the engine that runs, or one that we start; False while one is being stopped."""
    folder, using = base.with_suffix(".d"), base.with_suffix(".users")
    with base.with_suffix(".lock").open("a") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not _locked(users, fcntl.LOCK_EX):
            return _locked(users, fcntl.LOCK_SH)
        _script("stop", folder)  # of a stopper that was killed
        if config:
            folder.mkdir(parents=True)
            (folder / "daemon.json").write_text(config)
        _script("start", folder)
        import_image(_host(folder), IMAGE)
        token = secrets.token_hex(8)
        (folder / TOKEN).write_text(token)
        fcntl.flock(users, fcntl.LOCK_SH)
        waiting: list[str | Path] = [sys.executable, __file__, folder, using, token]
        subprocess.run(
            ["setsid", "--fork", *waiting],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return True


def _locked(users: int, how: int) -> bool:
    try:
        fcntl.flock(users, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stop_when_unused(folder: Path, using: Path, token: str) -> None:
    """Wait until nobody uses the engine, and stop it, unless it is another one by then."""
    with using.open("a") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if (folder / TOKEN).exists() and (folder / TOKEN).read_text() == token:
            _script("stop", folder)


def _script(verb: str, folder: Path) -> None:
    subprocess.run([SCRIPT, verb, folder], check=True, timeout=START_S, stdout=subprocess.DEVNULL)


def _host(folder: Path) -> str:
    return f"unix://{folder}/docker.sock"


def import_image(host: str, name: str, *packages: str, env: Mapping[str, str] = NOTHING) -> None:
    """Make the test image, with more packages and variables, on an engine."""
    client: Any = cast("Any", docker).APIClient(base_url=host, timeout=START_S)
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin", **env}
    try:
        with tempfile.TemporaryDirectory(prefix="peritus-image-") as folder:
            root = Path(folder, "root.tar")
            docker_image.write_root(root, *packages)
            repository, tag = name.split(":")
            changes = [f"ENV {variable}={value}" for variable, value in variables.items()]
            client.import_image_from_file(
                str(root), repository=repository, tag=tag, changes=changes
            )
    finally:
        client.close()


if __name__ == "__main__":
    stop_when_unused(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
