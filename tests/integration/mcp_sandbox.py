"""The servers of tests/mcp_servers in a real sandbox, by the port they have outside of one."""

import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.paths import MOUNT
from services.sandbox.port import Command
from services.sandbox.workspace import Workspace
from services.worker.process import Process
from tests.contract.sandbox_backends import spec
from tests.support.processes import SERVERS, Ground, on_this_machine

GROUNDS = ["process", pytest.param("sandbox", marks=pytest.mark.sandbox)]


@asynccontextmanager
async def ground_of(kind: str, folder: Path) -> AsyncGenerator[Ground]:
    """As a plain process, or in a sandbox."""
    if kind == "process":
        yield on_this_machine(folder)
        return
    async with in_a_sandbox(folder) as inside:
        yield inside


@asynccontextmanager
async def in_a_sandbox(state: Path) -> AsyncGenerator[Ground]:
    """A sandbox over a workspace that holds the servers."""
    folder = state / "workspace"
    folder.mkdir(mode=0o777)
    shutil.copy(SERVERS / "hostile.py", folder)
    backend = BubblewrapBackend(state / "state")
    with Workspace(folder) as workspace:
        sandbox = await backend.open(spec(workspace))

        async def start(argv: Sequence[str]) -> Process:
            return await sandbox.start(Command(argv[0], tuple(argv[1:])))

        try:
            yield Ground(start, "python3", MOUNT, MOUNT, folder)
        finally:
            await sandbox.close()
            await backend.close()
