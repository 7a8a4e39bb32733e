"""One backend for a module, one sandbox for a test, for every backend there is. Not the tests."""

import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.sandbox.port import Backend, CapabilityReport, Sandbox
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import (
    UNDER_CONTRACT,
    BackendUnderTest,
    processes_with,
    seen_inside,
    spec,
)

Seen = Callable[[str], Awaitable[list[str]]]


@pytest.fixture(scope="module", params=UNDER_CONTRACT)
def under_test(request: pytest.FixtureRequest) -> BackendUnderTest:
    tried: BackendUnderTest = request.param
    if tried.missing is not None:
        pytest.skip(tried.missing)
    return tried


@pytest.fixture(scope="module")
async def backend(under_test: BackendUnderTest) -> AsyncGenerator[Backend]:
    with tempfile.TemporaryDirectory(prefix="peritus-state-") as state:
        async with under_test.open(Path(state)) as opened:
            yield opened


@pytest.fixture(scope="module")
async def report(backend: Backend) -> CapabilityReport:
    return await backend.report()


@pytest.fixture
def promises(report: CapabilityReport) -> Callable[[str], None]:
    """Skip the test where the backend does not promise what it needs."""

    def check(name: str) -> None:
        if not report.promises.get(name, False):
            pytest.skip(f"{report.backend} does not promise {name} here")

    return check


@pytest.fixture
def workspaces(under_test: BackendUnderTest) -> Generator[Callable[[], Workspace]]:
    """Makes workspaces that other users can reach too, and removes them."""
    with ExitStack() as made:

        def make() -> Workspace:
            folder = Path(made.enter_context(tempfile.TemporaryDirectory(prefix="peritus-work-")))
            folder.chmod(0o755)
            if under_test.user is not None:
                os.chown(folder, under_test.user, under_test.user)
            return made.enter_context(Workspace(folder))

        yield make


@pytest.fixture
def workspace(workspaces: Callable[[], Workspace]) -> Workspace:
    return workspaces()


@pytest.fixture
def folder(workspace: Workspace) -> Path:
    """The workspace from outside."""
    return Path(f"/proc/self/fd/{workspace.fileno()}").readlink()


@pytest.fixture
def seen(under_test: BackendUnderTest, sandbox: Sandbox) -> Seen:
    """Looks for the processes of the sandbox whose command line holds a word."""

    async def look(word: str) -> list[str]:
        if under_test.apart:
            return await seen_inside(sandbox, word)
        return processes_with(word)

    return look


@pytest.fixture
async def sandbox(backend: Backend, workspace: Workspace) -> AsyncGenerator[Sandbox]:
    opened = await backend.open(spec(workspace))
    try:
        yield opened
    finally:
        await opened.close()
