"""Two experts at one workspace: neither undoes unseen what the other's file tools did."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.sandbox.seen import Seen, Stamp
from services.sandbox.tools.desk import Desk
from services.sandbox.workspace import Workspace, changed_meanwhile
from tests.support.seats import WAIT_S, Bench, bench

pytestmark = [pytest.mark.anyio]


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with bench(tmp_path) as opened:
        yield opened


CHANGES: list[tuple[str, dict[str, object]]] = [
    ("writeTextFile", {"path": "d/a", "text": "mine"}),
    ("editTextFile", {"path": "d/a", "oldText": "theirs", "newText": "mine"}),
    ("appendTextFile", {"path": "d/a", "text": "mine"}),
    ("moveFile", {"source": "d/a", "destination": "b"}),
    ("moveFile", {"source": "other", "destination": "d/a", "overwrite": True}),
    ("deleteFile", {"path": "d/a"}),
    ("deleteFile", {"path": "d", "recursive": True}),
    ("moveFile", {"source": "d", "destination": "e"}),
]


@pytest.mark.parametrize(("tool", "arguments"), CHANGES)
async def test_what_another_changed_is_read_before_it_is_changed(
    box: Bench, tmp_path: Path, tool: str, arguments: dict[str, object]
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("old")
    (tmp_path / "other").write_text("other")
    assert (await box.as_run("one", "readTextFile", path="d/a"))["content"] == "old"
    await box.as_run("two", "writeTextFile", path="d/a", text="theirs")
    refused = await box.as_run("one", tool, **arguments)
    assert refused["error"] == "conflict"
    assert "read it again" in refused["message"]
    assert (tmp_path / "d/a").read_text() == "theirs"
    assert (await box.as_run("one", "readTextFile", path="d/a"))["content"] == "theirs"
    assert "error" not in await box.as_run("one", tool, **arguments)


@pytest.mark.parametrize("spelling", ["/workspace/d/a", "link/a", "d/../d/./a"])
async def test_a_file_is_the_same_by_every_name(box: Bench, tmp_path: Path, spelling: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    await box.as_run("two", "writeTextFile", path=spelling, text="theirs")
    refused = await box.as_run("one", "writeTextFile", path="d/a", text="mine")
    assert refused["error"] == "conflict"
    await box.as_run("one", "readTextFile", path=spelling)
    assert "error" not in await box.as_run("one", "writeTextFile", path="d/a", text="mine")


async def test_ones_own_changes_and_those_of_commands_stop_nobody(
    box: Bench, tmp_path: Path
) -> None:
    for text in ("1", "2"):
        assert "error" not in await box.as_run("one", "writeTextFile", path="a", text=text)
    await box.as_run("two", "readTextFile", path="a")
    (tmp_path / "a").write_text("by a command")
    assert "error" not in await box.as_run("two", "writeTextFile", path="a", text="3")
    (tmp_path / "a").unlink()
    assert "error" not in await box.as_run("one", "writeTextFile", path="a", text="4")


async def test_what_was_moved_is_still_known_as_changed(box: Bench) -> None:
    await box.as_run("two", "writeTextFile", path="d/a", text="theirs")
    await box.as_run("two", "moveFile", source="d", destination="e")
    refused = await box.as_run("one", "writeTextFile", path="e/a", text="mine")
    assert refused["error"] == "conflict"
    await box.as_run("two", "deleteFile", path="e", recursive=True)
    assert "error" not in await box.as_run("one", "writeTextFile", path="e/a", text="mine")


async def test_of_two_edits_of_one_text_at_the_same_time_only_one_is_done(
    box: Bench, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("count = 0")
    for run in ("one", "two"):
        await box.as_run(run, "readTextFile", path="a")
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(box.as_run(run, "writeTextFile", path="a", text=f"count = 0 # {run}"))
            for run in ("one", "two")
        ]
    errors = [task.result().get("error") for task in tasks]
    assert sorted(errors, key=str) == [None, "conflict"]


def test_a_change_between_the_look_and_the_write_is_not_undone(tmp_path: Path) -> None:
    """As a command would make it: the guard has looked, the new file is not in place yet."""
    (tmp_path / "a").write_text("old")
    with Workspace(tmp_path) as workspace:

        def meanwhile(_place: str, _stamp: Stamp | None) -> None:
            (tmp_path / "a").write_text("by a command")

        with pytest.raises(type(changed_meanwhile("a"))) as refused:
            workspace.put("a", b"mine", meanwhile)
        assert refused.value.code == "conflict"

        def appears(_place: str, stamp: Stamp | None) -> None:
            assert stamp is None
            (tmp_path / "new").write_text("by a command")

        with pytest.raises(type(changed_meanwhile("a"))):
            workspace.put("new", b"mine", appears)
    assert (tmp_path / "a").read_text() == (tmp_path / "new").read_text() == "by a command"
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {".peritus", "a", "new"}, "nothing half-written is left"


def test_only_so_many_paths_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.sandbox.seen.PATHS_MAX", 3)
    seen = Seen()
    stamp = Stamp(1, 2, 3, 4)
    for number in range(10):
        seen.change("two", f"{number}", stamp)
    assert [seen.conflict("one", f"{number}", stamp) for number in (0, 6, 7, 9)] == [
        None,
        None,
        "two",
        "two",
    ]


def test_a_folder_that_is_gone_conflicts_with_nothing(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        desk = Desk(workspace, Seen(), "one")
        desk.seen.change("two", "d/a", Stamp(1, 2, 3, 4))
        desk.guard("d", whole=True)("d", Stamp(5, 6, 7, 8))
