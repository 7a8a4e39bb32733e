"""Folders of the host in a sandbox of any backend: seen, run, never changed, and nothing else."""

import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Backend, Command, Sandbox
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import BOUND_S, err, out, shell, spec

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

INNER = "/opt/peritus/tool"


@pytest.fixture
def given() -> Generator[Path]:
    """A folder with a program in it, and a neighbour that nobody is to see."""
    with tempfile.TemporaryDirectory(prefix="peritus-given-") as above:
        Path(above).chmod(0o755)
        folder = Path(above, "folder")
        (folder / "bin").mkdir(parents=True)
        (folder / "data").write_text("as it was\n")
        program = folder / "bin/program"
        program.write_text('#!/bin/sh\necho "ran with $1"\n')
        for path in (program, program.parent, folder, folder / "data"):
            path.chmod(0o777)  # so that it is the sandbox that keeps it from being changed
        Path(above, "neighbour").write_text("not for you\n")
        yield folder


@pytest.fixture
async def furnished(backend: Backend, workspace: Workspace, given: Path) -> AsyncGenerator[Sandbox]:
    opened = await backend.open(spec(workspace, folders={INNER: given}))
    try:
        yield opened
    finally:
        await opened.close()


def names_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


async def test_a_folder_of_the_host_is_read_and_its_programs_run(furnished: Sandbox) -> None:
    place = furnished.where(INNER)
    for _ in range(2):  # also in the second command
        outcome = await furnished.exec(shell(f"cat {place}/data; {place}/bin/program it"))
        assert out(outcome) == "as it was\nran with it\n", err(outcome)
    program = furnished.where(f"{INNER}/bin/program")
    outcome = await furnished.exec(Command(program, ("this",), timeout_s=BOUND_S))
    assert out(outcome) == "ran with this\n", err(outcome)


async def test_a_process_that_stays_sees_it_too(furnished: Sandbox) -> None:
    process = await furnished.start(Command(furnished.where(f"{INNER}/bin/program"), ("us",)))
    said = b"".join([chunk.data async for chunk in process.output() if chunk.stream == "stdout"])
    assert (said, await process.wait()) == (b"ran with us\n", 0)


async def test_nobody_inside_changes_it(furnished: Sandbox, given: Path) -> None:
    place = furnished.where(INNER)
    script = (
        f"cd {place} || exit 9; for try in 'echo x > data' 'touch new' 'rm data' 'mv data moved' "
        "'ln data link' 'mkdir d' 'rm bin/program' 'echo x >> bin/program' 'chmod 777 data'; do "
        'sh -c "$try" 2>/dev/null && echo "got: $try"; done; echo over'
    )
    outcome = await furnished.exec(shell(script))
    assert out(outcome) == "over\n", err(outcome)
    assert names_below(given) == ["bin", "data", "program"]
    assert (given / "data").read_text() == "as it was\n"


async def test_nothing_above_or_beside_it_is_seen(furnished: Sandbox, given: Path) -> None:
    place = furnished.where(INNER)
    script = (
        f"cat {place}/../neighbour || cat {given.parent}/neighbour || echo x > {place}/../new; "
        "echo over"
    )
    outcome = await furnished.exec(shell(f"{{ {script}; }} 2>/dev/null"))
    assert out(outcome) == "over\n"
    assert names_below(given.parent) == ["bin", "data", "folder", "neighbour", "program"]


async def test_a_sandbox_without_it_does_not_see_it(sandbox: Sandbox, given: Path) -> None:
    outcome = await sandbox.exec(shell(f"cat {INNER}/data {given}/data 2>/dev/null; echo over"))
    assert out(outcome) == "over\n"


@pytest.mark.parametrize(
    "inner",
    [
        *("/opt/peritus", "/opt/peritus/", "/opt/peritus/../x", "/opt/peritus/a/../../b"),
        *("/etc", "/workspace/x", "relative", "/opt/peritus/ a", "/opt/peritus//a", ""),
    ],
)
async def test_a_place_that_is_not_ours_to_give_is_refused(
    backend: Backend, workspace: Workspace, given: Path, inner: str
) -> None:
    with pytest.raises(SandboxUnavailable):
        await backend.open(spec(workspace, folders={inner: given}))


async def test_a_folder_that_is_closed_above_is_seen_or_refused(
    backend: Backend, workspace: Workspace, given: Path
) -> None:
    """Whoever runs commands may not get there: that is said, and never half of it is seen."""
    given.parent.chmod(0o700)
    try:
        sandbox = await backend.open(spec(workspace, folders={INNER: given}))
    except SandboxUnavailable as error:
        assert "PERITUS_PACKAGES_DIR" in str(error)  # noqa: PT017 - either is right
        return
    try:
        outcome = await sandbox.exec(shell(f"cat {sandbox.where(INNER)}/data"))
        assert out(outcome) == "as it was\n", err(outcome)
    finally:
        await sandbox.close()


async def test_a_folder_that_is_not_there_is_unavailable(
    backend: Backend, workspace: Workspace, given: Path
) -> None:
    """When the sandbox is made, or at its first command."""

    async def use() -> None:
        sandbox = await backend.open(spec(workspace, folders={INNER: given / "missing"}))
        try:
            await sandbox.exec(shell("true"))
        finally:
            await sandbox.close()

    with pytest.raises(SandboxUnavailable):
        await use()
