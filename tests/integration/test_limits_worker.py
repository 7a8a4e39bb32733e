"""What becomes of runs whose calls have to wait for the limits all workers share (C13).

Whole workers over the in-memory form; that they wait rightly is shown elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from commands.reconcile_run import abandon_holder
from domain.commands import AbandonHolder, CancelRun
from domain.content import TextPart
from domain.events import GenerationFailed, GenerationRequested
from domain.ids import RunRef
from domain.limits import Limits, Usage
from domain.prompt import ModelRequest
from domain.rate import Quota, Rate
from services.loop.models.port import Delta, ModelFailure, ModelReply
from tests.support.cluster import REF, Cluster, experts

pytestmark = pytest.mark.anyio

OTHER = RunRef("acme", "job2", "other")
BOUND_S = 20.0
Generate = Callable[[ModelRequest, Callable[[Delta], Awaitable[None]]], Awaitable[ModelReply]]


@dataclass
class Gate:
    """A model that answers when it is told to, and counts who asks."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list[str])
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        del on_delta
        self.asked.append(request.digest)
        self.came.set()
        await self.open.wait()
        return ModelReply((TextPart(text="done"),), "end", Usage(input=1, output=1))


def one_at_once(gate: Gate) -> Cluster:
    return Cluster(experts(), gate.generate, quotas={"scripted": Quota(concurrency=1)})


async def in_flight(cluster: Cluster, expected: dict[str, int]) -> None:
    """Until that is noted of calls in flight."""
    async with asyncio.timeout(BOUND_S), cluster.outside.limits.watch() as notes:
        async for _ in notes:
            found = [noted.data for noted in (await cluster.outside.limits.all()).values()]
            if [Rate.model_validate_json(data).in_flight for data in found] == [expected]:
                return


async def waiting(cluster: Cluster, ref: RunRef, attempt: int = 1) -> None:
    """Until an attempt of a run is asked for: it then waits for its turn."""
    await cluster.until(
        lambda state: state.generation is not None and state.generation.attempt >= attempt, ref
    )


def turned_away(times: int, retry_after_ms: int) -> tuple[Generate, list[str]]:
    """A model that turns the first calls away and answers the rest; and what it was sent."""
    asked: list[str] = []

    async def generate(
        request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        del on_delta
        asked.append(request.digest)
        if len(asked) <= times:
            raise ModelFailure("rate_limited", "slow down", 429, retry_after_ms)
        return ModelReply((TextPart(text="done"),), "end", Usage(input=1, output=1))

    return generate, asked


async def failures(cluster: Cluster, ref: RunRef) -> list[GenerationFailed]:
    return [one for one in await cluster.events(ref) if isinstance(one, GenerationFailed)]


async def test_c13_refusals_do_not_use_up_the_attempts_and_cost_nothing() -> None:
    limits = Limits(generation_attempts_max=2, retry_base_ms=1, retry_max_ms=1)
    model, asked = turned_away(9, retry_after_ms=1)
    cluster = Cluster(experts(limits=limits), model, quotas={"scripted": Quota()})
    async with cluster.worker("w1"):
        await cluster.start()
        state = await cluster.rest()
    assert state.result == "done"
    assert len(asked) == 10
    assert state.tokens_charged == 2
    failed = await failures(cluster, REF)
    assert len(failed) >= 9
    assert {(event.failure.kind, event.charged) for event in failed} == {("rate_limited", 0)}


async def test_c13_a_call_that_has_to_wait_for_long_is_given_back_and_asked_for_again() -> None:
    # A call waits for half of its own time at most: here for 100 ms of a pause of 1 s.
    limits = Limits(generation_timeout_ms=200, retry_base_ms=1, retry_max_ms=1)
    model, asked = turned_away(1, retry_after_ms=1_000)
    cluster = Cluster(experts(limits=limits), model, quotas={"scripted": Quota()})
    async with cluster.worker("w1"):
        await cluster.start()
        await cluster.until(
            lambda state: state.generation is not None and state.generation.phase == "backoff"
        )
        await cluster.start(OTHER)
        assert (await cluster.rest(OTHER)).result == "done"
        assert (await cluster.rest()).result == "done"
    assert len(asked) == 3
    (refused,) = await failures(cluster, REF)
    assert refused.failure.message == "slow down"
    given_back = await failures(cluster, OTHER)
    assert given_back
    assert all("has to wait" in event.failure.message for event in given_back)
    assert {(event.failure.kind, event.charged) for event in given_back} == {("held_back", 0)}


async def test_c13_a_cancelled_run_takes_no_place_and_its_call_is_never_made() -> None:
    gate = Gate()
    cluster = one_at_once(gate)
    async with cluster.worker("w1"):
        await cluster.start()
        await asyncio.wait_for(gate.came.wait(), BOUND_S)
        await cluster.start(OTHER)
        await waiting(cluster, OTHER)
        await cluster.client.submit(OTHER, CancelRun(id="stop"), "stop")
        state = await cluster.rest(OTHER)
        assert state.status == "cancelled"
        gate.open.set()
        assert (await cluster.rest()).result == "done"
        await in_flight(cluster, {})
    assert len(gate.asked) == 1


async def test_c13_an_attempt_that_was_taken_away_while_it_waited_is_not_made() -> None:
    gate = Gate()
    cluster = one_at_once(gate)
    async with cluster.worker("w1") as desk:
        await cluster.start()
        await asyncio.wait_for(gate.came.wait(), BOUND_S)
        await cluster.start(OTHER)
        await waiting(cluster, OTHER)
        await abandon_holder(desk, OTHER, AbandonHolder(holder="w1"))
        await waiting(cluster, OTHER, attempt=2)
        gate.open.set()
        assert (await cluster.rest(OTHER)).result == "done"
        await in_flight(cluster, {})
    requests = [
        event for event in await cluster.events(OTHER) if isinstance(event, GenerationRequested)
    ]
    assert len(requests) >= 2
    assert len(gate.asked) == 2  # one call for each run
