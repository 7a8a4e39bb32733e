"""A PostgreSQL server of Debian's packages for tests, on a socket in a folder. Not the tests."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

START_S = 60.0
USER = "postgres"
"""The server does not run as root; Debian's package makes this user."""


def programs() -> Path | None:
    """Where the newest server is; None if there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: int(path.parents[1].name),
    )
    return found[-1].parent if found else None


def missing() -> str | None:
    """Why no server can be had here."""
    if programs() is None:
        return "PostgreSQL is not installed: apt-get install --no-install-recommends postgresql"
    return None


@contextmanager
def served() -> Generator[str]:
    """The URL of a database of a server that is there while the context is open."""
    where = programs()
    assert where is not None
    folder = Path(tempfile.mkdtemp(prefix="peritus-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(folder, user.pw_uid, user.pw_gid)
        ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
        as_user = ["setpriv", *ids, "--clear-groups", "--"]
    data = folder / "data"
    make = [where / "initdb", "-D", data, "-U", "peritus", "-A", "trust", "--no-sync", "-E", "UTF8"]
    subprocess.run(
        [*as_user, *map(str, make)], check=True, capture_output=True, timeout=START_S, cwd=folder
    )
    serve = [where / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*as_user, *map(str, serve), "-c", "fsync=off"],
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=folder,
        )
    try:
        _wait_until_ready(where, folder, process)
        yield f"postgresql://peritus@/postgres?host={folder}"
    finally:
        process.terminate()
        process.wait(START_S)
        shutil.rmtree(folder)


def _wait_until_ready(where: Path, folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    asked = [str(where / "pg_isready"), "-q", "-h", str(folder), "-d", "postgres", "-U", "peritus"]
    while subprocess.run(asked, check=False).returncode:
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)


def new_schema() -> str:
    """The name of a schema that nobody else has."""
    return f"test_{secrets.token_hex(6)}"
