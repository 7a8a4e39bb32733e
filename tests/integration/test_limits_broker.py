"""Two loop services and the limits of one provider over a real server; a model plays the provider.

Not virtual time: what is compared are the times at which calls began with the end of the pause.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from commands.client import CommandClient
from commands.desk import Desk
from commands.history import Loaded, fold_stored
from domain.commands import StartRun
from domain.content import AssistantMessage, TextPart
from domain.envelope import decode
from domain.events import DelegationSettled, Event, GenerationCompleted, GenerationFailed, RunFailed
from domain.ids import RunRef
from domain.limits import Limits, Usage
from domain.prompt import ModelRequest
from domain.rate import Quota, Rate
from domain.state import RunState
from eventlog.port import Backbone
from peritus.ids import new_id, now_ms
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.loop.service import LoopLimits
from tests.integration.deployment import JetStreamDeployment
from tests.support.cluster import asks, experts
from tests.support.service import expert_of

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

JOB = RunRef("acme", "job", "job")
DELEGATES = 12
BOUND_S = 60.0
USAGE = Usage(input=1, output=1)
QUOTAS = {"scripted": Quota()}  # a script has limits when an operator says so


@dataclass
class Provider:
    """Turns the first delegate away once all of them ask, and answers the others when it is told.

    `began` are the times at which later calls began.
    """

    retry_after_ms: int
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    turned_away: list[int] = field(default_factory=list[int])
    began: list[int] = field(default_factory=list[int])
    calls: Counter[str] = field(default_factory=Counter[str])
    _first: int = 0

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        del on_delta
        self.calls[request.digest] += 1
        said = sum(isinstance(message, AssistantMessage) for message in request.messages)
        if expert_of(request) == "boss":
            if said == 0:
                return asks(*(("helper", f'{{"query": "part {n}"}}') for n in range(DELEGATES)))
            self.began.append(now_ms())
            return ModelReply((TextPart(text="all parts are done"),), "end", USAGE)
        if said or self.turned_away:
            self.began.append(now_ms())
        else:
            await self._among_the_first()
        if said == 0:
            return asks(("todo", '{"newTodos": ["a"]}'))
        return ModelReply((TextPart(text="done"),), "end", USAGE)

    async def _among_the_first(self) -> None:
        self._first += 1
        number = self._first
        if number == DELEGATES:
            self.arrived.set()
        await self.arrived.wait()
        if number == 1:
            self.turned_away.append(now_ms())
            raise ModelFailure("rate_limited", "slow down", 429, self.retry_after_ms)
        await self.go_on.wait()


@dataclass
class Cluster:
    """Loop services of one deployment, and what they came to."""

    deployment: JetStreamDeployment
    provider: Provider
    outside: Backbone
    limits: Limits

    @asynccontextmanager
    async def worker(self, epoch: str, *, at_once: int = DELEGATES // 2) -> AsyncGenerator[Desk]:
        ready: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()
        async with self.deployment.client() as backbone:
            parts = WorkerParts(
                backbone=backbone,
                epoch=epoch,
                now_ms=now_ms,
                new_id=new_id,
                certainly_dead=lambda _: False,
                generate=self.provider.generate,
                loop_limits=LoopLimits(generations_max=at_once, quotas=QUOTAS),
            )
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(run_worker(parts, ready.set_result))
                yield await ready
                task.cancel()

    async def start(self) -> None:
        definition = experts(delegates=("helper",), limits=self.limits)
        digest = await self.outside.blobs.put(JOB.tenant, definition.to_bytes())
        parts = (TextPart(text="go"),)
        command = StartRun(id="start", expert="boss", definition=digest, parts=parts)
        await CommandClient(self.outside).submit(JOB, command, "start")

    async def held_until_ms(self) -> int:
        """The end of the pause, once the server has it."""
        async with self.outside.limits.watch() as notes:
            async for _ in notes:
                for noted in (await self.outside.limits.all()).values():
                    rate = Rate.model_validate_json(noted.data)
                    if rate.held_until_ms:
                        return rate.held_until_ms
        raise NotImplementedError

    async def rest(self) -> RunState:
        """The root run when it has come to rest."""
        loaded = Loaded(RunState(ref=JOB))
        async with self.outside.log.follow(after_seq=0, job=JOB.job, run=JOB.run) as stored:
            async for one in stored:
                loaded = fold_stored(loaded, one)
                if loaded.state.at_rest:
                    break
        return loaded.state

    async def events(self) -> list[Event]:
        """All events of all runs."""
        found: list[Event] = []
        last = (await self.outside.log.bounds())[1]
        async with self.outside.log.follow(after_seq=0) as stored:
            async for one in stored:
                found.extend(decode(one.data).events)
                if one.seq >= last:
                    break
        return found


@asynccontextmanager
async def cluster(
    deployment: JetStreamDeployment, provider: Provider, **limits: int
) -> AsyncGenerator[Cluster]:
    async with asyncio.timeout(BOUND_S), AsyncExitStack() as stack:
        outside = await stack.enter_async_context(deployment.client())
        yield Cluster(deployment, provider, outside, Limits(**limits))


def check(provider: Provider, state: RunState, events: list[Event], held_until_ms: int) -> None:
    """Nobody asked before the end of the pause, all is done, and nothing was done twice."""
    (turned_away_ms,) = provider.turned_away
    assert held_until_ms >= turned_away_ms + provider.retry_after_ms
    assert len(provider.began) == DELEGATES + 2  # all second steps, the first of one, and the boss
    assert min(provider.began) >= held_until_ms
    assert state.result == "all parts are done"
    assert not [event for event in events if isinstance(event, RunFailed)]
    ended = [event for event in events if isinstance(event, DelegationSettled)]
    assert [event.status for event in ended] == ["completed"] * DELEGATES
    replies = [event for event in events if isinstance(event, GenerationCompleted)]
    assert len(replies) == 2 * DELEGATES + 2
    assert sum(provider.calls.values()) == len(replies) + 1  # completed siblings are kept


@pytest.mark.parametrize("way", ["waits here", "is given back"])
async def test_c13_a_refusal_of_one_holds_the_calls_of_all_workers_and_no_run_fails(
    deployment: JetStreamDeployment, way: str
) -> None:
    # A call waits for half of its own time at most; one that has to wait longer is given back.
    provider = Provider(retry_after_ms=2_000)
    timeout_ms = 60_000 if way == "waits here" else 1_000
    async with (
        cluster(deployment, provider, generation_timeout_ms=timeout_ms, retry_base_ms=10) as world,
        world.worker("one"),
        world.worker("two"),
    ):
        await world.start()
        held_until_ms = await world.held_until_ms()
        provider.go_on.set()
        state = await world.rest()
        events = await world.events()
    check(provider, state, events, held_until_ms)
    failed = [event.failure for event in events if isinstance(event, GenerationFailed)]
    waiting = [failure for failure in failed if "has to wait" in failure.message]
    assert {failure.kind for failure in failed} <= {"rate_limited", "held_back"}
    assert {failure.kind for failure in waiting} <= {"held_back"}
    assert bool(waiting) == (way == "is given back")


async def test_c13_a_hold_outlives_the_server_and_binds_who_comes_later(
    deployment: JetStreamDeployment,
) -> None:
    provider = Provider(retry_after_ms=4_000)
    async with (
        cluster(deployment, provider) as world,
        world.worker("one"),
        world.worker("two"),
    ):
        await world.start()
        held_until_ms = await world.held_until_ms()
        await deployment.restart()
        assert await world.held_until_ms() == held_until_ms  # the workers have told it again
        async with world.worker("three"):
            provider.go_on.set()
            state = await world.rest()
        events = await world.events()
    check(provider, state, events, held_until_ms)
