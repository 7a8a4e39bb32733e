"""The journal of a sandbox worker over a store in memory: claims that survive it (rule 6, C16)."""

import asyncio

import orjson
import pytest

from domain.commands import RecordToolResult
from domain.content import TextPart
from domain.errors import Unavailable
from domain.ids import RunRef
from services.sandbox.journal import Entry, Fenced, Journal, Name

pytestmark = pytest.mark.anyio

A = Name(RunRef("acme", "job", "job"), "c1-0")
B = Name(RunRef("acme", "job", "job"), "c1-1")


class Disk:
    """Keeps journals; `gate` holds appends up, `broken` makes them fail."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fenced: dict[str, bytes] = {}
        self.appends = 0
        self.broken = False
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, epoch: str, data: bytes) -> None:
        self.appends += 1
        self.asked.set()
        await self.gate.wait()
        if self.broken:
            raise OSError(28, "full")
        self.files[epoch] = self.files.get(epoch, b"") + data

    async def read(self, epoch: str) -> bytes | None:
        if self.broken:
            raise OSError(5, "broken")
        return self.files.get(epoch)

    async def fence(self, ref: RunRef, data: bytes) -> None:
        if self.broken:
            raise OSError(28, "full")
        self.fenced[ref.job] = self.fenced.get(ref.job, b"") + data

    async def fences(self, ref: RunRef) -> bytes:
        if self.broken:
            raise OSError(5, "broken")
        return self.fenced.get(ref.job, b"")


def ended(name: Name = A, text: str = "done") -> RecordToolResult:
    return RecordToolResult(
        call=name.call, holder="e1", outcome="succeeded", content=(TextPart(text=text),)
    )


async def life(disk: Disk, epoch: str = "e1") -> Journal:
    journal = Journal(disk, "p1", epoch)
    await journal.open()
    return journal


async def starts(journal: Journal, name: Name) -> bool:
    """Whether a call of the first placement of its job may start."""
    try:
        await journal.begin(name, 1, 1)
    except Fenced:
        return False
    return True


async def test_first_line_says_whose_life_begins_and_is_there_before_open_returns() -> None:
    disk = Disk()
    await life(disk)
    assert orjson.loads(disk.files["e1"]) == {"format": 1, "place": "p1", "epoch": "e1"}


async def test_call_is_known_from_its_begin_and_its_result_until_the_log_has_it() -> None:
    journal = await life(Disk())
    assert journal.find(A) is None
    await journal.begin(A, 1, 1)
    assert journal.find(A) == Entry(over=False, result=None)
    await journal.end(A, ended())
    assert journal.find(A) == Entry(over=True, result=ended())
    journal.settle(A)
    assert journal.find(A) == Entry(over=True, result=None)


async def test_next_life_reads_what_was_begun_what_ended_and_what_was_neither() -> None:
    disk = Disk()
    journal = await life(disk)
    await journal.begin(A, 1, 1)
    await journal.begin(B, 1, 1)
    await journal.end(B, ended(B))
    left = await (await life(disk, "e2")).earlier("e1")
    assert left == {A: Entry(over=False, result=None), B: Entry(over=True, result=ended(B))}


async def test_line_that_was_cut_off_was_never_there() -> None:
    disk = Disk()
    journal = await life(disk)
    await journal.begin(A, 1, 1)
    whole = disk.files["e1"]
    for cut in range(1, len(whole) - whole.index(b"\n")):
        disk.files["e1"] = whole[:-cut]
        assert await Journal(disk, "p1", "e2").earlier("e1") == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"format": 1, "pla',
        b'{"format": 2, "place": "p1", "epoch": "e1"}\n',
        b'{"format": 1, "place": "p1", "epoch": "e9"}\n',
        b'{"format": 1, "place": "p1", "epoch": "e1"}\n{"begin": 7}\n',
        b'{"format": 1, "place": "p1", "epoch": "e1"}\nnonsense\n',
        b'{"format": 1, "place": "p1", "epoch": "e1"}\n{"end": ["a","j","r","c"], "result": {}}\n',
    ],
)
async def test_what_cannot_be_read_proves_nothing(data: bytes) -> None:
    """C16: absence proves "not run" only in a journal that is whole."""
    disk = Disk()
    disk.files["e1"] = data
    assert await Journal(disk, "p1", "e2").earlier("e1") is None


async def test_a_journal_that_is_not_here_or_not_readable_proves_nothing() -> None:
    disk = Disk()
    assert await (await life(disk, "e2")).earlier("e1") is None
    disk.broken = True
    assert await Journal(disk, "p1", "e2").earlier("e2") is None


async def test_what_is_asked_at_the_same_time_shares_one_append() -> None:
    disk = Disk()
    journal = await life(disk)
    disk.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        for index in range(20):
            tasks.create_task(journal.begin(Name(A.ref, f"c{index}-0"), 1, 1))
        await asyncio.sleep(0)
        assert journal.find(Name(A.ref, "c0-0")) is None  # not before it is durable
        disk.gate.set()
    assert disk.appends <= 3
    assert disk.files["e1"].count(b"\n") == 21


async def test_disk_that_does_not_take_it_is_said_and_nothing_is_claimed() -> None:
    disk = Disk()
    journal = await life(disk)
    disk.broken = True
    with pytest.raises(Unavailable, match="journal"):
        await journal.begin(A, 1, 1)
    assert journal.find(A) is None
    disk.broken = False
    await journal.begin(B, 1, 1)
    left = await Journal(disk, "p1", "e2").earlier("e1")
    assert left == dict.fromkeys((A, B), Entry(over=False, result=None))  # A: in doubt, if we die


async def test_begin_that_is_cancelled_while_it_is_written_claims_nothing_in_this_life() -> None:
    disk = Disk()
    journal = await life(disk)
    disk.gate.clear()
    disk.asked.clear()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(journal.begin(A, 1, 1))
        await disk.asked.wait()
        task.cancel()
    assert task.cancelled()
    disk.gate.set()
    await journal.begin(B, 1, 1)
    assert journal.find(A) is None
    assert await Journal(disk, "p1", "e2").earlier("e1") == dict.fromkeys(
        (A, B), Entry(over=False, result=None)
    )


async def test_second_start_in_one_process_looks_at_what_the_first_did() -> None:
    """One process is one epoch: what it forgot with its first worker it must not run again."""
    disk = Disk()
    first = await life(disk)
    assert first.lives(("e0", "e1")) == ("e0",)
    await first.begin(A, 1, 1)
    second = await life(disk)
    assert second.find(A) is None
    assert second.lives(("e0",)) == ("e1", "e0")
    assert await second.earlier("e1") == {A: Entry(over=False, result=None)}
    await second.begin(B, 1, 1)
    left = await Journal(disk, "p1", "e2").earlier("e1")
    assert left is not None
    assert set(left) == {A, B}


async def test_call_whose_line_came_after_the_next_life_had_looked_does_not_start() -> None:
    """A life that was stopped before its line was written, and goes on after it was taken for gone.

    The next one reads a journal without that call, and may run it.
    """
    disk = Disk()
    stopped, after = await life(disk), await life(disk, "e2")
    disk.gate.clear()
    disk.asked.clear()
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(starts(stopped, A))
        await disk.asked.wait()
        await after.take(A.ref, 2)
        assert await after.earlier("e1") == {}
        disk.gate.set()
    assert not late.result()
    assert stopped.find(A) is None
    await after.begin(A, 1, 2)


async def test_call_whose_line_was_there_when_the_next_life_looked_counts_as_begun() -> None:
    disk = Disk()
    await (await life(disk)).begin(A, 1, 1)
    after = await life(disk, "e2")
    await after.take(A.ref, 2)
    assert await after.earlier("e1") == {A: Entry(over=False, result=None)}


async def test_fence_keeps_lower_numbers_of_its_job_out_and_no_others() -> None:
    disk = Disk()
    other, delegate = A.ref._replace(job="j2", run="j2"), A.ref._replace(run="delegate")
    own = A.ref._replace(run="own")
    journal = await life(disk)
    await (await life(disk, "e2")).take(A.ref, 3)
    await (await life(disk, "e3")).take(A.ref, 2)  # it was late: what is fenced off stays so
    await (await life(disk, "e2")).take(own, 7)  # decides for itself alone
    for ref, number in ((A.ref, 2), (delegate, 2), (own, 6)):
        assert await journal.fenced(ref, number)
        with pytest.raises(Fenced):
            await journal.begin(Name(ref, "c1"), 1, number)
    for ref, number in ((A.ref, 3), (A.ref, 4), (delegate, 3), (own, 7), (other, 1)):
        await journal.begin(Name(ref, "c2"), 1, number)
        assert journal.find(Name(ref, "c2")) is not None


async def test_journal_of_a_life_that_went_on_is_read_anew_when_another_job_is_taken_over() -> None:
    disk, later = Disk(), Name(A.ref._replace(job="j2", run="j2"), "c1-0")
    stopped, after = await life(disk), await life(disk, "e2")
    await after.take(A.ref, 2)
    assert await after.earlier("e1") == {}
    await stopped.begin(later, 1, 1)
    assert await after.earlier("e1") == {}  # nobody may ask it of that job yet
    await after.take(later.ref, 2)
    assert await after.earlier("e1") == {later: Entry(over=False, result=None)}


async def test_what_a_power_cut_left_of_a_fence_hides_no_later_line() -> None:
    disk = Disk()
    journal, after = await life(disk), await life(disk, "e2")
    await after.take(A.ref, 2)
    disk.fenced[A.ref.job] = disk.fenced[A.ref.job][:-9]
    assert not await journal.fenced(A.ref, 1)
    await after.take(A.ref, 2)
    assert await journal.fenced(A.ref, 1)


async def test_job_is_not_taken_and_nothing_begins_where_the_fence_is_out_of_reach() -> None:
    disk = Disk()
    journal = await life(disk)
    await journal.take(A.ref, 1)  # nobody was before
    assert disk.fenced == {}
    disk.broken = True
    with pytest.raises(Unavailable, match="fence"):
        await journal.take(A.ref, 2)
    with pytest.raises(Unavailable, match="fence"):
        await journal.fenced(A.ref, 2)
