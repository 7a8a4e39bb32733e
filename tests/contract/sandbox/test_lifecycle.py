"""How sandboxes of any backend end: closed, frozen for a while, or reaped (C10)."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Backend, CapabilityReport, Sandbox
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import BOUND_S, PLACE, marker, out, processes_with, shell, spec

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_closing_ends_everything_and_twice_is_harmless(
    backend: Backend, workspace: Workspace
) -> None:
    """C10."""
    word = marker()
    running = asyncio.Event()

    async def heard(_chunk: bytes) -> None:
        running.set()

    sandbox = await backend.open(spec(workspace))
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        script = f"(setsid sleep 1000 &); echo up; sleep 1000 # {word}"
        task = group.create_task(sandbox.exec(shell(script), on_stdout=heard))
        await running.wait()
        await sandbox.close()
        assert processes_with(word) == []
        await asyncio.wait([task])
        assert task.exception() is None or isinstance(task.exception(), SandboxUnavailable)
        await sandbox.close()
    with pytest.raises(SandboxUnavailable):
        await sandbox.exec(shell("true"))


async def test_reap_leaves_what_is_alive(backend: Backend, workspace: Workspace) -> None:
    sandbox = await backend.open(spec(workspace, epoch="alive"))
    try:
        await backend.reap(PLACE, lambda epoch: epoch == "alive")
        assert out(await sandbox.exec(shell("echo here"))) == "here\n"
        await backend.reap("elsewhere", lambda _epoch: False)
        assert out(await sandbox.exec(shell("echo here"))) == "here\n"
    finally:
        await sandbox.close()


async def test_nothing_runs_while_it_is_frozen(
    sandbox: Sandbox, folder: Path, promises: Callable[[str], None]
) -> None:
    promises("freeze")
    count = folder / "count"
    process = await sandbox.start(
        shell("n=0; while :; do n=$((n + 1)); echo $n > new; mv new count; done")
    )
    try:
        async with asyncio.timeout(BOUND_S):
            while not count.exists():
                await asyncio.to_thread(folder.stat)
            async with sandbox.frozen() as frozen:
                assert frozen
                before = count.read_text()
                await asyncio.sleep(0.2)  # what must not happen can only be given the time to
                assert count.read_text() == before
            while count.read_text() == before:
                await asyncio.to_thread(folder.stat)
    finally:
        await process.stop(grace_s=0)


async def test_a_frozen_sandbox_can_be_closed(
    backend: Backend, workspace: Workspace, promises: Callable[[str], None]
) -> None:
    """C10."""
    promises("freeze")
    word = marker()
    sandbox = await backend.open(spec(workspace))
    await sandbox.start(shell(f"sleep 1000 # {word}"))
    async with asyncio.timeout(BOUND_S), sandbox.frozen():
        await sandbox.close()
    assert processes_with(word) == []


async def test_freezing_where_it_is_not_promised_says_so(
    sandbox: Sandbox, report: CapabilityReport
) -> None:
    async with sandbox.frozen() as frozen:
        assert frozen is report.promises["freeze"]
