"""Commands in a real sandbox: what they can do, what they cannot, and that nothing stays."""

import asyncio
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from services.sandbox.bubblewrap import Bubblewrap, Command, Outcome, copy_for_everyone
from services.sandbox.capture import STREAM_BYTES_MAX
from services.sandbox.failures import SandboxUnavailable, ToolError
from services.sandbox.self_test import self_test
from services.sandbox.view import Limits
from services.sandbox.workspace import Workspace

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

WAIT_S = 30

HARNESS = """
import asyncio, sys
from pathlib import Path
from services.sandbox.bubblewrap import Bubblewrap, Command
from services.sandbox.workspace import Workspace

async def heard(chunk):
    sys.stdout.write(chunk.decode())
    sys.stdout.flush()

async def main(root, marker):
    script = f"(setsid sleep 1000 &); echo up; sleep 1000 # {marker}"
    with Workspace(Path(root)) as workspace:
        await Bubblewrap.find().exec(workspace, Command("sh", ("-c", script)), on_stdout=heard)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def bubblewrap() -> Bubblewrap:
    return Bubblewrap.find()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(tmp_path) as opened:
        yield opened


def shell(script: str, **env: str) -> Command:
    return Command("sh", ("-c", script), env=env, timeout_s=WAIT_S)


def python(script: str, *args: str) -> Command:
    return Command("python3", ("-c", script, *args), timeout_s=WAIT_S)


def out(outcome: Outcome) -> str:
    return bytes(outcome.stdout.kept).decode()


def owner_of(path: Path) -> int:
    return path.stat().st_uid


@contextmanager
def open_to_all() -> Generator[Path]:
    """A folder that every user can reach, which the test runner's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def processes_named(marker: str) -> list[str]:
    """The processes of the whole machine whose command line holds a marker."""
    found: list[str] = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended while we looked
    return found


async def test_the_sandbox_holds_on_this_machine(bubblewrap: Bubblewrap) -> None:
    async with asyncio.timeout(WAIT_S):
        report = await self_test(bubblewrap)
    assert all(report.checks.values())
    assert report.seccomp
    assert report.backend == "bubblewrap"


async def test_a_sandbox_that_does_not_hold_is_reported_not_used(bubblewrap: Bubblewrap) -> None:
    weak = Bubblewrap(bubblewrap.binary, bubblewrap.version, disable_userns=False)
    weak.seccomp = b"\x06\x00\x00\x00\x00\x00\xff\x7f"  # one instruction: allow everything
    with pytest.raises(SandboxUnavailable, match="system_calls_filtered"):
        await self_test(weak)


async def test_a_missing_bubblewrap_is_unavailable(workspace: Workspace) -> None:
    missing = Bubblewrap(Path("/nowhere/bwrap"), "0", disable_userns=True)
    with pytest.raises(SandboxUnavailable):
        await missing.exec(workspace, Command("true"))


async def test_a_sandbox_that_cannot_be_built_is_unavailable_and_runs_nothing(
    bubblewrap: Bubblewrap, workspace: Workspace
) -> None:
    command = Command("sh", ("-c", "touch ran"), cwd="/workspace/missing")
    with pytest.raises(SandboxUnavailable, match="cannot build a sandbox"):
        await bubblewrap.exec(workspace, command)
    with pytest.raises(ToolError):
        workspace.read("ran")


async def test_output_and_exit_code_come_back(bubblewrap: Bubblewrap, workspace: Workspace) -> None:
    outcome = await bubblewrap.exec(workspace, shell("echo out; echo err >&2; exit 7"))
    assert (outcome.exit_code, outcome.timed_out) == (7, False)
    assert (out(outcome), bytes(outcome.stderr.kept)) == ("out\n", b"err\n")


@pytest.mark.parametrize(
    ("script", "code"),
    [("kill -9 $$", 137), ("exec nothing-of-that-name", 127), ("exec /etc", 126)],
)
async def test_signals_and_missing_programs_have_the_codes_of_a_shell(
    bubblewrap: Bubblewrap, workspace: Workspace, script: str, code: int
) -> None:
    assert (await bubblewrap.exec(workspace, shell(script))).exit_code == code


async def test_what_a_command_writes_stays_in_the_workspace(
    bubblewrap: Bubblewrap, workspace: Workspace, tmp_path: Path
) -> None:
    await bubblewrap.exec(workspace, shell("mkdir d && echo kept > d/file; echo lost > /tmp/file"))
    outcome = await bubblewrap.exec(workspace, shell("cat d/file /tmp/file"))
    assert out(outcome) == "kept\n"
    assert (tmp_path / "d/file").read_text() == "kept\n"
    assert owner_of(tmp_path / "d/file") == owner_of(tmp_path)


async def test_python_runs_with_its_usual_parts(
    bubblewrap: Bubblewrap, workspace: Workspace
) -> None:
    script = "import multiprocessing, sqlite3, ssl; print(multiprocessing.Pool(2).map(abs, [-1]))"
    outcome = await bubblewrap.exec(workspace, python(script))
    assert (outcome.exit_code, out(outcome)) == (0, "[1]\n")


