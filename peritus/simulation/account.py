"""The provider's side of a simulated world: one account that all workers ask with. Not a model.

It takes nothing for a while now and then, and says for how long: from then on no worker that can
know of it may ask (C13).
"""

import asyncio
import random
from dataclasses import dataclass, field

from domain.rate import Quota, Rate
from peritus.simulation.loop import EPOCH_MS
from services.loop.limiter_notes import FRESH_S
from services.loop.models.port import ModelFailure

CLOSES = 0.06
"""How likely a call closes the account."""

CLOSED_S = (1.0, 8.0, 30.0)

MARGIN_S = 0.005
"""What rounding to milliseconds and a few callbacks take."""

STILL_S = 45.0
"""How long a process may have stood still, with a call that it was about to begin."""

CALM_S = 60.0
"""How long nothing has gone wrong when what a quota says holds to the letter."""


@dataclass(slots=True)
class Hold:
    """A pause that a worker was asked for. `known_s`: since when all workers can know of it."""

    epoch: str
    at_s: float
    until_s: float
    known_s: float | None = None


@dataclass(slots=True)
class Account:
    """Who asks when, and what must not happen."""

    problems: list[str]
    quota: Quota = field(default_factory=Quota)
    holds: list[Hold] = field(default_factory=list[Hold])
    at_work: dict[str, int] = field(default_factory=dict[str, int])  # calls, by living epoch
    begun_s: list[float] = field(default_factory=list[float])
    healed_s: float | None = None  # since when nothing goes wrong
    closed_until_s: float = 0.0

    def begin(self, epoch: str, chance: str) -> None:
        """A call reaches the provider; `chance` is the seed of what it does with it.

        Raises:
            ModelFailure: `rate_limited`, with how long to wait.
        """
        now_s, dice = _now(), random.Random(chance)
        self._check_holds(epoch, now_s)
        self._check_quota(now_s)
        if now_s >= self.closed_until_s and dice.random() < CLOSES:
            self.closed_until_s = now_s + dice.choice(CLOSED_S)
        left_s = self.closed_until_s - now_s
        if left_s > 0:
            self.holds.append(Hold(epoch, now_s, self.closed_until_s))
            left_ms = int(left_s * 1000) + 1
            raise ModelFailure("rate_limited", "simulated", 429, retry_after_ms=left_ms)
        self.at_work[epoch] = self.at_work.get(epoch, 0) + 1

    def end(self, epoch: str) -> None:
        """A call that began is over."""
        if epoch in self.at_work:
            self.at_work[epoch] -= 1

    def died(self, epoch: str) -> None:
        """A worker died, or was started again: it has forgotten what it was told."""
        self.at_work.pop(epoch, None)
        self.holds = [
            hold for hold in self.holds if hold.epoch != epoch or hold.known_s is not None
        ]
        for hold in self.holds:
            if hold.epoch == epoch:
                hold.epoch = ""

    def noted(self, data: bytes) -> None:
        """The workers share this from now on."""
        until_s = (Rate.model_validate_json(data).held_until_ms - EPOCH_MS) / 1000
        for hold in self.holds:
            if hold.known_s is None and until_s >= hold.until_s - MARGIN_S:
                hold.known_s = _now()

    def lost(self) -> None:
        """What the workers shared is gone."""
        for hold in self.holds:
            hold.known_s = None

    def healed(self) -> None:
        """From now on nothing goes wrong."""
        self.healed_s = _now()

    def _check_holds(self, epoch: str, now_s: float) -> None:
        self.holds = [hold for hold in self.holds if hold.until_s > now_s + MARGIN_S]
        for hold in self.holds:
            known_s = hold.at_s if hold.epoch == epoch else hold.known_s
            reach_s = 0.0 if hold.epoch == epoch else FRESH_S
            if known_s is not None and now_s > known_s + reach_s + MARGIN_S:
                self.problems.append(
                    f"{epoch} asked at {now_s:.3f} s, {hold.until_s - now_s:.3f} s before the end "
                    f"of a pause that was known since {known_s:.3f} s"
                )

    def _check_quota(self, now_s: float) -> None:
        self.begun_s = [time for time in self.begun_s if time > now_s - 60] + [now_s]
        if self.healed_s is None or now_s < self.healed_s + CALM_S:
            return
        at_once = sum(self.at_work.values()) + 1
        if self.quota.concurrency is not None and at_once > self.quota.concurrency:
            self.problems.append(f"{at_once} calls at once at {now_s:.3f} s")
        minute = [time for time in self.begun_s if time >= self.healed_s + STILL_S]
        if self.quota.requests_per_min is not None and len(minute) > self.quota.requests_per_min:
            self.problems.append(f"{len(minute)} calls in the minute before {now_s:.3f} s")


def _now() -> float:
    return asyncio.get_running_loop().time()
