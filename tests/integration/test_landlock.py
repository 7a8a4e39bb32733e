"""The degraded tier beyond the contract: calls that Landlock does not look at, and leftovers."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from services.sandbox.failures import SandboxUnavailable
from services.sandbox.landlock.backend import LandlockBackend, labelled
from services.sandbox.landlock.filters import NUMBERS, landlock_filter
from services.sandbox.landlock.rules import ABI_NEEDED, abi
from services.sandbox.landlock.sandbox import LandlockSandbox
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import BOUND_S, err, marker, out, processes_with, python, spec

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.sandbox,
    pytest.mark.skipif(abi() < ABI_NEEDED, reason=f"Landlock here has ABI {abi()}"),
]

OWNERS = [None, 23458] if os.geteuid() == 0 else [None]
INSTRUCTION_BYTES = 8


@pytest.fixture(params=OWNERS, ids=lambda owner: "own-user" if owner else "our-user")
def folder(request: pytest.FixtureRequest) -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="peritus-work-") as made:
        Path(made).chmod(0o755)
        if request.param is not None:
            os.chown(made, request.param, request.param)
        yield Path(made)


@pytest.fixture
async def sandbox(folder: Path) -> AsyncGenerator[LandlockSandbox]:
    backend = LandlockBackend()
    with Workspace(folder) as workspace:
        yield await backend.open(spec(workspace))
        await backend.close()


NEIGHBOUR = """
import ctypes, os, resource, socket, sys
pid, canary = int(sys.argv[1]), sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, attack):
    try:
        attack()
    except OSError:
        return
    print(name)
