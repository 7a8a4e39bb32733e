"""What a provider turned away holds all workers, and nobody else (C13). Not quotas."""

import asyncio

import pytest

from domain.limits import ModelChoice, Usage
from domain.rate import CALM_MS, Quota
from eventlog.memory import Fault, FaultPoint, Kind
from services.loop.limiter import PREEMPT_MAX_MS, Limiter
from services.loop.limiter_notes import FRESH_S, LOOK_S
from services.loop.models.port import FailureKind, ModelFailure, RateSign, RateSigns
from tests.support.limiters import (
    CLAUDE,
    LIMITS,
    SCRIPT,
    Weather,
    World,
    patient,
    simulate,
)


def test_where_nothing_is_limited_a_call_asks_nobody() -> None:
    async def main(world: World) -> None:
        weather = Weather()
        async with world.worker("a", weather) as limiter:
            weather.seen.clear()
            began_s = world.loop.time()
            for _ in range(1_000):
                await world.call(limiter)
            assert world.loop.time() - began_s < LOOK_S / 2
            assert [weather.seen[point] for point in LIMITS] == [0, 0]
        assert world.server.limits.notes == {}

    simulate(main)


@pytest.mark.parametrize("kind", ["rate_limited", "overloaded"])
def test_a_pause_asked_of_one_worker_holds_all_of_them(kind: FailureKind) -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as one, world.worker("b") as two:
            end_s = await world.turned_away(one, 20_000, kind)
            await asyncio.sleep(0.01)
            for limiter in (one, two):
                with pytest.raises(ModelFailure) as caught:
                    await world.call(limiter)
                assert caught.value.kind == "held_back"
                assert caught.value.usage == Usage()
                assert (caught.value.retry_after_ms or 0) >= 19_980
            async with asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(patient(world, one)) for _ in range(5)]
                calls += [tasks.create_task(patient(world, two)) for _ in range(5)]
            times = sorted(call.result() for call in calls)
            assert times[0] >= end_s
            assert len({round(time, 3) for time in times}) > 5  # they do not all wake at once

    simulate(main)


def test_a_worker_holds_itself_before_anybody_has_stored_anything() -> None:
    async def main(world: World) -> None:
        weather = Weather()
        async with world.worker("a", weather) as limiter:
            weather.cut()
            await world.turned_away(limiter)
            with pytest.raises(ModelFailure):
                await world.call(limiter)

    simulate(main)


def test_a_short_hold_is_waited_out_and_a_long_one_is_given_back() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter:
            end_s = await world.turned_away(limiter, 3_000)
            assert end_s <= await world.call(limiter) < end_s + 1
            await world.turned_away(limiter, 6_000)
            before_s = world.loop.time()
            with pytest.raises(ModelFailure):
                await world.call(limiter)
            assert world.loop.time() - before_s < 0.1
            with pytest.raises(ModelFailure):
                await world.call(limiter, asked=world.ask(within_ms=100))

    simulate(main)


def test_other_models_and_accounts_are_not_held() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter:
            await world.turned_away(limiter)
            other = ModelChoice(provider="anthropic", model="another")
            elsewhere = CLAUDE.model_copy(update={"base_url": "https://proxy.example"})
            for model in (other, elsewhere, ModelChoice(provider="openai", model="claude")):
                await world.call(limiter, asked=world.ask(model))

    simulate(main)


@pytest.mark.parametrize("lost", ["on its way", "for the listener"])
def test_a_hold_that_was_not_heard_is_read_before_a_call_begins_much_later(lost: str) -> None:
    async def main(world: World) -> None:
        deaf = Weather({FaultPoint.LIMIT_DELIVER: Fault(Kind.DROP)})
        if lost == "on its way":
            deaf.faults[FaultPoint.LIMIT_READ] = Fault(Kind.REFUSE)
        async with world.worker("a") as one, world.worker("b", deaf) as two:
            deaf.faults.pop(FaultPoint.LIMIT_READ, None)
            await world.call(two)
            deaf.faults[FaultPoint.LIMIT_READ] = Fault(delay_s=0.5)
            end_s = await world.turned_away(one, 60_000)
            await asyncio.sleep(FRESH_S)
            assert await patient(world, two) >= end_s

    simulate(main)


def test_while_the_limits_cannot_be_read_no_call_begins_on_old_news() -> None:
    async def main(world: World) -> None:
        weather = Weather()
        async with world.worker("a", weather) as limiter:
            weather.cut()
            await asyncio.sleep(1)
            await world.call(limiter)  # what was read a moment ago still counts
            await asyncio.sleep(FRESH_S)
            with pytest.raises(ModelFailure, match="not known now") as caught:
                await world.call(limiter)
            assert caught.value.retryable
            weather.mend()
            await asyncio.sleep(LOOK_S + 3)
            await world.call(limiter)

    simulate(main)


def test_a_hold_outlives_the_server_that_kept_it() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as one:
            end_s = await world.turned_away(one, 60_000)
            await asyncio.sleep(0.1)
            assert world.rate.held_until_ms
            world.server.restart()
            assert world.server.limits.notes == {}
            await asyncio.sleep(1)
            assert world.rate.held_until_ms
            async with world.worker("b") as two:
                assert await patient(world, two) >= end_s

    simulate(main)


