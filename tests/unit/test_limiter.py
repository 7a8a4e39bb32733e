"""Workers that share the limits of a provider, in virtual time over the in-memory form (C13)."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from domain.content import TextPart
from domain.ids import RunRef
from domain.limits import ModelChoice, Usage
from domain.rate import CALM_MS, SETTLE_MS, Quota, Rate
from eventlog.memory import Client, Crashed, Fault, FaultPoint, Kind, MemoryServer
from peritus.simulation.loop import SimLoop, run
from services.loop.limiter import PREEMPT_MAX_MS, WAIT_MAX_MS, Asked, Limiter, Permit
from services.loop.limiter_notes import FRESH_S, LOOK_S
from services.loop.models.port import FailureKind, ModelFailure, ModelReply, RateSign, RateSigns

CLAUDE = ModelChoice(provider="anthropic", model="claude")
SCRIPT = ModelChoice(provider="scripted", model="script")
LIMITS = (FaultPoint.LIMIT_NOTE, FaultPoint.LIMIT_READ)


@dataclass
class Weather:
    """Faults by point until further notice; counts what passes."""

    faults: dict[FaultPoint, Fault] = field(default_factory=dict[FaultPoint, Fault])
    seen: Counter[FaultPoint] = field(default_factory=Counter[FaultPoint])

    def at(self, point: FaultPoint) -> Fault:
        self.seen[point] += 1
        return self.faults.get(point, Fault())

    def cut(self) -> None:
        self.faults = dict.fromkeys(FaultPoint, Fault(Kind.DROP))

    def mend(self) -> None:
        self.faults = {}


@dataclass
class World:
    """One server, and limiters that come and go."""

    loop: SimLoop
    server: MemoryServer
    quotas: dict[str, Quota] = field(default_factory=dict[str, Quota])
    ended: set[str] = field(default_factory=set[str])
    asked: int = 0
    clients: dict[str, Client] = field(default_factory=dict[str, Client])

    @asynccontextmanager
    async def worker(self, epoch: str, weather: Weather | None = None) -> AsyncGenerator[Limiter]:
        client = self.server.client(faults=weather or Weather())
        self.clients[epoch] = client
        limits = self.server.ports(client).limits
        limiter = Limiter(limits, epoch, self.loop.now_ms, self.ended.__contains__, self.quotas)
        try:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(limiter.run())
                await asyncio.sleep(0.1)
                try:
                    yield limiter
                finally:
                    task.cancel()
        except* Crashed:
            assert client.dead

    def ask(
        self, model: ModelChoice = CLAUDE, tokens: int = 0, within_ms: int = WAIT_MAX_MS
    ) -> Asked:
        self.asked += 1
        ref = RunRef("acme", "job", f"run{self.asked}")
        return Asked(ref, 1, 1, model, tokens, within_ms)

    @property
    def rate(self) -> Rate:
        """What is noted of the only scope."""
        (noted,) = self.server.limits.notes.values()
        return Rate.model_validate_json(noted.data)

    async def call(
        self,
        limiter: Limiter,
        *,
        took_s: float = 0.0,
        fails: ModelFailure | None = None,
        limits: RateSigns | None = None,
        usage: Usage | None = None,
        asked: Asked | None = None,
    ) -> float:
        """One call to its end; when it began."""
        with await limiter.permit(asked or self.ask()) as permit:
            began_s = self.loop.time()
            await asyncio.sleep(took_s)
            if fails is not None:
                raise fails
            permit.replied(ModelReply((TextPart(text="x"),), "end", usage, limits=limits))
        return began_s

    async def turned_away(
        self,
        limiter: Limiter,
        retry_after_ms: int | None = 20_000,
        kind: FailureKind = "rate_limited",
        limits: RateSigns | None = None,
    ) -> float:
        """A call that the provider does not take; when the hold ends if it said how long."""
        failure = ModelFailure(kind, "no", 429, retry_after_ms, limits=limits)
        with pytest.raises(ModelFailure, match="no"):
            await self.call(limiter, fails=failure)
        return self.loop.time() + (retry_after_ms or 0) / 1000


def simulate(
    main: Callable[[World], Coroutine[Any, Any, None]], quotas: dict[str, Quota] | None = None
) -> None:
    async def begin(loop: SimLoop) -> None:
        await main(World(loop, MemoryServer(now_ms=loop.now_ms), quotas or {}))

    run(begin, 1)


async def patient(world: World, limiter: Limiter, asked: Asked | None = None) -> float:
    """A call that comes again when it was told to, as its run has it do; when it began."""
    with await patient_permit(world, limiter, asked) as permit:
        permit.replied(ModelReply((), "end", None))
        return world.loop.time()


async def patient_permit(world: World, limiter: Limiter, asked: Asked | None = None) -> Permit:
    asked = asked or world.ask()
    while True:
        try:
            return await limiter.permit(asked)
        except ModelFailure as refusal:
            failure = refusal
        assert (failure.kind, failure.retryable) == ("rate_limited", True)
        assert failure.usage == Usage()
        assert failure.retry_after_ms is not None
        await asyncio.sleep(failure.retry_after_ms / 1000)


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
                assert caught.value.kind == "rate_limited"
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
