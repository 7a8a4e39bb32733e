"""Files that come back from a snapshot: once, on the disk before that is noted, by one process."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from domain.content import BlobRef
from domain.ids import RunRef
from domain.sandbox import SandboxLimits
from eventlog.memory.server import MemoryServer
from services.sandbox.cleared import Cleared, Notes
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.placement import Held
from services.sandbox.returning import Returning
from services.sandbox.syncing import sync_all
from tests.support.snapshots import Desk, snapshot

pytestmark = pytest.mark.anyio

JOB = RunRef("acme", "job", "job")


class Spot:
    """A place whose job has a snapshot and, by now, no files."""

    def __init__(self, folder: Path) -> None:
        self.desk = Desk(folder, MemoryServer(now_ms=lambda: 0))
        self.state = folder / "state"
        self.path = folder / "workspaces" / "job"
        self.synced: list[tuple[bool, bool]] = []
        self.broken = False

    async def stored(self, text: str) -> BlobRef:
        """A snapshot of one file."""
        workspace = self.desk.workspace("before")
        (self.desk.folder / "before" / "f").write_text(text)
        taken = await snapshot(self.desk.store("stored"), workspace)
        return BlobRef(digest=taken.root, size=taken.size)

    def sync(self, descriptor: int) -> None:
        """What is there at this moment: the file, and any note that it is back."""
        self.synced.append(((self.path / "f").exists(), bool(self.notes())))
        if self.broken:
            raise OSError(5, "the disk is broken")
        sync_all(descriptor)

    def notes(self) -> list[str]:
        found = self.state.glob("restored/acme/*")
        return [path.name for path in found if path.suffix not in {".lock", ".new"}]

    def returning(self) -> Returning:
        """Of one life of a worker."""
        return Returning(self.state, self.desk.store(), SandboxLimits(), self.sync)

    @property
    def cleared(self) -> Notes:
        return Notes(self.state)

    async def cleared_away(self, text: str = "kept") -> Cleared:
        """The job's workspace was cleared away after step 3."""
        manifest = await self.stored(text)
        note = Cleared(path=str(self.path), manifest=manifest, step=3, run=JOB.run)
        self.cleared.write(JOB, note)
        return note

    def file(self) -> str:
        return (self.path / "f").read_text()


def held(manifest: BlobRef, moved: int = 2) -> Held:
    return Held(number=moved, restored=manifest, moved=moved, earlier=())


@pytest.fixture
def spot(tmp_path: Path) -> Spot:
    return Spot(tmp_path)


async def test_files_are_on_the_disk_before_it_is_noted_that_they_are_back(spot: Spot) -> None:
    manifest = await spot.stored("kept")
    assert await spot.returning().bring_back(JOB, spot.path, held(manifest)) == ""
    assert spot.file() == "kept"
    assert spot.synced[0] == (True, False), "all files, and not the note"
    assert spot.synced[1:] == [(True, True)], "then the note, before anybody works with the files"
    spot.path.joinpath("f").write_text("new")
    await spot.returning().bring_back(JOB, spot.path, held(manifest))
    assert spot.file() == "new", "once is enough"


async def test_files_that_may_not_be_on_the_disk_are_brought_back_again(spot: Spot) -> None:
    manifest = await spot.stored("kept")
    spot.broken = True
    with pytest.raises(SandboxUnavailable, match="broken"):
        await spot.returning().bring_back(JOB, spot.path, held(manifest))
    assert spot.notes() == []
    spot.path.joinpath("f").write_text("half")  # what the power cut left of it
    spot.broken = False
    await spot.returning().bring_back(JOB, spot.path, held(manifest))
    assert spot.file() == "kept"


async def test_nobody_else_brings_files_back_while_one_is_at_it_even_if_it_is_stopped(
    spot: Spot,
) -> None:
    """When it goes on, it would write what it holds over what was made since."""
    manifest = await spot.stored("kept")
    lock = spot.state / "restored" / "acme" / "job.lock"
    lock.parent.mkdir(parents=True)
    other = os.open(lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SandboxUnavailable, match="another worker"):
            await spot.returning().bring_back(JOB, spot.path, held(manifest))
        assert not spot.path.exists()
    finally:
        os.close(other)
    await spot.returning().bring_back(JOB, spot.path, held(manifest))
    assert spot.file() == "kept"


