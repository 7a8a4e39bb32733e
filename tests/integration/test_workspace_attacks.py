"""Ways out of a workspace, each of which must be refused without touching anything outside."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.sandbox.changing import append, delete, move
from services.sandbox.failures import Code, ToolError
from services.sandbox.resolve import OpenBeneath, open_by_openat2, open_by_walk
from services.sandbox.seen import Stamp
from services.sandbox.workspace import Workspace

RESOLVERS = [pytest.param(open_by_openat2, id="openat2"), pytest.param(open_by_walk, id="walk")]
RACE_ATTEMPTS_MAX = 50_000
RACE_HITS_ENOUGH = 1000

SWAP = """
import ctypes, os, sys
os.chdir(sys.argv[1])
exchange = ctypes.CDLL(None).renameat2  # with RENAME_EXCHANGE, so that no moment has neither
print("ready", flush=True)
while os.getppid() == int(sys.argv[2]):
    for _ in range(1000):
        assert exchange(-100, b"place", -100, b"link", 2) == 0
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "secret").write_bytes(b"outside")
    return made


@pytest.fixture
def root(tmp_path: Path, outside: Path) -> Path:
    made = tmp_path / "workspace"
    (made / "dir").mkdir(parents=True)
    (made / "absolute").symlink_to(outside)
    (made / "relative").symlink_to("../outside")
    (made / "file").symlink_to("../outside/secret")
    (made / "chain").symlink_to("dir/next")
    (made / "dir/next").symlink_to("../relative")
    (made / "magic").symlink_to("/proc/self/root")
    (made / "top").symlink_to("/")
    (made / "deep").symlink_to("dir/../../outside")
    return made


