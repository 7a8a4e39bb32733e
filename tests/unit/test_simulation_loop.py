"""The simulated event loop: virtual time, seeded order, one seed one execution. Not the network."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

from peritus.simulation.loop import (
    DeadlockError,
    RunawayError,
    SimLoop,
    SimulationError,
    UnhandledError,
    run,
)


async def spin(seconds: float = 0) -> None:
    for _ in itertools.repeat(None):
        await asyncio.sleep(seconds)


def test_time_jumps_to_the_next_timer() -> None:
    async def main(loop: SimLoop) -> float:
        await asyncio.sleep(3600)
        return loop.time()

    began = time.monotonic()
    assert run(main, 1) == pytest.approx(3600, abs=0.01)
    assert time.monotonic() - began < 60


def test_timers_fire_in_the_order_of_their_time() -> None:
    async def main(_loop: SimLoop) -> list[int]:
        fired: list[int] = []

        async def wait(seconds: int) -> None:
            await asyncio.sleep(seconds)
            fired.append(seconds)

        async with asyncio.TaskGroup() as tasks:
            for seconds in (5, 1, 4, 2, 3):
                tasks.create_task(wait(seconds))
        return fired

    assert all(run(main, seed) == [1, 2, 3, 4, 5] for seed in range(20))


def test_the_wall_clock_follows_virtual_time() -> None:
    async def main(loop: SimLoop) -> int:
        began = loop.now_ms()
        await asyncio.sleep(1.5)
        return loop.now_ms() - began

    assert run(main, 1) == 1500


def test_what_is_ready_together_runs_in_an_order_that_the_seed_decides() -> None:
    async def main(_loop: SimLoop) -> tuple[int, ...]:
        order: list[int] = []

        async def step(i: int) -> None:
            order.append(i)

        async with asyncio.TaskGroup() as tasks:
            for i in range(4):
                tasks.create_task(step(i))
        return tuple(order)

    orders = {run(main, seed) for seed in range(300)}
    assert len(orders) == 24
    assert run(main, 7) == run(main, 7)


def test_waiting_for_what_never_happens_is_an_error_that_names_who_waits() -> None:
    async def main(loop: SimLoop) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.Event().wait(), name="the forgotten one")
            await loop.create_future()

    with pytest.raises(DeadlockError, match=r"the forgotten one: Event\.wait"):
        run(main, 1)


def test_a_loop_without_end_is_an_error() -> None:
    async def main(_loop: SimLoop) -> None:
        await spin()

    with pytest.raises(RunawayError, match="callbacks"):
        run(main, 1, callbacks_max=10_000)


def test_a_wait_without_end_is_an_error() -> None:
    async def main(_loop: SimLoop) -> None:
        await spin(60)

    with pytest.raises(RunawayError, match="virtual seconds"):
        run(main, 1, virtual_s_max=3600)


def test_a_busy_loop_does_not_stop_time() -> None:
    async def main(_loop: SimLoop) -> None:
        async with asyncio.timeout(0.01):
            await spin()

    with pytest.raises(TimeoutError):
        run(main, 1)


def test_a_failing_callback_ends_the_run() -> None:
    async def main(loop: SimLoop) -> None:
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(UnhandledError) as failed:
        run(main, 1)
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


def test_the_failure_of_the_main_coroutine_is_raised_as_it_is() -> None:
    async def main(_loop: SimLoop) -> None:
        await asyncio.sleep(1)
        raise LookupError

    with pytest.raises(LookupError):
        run(main, 1)


def test_threads_run_inline() -> None:
    async def main(loop: SimLoop) -> list[int]:
        found = [await asyncio.to_thread(max, 1, 2)]
        found.append(await loop.run_in_executor(None, min, 1, 2))
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return found

    assert run(main, 1) == [2, 1]


def test_tasks_that_are_left_are_cancelled_at_the_end() -> None:
    ended: list[str] = []

    async def linger(name: str) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1)
            ended.append(name)

    async def main(loop: SimLoop) -> None:
        tasks = [loop.create_task(linger(name)) for name in ("a", "b")]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in tasks)

    run(main, 1)
    assert sorted(ended) == ["a", "b"]


def test_abandoned_generators_are_closed() -> None:
    closed: list[int] = []

    async def numbers(limit: int) -> AsyncGenerator[int]:
        try:
            for i in range(limit):
                yield i
        finally:
            await asyncio.sleep(0)
            closed.append(limit)

    async def main(_loop: SimLoop) -> None:
        async for i in numbers(5):
            if i == 2:
                break
        async for i in numbers(6):
            if i == 2:
                break

    run(main, 1)
    assert sorted(closed) == [5, 6]


def test_asyncios_own_tools_work() -> None:
    async def main(_loop: SimLoop) -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(2)
        lock, barrier, full = asyncio.Lock(), asyncio.Barrier(3), asyncio.Event()
        taken: list[int] = []

        async def put() -> None:
            for i in range(10):
                await queue.put(i)

        async def take() -> None:
            while True:
                async with lock:
                    taken.append(await queue.get())
                queue.task_done()
                if len(taken) == 10:
                    full.set()

        async with asyncio.TaskGroup() as tasks:
            takers = [tasks.create_task(take()) for _ in range(3)]
            tasks.create_task(put())
            for _ in range(2):
                tasks.create_task(barrier.wait())
            await barrier.wait()
            await full.wait()
            await queue.join()
            for taker in takers:
                taker.cancel()
        done, pending = await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=1)
        assert (len(done), len(pending)) == (0, 1)
        return taken

    assert run(main, 3) == list(range(10))


def test_cancelled_timers_are_swept_out() -> None:
    async def main(_loop: SimLoop) -> None:
        for _ in range(5000):
            async with asyncio.timeout(10_000):
                await asyncio.sleep(0)

    loop = SimLoop(1)
    loop.run_until_complete(main(loop))
    assert loop.timers < 1000
    loop.close()


def test_another_threads_call_is_refused() -> None:
    refused: list[str] = []

    def call(loop: SimLoop) -> None:
        try:
            loop.call_soon_threadsafe(print)
        except SimulationError as error:
            refused.append(str(error))

    async def main(loop: SimLoop) -> None:
        thread = threading.Thread(target=call, args=(loop,))
        thread.start()
        thread.join()

    run(main, 1)
    assert len(refused) == 1


def digest_of(seed: int, main: Callable[[SimLoop], Coroutine[Any, Any, object]]) -> str:
    loop = SimLoop(seed, trace=True)
    loop.run_until_complete(main(loop))
    try:
        return loop.digest()
    finally:
        loop.close()


async def sibling(i: int) -> None:
    try:
        await asyncio.sleep(10)
    finally:
        await asyncio.sleep(0.001 * (i % 3))


async def fail() -> None:
    await asyncio.sleep(0.5)
    raise LookupError


async def fail_together() -> None:
    async with asyncio.TaskGroup() as tasks:
        for i in range(40):
            tasks.create_task(sibling(i))
        tasks.create_task(fail())


async def untidy(loop: SimLoop) -> None:
    """What asyncio keeps in sets: cancelled siblings, waits for many futures."""
    for _ in range(3):
        with pytest.raises(ExceptionGroup):
            await fail_together()
    futures = [loop.create_future() for _ in range(40)]
    for i, future in enumerate(futures):
        loop.call_later(0.01 * (i % 5), future.set_result, None)
    while futures:
        done, pending = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            loop.call_soon(future.result)
        futures = list(pending)
    lingering = {loop.create_task(sibling(i)) for i in range(40)}
    await asyncio.sleep(0.1)
    for task in lingering:
        loop.call_soon(task.cancel)
    await asyncio.wait(lingering)


def test_one_seed_is_one_execution() -> None:
    assert digest_of(5, untidy) == digest_of(5, untidy)
    assert digest_of(5, untidy) != digest_of(6, untidy)


def test_one_seed_is_one_execution_in_every_process() -> None:
    program = (
        "from tests.unit.test_simulation_loop import digest_of, untidy; import json;"
        "from tests.unit.test_simulation_network import stormy;"
        "print(json.dumps([digest_of(s, m) for m in (untidy, stormy) for s in (1, 2)]))"
    )
    digests = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for hash_seed in ("1", "2", "777")
    ]
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[0])) == 4