async def test_a_workspace_that_was_cleared_away_comes_back_and_the_model_is_told_until_it_knows(
    spot: Spot,
) -> None:
    await spot.cleared_away()
    spot.path.mkdir(parents=True)
    (spot.path / "half").touch()  # of a try that was cut off
    news = await spot.returning().bring_back(JOB, spot.path, None)
    assert "as they were after step 3;" in news
    assert [path.name for path in spot.path.iterdir() if path.is_file()] == ["f"]
    assert spot.synced[0] == (True, False)

    (spot.path / "f").write_text("new")
    after = spot.returning()  # the worker died before the model heard of it
    assert await after.bring_back(JOB, spot.path, None) == news
    assert spot.file() == "new"
    await after.told(JOB)
    assert await spot.returning().bring_back(JOB, spot.path, None) == ""


@pytest.mark.parametrize("broken", ["sync", "blobs"])
async def test_a_workspace_is_owed_until_it_is_back_as_a_whole(spot: Spot, broken: str) -> None:
    await spot.cleared_away()
    blobs = dict(spot.desk.server.blobs)
    if broken == "sync":
        spot.broken = True
    else:
        spot.desk.server.blobs.clear()
    with pytest.raises(SandboxUnavailable, match="cannot be brought back"):
        await spot.returning().bring_back(JOB, spot.path, None)
    spot.broken = False
    spot.desk.server.blobs.update(blobs)
    assert await spot.returning().bring_back(JOB, spot.path, None)
    assert spot.file() == "kept"


async def test_another_folder_that_the_job_works_in_by_now_is_left_alone(
    spot: Spot, tmp_path: Path
) -> None:
    """A person may have given it one: a snapshot brought back would remove what is in it."""
    await spot.cleared_away()
    persons = tmp_path / "persons"
    persons.mkdir()
    (persons / "mine").touch()
    assert await spot.returning().bring_back(JOB, persons, None) == ""
    assert [path.name for path in persons.iterdir()] == ["mine"]


async def test_files_of_a_later_change_of_place_stand_above_those_that_were_cleared(
    spot: Spot,
) -> None:
    await spot.cleared_away("old")
    newer = await spot.stored("newer")
    assert await spot.returning().bring_back(JOB, spot.path, held(newer)) == ""
    assert await spot.returning().bring_back(JOB, spot.path, held(newer)) == ""
    assert spot.file() == "newer"


async def test_what_is_cleared_away_after_a_change_of_place_comes_back_as_well(spot: Spot) -> None:
    moved = held(await spot.stored("moved"))
    await spot.returning().bring_back(JOB, spot.path, moved)
    shutil.rmtree(spot.path)
    await spot.cleared_away("later")
    assert await spot.returning().bring_back(JOB, spot.path, moved)
    assert spot.file() == "later"


async def test_without_a_snapshot_the_model_is_told_that_nothing_is_left(spot: Spot) -> None:
    spot.cleared.write(JOB, Cleared(path=str(spot.path)))
    assert "it is empty now" in await spot.returning().bring_back(JOB, spot.path, None)


@pytest.mark.parametrize("content", [b"{", b'{"format": 2}'])
async def test_a_note_that_cannot_be_read_is_no_reason_to_begin_with_nothing(
    spot: Spot, content: bytes
) -> None:
    await spot.cleared_away()
    (spot.state / "cleared" / "acme" / "job.json").write_bytes(content)
    with pytest.raises(SandboxUnavailable, match=r"job\.json"):
        await spot.returning().bring_back(JOB, spot.path, None)


def test_a_file_system_is_written_out_by_any_folder_of_it(tmp_path: Path) -> None:
    for flags in (os.O_PATH, os.O_RDONLY):
        folder = os.open(tmp_path, flags | os.O_DIRECTORY)
        sync_all(folder)
        os.close(folder)
        with pytest.raises(OSError, match="descriptor"):
            sync_all(folder)
