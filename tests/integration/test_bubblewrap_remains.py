"""A worker that is killed leaves nothing once somebody reaped, whatever it was at (C10)."""

import asyncio
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.bubblewrap.program import Program, copy_for_everyone
from services.sandbox.bubblewrap.remains import label
from tests.contract.sandbox_backends import BOUND_S, marker, processes_with

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.faults]

SANDBOXES = 3

PRIVILEGED = [
    pytest.param(True, marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root")),
    False,
]

HARNESS = """
import asyncio, os, sys
from pathlib import Path
from domain.sandbox import SandboxLimits
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.bubblewrap.program import Program
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import shell, spec

async def main(state, root, binary, privileged, word, manner):
    program = Program.find()
    program.binary = Path(binary)
    backend = BubblewrapBackend(Path(state), privileged=privileged == "1", program=program)
    # Daemons that leave their session, ignore what asks them to end, and fork without end.
    daemons = f"trap '' TERM HUP; while :; do (setsid sleep 1000 &); sleep 0.02; done # {word}"
    limits = SandboxLimits(processes=30)

    async def one(workspace):
        while True:
            sandbox = await backend.open(
                spec(workspace, epoch="dead", place=word, limits=limits, egress=True)
            )
            await sandbox.start(shell(daemons))
            await sandbox.exec(shell(f"(setsid sleep 1000 &); : {word}"))
            inode = os.fstat(sandbox._launcher.network.net).st_ino
            print(f"net:[{inode}]", flush=True)
            if manner == "steady":
                await asyncio.Event().wait()
            await sandbox.close()

    with Workspace(Path(root)) as workspace:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):  # SANDBOXES
                group.create_task(one(workspace))

asyncio.run(main(*sys.argv[1:]))
"""


def users_of(network: str) -> list[str]:
    """The processes of this machine that are in a network namespace."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and os.fspath((entry / "ns/net").readlink()) == network:
                found.append(entry.name)
    return found


class Place(NamedTuple):
    """Where a worker works: all of it is looked through afterwards."""

    word: str  # marks its processes, and names the place it serves
    state: Path
    root: Path  # its workspace
    binary: Path  # a bubblewrap that only we can reach, so that other users need a copy
    copies: Path  # where those are made

    def left(self) -> dict[str, list[str]]:
        """Everything that is there and should not be."""
        files = [one for one in self.state.rglob("*") if one.is_file()]
        lines = Path("/proc/self/mounts").read_text().splitlines()
        ours = (str(self.root), str(self.state), str(self.copies))
        return {
            "processes": processes_with(self.word),
            "groups": [str(one) for one in Path("/sys/fs/cgroup").glob(f"**/peritus/{self.word}")],
            "mounts": [line for line in lines if any(one in line for one in ours)],
            "files": [str(one) for one in (*files, *self.copies.iterdir())],
            "made": [one.name for one in self.root.iterdir() if one.name != ".peritus"],
        }


NOTHING: dict[str, list[str]] = {
    "processes": [],
    "groups": [],
    "mounts": [],
    "files": [],
    "made": [],
}


@pytest.fixture
def place() -> Iterator[Place]:
    with ExitStack() as made:

        def folder(mode: int) -> Path:
            path = Path(made.enter_context(tempfile.TemporaryDirectory(prefix="peritus-")))
            path.chmod(mode)
            return path

        binary = copy_for_everyone(Program.find().binary, folder(0o700) / "bin")
        yield Place(marker(), folder(0o700), folder(0o755), binary, folder(0o755))


async def killed(place: Place, *, privileged: bool, after_s: float | None) -> list[str]:
    """Start a worker and kill it: once all its sandboxes are there, or a time after the first.

    The network namespaces it had, as the kernel names them.
    """
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HARNESS, str(place.state), str(place.root), str(place.binary)),
        *("1" if privileged else "0", place.word, "busy" if after_s is not None else "steady"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(place.copies)},
    )
    assert worker.stdout is not None
    networks: list[str] = []
    for _ in range(SANDBOXES if after_s is None else 1):
        networks.append((await worker.stdout.readline()).decode().strip())  # noqa: PERF401
    await asyncio.sleep(after_s or 0)
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    assert all(network.startswith("net:[") for network in networks)
    return networks


@pytest.mark.parametrize("privileged", PRIVILEGED)
@pytest.mark.parametrize("after_s", [None, *(random.Random(7).uniform(0, 0.4) for _ in range(8))])
async def test_a_killed_worker_leaves_nothing_once_reaped(
    place: Place, *, privileged: bool, after_s: float | None
) -> None:
    """Killed with its sandboxes full of daemons, or at any moment of making and closing them."""
    if privileged:
        os.chown(place.root, 23456, 23456)
    async with asyncio.timeout(BOUND_S):
        networks = await killed(place, privileged=privileged, after_s=after_s)
        if privileged:
            assert place.left()["files"] != []
        later = BubblewrapBackend(place.state, privileged=privileged)
        assert await later.reap(place.word, lambda epoch: epoch == "dead") == []
        assert await later.reap("elsewhere", lambda _epoch: False) == []
        said = await later.reap(place.word, lambda _epoch: False)
        assert [line.split(":")[0] for line in said] == ["epoch dead"]
        assert await later.reap(place.word, lambda _epoch: False) == []
        await later.close()
    assert place.left() == NOTHING
    async with asyncio.timeout(BOUND_S):
        # The kernel gives the name of a network that is gone to the next one, for its short life.
        while any(users_of(network) for network in networks):
            await asyncio.to_thread(os.sched_yield)


async def test_a_sandbox_in_the_making_is_found_by_its_label(place: Place) -> None:
    """A worker that is killed may leave a bubblewrap that nothing else ties to it."""
    read, write = os.pipe()
    bwrap = (str(place.binary), "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/")
    half_made = await asyncio.create_subprocess_exec(
        *(*bwrap, "--block-fd", str(read), "sh", "-c", "true", label(place.word, "dead")),
        pass_fds=(read,),
    )
    try:
        async with asyncio.timeout(BOUND_S):
            while len(processes_with(label(place.word, "dead"))) < 2:  # the outer and the inner
                await asyncio.to_thread(os.sched_yield)
            backend = BubblewrapBackend(place.state)
            assert await backend.reap("elsewhere", lambda _epoch: False) == []
            assert len(processes_with(place.word)) == 2
            await backend.reap(place.word, lambda _epoch: False)
            assert await half_made.wait() == -signal.SIGKILL
        assert place.left() == NOTHING
    finally:
        os.close(read)
        os.close(write)


async def test_the_self_test_leaves_nothing_although_its_worker_goes_on(tmp_path: Path) -> None:
    """C10: what it made is of no worker's place, so no reaper would come by for it."""
    backend = BubblewrapBackend(tmp_path)
    await backend.report()
    assert files_below(tmp_path) == []
    await backend.close()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