async def test_the_environment_holds_what_is_given_and_nothing_of_ours(
    bubblewrap: Bubblewrap, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hunter2")
    script = "env; tr '\\0' '\\n' < /proc/1/environ; cat /proc/1/cmdline"
    outcome = await bubblewrap.exec(workspace, shell(script, GIVEN="yes\nand no", HOME="/root"))
    assert "hunter2" not in out(outcome)
    assert "GIVEN=yes\nand no\n" in out(outcome)
    assert "HOME=/workspace\n" in out(outcome)


async def test_no_descriptor_of_ours_is_open_inside(
    bubblewrap: Bubblewrap, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("hunter2")
    with (tmp_path / "secret").open() as held:
        os.set_inheritable(held.fileno(), True)  # noqa: FBT003
        outcome = await bubblewrap.exec(workspace, shell("echo /proc/self/fd/*"))
    assert {path.rsplit("/", 1)[1] for path in out(outcome).split()} <= {"0", "1", "2", "3"}


async def test_the_network_is_not_reachable(bubblewrap: Bubblewrap, workspace: Workspace) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        script = (
            "import socket, sys\n"
            "for host in ('127.0.0.1', '10.0.0.1', '8.8.8.8', '169.254.169.254', '::1'):\n"
            "    try: socket.create_connection((host, int(sys.argv[1])), 2); print('reached')\n"
            "    except OSError as error: print('refused')\n"
            "try: socket.getaddrinfo('example.com', 80); print('reached')\n"
            "except OSError: print('refused')\n"
        )
        outcome = await bubblewrap.exec(workspace, python(script, str(port)))
    assert out(outcome).split() == ["refused"] * 6


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
async def test_a_command_cannot(
    bubblewrap: Bubblewrap, workspace: Workspace, tmp_path: Path, script: str
) -> None:
    (tmp_path / ".peritus/token").write_text("secret")
    outcome = await bubblewrap.exec(workspace, shell(script))
    assert (out(outcome), outcome.exit_code != 0) == ("", True)
    assert (tmp_path / ".peritus/token").read_text() == "secret"


async def test_a_link_that_leaves_the_workspace_sees_the_sandbox_only(
    bubblewrap: Bubblewrap, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace/link").symlink_to(tmp_path / "secret")
    (tmp_path / "workspace/up").symlink_to("../secret")
    with Workspace(tmp_path / "workspace") as opened:
        outcome = await bubblewrap.exec(opened, shell("cat link up"))
    assert (outcome.exit_code, out(outcome)) == (1, "")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")
async def test_a_call_through_a_foreign_architecture_kills(
    bubblewrap: Bubblewrap, workspace: Workspace
) -> None:
    script = (
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(bytes.fromhex('b814000000cd80c3'))\n"  # mov eax, 20; int 0x80; ret
        "at = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(at)())\n"
    )
    outcome = await bubblewrap.exec(workspace, python(script))
    assert (outcome.exit_code, out(outcome)) == (159, "")


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_TIPC"])
async def test_sockets_that_namespaces_do_not_contain_are_denied(
    bubblewrap: Bubblewrap, workspace: Workspace, family: str
) -> None:
    script = f"import socket; socket.socket(socket.{family}, socket.SOCK_STREAM)"
    outcome = await bubblewrap.exec(workspace, python(script))
    assert b"Address family not supported" in bytes(outcome.stderr.kept)


async def test_limits_hold(workspace: Workspace, bubblewrap: Bubblewrap) -> None:
    small = Limits(tmp_bytes=65536, shared_memory_bytes=65536, file_bytes=65536, open_files=20)
    limited = Bubblewrap(bubblewrap.binary, bubblewrap.version, disable_userns=True, limits=small)
    script = (
        "head -c 1000000 /dev/zero > /tmp/x; wc -c < /tmp/x;"
        "head -c 1000000 /dev/zero > /dev/shm/x; wc -c < /dev/shm/x;"
        "head -c 1000000 /dev/zero > x; wc -c < x; ulimit -n; ulimit -c"
    )
    outcome = await limited.exec(workspace, shell(script))
    assert out(outcome).split() == ["65536", "65536", "65536", "20", "0"]


async def test_a_timeout_asks_first_and_reports_what_was_said(
    bubblewrap: Bubblewrap, workspace: Workspace
) -> None:
    script = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    outcome = await bubblewrap.exec(workspace, Command("sh", ("-c", script), timeout_s=0.5))
    assert outcome.timed_out
    assert out(outcome) == "up\nasked\n"
    assert outcome.exit_code == 3


async def test_a_timeout_leaves_no_process_however_stubborn(
    bubblewrap: Bubblewrap, workspace: Workspace
) -> None:
    marker = secrets.token_hex(8)
    script = f"trap '' TERM; (setsid sh -c 'trap \"\" TERM; : {marker}; sleep 1000' &); sleep 1000"
    command = Command("sh", ("-c", f"{script} # {marker}"), timeout_s=0.3)
    async with asyncio.timeout(WAIT_S):
        outcome = await bubblewrap.exec(workspace, command)
    assert (outcome.timed_out, outcome.exit_code) == (True, 137)
    assert processes_named(marker) == []


async def test_what_runs_on_in_the_background_ends_with_the_command(
    bubblewrap: Bubblewrap, workspace: Workspace
) -> None:
    marker = secrets.token_hex(8)
    script = f"(setsid sh -c ': {marker}; sleep 1000' >/dev/null 2>&1 &); echo done"
    async with asyncio.timeout(WAIT_S):
        outcome = await bubblewrap.exec(workspace, shell(script))
    assert out(outcome) == "done\n"
    assert processes_named(marker) == []


async def test_cancelling_leaves_no_process(bubblewrap: Bubblewrap, workspace: Workspace) -> None:
    marker = secrets.token_hex(8)
    running = asyncio.Event()

    async def heard(_chunk: bytes) -> None:
        running.set()

    async def run() -> None:
        script = f"trap '' TERM; (setsid sleep 1000 &); echo up; sleep 1000 # {marker}"
        await bubblewrap.exec(workspace, shell(script), on_stdout=heard)

    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        task = group.create_task(run())
        await running.wait()
        assert processes_named(marker) != []
        task.cancel()
        await asyncio.wait([task])
        assert processes_named(marker) == []
    assert task.cancelled()


@pytest.mark.parametrize("turns", range(40))
async def test_cancelling_at_any_moment_leaves_no_process(
    bubblewrap: Bubblewrap, workspace: Workspace, turns: int
) -> None:
    """A turn of the loop is short beside the start of a sandbox, so the turns cover all of it."""
    marker = secrets.token_hex(8)

    async def run() -> None:
        await bubblewrap.exec(workspace, shell(f"sleep 1000 # {marker}"))

    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        task = group.create_task(run())
        for _ in range(turns):
            await asyncio.to_thread(Path("/proc/self/mountinfo").read_text)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert processes_named(marker) == []


async def test_a_harness_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    marker = secrets.token_hex(8)
    async with asyncio.timeout(WAIT_S):
        harness = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HARNESS, os.fspath(tmp_path), marker),
            stdout=asyncio.subprocess.PIPE,
        )
        assert harness.stdout is not None
        assert await harness.stdout.readline() == b"up\n"
        assert processes_named(f"sleep 1000 # {marker}") != []
        harness.kill()
        await harness.wait()
        while processes_named(marker):  # the kernel tells nobody of a death in another family
            await asyncio.to_thread(os.sched_yield)


async def test_output_is_heard_while_it_is_printed(
    bubblewrap: Bubblewrap, workspace: Workspace, tmp_path: Path
) -> None:
    heard: list[bytes] = []

    async def hear(chunk: bytes) -> None:
        heard.append(chunk)
        (tmp_path / "go").touch()

    script = "echo first; until [ -e go ]; do sleep 0.01; done; echo second"
    async with asyncio.timeout(WAIT_S):
        outcome = await bubblewrap.exec(workspace, shell(script), on_stdout=hear)
    assert heard == [b"first\n", b"second\n"]
    assert outcome.exit_code == 0


async def test_a_flood_is_kept_up_to_a_cap_and_counted(
    bubblewrap: Bubblewrap, workspace: Workspace
) -> None:
    size = STREAM_BYTES_MAX + 1_000_000
    async with asyncio.timeout(WAIT_S):
        outcome = await bubblewrap.exec(workspace, shell(f"head -c {size} /dev/zero; echo end"))
    assert outcome.stdout.total == size + 4
    assert len(outcome.stdout.kept) == STREAM_BYTES_MAX
    assert outcome.stdout.end(4) == b"end\n"


async def test_many_commands_run_side_by_side(bubblewrap: Bubblewrap, workspace: Workspace) -> None:
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(bubblewrap.exec(workspace, shell(f"echo {number}")))
            for number in range(10)
        ]
    assert [out(task.result()) for task in tasks] == [f"{number}\n" for number in range(10)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_root_becomes_the_owner_of_the_workspace(
    bubblewrap: Bubblewrap, tmp_path_factory: pytest.TempPathFactory
) -> None:
    closed = tmp_path_factory.mktemp("closed")  # below a folder that only root may pass
    binary = copy_for_everyone(bubblewrap.binary, closed)
    hidden = Bubblewrap(binary, bubblewrap.version, disable_userns=True)
    with open_to_all() as root:
        os.chown(root, 12345, 12345)
        with Workspace(root) as opened:
            outcome = await hidden.exec(opened, shell("touch made; id -u"))
        assert (out(outcome), outcome.exit_code) == ("1000\n", 0)
        assert (root / "made").stat().st_uid == 12345


def test_the_other_event_loop_runs_commands_too(
    bubblewrap: Bubblewrap, workspace: Workspace
) -> None:
    async def run() -> Outcome:
        async with asyncio.timeout(WAIT_S):
            return await bubblewrap.exec(workspace, shell("echo hello; exit 3"))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(run())
    assert (outcome.exit_code, out(outcome)) == (3, "hello\n")
