"""Journals on a real disk: synced in order, for the owner only, no links (C15, C16)."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from domain.ids import RunRef
from services.sandbox.journal import Entry, Journal
from services.sandbox.journal_file import JOURNAL_AGE_S, JournalFiles
from tests.integration.stopped_life import CALL, EPOCH

pytestmark = pytest.mark.anyio

JOB = RunRef("acme", "job", "job")
BOUND_S = 60


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> Iterator[JournalFiles]:
    files = JournalFiles(tmp_path / "journals")
    yield files
    files.close()


async def test_what_was_appended_is_read_in_order_by_anybody_who_opens_it(
    files: JournalFiles, tmp_path: Path
) -> None:
    await files.append("e1", b"one\n")
    await files.append("e1", b"two\n")
    assert await JournalFiles(tmp_path / "journals").read("e1") == b"one\ntwo\n"
    assert await files.read("e2") is None


async def test_only_the_owner_can_read_a_journal(files: JournalFiles, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        await files.append("e1", b"one\n")
    finally:
        os.umask(old)
    folder = tmp_path / "journals"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "e1.jsonl").stat().st_mode) == 0o600


async def test_the_name_is_synced_before_and_the_data_after_the_first_line_is_written(
    files: JournalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    write, fsync, fdatasync = os.write, os.fsync, os.fdatasync

    def note(what: str, descriptor: int) -> None:
        seen.append(f"{what} {'folder' if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 'file'}")

    def noted_write(descriptor: int, data: memoryview) -> int:
        note("write", descriptor)
        return write(descriptor, data)

    def noted_fsync(descriptor: int) -> None:
        note("sync", descriptor)
        fsync(descriptor)

    def noted_fdatasync(descriptor: int) -> None:
        note("sync", descriptor)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "write", noted_write)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "fdatasync", noted_fdatasync)
    await files.append("e1", b"one\n")
    await files.append("e1", b"two\n")
    assert seen == ["sync folder", "write file", "sync file", "write file", "sync file"]


async def test_line_that_could_not_be_synced_is_taken_back(
    files: JournalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.append("e1", b"one\n")
    with monkeypatch.context() as broken:

        def fails(_descriptor: int) -> None:
            raise OSError(5, "broken")

        broken.setattr(os, "fdatasync", fails)
        with pytest.raises(OSError, match="broken"):
            await files.append("e1", b"half a li")
    await files.append("e1", b"two\n")
    assert await files.read("e1") == b"one\ntwo\n"


async def test_a_link_is_not_followed(files: JournalFiles, tmp_path: Path) -> None:
    (tmp_path / "journals").mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / "journals" / "e1.jsonl").symlink_to(victim)
    with pytest.raises(OSError, match=r"symbolic|Too many"):
        await files.append("e1", b"one\n")
    assert victim.read_bytes() == b"mine"


async def test_old_journals_are_removed_but_never_one_that_may_still_be_written(
    files: JournalFiles, tmp_path: Path
) -> None:
    """The process of an epoch holds its journal, however long it has said nothing."""
    folder = tmp_path / "journals"
    idle = JournalFiles(folder)
    for epoch in ("old", "new", "own", "idle"):
        writer = {"own": files, "idle": idle}.get(epoch) or JournalFiles(folder)
        await writer.append(epoch, b"x\n")
        if epoch in {"old", "new"}:
            writer.close()
    await files.fence(JOB, b"x\n")
    fence = folder / "fences" / "acme" / "job.jsonl"
    written = (folder / "old.jsonl").stat().st_mtime
    long_ago = written - JOURNAL_AGE_S - 5
    for path in (*(folder / f"{epoch}.jsonl" for epoch in ("old", "own", "idle")), fence):
        os.utime(path, (long_ago, long_ago))

    assert files.tidy(written) == ["old"]
    assert sorted(path.name for path in folder.glob("*.jsonl")) == [
        "idle.jsonl",
        "new.jsonl",
        "own.jsonl",
    ]
    assert fence.exists(), "it may keep the idle one out"
    idle.close()
    assert files.tidy(written) == ["idle"]
    assert not fence.exists()


async def test_journal_that_was_retired_says_that_its_epoch_began_nothing(
    files: JournalFiles, tmp_path: Path
) -> None:
    """Its calls are over; what is asked of it later was asked after its end."""
    journal = Journal(files, "place", EPOCH)
    await journal.open()
    await journal.begin(CALL, 1, 1)
    other = JournalFiles(tmp_path / "journals")
    assert not other.retire(EPOCH), "its process may go on"
    files.close()
    assert other.retire(EPOCH)
    assert not (tmp_path / "journals" / f"{EPOCH}.jsonl").exists()
    after = Journal(JournalFiles(tmp_path / "journals"), "place", "next")
    assert await after.earlier(EPOCH) == {}
    assert await after.earlier("another") is None, "of that one nobody knows anything"


async def test_fence_of_a_job_is_seen_by_every_process_of_the_place(
    files: JournalFiles, tmp_path: Path
) -> None:
    other = JournalFiles(tmp_path / "journals")
    assert await other.fences(JOB) == b""
    await files.fence(JOB, b"one\n")
    await files.fence(JOB._replace(run="delegate"), b"two\n")
    assert await other.fences(JOB) == b"one\ntwo\n"
    assert await other.fences(JOB._replace(job="job2")) == b""
    (tmp_path / "journals" / "fences" / "acme" / "job3.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"symbolic|Too many"):
        await files.fence(JOB._replace(job="job3"), b"one\n")


@contextmanager
def stopped_at(point: str, folder: Path) -> Generator["subprocess.Popen[bytes]"]:
    """A process that is stopped before or after its line was written; ended with the context."""
    words = [sys.executable, "-m", "tests.integration.stopped_life", str(folder), point]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("taken_over", [True, False], ids=["taken_over", "left_alone"])
@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_process_that_is_stopped_at_its_line_and_goes_on_starts_nothing_another_may_run(
    files: JournalFiles,
    tmp_path: Path,
    point: str,
    taken_over: bool,  # noqa: FBT001 - a column
) -> None:
    """Two real processes over the same files: of the two, at most one runs the call."""
    with stopped_at(point, tmp_path / "journals") as process:
        journal = Journal(files, "place", "next")
        await journal.open()
        if taken_over:
            await journal.take(CALL.ref, 2)
        begun = {CALL: Entry(over=False, result=None)} if point == "after" else {}
        assert await journal.earlier(EPOCH) == begun
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=BOUND_S)
    assert said == (b"fenced\n" if taken_over else b"started\n")
