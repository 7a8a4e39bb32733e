"""The gate of a room: many writers, or one that looks; and the memory of who changed what."""

import asyncio
from collections.abc import Callable

import pytest

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
