"""Tools that change files and folders: what they do, what they refuse, and nothing outside."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from services.sandbox import renaming
from services.sandbox.resolve import OpenBeneath, open_by_openat2, open_by_walk
from services.sandbox.trees import DEPTH_MAX, remove_tree
from services.sandbox.workspace import FILE_BYTES_MAX
from tests.support.seats import WAIT_S, Bench, Seating, bench, call_of, unheard

pytestmark = [pytest.mark.anyio]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "secret").write_text("outside")
    return made


@pytest.fixture(params=[open_by_openat2, open_by_walk], ids=["openat2", "walk"])
async def box(root: Path, request: pytest.FixtureRequest) -> AsyncGenerator[Bench]:
    opener: OpenBeneath = request.param
    async with bench(root, opener=opener) as opened:
        yield opened


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != ".peritus")


async def test_several_edits_are_done_in_order_and_each_sees_the_ones_before(
    box: Bench, root: Path
) -> None:
    (root / "a").write_text("one\ntwo\nthree\n")
    edits = [
        {"oldText": "one", "newText": "two two"},
        {"oldText": "two", "newText": "2", "replaceAll": True},
        {"oldText": "three", "newText": "$1 \\g<0>"},
    ]
    said = await box.done("editTextFile", path="a", edits=edits)
    assert (root / "a").read_text() == "2 2\n2\n$1 \\g<0>\n"
    assert (said["line"], said["replaced"], said["bytes"]) == (0, [1, 3, 1], 15)


async def test_if_one_of_several_edits_fails_none_is_done(box: Bench, root: Path) -> None:
    (root / "a").write_text("one two two")
    before = (root / "a").stat()
    for last, code in (("missing", "no_match"), ("two", "not_unique")):
        edits = [{"oldText": "one", "newText": "1"}, {"oldText": last, "newText": "x"}]
        said = await box.failed("editTextFile", path="a", edits=edits)
        assert said["error"] == code
        assert "edits[1]" in said["message"]
    assert (root / "a").read_text() == "one two two"
    assert (root / "a").stat().st_ino == before.st_ino


async def test_replace_all_replaces_every_occurrence(box: Bench, root: Path) -> None:
    (root / "dos").write_bytes(b"a\r\nb\r\na\r\nb\r\n")
    said = await box.done(
        "editTextFile", path="dos", oldText="a\nb", newText="c\nd", replaceAll=True
    )
    assert (root / "dos").read_bytes() == b"c\r\nd\r\nc\r\nd\r\n"
    assert said["replaced"] == [2]


async def test_text_is_appended_and_the_file_stays_the_same_one(box: Bench, root: Path) -> None:
    (root / "log").write_text("one\n")
    before = (root / "log").stat().st_ino
    assert await box.done("appendTextFile", path="log", text="twö") == {
        "path": "log",
        "bytes": 4,
        "size": 8,
    }
    assert (root / "log").read_text() == "one\ntwö"
    assert (root / "log").stat().st_ino == before


async def test_append_makes_no_file_and_none_too_large(box: Bench, root: Path) -> None:
    assert (await box.failed("appendTextFile", path="new", text="x"))["error"] == "not_found"
    with (root / "full").open("wb") as full:
        full.truncate(FILE_BYTES_MAX)
    assert (await box.failed("appendTextFile", path="full", text="x"))["error"] == "too_large"
    assert names_in(root) == ["full"]
    assert (root / "full").stat().st_size == FILE_BYTES_MAX


async def test_files_folders_and_links_are_moved_and_missing_folders_made(
    box: Bench, root: Path
) -> None:
    (root / "d").mkdir()
    (root / "d/file").write_text("x")
    (root / "link").symlink_to("/etc/passwd")
    await box.done("moveFile", source="d/file", destination="new/deep/file")
    await box.done("moveFile", source="link", destination="new/link")
    await box.done("moveFile", source="new", destination="d/moved")
    assert (root / "d/moved/deep/file").read_text() == "x"
    assert (root / "d/moved/link").readlink() == Path("/etc/passwd")
    assert names_in(root) == ["d"]


async def test_a_move_replaces_nothing_unless_asked(box: Bench, root: Path) -> None:
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    (root / "dir").mkdir()
    (root / "link").symlink_to("b")
    for there in ("b", "dir", "link"):
        said = await box.failed("moveFile", source="a", destination=there)
        assert said["error"] == "already_exists"
    over = await box.failed("moveFile", source="a", destination="dir", overwrite=True)
    assert over["error"] == "is_directory"
    moved = await box.done("moveFile", source="a", destination="b", overwrite=True)
    assert moved["replaced"] is True
    assert (root / "b").read_text() == "a"
    into = await box.failed("moveFile", source="dir", destination="dir/in/it")
    assert into["error"] == "invalid_path"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_without_the_system_call_a_move_replaces_nothing_either(root: Path, kind: str) -> None:
    match kind:
        case "file":
            (root / "old").write_text("x")
        case "folder":
            (root / "old/in").mkdir(parents=True)
        case _:
            (root / "old").symlink_to("/nowhere")
    (root / "taken").write_text("taken")
    folder = os.open(root, os.O_PATH)
    try:
        with pytest.raises(FileExistsError):
            renaming.rename_by_parts(folder, "old", folder, "taken")
        renaming.rename_by_parts(folder, "old", folder, "new")
    finally:
        os.close(folder)
    assert names_in(root) == ["new", "taken"]
    assert (root / "taken").read_text() == "taken"


async def test_files_and_links_are_deleted_and_folders_only_when_asked(
    box: Bench, root: Path, outside: Path
) -> None:
    (root / "file").touch()
    (root / "link").symlink_to(outside / "secret")
    os.mkfifo(root / "pipe")
    (root / "dir/sub").mkdir(parents=True)
    (root / "dir/sub/file").touch()
    (root / "dir/out").symlink_to(outside)
    for name in ("file", "link", "pipe"):
        assert (await box.done("deleteFile", path=name))["deleted"] == 1
    assert (await box.failed("deleteFile", path="dir"))["error"] == "is_directory"
    assert (await box.done("deleteFile", path="dir", recursive=True))["deleted"] == 4
    assert names_in(root) == []
    assert names_in(outside) == ["secret"]
    assert (await box.failed("deleteFile", path="dir"))["error"] == "not_found"


def test_a_folder_deeper_than_descriptors_reach_is_removed(root: Path) -> None:
    deep = 5 * DEPTH_MAX
    here = os.open(root, os.O_PATH)
    for _ in range(deep):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    top = os.open(root, os.O_PATH)
    try:
        assert remove_tree(top, "d") == deep
    finally:
        os.close(top)
    assert names_in(root) == []


def test_removing_a_folder_can_be_stopped_on_the_way(root: Path) -> None:
    for number in range(10):
        (root / f"dir/{number}").mkdir(parents=True)
    asked = iter([False] * 5 + [True])
    top = os.open(root, os.O_PATH)
    try:
        with pytest.raises(InterruptedError):
            remove_tree(top, "dir", lambda: next(asked))
    finally:
        os.close(top)
    assert len(names_in(root / "dir")) == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove everything")
async def test_what_cannot_be_removed_is_said(box: Bench, root: Path) -> None:
    (root / "dir/sub").mkdir(parents=True)
    (root / "dir/sub/file").touch()
    (root / "dir/sub").chmod(0o555)
    said = await box.failed("deleteFile", path="dir", recursive=True)
    assert said["error"] == "permission_denied"
    (root / "dir/sub").chmod(0o755)


async def test_making_a_folder_twice_is_no_failure(box: Bench, root: Path) -> None:
    assert (await box.done("createDirectory", path="a/b"))["created"] is True
    assert (await box.done("createDirectory", path="a/b"))["created"] is False
    (root / "file").touch()
    assert (await box.failed("createDirectory", path="file"))["error"] == "already_exists"
    assert (await box.failed("createDirectory", path="file/x"))["error"] == "not_a_directory"


async def test_information_is_about_the_entry_itself(box: Bench, root: Path) -> None:
    (root / "run.sh").write_text("12345")
    (root / "run.sh").chmod(0o750)
    (root / "link").symlink_to("/etc/passwd")
    info = await box.done("getFileInfo", path="run.sh")
    assert (info["type"], info["size"], info["permissions"]) == ("file", 5, "-rwxr-x---")
    link = await box.done("getFileInfo", path="link")
    assert (link["type"], link["target"]) == ("symlink", "/etc/passwd")
    assert (await box.done("getFileInfo", path="."))["type"] == "directory"
    assert (await box.failed("getFileInfo", path="link/x"))["error"] in {
        "outside_workspace",
        "not_a_directory",
    }


CHANGES: dict[str, dict[str, object]] = {
    "writeTextFile": {"text": "planted"},
    "editTextFile": {"oldText": "outside", "newText": "planted"},
    "appendTextFile": {"text": "planted"},
    "deleteFile": {"recursive": True},
    "createDirectory": {},
}


@pytest.mark.parametrize("tool", [*CHANGES, "from", "to"])
@pytest.mark.parametrize(
    "folder", ["../outside", "absolute", "relative", "magic/etc", "dir/../../outside", "/etc"]
)
async def test_no_change_leads_outside(
    box: Bench, root: Path, outside: Path, tool: str, folder: str
) -> None:
    (root / "absolute").symlink_to(outside)
    (root / "relative").symlink_to("../outside")
    (root / "magic").symlink_to("/proc/self/root")
    (root / "dir").mkdir()
    (root / "mine").write_text("mine")
    path = f"{folder}/secret" if tool != "createDirectory" else f"{folder}/new"
    match tool:
        case "from":
            said = await box.failed("moveFile", source=path, destination="taken")
        case "to":
            said = await box.failed(
                "moveFile", source="mine", destination=f"{folder}/new", overwrite=True
            )
        case _:
            said = await box.failed(tool, path=path, **CHANGES[tool])
    assert said["error"] == "outside_workspace"
    assert names_in(outside) == ["secret"]
    assert (outside / "secret").read_text() == "outside"
    assert names_in(root) == ["absolute", "dir", "magic", "mine", "relative"]


@pytest.mark.parametrize("tool", [*CHANGES, "from", "to"])
@pytest.mark.parametrize("spelling", [".peritus", ".PERITUS", "here/.peritus", "./here/.Peritus"])
async def test_the_state_folder_is_closed_to_every_change(
    box: Bench, root: Path, tool: str, spelling: str
) -> None:
    (root / "here").symlink_to(".")
    (root / "mine").write_text("mine")
    (root / ".peritus/token").write_text("outside")
    for path in (spelling, f"{spelling}/token"):
        match tool:
            case "from":
                said = await box.failed("moveFile", source=path, destination="taken")
            case "to":
                said = await box.failed("moveFile", source="mine", destination=path, overwrite=True)
            case _:
                said = await box.failed(tool, path=path, **CHANGES[tool])
        assert said["error"] in {"state_folder", "not_found"}
    assert [entry.name for entry in (root / ".peritus").iterdir()] == ["token"]
    assert (root / ".peritus/token").read_text() == "outside"
    assert names_in(root) == ["here", "mine"]


@pytest.mark.parametrize("path", [".", "/workspace", "~", "dir/..", "dir/../."])
async def test_the_workspace_itself_is_neither_moved_nor_deleted(
    box: Bench, root: Path, path: str
) -> None:
    (root / "dir").mkdir()
    await box.failed("deleteFile", path=path, recursive=True)
    await box.failed("moveFile", source=path, destination="dir/x")
    assert names_in(root) == ["dir"]


async def test_what_has_other_names_is_not_changed_in_place(
    box: Bench, root: Path, outside: Path
) -> None:
    os.link(outside / "secret", root / "hard")
    for tool in ("writeTextFile", "editTextFile", "appendTextFile"):
        said = await box.failed(tool, path="hard", **CHANGES[tool])
        assert said["error"] == "hard_linked"
    await box.done("deleteFile", path="hard")
    assert (outside / "secret").read_text() == "outside"


@pytest.mark.parametrize("tool", ["writeTextFile", "editTextFile", "appendTextFile"])
async def test_a_link_is_not_changed_through(box: Bench, root: Path, tool: str) -> None:
    (root / "real").write_text("outside")
    (root / "link").symlink_to("real")
    assert (await box.failed(tool, path="link", **CHANGES[tool]))["error"] == "is_symlink"
    assert (root / "real").read_text() == "outside"


@pytest.mark.parametrize("tool", ["writeTextFile", "editTextFile", "appendTextFile"])
async def test_a_pipe_is_refused_without_waiting(box: Bench, root: Path, tool: str) -> None:
    os.mkfifo(root / "pipe")
    assert (await box.failed(tool, path="pipe", **CHANGES[tool]))["error"] == "not_a_file"


async def test_a_seat_that_may_only_read_changes_nothing(root: Path) -> None:
    (root / "a").write_text("outside")

    def configure(seating: Seating) -> None:
        seating.read_only = True

    async with bench(root, configure) as box:
        for tool, arguments in CHANGES.items():
            said = await box.failed(tool, path="a", **arguments)
            assert said["error"] == "read_only"
        moved = await box.failed("moveFile", source="a", destination="b")
        assert moved["error"] == "read_only"
        assert (await box.done("readTextFile", path="a"))["content"] == "outside"
    assert names_in(root) == ["a"]


@pytest.mark.sandbox
async def test_whoever_looks_at_the_whole_workspace_keeps_changes_out_but_no_readers(
    box: Bench, root: Path
) -> None:
    (root / "a").write_text("outside")
    changes = {name: arguments for name, arguments in CHANGES.items() if name != "deleteFile"}
    calls = [
        *(call_of(tool, json.dumps({"path": "a", **more})) for tool, more in changes.items()),
        call_of("moveFile", '{"source": "a", "destination": "b"}'),
        call_of("deleteFile", '{"path": "a"}'),
        call_of("exec", '{"shell": "touch c"}'),
        call_of("startProcess", '{"shell": "touch d"}'),
    ]
    async with (
        asyncio.timeout(WAIT_S),
        asyncio.TaskGroup() as group,
        box.seating.room.gate.looking(patience_s=WAIT_S) as alone,
    ):
        assert alone
        waiting = [group.create_task(box.box.call(call, unheard)) for call in calls]
        while box.seating.taken < len(calls):
            await asyncio.to_thread(int)
        assert (await box.done("readTextFile", path="a"))["content"] == "outside"
        assert (await box.done("grep", pattern="side"))["matches"] == 1
        assert not any(task.done() for task in waiting)
        assert names_in(root) == ["a"]
    assert "c" in names_in(root)


@pytest.mark.sandbox
async def test_a_command_at_such_a_seat_cannot_write_either(root: Path) -> None:
    def configure(seating: Seating) -> None:
        seating.read_only = True

    async with bench(root, configure) as box:
        said = await box.done("exec", shell="touch new; echo $?", stderr=False)
        assert said["output"].splitlines()[-1] == "1"
    assert names_in(root) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", os.fspath(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", os.fspath(place)], check=True)


async def test_a_full_disk_is_said_and_changes_nothing(small_disk: Path) -> None:
    (small_disk / "a").write_text("old")
    async with bench(small_disk) as box:
        for tool in ("writeTextFile", "appendTextFile"):
            said = await box.failed(tool, path="a", text="x" * 200_000)
            assert said["error"] == "no_space"
            assert (small_disk / "a").read_text() == "old"
    assert names_in(small_disk) == ["a"]
