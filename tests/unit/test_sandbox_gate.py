"""The gate of a room: many writers, or one that looks; and the memory of who changed what."""

import asyncio
from collections.abc import Callable

import pytest

from domain.ids import RunRef
from services.sandbox.due import Due
from services.sandbox.room import Gate
from services.sandbox.seen import Seen, Stamp

pytestmark = pytest.mark.anyio


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - bounded by the timeout around it
        await asyncio.sleep(0)


async def test_writers_go_side_by_side() -> None:
    gate = Gate()
    async with gate.writing(), gate.writing():
        pass


async def test_who_looks_waits_for_writers_and_goes_before_those_that_come_later() -> None:
    gate, order = Gate(), list[str]()
    first_out = asyncio.Event()

    async def first() -> None:
        async with gate.writing():
            await first_out.wait()
            order.append("first")

    async def look() -> None:
        async with gate.looking(patience_s=10) as alone:
            order.append(f"look {alone}")

    async def late() -> None:
        async with gate.writing():
            order.append("late")

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(first())
        await until(lambda: gate._writers == 1)  # pyright: ignore[reportPrivateUsage]
        tasks.create_task(look())
        await until(lambda: gate._looking == 1)  # pyright: ignore[reportPrivateUsage]
        tasks.create_task(late())
        for _ in range(10):
            await asyncio.sleep(0)
        first_out.set()
    assert order == ["first", "look True", "late"]


async def test_patience_ends_and_says_so() -> None:
    gate = Gate()
    async with gate.writing(), gate.looking(patience_s=0) as alone:
        assert not alone


async def test_a_writer_that_is_cancelled_leaves_the_gate_open() -> None:
    gate = Gate()

    async def write() -> None:
        async with gate.writing():
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(write())
        await asyncio.sleep(0)
        task.cancel()
    async with gate.looking(patience_s=1) as alone:
        assert alone


OLD, NEW = Stamp(1, 1, 1, 1), Stamp(1, 2, 2, 2)


def test_an_unseen_change_of_another_run_is_a_conflict_until_it_is_read() -> None:
    seen = Seen()
    seen.look("a", "f", OLD)
    seen.change("b", "f", NEW)
    assert seen.conflict("a", "f", NEW) == "b"
    seen.look("a", "f", NEW)
    assert seen.conflict("a", "f", NEW) is None


def test_own_changes_and_those_of_nobody_known_are_no_conflict() -> None:
    seen = Seen()
    seen.change("a", "f", OLD)
    assert seen.conflict("a", "f", OLD) is None
    assert seen.conflict("b", "f", NEW) is None  # a command changed it since: nobody to name


JOB = RunRef("acme", "job", "job")
CHILD = JOB._replace(run="child")
APART = JOB._replace(run="apart")


@pytest.mark.parametrize(
    ("owed", "writer", "waits"),
    [
        (JOB, JOB, True),
        (JOB, CHILD, True),
        (CHILD, JOB, True),
        (JOB, APART, False),
        (APART, JOB, False),
        (APART, APART, True),
        (JOB._replace(job="other"), JOB, False),
        (JOB._replace(tenant="other"), JOB, False),
    ],
)
async def test_who_writes_waits_for_snapshots_of_its_own_workspace_only(
    owed: RunRef,
    writer: RunRef,
    waits: bool,  # noqa: FBT001 - a column
) -> None:
    due, wrote = Due(lambda ref: ref == APART), asyncio.Event()

    async def write() -> None:
        await due.over(writer)
        wrote.set()

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        with due.begun(owed, 1):
            tasks.create_task(write())
            await until(lambda: wrote.is_set() or due.waiting > 0)
            assert due.waiting == waits
            due.captured(owed, 1)
            await wrote.wait()


async def test_nobody_waits_for_a_snapshot_that_failed_or_that_was_begun_later() -> None:
    due, late = Due(lambda _: False), asyncio.Event()
    with pytest.raises(OSError, match="away"), due.begun(JOB, 1):
        raise OSError(5, "away")
    await due.over(JOB)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        with due.begun(JOB, 2):
            waiting = tasks.create_task(due.over(JOB))
            await until(lambda: due.waiting == 1)
            with due.begun(CHILD, 1):
                due.captured(JOB, 2)
                await waiting
                late.set()
    assert late.is_set()
