"""A sandbox that a killed worker left half made is ended; one that somebody makes is not (C10)."""

import os
import signal
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest

from services.sandbox.bubblewrap import Bubblewrap
from services.sandbox.orphans import end_orphans

pytestmark = pytest.mark.sandbox

WAIT_S = 5.0
POLL_S = 0.01


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, a bounded time."""
    deadline = monotonic() + WAIT_S
    while not condition():
        assert monotonic() < deadline, what
        sleep(POLL_S)


def inner_of(outer: int) -> int | None:
    """The inner process of a bubblewrap, once there is one."""
    children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    return int(children[0]) if children else None


def gone(pid: int) -> bool:
    """Whether a process is no more, or only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@contextmanager
def half_made(binary: Path) -> Generator[tuple["subprocess.Popen[bytes]", int]]:
    """A bubblewrap whose inner process waits to be let on, holding a descriptor like ours."""
    read, write = os.pipe()
    ours = os.memfd_create("peritus")
    outer = subprocess.Popen(
        [binary, "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/",
         "--block-fd", str(read), "true"],
        pass_fds=(read, ours),
    )  # fmt: skip
    try:
        until(lambda: inner_of(outer.pid) is not None, "no inner process")
        yield outer, inner_of(outer.pid) or 0
    finally:
        outer.kill()
        outer.wait()
        os.close(write)  # whoever still waits for it goes on, and ends
        os.close(read)
        os.close(ours)


def test_the_inner_process_of_a_killed_sandbox_is_ended() -> None:
    binary = Bubblewrap.find().binary
    with half_made(binary) as (outer, inner):
        os.kill(outer.pid, signal.SIGKILL)
        outer.wait()
        until(lambda: inner in end_orphans(binary), "the orphan was not found")
        until(lambda: gone(inner), "the orphan lives")


def test_a_sandbox_with_its_parent_is_left_alone() -> None:
    binary = Bubblewrap.find().binary
    with half_made(binary) as (_, inner):
        assert inner not in end_orphans(binary)
        assert not gone(inner)
