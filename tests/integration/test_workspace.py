"""Files of a workspace, through both ways of resolving a path."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.sandbox.failures import Code, SandboxUnavailable, ToolError
from services.sandbox.resolve import OpenBeneath, open_beneath, open_by_openat2, open_by_walk
from services.sandbox.workspace import FILE_BYTES_MAX, Workspace

RESOLVERS = [pytest.param(open_by_openat2, id="openat2"), pytest.param(open_by_walk, id="walk")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture(params=RESOLVERS)
def workspace(root: Path, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    opener: OpenBeneath = request.param
    with Workspace(root, opener) as opened:
        yield opened


def test_this_kernel_resolves_by_itself() -> None:
    assert open_beneath() is open_by_openat2


def test_what_is_written_is_read_back(workspace: Workspace, root: Path) -> None:
    assert workspace.write("a.txt", b"one") is True
    assert workspace.write("a.txt", b"two") is False
    assert workspace.read("a.txt") == b"two"
    assert (root / "a.txt").read_bytes() == b"two"
    assert [entry.name for entry in root.iterdir() if entry.name != ".peritus"] == ["a.txt"]


@pytest.mark.parametrize(
    "spelling", ["d/a", "./d//a", "d/../d/a", "/workspace/d/a", "~/d/a", "d/./a"]
)
def test_a_file_has_many_spellings(workspace: Workspace, spelling: str) -> None:
    workspace.write(spelling, b"x")
    assert workspace.read("d/a") == b"x"


def test_missing_folders_are_made_for_a_write(workspace: Workspace, root: Path) -> None:
    workspace.write("a/b/c/d.txt", b"deep")
    assert (root / "a/b/c/d.txt").read_bytes() == b"deep"


def test_a_replaced_file_keeps_its_mode_but_no_set_uid(workspace: Workspace, root: Path) -> None:
    script = root / "run.sh"
    script.write_bytes(b"old")
    script.chmod(0o4751)
    workspace.write("run.sh", b"new")
    assert stat.S_IMODE(script.stat().st_mode) == 0o751


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_files_that_root_makes_belong_to_the_owner_of_the_folder(root: Path) -> None:
    os.chown(root, 12345, 12345)
    with Workspace(root) as opened:
        opened.write("new/file", b"x")
    owners = {path.stat().st_uid for path in (root / "new", root / "new/file", root / ".peritus")}
    assert owners == {12345}


def test_links_inside_are_followed_for_reading(workspace: Workspace, root: Path) -> None:
    (root / "real").mkdir()
    (root / "real/a").write_bytes(b"x")
    (root / "link").symlink_to("real")
    (root / "real/back").symlink_to("../link/a")
    assert workspace.read("link/a") == b"x"
    assert workspace.read("real/back") == b"x"
    workspace.write("link/b", b"y")
    assert (root / "real/b").read_bytes() == b"y"


def test_a_listing_is_sorted_and_says_what_things_are(workspace: Workspace, root: Path) -> None:
    (root / "dir").mkdir()
    (root / "file").write_bytes(b"123")
    (root / "broken").symlink_to("nowhere")
    (root / "escaping").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    entries, total = workspace.list(".", 100)
    assert [(entry.name, entry.type) for entry in entries] == [
        ("broken", "symlink"),
        ("dir", "directory"),
        ("escaping", "symlink"),
        ("file", "file"),
        ("pipe", "fifo"),
    ]
    assert total == 5
    assert entries[3].size == 3


def test_a_long_listing_is_cut_and_counted(workspace: Workspace, root: Path) -> None:
    for number in range(20):
        (root / f"{number:02}").touch()
    entries, total = workspace.list(".", 5)
    assert [entry.name for entry in entries] == ["00", "01", "02", "03", "04"]
    assert total == 20


def test_a_name_that_is_not_text_is_listed_escaped(workspace: Workspace, root: Path) -> None:
    os.close(os.open(os.fsencode(root) + b"/\xff\n", os.O_CREAT))
    entries, _ = workspace.list(".", 10)
    assert [entry.name for entry in entries] == ["\\xff\n"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", Code.INVALID_PATH),
        ("a\0b", Code.INVALID_PATH),
        ("x/" * 3000, Code.INVALID_PATH),
        ("n" * 300, Code.INVALID_PATH),
        ("missing", Code.NOT_FOUND),
        ("file/below", Code.NOT_A_DIRECTORY),
        ("dir", Code.IS_DIRECTORY),
        (".", Code.IS_DIRECTORY),
    ],
)
def test_a_path_that_cannot_be_read_says_why(
    workspace: Workspace, root: Path, path: str, code: Code
) -> None:
    (root / "dir").mkdir()
    (root / "file").touch()
    with pytest.raises(ToolError) as refused:
        workspace.read(path)
    assert refused.value.code is code


@pytest.mark.parametrize("path", [".", "dir", "..", "dir/..", "file/below", "dangling/x"])
def test_a_path_that_cannot_be_written_changes_nothing(
    workspace: Workspace, root: Path, path: str
) -> None:
    (root / "dir").mkdir()
    (root / "file").touch()
    (root / "dangling").symlink_to("nowhere")
    with pytest.raises(ToolError):
        workspace.write(path, b"x")
    assert sorted(entry.name for entry in root.rglob("*")) == [
        ".peritus",
        "dangling",
        "dir",
        "file",
    ]


def test_files_above_the_cap_are_refused_both_ways(workspace: Workspace, root: Path) -> None:
    with (root / "sparse").open("wb") as giant:
        giant.truncate(1 << 40)
    with pytest.raises(ToolError) as refused:
        workspace.read("sparse")
    assert refused.value.code is Code.TOO_LARGE
    with pytest.raises(ToolError) as refused:
        workspace.write("new", b"x" * (FILE_BYTES_MAX + 1))
    assert refused.value.code is Code.TOO_LARGE


def test_a_workspace_that_is_renamed_stays_the_same(
    workspace: Workspace, root: Path, tmp_path: Path
) -> None:
    root.rename(tmp_path / "elsewhere")
    workspace.write("a", b"x")
    assert (tmp_path / "elsewhere/a").read_bytes() == b"x"


def test_no_descriptor_is_left_open(root: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for opener in (open_by_openat2, open_by_walk):
        with Workspace(root, opener) as opened:
            opened.write("a/b/c", b"x")
            opened.read("a/../a/b/c")
            opened.list("a", 10)
            for path in ("..", "a/b/c/d", "missing/x", "/etc/passwd"):
                with pytest.raises(ToolError):
                    opened.read(path)
    assert descriptors() == before


def test_a_missing_workspace_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable):
        Workspace(tmp_path / "missing")


def test_a_planted_state_folder_makes_the_workspace_unavailable(root: Path) -> None:
    (root / ".peritus").symlink_to("/tmp")
    with pytest.raises(SandboxUnavailable):
        Workspace(root)
