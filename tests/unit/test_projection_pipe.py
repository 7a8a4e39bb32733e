"""The hand-over between two tasks: bounded, in order, closed once. Not its users."""

import asyncio

import pytest

from projections.pipe import Pipe

pytestmark = pytest.mark.anyio


async def test_what_is_ready_is_taken_at_once_in_order() -> None:
    pipe: Pipe[int] = Pipe(10)
    for item in range(5):
        await pipe.put(item)
    assert await pipe.take(3) == [0, 1, 2]
    assert await pipe.take(3) == [3, 4]


async def test_a_full_pipe_makes_the_giver_wait_and_an_offer_is_dropped() -> None:
    pipe: Pipe[int] = Pipe(1)
    await pipe.put(1)
    await pipe.offer(99)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(pipe.put(2))
        assert not waiting.done()
        assert await pipe.take(9) == [1]
        assert await pipe.take(9) == [2]


async def test_a_closed_pipe_is_drained_and_then_empty() -> None:
    pipe: Pipe[int] = Pipe(2)
    await pipe.put(1)
    await pipe.close()
    await pipe.put(2)
    assert await pipe.take(9) == [1]
    assert await pipe.take(9) == []


async def test_closing_frees_whoever_waits() -> None:
    full: Pipe[int] = Pipe(1)
    await full.put(1)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(full.put(2))
        empty: Pipe[int] = Pipe(1)
        taker = tasks.create_task(empty.take(1))
        await asyncio.sleep(0)
        await full.close()
        await empty.close()
    assert taker.result() == []
