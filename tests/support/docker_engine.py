"""A Docker Engine for tests, shared by all workers: the first starts it, the last stops it.

Who uses it holds a shared lock, which the kernel drops also when a test run is killed; the next one
then finds an engine that nobody uses, ends it and starts its own.
"""

import atexit
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
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
def engine_of_session() -> Running:
    """The shared engine until this process ends: for suites that open backends one by one."""
    held = ExitStack()
    atexit.register(held.close)
    return held.enter_context(shared_engine())


@contextmanager
def shared_engine() -> Generator[Running]:
    """An engine with an image, as long as somebody uses it."""
    if HOST_SETTING in os.environ:
        yield Running(os.environ[HOST_SETTING], os.environ[IMAGE_SETTING])
        return
    base = Path(tempfile.gettempdir(), f"peritus-test-engine-{os.geteuid()}")
    folder, using = base.with_suffix(".d"), base.with_suffix(".users")
    with ExitStack() as opened:
        with _alone(base.with_suffix(".lock")):
            users = opened.enter_context(using.open("a")).fileno()
            if _last(users):
                _script("stop", folder)
                _script("start", folder)
                import_image(_host(folder), IMAGE)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield Running(_host(folder), IMAGE)
        finally:
            with _alone(base.with_suffix(".lock")) as lock:
                if _last(users):
                    _script("stop", folder)
                    using.unlink()
                    lock.unlink()


@contextmanager
def _alone(path: Path) -> Generator[Path]:
    """Nobody else is in here; the file of the lock may be removed meanwhile."""
    while True:
        with path.open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(gate.fileno()).st_ino:
                yield path
                return


def _last(users: int) -> bool:
    """Whether nobody else uses the engine."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
