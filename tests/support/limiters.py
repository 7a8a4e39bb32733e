"""Workers that share the limits of a provider, in virtual time over the in-memory form. No test."""

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
from domain.rate import Quota, Rate
from eventlog.memory import Client, Crashed, Fault, FaultPoint, Kind, MemoryServer
from peritus.simulation.loop import SimLoop, run
from services.loop.limiter import WAIT_MAX_MS, Asked, Limiter, Permit
from services.loop.models.port import FailureKind, ModelFailure, ModelReply, RateSigns

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
        assert (failure.kind, failure.retryable) == ("held_back", True)
        assert failure.usage == Usage()
        assert failure.retry_after_ms is not None
        await asyncio.sleep(failure.retry_after_ms / 1000)
