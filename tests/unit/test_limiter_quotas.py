"""What an operator allows is counted over all workers (C13). Not refusals of a provider."""

import asyncio

import pytest

from domain.limits import Usage
from domain.rate import SETTLE_MS, Quota
from eventlog.memory import Fault, FaultPoint, Kind
from services.loop.limiter import Limiter
from services.loop.models.port import ModelFailure, ModelReply
from tests.support.limiters import (
    Weather,
    World,
    patient,
    patient_permit,
    simulate,
)


def test_no_more_than_the_quota_are_at_work_whatever_is_lost_between_workers() -> None:
    async def main(world: World) -> None:
        most, now = 0, 0

        async def work(limiter: Limiter) -> None:
            nonlocal most, now
            with await patient_permit(world, limiter) as permit:
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.3)
                now -= 1
                permit.replied(ModelReply((), "end", None))

        doubtful = Weather(
            {
                FaultPoint.LIMIT_NOTE: Fault(delay_s=0.01, answer_s=0.01),
                FaultPoint.LIMIT_DELIVER: Fault(Kind.DROP),
            }
        )
        async with (
            world.worker("a") as one,
            world.worker("b", doubtful) as two,
            world.worker("c", Weather({FaultPoint.LIMIT_NOTE: Fault(delay_s=0.05)})) as three,
            asyncio.TaskGroup() as tasks,
        ):
            for limiter in (one, two, three):
                for _ in range(12):
                    tasks.create_task(work(limiter))
        assert most == 3
        assert world.rate.in_flight == {}

    simulate(main, {"anthropic": Quota(concurrency=3)})


def test_a_fresh_start_begins_with_one_call() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter, asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(world.call(limiter, took_s=60)) for _ in range(3)]
            await asyncio.sleep(SETTLE_MS / 1000 / 2)
            assert world.rate.in_flight == {"a": 1}
            await asyncio.sleep(SETTLE_MS / 1000)
            assert world.rate.in_flight == {"a": 3}
            for call in calls:
                call.cancel()

    simulate(main, {"anthropic": Quota(concurrency=8)})


def test_what_a_dead_worker_had_in_flight_is_free_when_it_is_known_to_be_dead() -> None:
    async def main(world: World) -> None:
        async with world.worker("b") as other:
            async with world.worker("a") as one:
                await one.permit(world.ask())
                world.clients["a"].crash()
            await asyncio.sleep(1)
            assert world.rate.in_flight == {"a": 1}
            with pytest.raises(ModelFailure, match="at once"):
                await world.call(other)
            world.ended.add("a")
            await world.call(other)
            await asyncio.sleep(1)
            assert world.rate.in_flight == {}

    simulate(main, {"anthropic": Quota(concurrency=1)})


def test_a_worker_that_ends_leaves_nothing_in_flight() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as one:
            await one.permit(world.ask())
            assert world.rate.in_flight == {"a": 1}
        assert world.rate.in_flight == {}

    simulate(main, {"anthropic": Quota(concurrency=1)})


@pytest.mark.parametrize("when", ["waiting for a turn", "waiting for an end", "asking"])
def test_a_call_that_is_cancelled_takes_no_place(when: str) -> None:
    async def main(world: World) -> None:
        slow = Weather()
        async with world.worker("a", slow) as limiter, asyncio.TaskGroup() as tasks:
            if when == "waiting for an end":
                await world.turned_away(limiter, 4_000)
            holder = None
            if when == "waiting for a turn":
                holder = tasks.create_task(world.call(limiter, took_s=4))
                await asyncio.sleep(0.1)
            if when == "asking":
                slow.faults[FaultPoint.LIMIT_NOTE] = Fault(delay_s=0.4, answer_s=0.4)
            waiting = tasks.create_task(world.call(limiter, took_s=60))
            await asyncio.sleep(0.5)
            waiting.cancel()
            slow.mend()
            await asyncio.sleep(2)
            if holder is not None:
                assert world.rate.in_flight == {"a": 1}
                await holder
                await asyncio.sleep(1)
            assert world.rate.in_flight == {}
            await patient(world, limiter)

    simulate(main, {"anthropic": Quota(concurrency=1)})


def test_requests_of_a_minute_are_counted_over_all_workers() -> None:
    async def main(world: World) -> None:
        async with (
            world.worker("a") as one,
            world.worker("b") as two,
            asyncio.TaskGroup() as tasks,
        ):
            calls = [tasks.create_task(patient(world, limiter)) for limiter in (one, two) * 45]
        times = sorted(call.result() for call in calls)
        for index, start in enumerate(times):
            assert sum(time < start + 60 for time in times[index:]) <= 30
        assert times[-1] - times[0] < 240  # 90 calls at 30 a minute

    simulate(main, {"anthropic": Quota(requests_per_min=30)})


def test_after_a_server_restart_no_second_helping_is_given() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as one:
            await world.call(one)
            await asyncio.sleep(30)
            for _ in range(3):
                await world.call(one)  # three at once of 60 a minute
            world.server.restart()
            await asyncio.sleep(0.2)
            begun_s = world.loop.time()
            async with world.worker("b") as two:
                times = [await patient(world, two) for _ in range(3)]
            assert times[0] > begun_s
            assert times[2] - begun_s > 2

    simulate(main, {"anthropic": Quota(requests_per_min=60)})


def test_tokens_count_as_used_and_in_full_when_nobody_says() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter:
            await world.call(
                limiter, asked=world.ask(tokens=60_000), usage=Usage(input=10_000, output=5_000)
            )
            await world.call(limiter, asked=world.ask(tokens=45_000), usage=Usage(input=45_000))
            before_s = world.loop.time()
            await patient(world, limiter, world.ask(tokens=10_000))  # nobody says what it used
            await patient(world, limiter, world.ask(tokens=10_000))
            assert world.loop.time() - before_s > 19
            with pytest.raises(ModelFailure, match="tokens a minute"):
                await world.call(limiter, asked=world.ask(tokens=10_000))

    simulate(main, {"anthropic": Quota(tokens_per_min=60_000)})


def test_a_call_that_was_not_made_is_given_back_whole() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter:
            for _ in range(5):
                with await limiter.permit(world.ask(tokens=500)) as permit:
                    permit.unused()
            await world.call(limiter)
            with pytest.raises(ModelFailure):
                await world.call(limiter)

    simulate(main, {"anthropic": Quota(requests_per_min=1, tokens_per_min=500)})