def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno())
tried('signal', lambda: os.kill(pid, 0))
tried('limits', lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE))
tried('affinity', lambda: os.sched_setaffinity(pid, {0}))
tried('nice', lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
tried('nice of a user', lambda: os.setpriority(os.PRIO_USER, 0, 19))
tried('environment', lambda: open(f'/proc/{pid}/environ').read())
tried('program', lambda: os.readlink(f'/proc/{pid}/exe'))
tried('read', lambda: open(canary).read())
tried('write', lambda: open(canary, 'a'))
tried('truncate', lambda: os.truncate(canary, 0))
tried('remove', lambda: os.unlink(canary))
tried('mode', lambda: os.chmod(canary, 0o777))
tried('times', lambda: os.utime(canary, (1, 1)))
tried('attributes', lambda: os.setxattr(canary, 'user.x', b'x'))
tried('watch', lambda: call(libc.inotify_add_watch, libc.inotify_init(), canary.encode(), 0xfff))
tried('shared memory', lambda: call(libc.shmget, 0x7e1, 4096, 0o1666))
tried('queue', lambda: call(libc.mq_open, b'/x', 0o102, 0o666, None))
tried('inet', lambda: socket.socket())
tried('datagram', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
tried('unix', lambda: socket.socket(socket.AF_UNIX))
tried('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
tried('unconnected pair', lambda: socket.socketpair(type=socket.SOCK_DGRAM))
"""


@pytest.fixture
def neighbour() -> Generator[int]:
    """A process of the host, by its pid."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


async def test_nothing_outside_can_be_reached_or_changed(
    sandbox: LandlockSandbox, tmp_path: Path, neighbour: int
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("only outside")
    canary.chmod(0o666)
    for place in (tmp_path, *tmp_path.parents[:-2]):
        place.chmod(place.stat().st_mode | 0o055)
    before = canary.stat()
    outcome = await sandbox.exec(python(NEIGHBOUR, str(neighbour), str(canary)))
    assert (out(outcome), outcome.exit_code) == ("", 0), err(outcome)
    assert canary.stat() == before


async def test_ordinary_work_goes_on(sandbox: LandlockSandbox) -> None:
    script = (
        "import asyncio, multiprocessing.connection, os, pathlib, resource, subprocess, tempfile\n"
        "assert subprocess.run(['sh', '-c', 'exit 3'], capture_output=True).returncode == 3\n"
        "asyncio.run(asyncio.sleep(0))\n"
        "with tempfile.NamedTemporaryFile() as file: file.write(b'x')\n"
        "pathlib.Path('a').mkdir(); pathlib.Path('a/b').write_text('x'); os.rename('a/b', 'c')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "os.setpriority(os.PRIO_PROCESS, 0, 5)\n"
        "print('fine')\n"
    )
    outcome = await sandbox.exec(python(script))
    assert out(outcome) == "fine\n", err(outcome)


@pytest.mark.parametrize("own_user", [True, False])
@pytest.mark.parametrize("machine", sorted(NUMBERS))
def test_filter_has_whole_instructions_and_no_jump_leaves_it(
    machine: str, *, own_user: bool
) -> None:
    steps = landlock_filter(own_user=own_user, machine=machine)
    assert steps is not None
    assert len(steps) % INSTRUCTION_BYTES == 0
    count = len(steps) // INSTRUCTION_BYTES
    assert count < 4096  # the kernel's limit
    for at in range(count):
        code, if_true, if_false = steps[at * 8], steps[at * 8 + 2], steps[at * 8 + 3]
        if code == 0x15:
            assert at + 1 + max(if_true, if_false) < count


def test_machine_whose_calls_are_not_known_has_no_filter() -> None:
    assert landlock_filter(own_user=True, machine="sparc") is None


@pytest.mark.parametrize(
    "wanted", [{"egress": True}, {"files": {"ca.pem": b"x"}}], ids=["egress", "files"]
)
async def test_what_cannot_be_had_is_refused_and_not_left_out(
    folder: Path, wanted: dict[str, object]
) -> None:
    with (
        Workspace(folder) as workspace,
        pytest.raises(SandboxUnavailable, match="use docker or bubblewrap"),
    ):
        await LandlockBackend().open(spec(workspace, **wanted))  # type: ignore[arg-type]


WORKER = """
import asyncio, os, pathlib, sys
from services.sandbox.landlock.backend import LandlockBackend
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import shell, spec

async def main(folder, word):
    with Workspace(pathlib.Path(folder)) as workspace:
        sandbox = await LandlockBackend().open(spec(workspace, epoch='dead', place=word))
        async def heard(_):
            print('up', flush=True)
        command = shell(f'(setsid sleep 1000 &); echo up; sleep 1000 # {word}')
        await sandbox.exec(command, on_stdout=heard)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def killed_worker(folder: Path) -> str:
    """The place of a worker that was killed while a command of its ran."""
    word = marker()
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), word], stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"up\n"
        worker.send_signal(signal.SIGKILL)
    return word


async def test_killed_worker_leaves_nothing_once_the_next_has_looked(killed_worker: str) -> None:
    """C10: the keeper ends its command when the worker is gone; the folder is found by name."""
    async with asyncio.timeout(BOUND_S):
        while list(labelled(killed_worker)):
            await asyncio.to_thread(os.sched_yield)  # nobody has to help
    backend = LandlockBackend()
    assert await backend.reap(killed_worker, lambda epoch: epoch == "dead") == []
    (said,) = await backend.reap(killed_worker, lambda _epoch: False)
    assert said == "epoch dead: 0 processes, 1 folders"
    assert await backend.reap(killed_worker, lambda _epoch: False) == []
    assert processes_with(killed_worker) == []


def keepers_of(worker: int) -> list[int]:
    """The keepers a worker has started."""
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    return [int(pid) for pid in children if b"SECCOMP" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_killed_keeper_leaves_what_reap_finds(folder: Path) -> None:
    """C10: what left its session is nobody's child then, and still carries the label."""
    word = marker()
    backend = LandlockBackend()
    with Workspace(folder) as workspace:
        sandbox = await backend.open(spec(workspace, epoch="dead", place=word))
        script = (
            "import os, sys, time\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    print(os.getpid(), flush=True)\n"
            "    os.close(1); os.close(2)\n"
            "    time.sleep(1000)\n"
            "time.sleep(1000)\n"
        )
        running = asyncio.Event()

        async def heard(_chunk: bytes) -> None:
            running.set()

        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
            task = group.create_task(sandbox.exec(python(script, word), on_stdout=heard))
            await running.wait()
            for keeper in keepers_of(os.getpid()):
                os.kill(keeper, signal.SIGKILL)
            await task
        assert processes_with(word) != []
        (said,) = await backend.reap(word, lambda _epoch: False)
        assert said.startswith("epoch dead: ")
        assert processes_with(word) == []
        await backend.close()
