"""What only bubblewrap's backend has: what it forbids, whom it becomes, and what it is made of.

What every backend promises is in `tests/contract/sandbox`.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.bubblewrap.program import Program, copy_for_everyone
from services.sandbox.bubblewrap.seccomp import MACHINES, built_filter, compiled_filter
from services.sandbox.bubblewrap.view import reachable
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Command, Outcome, Sandbox
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import (
    BOUND_S,
    marker,
    out,
    processes_with,
    python,
    shell,
    spec,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

NOBODY = 65534


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncGenerator[BubblewrapBackend]:
    opened = BubblewrapBackend(tmp_path / "state")
    yield opened
    await opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def workspace(folder: Path) -> Iterator[Workspace]:
    with Workspace(folder) as opened:
        yield opened


@pytest.fixture
async def sandbox(backend: BubblewrapBackend, workspace: Workspace) -> Sandbox:
    return await backend.open(spec(workspace))


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_the_filter_that_is_shipped_is_what_its_source_builds(machine: str) -> None:
    assert compiled_filter(machine) == built_filter(machine)


def test_an_unknown_machine_has_no_filter() -> None:
    assert compiled_filter("pdp11") is None


async def test_a_sandbox_that_does_not_hold_is_reported_not_used(
    backend: BubblewrapBackend,
) -> None:
    backend.seccomp = b"\x06\x00\x00\x00\x00\x00\xff\x7f"  # one instruction: allow everything
    with pytest.raises(SandboxUnavailable):
        await backend.report()


async def test_a_missing_bubblewrap_is_unavailable(tmp_path: Path, workspace: Workspace) -> None:
    program = replace(Program.find(), binary=Path("/nowhere/bwrap"))
    backend = BubblewrapBackend(tmp_path / "state", program=program)
    try:
        sandbox = await backend.open(spec(workspace))
        with pytest.raises(SandboxUnavailable):
            await sandbox.exec(Command("true"))
    finally:
        await backend.close()


async def test_a_state_folder_that_became_a_link_runs_nothing(
    sandbox: Sandbox, folder: Path
) -> None:
    """Bubblewrap would follow it when it covers the state folder (CVE-2026-87766)."""
    victim = folder.parent / "victim"
    victim.mkdir()
    (folder / ".peritus").rmdir()
    (folder / ".peritus").symlink_to(victim)
    with pytest.raises(SandboxUnavailable, match="state folder"):
        await sandbox.exec(shell("touch ran"))
    assert not (folder / "ran").exists()
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize(
    "script",
    [
        "cat /root/.bashrc || cat /home/*/.profile || cat /etc/shadow",
        "touch /usr/x || touch /etc/x || touch /x || touch /dev/x",
        "echo 1 > /proc/sys/kernel/printk || echo x > /proc/sys/kernel/core_pattern",
        "mknod disk b 8 0 && cat disk",
        "mount -t tmpfs none /tmp",
        "unshare -U true",
        "chroot . true",
        "kill -9 1; kill -0 2147483",
        "cat .peritus/token || rmdir .peritus || mv .peritus x || touch .peritus/x",
    ],
)
async def test_a_command_cannot(sandbox: Sandbox, folder: Path, script: str) -> None:
    (folder / ".peritus/token").write_text("secret")
    outcome = await sandbox.exec(shell(script))
    assert (out(outcome), outcome.exit_code != 0) == ("", True)
    assert (folder / ".peritus/token").read_text() == "secret"


async def test_a_link_that_leaves_the_workspace_sees_the_sandbox_only(
    backend: BubblewrapBackend, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/link").symlink_to(tmp_path / "secret")
    (tmp_path / "inside/up").symlink_to("../secret")
    with Workspace(tmp_path / "inside") as opened:
        sandbox = await backend.open(spec(opened))
        outcome = await sandbox.exec(shell("cat link up"))
    assert (outcome.exit_code, out(outcome)) == (1, "")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")
async def test_a_call_through_a_foreign_architecture_kills(sandbox: Sandbox) -> None:
    script = (
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(bytes.fromhex('b814000000cd80c3'))\n"  # mov eax, 20; int 0x80; ret
        "at = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(at)())\n"
    )
    outcome = await sandbox.exec(python(script))
    assert (outcome.exit_code, out(outcome)) == (159, "")


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_TIPC"])
async def test_sockets_that_namespaces_do_not_contain_are_denied(
    sandbox: Sandbox, family: str
) -> None:
    script = f"import socket; socket.socket(socket.{family}, socket.SOCK_STREAM)"
    outcome = await sandbox.exec(python(script))
    assert b"Address family not supported" in bytes(outcome.stderr.kept)


async def test_no_descriptor_of_ours_is_open_inside(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    with (tmp_path / "secret").open() as held:
        os.set_inheritable(held.fileno(), True)  # noqa: FBT003
        outcome = await sandbox.exec(shell("echo /proc/self/fd/*"))
    assert {path.rsplit("/", 1)[1] for path in out(outcome).split()} <= {"0", "1", "2", "3"}


async def test_python_runs_with_its_usual_parts(sandbox: Sandbox) -> None:
    script = "import multiprocessing, sqlite3, ssl; print(multiprocessing.Pool(2).map(abs, [-1]))"
    outcome = await sandbox.exec(python(script))
    assert (outcome.exit_code, out(outcome)) == (0, "[1]\n")


@pytest.mark.parametrize("turns", range(40))
async def test_cancelling_at_any_moment_leaves_no_process(sandbox: Sandbox, turns: int) -> None:
    """A turn of the loop is short beside the start of a sandbox, so the turns cover all of it."""
    word = marker()

    async def run() -> None:
        await sandbox.exec(shell(f"sleep 1000 # {word}"))

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        task = group.create_task(run())
        for _ in range(turns):
            await asyncio.to_thread(Path("/proc/self/mountinfo").read_text)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert processes_with(word) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_root_becomes_the_owner_of_the_workspace(backend: BubblewrapBackend) -> None:
    """Also where that owner cannot reach the bubblewrap that was found."""
    with tempfile.TemporaryDirectory() as closed, tempfile.TemporaryDirectory() as root:
        binary = copy_for_everyone(Program.find().binary, Path(closed) / "bin")
        backend.program().binary = binary
        os.chown(root, 12345, 12345)
        with Workspace(Path(root)) as workspace:
            sandbox = await backend.open(spec(workspace))
            outcome = await sandbox.exec(shell("touch made; id -u; echo named > /dev/stderr"))
            assert (out(outcome), outcome.exit_code) == ("1000\n", 0)
            assert owner_of(Path(root, "made")) == 12345
            copies = list(backend.program().copies)
            assert [copy.is_dir() for copy in copies] == [True]
            await backend.close()
            assert [copy.is_dir() for copy in copies] == [False]


AS_NOBODY = """
import asyncio, json, os, sys, tempfile
from pathlib import Path
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.port import Command, Owner, SandboxSpec
from services.sandbox.workspace import Workspace

