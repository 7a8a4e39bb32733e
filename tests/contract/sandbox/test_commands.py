"""Commands that run to their end in a sandbox of any backend. Not their limits or the network."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from domain.secrets import SecretRef, SecretValue
from services.sandbox.capture import STREAM_BYTES_MAX
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Backend, CapabilityReport, Command, Sandbox
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import (
    BOUND_S,
    BackendUnderTest,
    err,
    marker,
    out,
    processes_with,
    shell,
    spec,
)

Seen = Callable[[str], Awaitable[list[str]]]

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


def owner_of(path: Path) -> int:
    return path.stat().st_uid


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_it_says_what_it_is_and_what_held(
    backend: Backend, report: CapabilityReport, under_test: BackendUnderTest
) -> None:
    assert report.backend == backend.name
    assert report.version
    assert report.checks
    assert {name for name, held in report.checks.items() if not held} == under_test.lacks
    assert {"memory_limit", "own_uid", "freeze", "egress"} <= set(report.promises)


async def test_output_and_exit_code_come_back(sandbox: Sandbox) -> None:
    outcome = await sandbox.exec(shell("echo out; echo err >&2; exit 7"))
    assert (outcome.exit_code, outcome.timed_out, outcome.killed_by) == (7, False, "")
    assert (out(outcome), err(outcome)) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("script", "code"),
    [("kill -9 $$", 137), ("exec nothing-of-that-name", 127), ("exec /etc", 126)],
)
async def test_signals_and_missing_programs_have_the_codes_of_a_shell(
    sandbox: Sandbox, script: str, code: int
) -> None:
    assert (await sandbox.exec(shell(script))).exit_code == code


async def test_a_folder_that_is_not_there_is_unavailable_and_nothing_ran(
    sandbox: Sandbox, folder: Path
) -> None:
    with pytest.raises(SandboxUnavailable):
        await sandbox.exec(Command("sh", ("-c", "touch /workspace/ran"), cwd="/workspace/missing"))
    assert not (folder / "ran").exists()


async def test_what_a_command_writes_is_in_the_workspace(
    sandbox: Sandbox, folder: Path, promises: Callable[[str], None]
) -> None:
    promises("own_root")
    (folder / "given").write_text("from outside\n")
    outcome = await sandbox.exec(shell("cat given; mkdir d; echo kept > d/file; pwd"))
    assert out(outcome) == "from outside\n/workspace\n"
    assert (folder / "d/file").read_text() == "kept\n"
    assert owner_of(folder / "d/file") == owner_of(folder)


async def test_the_environment_is_what_is_given_and_nothing_of_ours(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, promises: Callable[[str], None]
) -> None:
    promises("own_root")
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hunter2")
    outcome = await sandbox.exec(shell("env", GIVEN="yes\nand no", HOME="/root"))
    assert "hunter2" not in out(outcome)
    assert "GIVEN=yes\nand no\n" in out(outcome)
    assert "HOME=/workspace\n" in out(outcome)


async def test_a_secret_variable_is_in_the_environment_and_on_no_command_line(
    sandbox: Sandbox,
) -> None:
    """C15: the command line of a process is there for every user to read."""
    canary = marker()
    value = SecretValue(SecretRef(name="TOKEN"), canary)
    running = asyncio.Event()
    seen: list[str] = []

    async def look(_chunk: bytes) -> None:
        seen.extend(processes_with(canary))
        running.set()

    outcome = await sandbox.exec(
        Command(
            "sh",
            ("-c", 'printf %s "$TOKEN" | rev; tr "\\0" "\\n" < /proc/1/cmdline'),
            secret_env={"TOKEN": value},
        ),
        on_stdout=look,
    )
    assert out(outcome).startswith(canary[::-1])
    assert canary not in out(outcome)
    assert running.is_set()
    assert seen == []


async def test_standard_input_is_what_is_given_and_then_ends(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 4096  # 1 MiB, every byte
    outcome = await sandbox.exec(shell("sha256sum; cat", stdin=data))
    assert out(outcome).split()[0] == hashlib.sha256(data).hexdigest()
    assert out(await sandbox.exec(shell("cat; echo end"))) == "end\n"


async def test_files_lie_inside_and_cannot_be_changed(
    backend: Backend, workspace: Workspace, promises: Callable[[str], None]
) -> None:
    promises("own_root")
    sandbox = await backend.open(spec(workspace, files={"ca.pem": b"certificate", "b": b""}))
    try:
        for _ in range(2):  # also in the second command
            outcome = await sandbox.exec(
                shell(
                    "cat /run/peritus/ca.pem; echo; echo /run/peritus/*; "
                    "echo x > /run/peritus/ca.pem || rm /run/peritus/ca.pem || touch /run/peritus/x"
                )
            )
            assert (out(outcome), outcome.exit_code != 0) == (
                "certificate\n/run/peritus/b /run/peritus/ca.pem\n",
                True,
            )
    finally:
        await sandbox.close()


async def test_secret_files_are_for_the_command_alone(
    backend: Backend, workspace: Workspace, folder: Path, promises: Callable[[str], None]
) -> None:
    """C15: in memory, mode 0400, and never in the workspace."""
    promises("own_root")
    canary = marker()
    value = SecretValue(SecretRef(name="KEY"), canary)
    sandbox = await backend.open(spec(workspace, secret_files={"KEY": value}))
    try:
        outcome = await sandbox.exec(
            shell("find /run/secrets/KEY -printf '%m\\n'; rev /run/secrets/KEY")
        )
        assert out(outcome).split() == ["400", canary[::-1]]
    finally:
        await sandbox.close()
    assert files_in(folder) == []


async def test_a_read_only_workspace_is_read_only(
    backend: Backend, workspace: Workspace, folder: Path
) -> None:
    (folder / "given").write_text("as it was")
    sandbox = await backend.open(spec(workspace, read_only=True))
    try:
        script = "cat given; echo x > given || touch made || mv given taken || rm given"
        outcome = await sandbox.exec(shell(script))
        assert (out(outcome), outcome.exit_code != 0) == ("as it was", True)
    finally:
        await sandbox.close()
    assert (folder / "given").read_text() == "as it was"
    assert not (folder / "made").exists()


async def test_the_state_folder_is_hidden(
    sandbox: Sandbox, folder: Path, under_test: BackendUnderTest
) -> None:
    if "state_hidden" in under_test.lacks:
        pytest.skip(f"{under_test.name} cannot hide it, and says so")
    (folder / ".peritus/token").write_text("secret")
    script = "cat .peritus/token || rmdir .peritus || mv .peritus x || touch .peritus/x"
    outcome = await sandbox.exec(shell(script))
    assert (out(outcome), outcome.exit_code != 0) == ("", True)
    assert (folder / ".peritus/token").read_text() == "secret"


async def test_a_timeout_asks_first_and_reports_what_was_said(sandbox: Sandbox) -> None:
    script = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    outcome = await sandbox.exec(shell(script, timeout_s=1.0))
    assert (outcome.timed_out, outcome.killed_by) == (True, "timeout")
    assert out(outcome) == "up\nasked\n"
    assert outcome.exit_code == 3


async def test_a_timeout_leaves_no_process_however_stubborn(sandbox: Sandbox, seen: Seen) -> None:
    """C10: also not one that left its session and ignores signals."""
    word = marker()
    script = f"trap '' TERM; (setsid sh -c 'trap \"\" TERM; : {word}; sleep 1000' &); sleep 1000"
    async with asyncio.timeout(BOUND_S):
        outcome = await sandbox.exec(shell(f"{script} # {word}", timeout_s=0.5))
    assert (outcome.timed_out, outcome.exit_code) == (True, 137)
    assert await seen(word) == []


async def test_what_runs_on_in_the_background_ends_with_the_command(
    sandbox: Sandbox, seen: Seen
) -> None:
    word = marker()
    script = f"(setsid sh -c ': {word}; sleep 1000' >/dev/null 2>&1 &); echo done"
    async with asyncio.timeout(BOUND_S):
        outcome = await sandbox.exec(shell(script))
    assert out(outcome) == "done\n"
    assert await seen(word) == []


async def test_cancelling_ends_everything_first(sandbox: Sandbox, seen: Seen) -> None:
    word = marker()
    running = asyncio.Event()

    async def heard(_chunk: bytes) -> None:
        running.set()

    async def run() -> None:
        script = f"trap '' TERM; (setsid sleep 1000 &); echo up; sleep 1000 # {word}"
        await sandbox.exec(shell(script), on_stdout=heard)

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        task = group.create_task(run())
        await running.wait()
        assert await seen(word) != []
        task.cancel()
        await asyncio.wait([task])
        assert await seen(word) == []
    assert task.cancelled()


async def test_output_is_heard_while_it_is_printed(sandbox: Sandbox, folder: Path) -> None:
    heard: list[bytes] = []

    async def hear(chunk: bytes) -> None:
        heard.append(chunk)
        (folder / "go").touch()

    script = "echo first; until [ -e go ]; do sleep 0.01; done; echo second"
    async with asyncio.timeout(BOUND_S):
        outcome = await sandbox.exec(shell(script), on_stdout=hear)
    assert heard == [b"first\n", b"second\n"]
    assert outcome.exit_code == 0


async def test_a_flood_is_kept_up_to_a_cap_and_counted(sandbox: Sandbox) -> None:
    size = STREAM_BYTES_MAX + 1_000_000
    async with asyncio.timeout(BOUND_S):
        outcome = await sandbox.exec(shell(f"head -c {size} /dev/zero; echo end"))
    assert outcome.stdout.total == size + 4
    assert len(outcome.stdout.kept) == STREAM_BYTES_MAX
    assert outcome.stdout.end(4) == b"end\n"


async def test_many_commands_run_side_by_side(sandbox: Sandbox) -> None:
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(sandbox.exec(shell(f"echo {number}"))) for number in range(10)]
    assert [out(task.result()) for task in tasks] == [f"{number}\n" for number in range(10)]