@pytest.fixture(params=RESOLVERS)
def workspace(root: Path, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    opener: OpenBeneath = request.param
    with Workspace(root, opener) as opened:
        yield opened


WAYS_OUT = [
    "../outside/secret",
    "dir/../../outside/secret",
    "dir/../dir/../../outside/secret",
    "/etc/passwd",
    "//etc/passwd",
    "/workspace/../outside/secret",
    "/workspacex/secret",
    "/proc/self/environ",
    "~/../outside/secret",
    "absolute/secret",
    "relative/secret",
    "chain/secret",
    "deep/secret",
    "magic/etc/passwd",
    "top/etc/passwd",
]


@pytest.mark.parametrize("path", [*WAYS_OUT, "file"])
def test_no_spelling_reads_outside(workspace: Workspace, path: str) -> None:
    with pytest.raises(ToolError) as refused:
        workspace.read(path)
    assert refused.value.code is Code.OUTSIDE_WORKSPACE


@pytest.mark.parametrize("path", [*WAYS_OUT, "relative/new/folder/file", "absolute/new"])
def test_no_spelling_writes_outside(workspace: Workspace, outside: Path, path: str) -> None:
    with pytest.raises(ToolError) as refused:
        workspace.write(path, b"planted")
    assert refused.value.code is Code.OUTSIDE_WORKSPACE
    assert [entry.name for entry in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"outside"


@pytest.mark.parametrize("path", ["..", "absolute", "relative", "chain", "magic", "/", "/etc"])
def test_no_folder_outside_is_listed_or_entered(workspace: Workspace, path: str) -> None:
    for attempt in (lambda: workspace.list(path, 10), lambda: workspace.directory(path)):
        with pytest.raises(ToolError) as refused:
            attempt()
        assert refused.value.code is Code.OUTSIDE_WORKSPACE


@pytest.mark.parametrize("name", ["file", "dir/inner"])
def test_a_link_is_never_written_through_or_replaced(
    workspace: Workspace, root: Path, outside: Path, name: str
) -> None:
    (root / "dir/inner").symlink_to("target")
    with pytest.raises(ToolError) as refused:
        workspace.write(name, b"planted")
    assert refused.value.code is Code.IS_SYMLINK
    assert (root / name).is_symlink()
    assert (outside / "secret").read_bytes() == b"outside"


def test_links_in_a_circle_end(workspace: Workspace, root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(ToolError) as refused:
        workspace.read("a")
    assert refused.value.code is Code.SYMLINK_LOOP


def test_a_hard_link_to_a_file_outside_is_not_written(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    os.link(outside / "secret", root / "hard")
    with pytest.raises(ToolError) as refused:
        workspace.write("hard", b"planted")
    assert refused.value.code is Code.HARD_LINKED
    assert (outside / "secret").read_bytes() == b"outside"


def test_pipes_sockets_and_devices_are_refused_without_waiting(
    workspace: Workspace, root: Path
) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(root / "socket"))
    names = ["pipe", "socket"]
    if os.geteuid() == 0:
        os.mknod(root / "device", 0o020666, os.makedev(1, 5))
        names.append("device")
    for name in names:
        with pytest.raises(ToolError) as refused:
            workspace.read(name)
        assert refused.value.code is Code.NOT_A_FILE
        with pytest.raises(ToolError) as refused:
            workspace.write(name, b"x")
        assert refused.value.code is Code.NOT_A_FILE


@pytest.mark.parametrize(
    "path",
    [
        ".peritus/token",
        ".PERITUS/token",
        "dir/../.peritus/token",
        "/workspace/.peritus/token",
        "inside/token",
        "inside/new/token",
        "./.peritus/token",
    ],
)
def test_the_state_folder_is_closed_by_every_name(
    workspace: Workspace, root: Path, path: str
) -> None:
    (root / ".peritus/token").write_bytes(b"secret")
    (root / "inside").symlink_to(".peritus")
    with pytest.raises(ToolError) as refused:
        workspace.write(path, b"planted")
    assert refused.value.code is Code.STATE_FOLDER
    with pytest.raises(ToolError):
        workspace.read(path)
    assert [entry.name for entry in (root / ".peritus").iterdir()] == ["token"]
    assert (root / ".peritus/token").read_bytes() == b"secret"


def test_the_state_folder_is_not_listed(workspace: Workspace) -> None:
    entries, _ = workspace.list(".", 100)
    assert ".peritus" not in {entry.name for entry in entries}
    with pytest.raises(ToolError) as refused:
        workspace.list(".peritus", 10)
    assert refused.value.code is Code.STATE_FOLDER


@pytest.fixture
def swapped(root: Path) -> Iterator[None]:
    """`place` is a folder, then a link out, then a folder, as fast as the disk allows."""
    (root / "place").mkdir()
    (root / "place/secret").write_bytes(b"inside")
    (root / "link").symlink_to("../outside")
    with subprocess.Popen(
        [sys.executable, "-c", SWAP, os.fspath(root), str(os.getpid())], stdout=subprocess.PIPE
    ) as swapper:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == b"ready\n"
        yield
        swapper.kill()


@pytest.mark.usefixtures("swapped")
def test_no_race_between_folder_and_link_leads_outside(workspace: Workspace, outside: Path) -> None:
    inside = refused = 0
    for attempt in range(RACE_ATTEMPTS_MAX):
        try:
            if attempt % 50:
                assert workspace.read("place/secret") == b"inside"
            else:
                workspace.write("place/new", b"planted")
            inside += 1
        except ToolError as error:
            refused += error.code is Code.OUTSIDE_WORKSPACE
        if min(inside, refused) >= RACE_HITS_ENOUGH:
            break
    assert min(inside, refused) >= 10, "the race must have been run from both sides"
    assert [entry.name for entry in outside.iterdir()] == ["secret"]


@pytest.mark.usefixtures("swapped")
def test_no_race_lets_a_change_through_to_the_outside(workspace: Workspace, outside: Path) -> None:
    def allow(_place: str, _stamp: Stamp | None) -> None:
        """No other run is here."""

    done = refused = 0
    for attempt in range(RACE_ATTEMPTS_MAX):
        try:
            match attempt % 4:
                case 0:
                    append(workspace, "place/secret", b"more", allow)
                case 1:
                    move(workspace, "place/secret", "place/moved", allow, overwrite=False)
                case 2:
                    move(workspace, "place/moved", "place/secret", allow, overwrite=True)
                case _:
                    delete(workspace, "place/moved", allow, recursive=True)
            done += 1
        except ToolError as error:
            refused += error.code is Code.OUTSIDE_WORKSPACE
            done += error.code is Code.NOT_FOUND
        if min(done, refused) >= RACE_HITS_ENOUGH:
            break
    assert min(done, refused) >= 10, "the race must have been run from both sides"
    assert [entry.name for entry in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"outside"