async def main():
    with tempfile.TemporaryDirectory() as state, tempfile.TemporaryDirectory() as root:
        backend = BubblewrapBackend(Path(state))
        report = await backend.report()
        with Workspace(Path(root)) as workspace:
            spec = SandboxSpec(Owner("p", "e", "t", "j", "r"), workspace, egress=True)
            sandbox = await backend.open(spec)
            outcome = await sandbox.exec(Command("sh", ("-c", "echo inside > made; cat made")))
            process = await sandbox.start(Command("cat"))
            await process.write(b"echo")
            said = (await anext(aiter(process.output()))).data
            await backend.close()
        owner = os.stat(Path(root, "made")).st_uid
    print(json.dumps([os.getuid(), owner, outcome.stdout.kept.decode(), said.decode(),
                      sandbox.proxy is not None, all(report.checks.values())]))

asyncio.run(main())
"""


def python_of_all() -> Path | None:
    """An interpreter like ours that every user can run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = (Path(sys.executable).resolve(), Path("/usr/bin", version))
    return next((one for one in candidates if one.exists() and reachable(one, NOBODY)), None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
async def test_nobody_special_has_sandboxes_too() -> None:
    """The whole way without root: also the parts that root would be let off."""
    interpreter, packages = python_of_all(), Path(pytest.__file__).parents[1]
    source = Path(__file__).parents[2]
    if interpreter is None or not (reachable(packages, NOBODY) and reachable(source, NOBODY)):
        pytest.skip("nobody else can reach an interpreter and this project here")
    async with asyncio.timeout(BOUND_S):
        tried = await asyncio.create_subprocess_exec(
            *(interpreter, "-B", "-c", AS_NOBODY),
            stdout=asyncio.subprocess.PIPE,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{source}:{packages}"},
        )
        said, _ = await tried.communicate()
    assert json.loads(said) == [NOBODY, NOBODY, "inside\n", "echo", True, True]


def owner_of(path: Path) -> int:
    return path.stat().st_uid


def test_the_other_event_loop_runs_commands_too(tmp_path: Path, workspace: Workspace) -> None:
    async def run() -> tuple[Outcome, bytes]:
        backend = BubblewrapBackend(tmp_path / "state")
        try:
            async with asyncio.timeout(BOUND_S):
                sandbox = await backend.open(spec(workspace))
                process = await sandbox.start(Command("cat"))
                await process.write(b"again")
                said = (await anext(aiter(process.output()))).data
                await process.stop()
                return await sandbox.exec(shell("echo hello; exit 3")), said
        finally:
            await backend.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome, said = runner.run(run())
    assert (outcome.exit_code, out(outcome), said) == (3, "hello\n", b"again")