def test_what_a_server_forgot_is_told_again_over_what_a_newcomer_noted() -> None:
    async def main(world: World) -> None:
        away = Weather()
        async with world.worker("a", away) as one:
            await world.turned_away(one, 120_000)
            await asyncio.sleep(0.1)
            held_until_ms = world.rate.held_until_ms
            away.cut()
            world.server.restart()
            async with world.worker("b") as two:
                await world.turned_away(two, 50)
                await asyncio.sleep(1)
                assert world.rate.held_until_ms < held_until_ms
                away.mend()
                await asyncio.sleep(LOOK_S + 3)
                assert world.rate.held_until_ms == held_until_ms
                with pytest.raises(ModelFailure):
                    await world.call(two)

    simulate(main)


def test_half_as_many_calls_at_once_begin_after_a_refusal() -> None:
    async def main(world: World) -> None:
        at_once: list[int] = []
        async with world.worker("a") as one, world.worker("b") as two:

            async def count(limiter: Limiter) -> None:
                await world.call(limiter, took_s=1)
                at_once.append(sum(world.rate.in_flight.values()))

            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(world.call(two, took_s=0.5))
                    tasks.create_task(world.call(one, took_s=0.5))
                await asyncio.sleep(0.1)
                tasks.create_task(world.turned_away(one, 1_000))
            await asyncio.sleep(1)
            assert world.rate.in_flight == {}
            bound = int(world.rate.bound or 0)
            assert bound == 2  # four of the worker that was turned away were known then
            async with asyncio.TaskGroup() as tasks:
                for limiter in (one, two):
                    tasks.create_task(count(limiter))
                await asyncio.sleep(0.5)
                with pytest.raises(ModelFailure, match="at once"):
                    await world.call(one, asked=world.ask(within_ms=10))
            assert max(at_once) <= bound

    simulate(main)


def test_good_replies_raise_the_bound_and_a_calm_while_lifts_it() -> None:
    async def main(world: World) -> None:
        weather = Weather()
        async with world.worker("a", weather) as limiter:
            await world.turned_away(limiter, 100)
            await asyncio.sleep(1)
            for expected in (1.0, 2.0, 2.5):
                await asyncio.sleep(0.1)
                assert world.rate.bound == expected
                await world.call(limiter)
            await asyncio.sleep(CALM_MS / 1000)
            await world.call(limiter)
            await asyncio.sleep(1)
            noted = weather.seen[FaultPoint.LIMIT_NOTE]
            for _ in range(50):
                await world.call(limiter)
            await asyncio.sleep(1)
            assert weather.seen[FaultPoint.LIMIT_NOTE] == noted

    simulate(main)


@pytest.mark.parametrize(
    ("signs", "hold_s"),
    [
        (RateSigns(requests=RateSign(0, 50, 12_000)), 12.0),
        (RateSigns(tokens=RateSign(0, None, 9_000), requests=RateSign(5, 50, 30_000)), 9.0),
        (RateSigns(input_tokens=RateSign(0, 1, 9_000), output_tokens=RateSign(-1, 1, 11_000)), 11),
        (RateSigns(requests=RateSign(0, 200, 86_000_000)), PREEMPT_MAX_MS / 1000),
        (RateSigns(requests=RateSign(1, 50, 12_000)), 0.0),
        (RateSigns(requests=RateSign(0, 50, None)), 0.0),
        (RateSigns(), 0.0),
        (None, 0.0),
    ],
)
def test_a_provider_that_says_that_nothing_is_left_is_left_alone(
    signs: RateSigns | None, hold_s: float
) -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as one, world.worker("b") as two:
            began_s = await world.call(one, limits=signs)
            await asyncio.sleep(0.05)
            again_s = await patient(world, two)
            assert began_s + hold_s <= again_s < began_s + hold_s * 1.13 + 0.6

    simulate(main)


def test_what_a_refusal_says_of_the_limits_is_its_pause_when_it_names_none() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter:
            began_s = world.loop.time()
            signs = RateSigns(requests=RateSign(0, 50, 12_000))
            await world.turned_away(limiter, None, limits=signs)
            assert await patient(world, limiter) >= began_s + 12

    simulate(main)


def test_failures_that_are_no_refusals_hold_nobody() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter:
            for kind in ("server", "network", "timeout", "rejected", "auth"):
                with pytest.raises(ModelFailure, match="no"):
                    await world.call(limiter, fails=ModelFailure(kind, "no", retry_after_ms=9_000))
                await world.call(limiter)
        assert world.server.limits.notes == {}

    simulate(main)


def test_a_script_is_limited_only_when_its_limits_are_set() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter:
            failure = ModelFailure("rate_limited", "no", retry_after_ms=50_000)
            with pytest.raises(ModelFailure, match="no"):
                await world.call(limiter, fails=failure, asked=world.ask(SCRIPT))
            await world.call(limiter, asked=world.ask(SCRIPT))
            world.quotas["scripted"] = Quota()
            with pytest.raises(ModelFailure, match="no"):
                await world.call(limiter, fails=failure, asked=world.ask(SCRIPT))
            with pytest.raises(ModelFailure, match="pause"):
                await world.call(limiter, asked=world.ask(SCRIPT))

    simulate(main)


def test_a_note_that_nobody_can_read_limits_nobody_and_is_written_over() -> None:
    async def main(world: World) -> None:
        async with world.worker("a") as limiter:
            await world.turned_away(limiter, 100)
            await asyncio.sleep(1)
            (scope,) = world.server.limits.notes
            world.server.limits.note(scope, b"[]", world.server.limits.notes[scope].revision)
            await asyncio.sleep(1)
            await world.turned_away(limiter, 30_000)
            await asyncio.sleep(0.1)
            assert world.rate.held_until_ms

    simulate(main)
