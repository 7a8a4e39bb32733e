"""What one sandbox may use, in any backend. Not the isolation."""

import asyncio
from collections.abc import Callable

import pytest

from domain.sandbox import MIB, SandboxLimits
from services.sandbox.port import Backend
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import BOUND_S, out, python, shell, spec

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_files_and_descriptors_are_limited(backend: Backend, workspace: Workspace) -> None:
    limits = SandboxLimits(file_bytes=65536, open_files=20)
    sandbox = await backend.open(spec(workspace, limits=limits))
    try:
        script = "head -c 1000000 /dev/zero > x; wc -c < x; ulimit -n; ulimit -c"
        assert out(await sandbox.exec(shell(script))).split() == ["65536", "20", "0"]
    finally:
        await sandbox.close()


async def test_memory_folders_are_limited(
    backend: Backend, workspace: Workspace, promises: Callable[[str], None]
) -> None:
    promises("tmp_limit")
    limits = SandboxLimits(tmp_bytes=65536, shared_memory_bytes=65536)
    sandbox = await backend.open(spec(workspace, limits=limits))
    try:
        script = (
            "head -c 1000000 /dev/zero > /tmp/x; wc -c < /tmp/x;"
            "head -c 1000000 /dev/zero > /dev/shm/x; wc -c < /dev/shm/x"
        )
        assert out(await sandbox.exec(shell(script))).split() == ["65536", "65536"]
    finally:
        await sandbox.close()


async def test_memory_is_limited(
    backend: Backend, workspace: Workspace, promises: Callable[[str], None]
) -> None:
    promises("memory_limit")
    sandbox = await backend.open(spec(workspace, limits=SandboxLimits(memory_bytes=96 * MIB)))
    try:
        outcome = await sandbox.exec(python("x = bytearray(400 * 1024 * 1024); print(len(x))"))
        assert (outcome.exit_code != 0, out(outcome)) == (True, "")
        assert out(await sandbox.exec(shell("echo alive"))) == "alive\n"
    finally:
        await sandbox.close()


async def test_all_processes_of_a_sandbox_share_its_memory(
    backend: Backend, workspace: Workspace, promises: Callable[[str], None]
) -> None:
    """None of them alone is too large; the outcome says what ended them."""
    promises("memory_limit")
    sandbox = await backend.open(spec(workspace, limits=SandboxLimits(memory_bytes=128 * MIB)))
    script = (
        "import subprocess, sys\n"
        "hold = 'import sys; x = bytearray(80 * 2**20); print(1, flush=True); sys.stdin.read()'\n"
        "made = [subprocess.Popen([sys.executable, '-c', hold], stdin=subprocess.PIPE,\n"
        "                         stdout=subprocess.PIPE) for _ in range(3)]\n"
        "said = [one.stdout.readline() for one in made]\n"
        "for one in made: one.stdin.close()\n"
        "codes = [one.wait() for one in made]\n"
        "print(codes)\n"
        "sys.exit(137 if -9 in codes else 0)\n"
    )
    try:
        async with asyncio.timeout(BOUND_S):
            outcome = await sandbox.exec(python(script))
        assert (outcome.exit_code, outcome.killed_by) == (137, "memory"), out(outcome)
        assert out(await sandbox.exec(shell("echo alive"))) == "alive\n"
    finally:
        await sandbox.close()


async def test_processes_are_limited_for_all_of_a_sandbox(
    backend: Backend, workspace: Workspace, promises: Callable[[str], None]
) -> None:
    promises("process_limit")
    sandbox = await backend.open(spec(workspace, limits=SandboxLimits(processes=40)))
    script = (
        "import subprocess\n"
        "made = []\n"
        "try:\n"
        "    for _ in range(200): made.append(subprocess.Popen(['sleep', '1000']))\n"
        "except OSError: pass\n"
        "print(len(made))\n"
    )
    try:
        async with asyncio.timeout(BOUND_S):
            outcome = await sandbox.exec(python(script))
        assert 10 < int(out(outcome)) <= 40
        assert out(await sandbox.exec(shell("echo alive"))) == "alive\n"
    finally:
        await sandbox.close()
