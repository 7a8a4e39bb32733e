"""What all workers share of one model of one account: holds, calls at once, calls a minute (C13).

Not the waiting. Every function is a step from one `Rate` to the next, so that it can be taken again
from a newer one; all of a deployment's workers take these steps by compare and set.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from pydantic import ConfigDict, Field

from domain.bucket import MINUTE_MS, Bucket, by_request, by_token, drawn, emptier, filled
from domain.ids import TOKEN, derive_id
from domain.limits import ModelChoice
from domain.record import Record

HOLD_MAX_MS = 86_400_000
"""The longest hold: a provider that asks for more is asked again after a day, in milliseconds."""

CALM_MS = 600_000
"""How long after the last refusal calls at once stay bounded by what was learned from it."""

BACKOFF_BASE_MS = 1_000
BACKOFF_MAX_MS = 60_000
"""How long a provider that turned a call away without saying for how long is left alone."""

SETTLE_MS = 3_000
"""How long after a fresh start a bounded model is asked one thing at a time: what others are at may
not be known yet, in milliseconds."""

SPREAD_MIN_MS = 250
SPREAD_MAX_MS = 5_000
SPREAD_SHARE = 8
"""Over what time calls begin again after a hold: an eighth of it, within these bounds."""

DIGITS = 6


class Quota(Record):
    """What an operator allows of a model; None is no limit of ours."""

    concurrency: int | None = Field(default=None, ge=1)
    requests_per_min: int | None = Field(default=None, ge=1)
    tokens_per_min: int | None = Field(default=None, ge=1)

    @property
    def any(self) -> bool:
        """Whether it limits anything."""
        return (self.concurrency, self.requests_per_min, self.tokens_per_min) != (None,) * 3

    def over(self, wider: "Quota") -> "Quota":
        """This one, and what a wider one says of the rest."""
        mine = {name: value for name, value in self if value is not None}
        return wider.model_copy(update=mine)


NO_QUOTA = Quota()

Quotas = Mapping[str, Quota]
"""By `provider` or `provider/model`."""


def quota_of(quotas: Quotas, choice: ModelChoice) -> Quota | None:
    """What is allowed of a model: its own entry over its provider's; None: neither is there."""
    wider = quotas.get(choice.provider)
    own = quotas.get(f"{choice.provider}/{choice.model}")
    if own is None or wider is None:
        return own or wider
    return own.over(wider)


class Scope(NamedTuple):
    """One model of one account of a provider, as three subject tokens."""

    provider: str
    account: str
    model: str


def scope_of(choice: ModelChoice, key: str) -> Scope:
    """Whose limits a call counts against. `key` is the name of the account's key, not its value."""
    settings = tuple(f"{name}={value}" for name, value in sorted(choice.settings.items()))
    return _scope(choice.provider, choice.model, (key, choice.base_url or "", *settings))


@lru_cache(maxsize=1024)
def _scope(provider: str, model: str, account: tuple[str, ...]) -> Scope:
    named = TOKEN.fullmatch(provider) is not None
    return Scope(
        provider if named else derive_id("provider", provider),
        derive_id("account", *account),
        derive_id("model", model),
    )


class Rate(Record):
    """What is known of one model of one account. Of no use after a day, and lost with a server."""

    # Unlike other records it is shared by releases that live at the same time, and is no history.
    model_config = ConfigDict(frozen=True, extra="ignore")

    provider: str = ""  # for people
    model: str = ""  # for people
    born_ms: int = 0  # since when it is known; 0: it is not yet
    held_until_ms: int = 0
    refusals: int = 0  # in a row
    cut_ms: int = 0  # when `bound` was last halved
    bound: float | None = None  # calls at once, as learned from refusals
    in_flight: dict[str, int] = Field(default_factory=dict[str, int])  # calls, by epoch
    requests: Bucket | None = None
    tokens: Bucket | None = None


class Call(NamedTuple):
    """A call that wants to begin. `spread` in [0, 1) sets it apart from others that wait."""

    epoch: str
    mine: int  # calls of its epoch that are in flight
    tokens: int  # what it may use at most
    spread: float


class Wait(NamedTuple):
    """Not now. `until_ms` None: until another call has ended."""

    until_ms: int | None
    why: str


def in_force(rate: Rate, quota: Quota, now_ms: int) -> bool:
    """Whether a call has to ask; if not, it costs nothing."""
    return quota.any or now_ms < rate.held_until_ms or _learned(rate, now_ms) is not None


def admit(rate: Rate, quota: Quota, call: Call, now_ms: int) -> Rate | Wait:
    """Let a call begin: what is known then; or how long it has to wait."""
    left_ms = rate.held_until_ms - now_ms
    if left_ms > 0:
        spread_ms = min(SPREAD_MAX_MS, max(SPREAD_MIN_MS, left_ms // SPREAD_SHARE))
        return Wait(rate.held_until_ms + int(call.spread * spread_ms), "it asked for a pause")
    bound = _bound(rate, quota, now_ms)
    at_work = call.mine + sum(n for epoch, n in rate.in_flight.items() if epoch != call.epoch)
    if bound is not None and at_work + 1 > bound:
        return Wait(None, f"{int(bound)} at once are allowed, and so many are at work")
    settling_ms = rate.born_ms + SETTLE_MS - now_ms
    if quota.concurrency is not None and settling_ms > 0 and at_work:
        return Wait(now_ms + settling_ms, "what others are at is not known yet")
    return _taken(counted(rate, call.epoch, call.mine + 1), quota, call.tokens, now_ms)


def _taken(rate: Rate, quota: Quota, tokens: int, now_ms: int) -> Rate | Wait:
    """One call out of what the minute allows: of both limits, or of none."""
    taken: dict[str, Bucket] = {}
    if quota.requests_per_min is not None:
        left = drawn(rate.requests, by_request(quota.requests_per_min), 1, now_ms)
        if isinstance(left, int):
            return Wait(left, f"{quota.requests_per_min} requests a minute are allowed")
        taken["requests"] = left
    if quota.tokens_per_min is not None:
        left = drawn(rate.tokens, by_token(quota.tokens_per_min), tokens, now_ms)
        if isinstance(left, int):
            return Wait(left, f"{quota.tokens_per_min} tokens a minute are allowed")
        taken["tokens"] = left
    return rate.model_copy(update=taken)


class Refusal(NamedTuple):
    """A provider turned a call away. `pause_ms` None: it did not say for how long."""

    began_ms: int
    pause_ms: int | None
    spread: float


def refused(rate: Rate, refusal: Refusal, now_ms: int) -> Rate:
    """Hold everybody, and let half as many calls at once begin after it.

    Calls that began before the last cut were part of what led to it: they do not cut again.
    """
    pause_ms = refusal.pause_ms
    if refusal.began_ms <= rate.cut_ms:
        return held(rate, now_ms + (pause_ms or 0), now_ms)
    if pause_ms is None:
        backoff_ms = min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** min(rate.refusals, 16))
        pause_ms = int(backoff_ms * (0.5 + refusal.spread / 2))
    at_work = float(sum(rate.in_flight.values()))
    learned = _learned(rate, now_ms)
    top = at_work if learned is None else min(learned, at_work)
    cut = {
        "refusals": rate.refusals + 1,
        "cut_ms": now_ms,
        "bound": max(1.0, top / 2),
    }
    return held(rate.model_copy(update=cut), now_ms + pause_ms, now_ms)


def held(rate: Rate, until_ms: int, now_ms: int) -> Rate:
    """Nobody begins before that time; never sooner than was said before."""
    until_ms = min(until_ms, now_ms + HOLD_MAX_MS)
    if until_ms <= max(rate.held_until_ms, now_ms):
        return rate
    return rate.model_copy(update={"held_until_ms": until_ms})


def replied(rate: Rate, began_ms: int, now_ms: int) -> Rate:
    """A call went well: as many such calls as are allowed at once allow one more."""
    if began_ms <= rate.cut_ms or (rate.bound is None and not rate.refusals):
        return rate
    bound = _learned(rate, now_ms)
    if bound is not None:
        bound = round(bound + 1 / bound, DIGITS)
    return rate.model_copy(update={"refusals": 0, "bound": bound})


def settled(rate: Rate, quota: Quota, reserved: int, used: int, now_ms: int) -> Rate:
    """A call that began with so many tokens in reserve used so many."""
    if quota.tokens_per_min is None or rate.tokens is None:
        return rate
    size = by_token(quota.tokens_per_min)
    back = min(reserved, size.most) - used
    return rate.model_copy(update={"tokens": filled(rate.tokens, size, now_ms, back)})


def unasked(rate: Rate, quota: Quota, now_ms: int) -> Rate:
    """A call that was let through was not made: its request counts no more."""
    if quota.requests_per_min is None or rate.requests is None:
        return rate
    size = by_request(quota.requests_per_min)
    return rate.model_copy(update={"requests": filled(rate.requests, size, now_ms, 1)})


def counted(rate: Rate, epoch: str, calls: int) -> Rate:
    """An epoch has so many calls in flight."""
    if rate.in_flight.get(epoch, 0) == calls:
        return rate
    others = {name: n for name, n in rate.in_flight.items() if name != epoch}
    in_flight = {**others, epoch: calls} if calls else others
    return rate.model_copy(update={"in_flight": dict(sorted(in_flight.items()))})


def without(rate: Rate, gone: Callable[[str], bool]) -> Rate:
    """What epochs that have ended had in flight is not."""
    left = {epoch: n for epoch, n in rate.in_flight.items() if not gone(epoch)}
    if len(left) == len(rate.in_flight):
        return rate
    return rate.model_copy(update={"in_flight": left})


def worth_keeping(rate: Rate, quota: Quota, now_ms: int) -> bool:
    """Whether forgetting it would let a call begin that has to wait."""
    full = (
        quota.requests_per_min is None
        or rate.requests is None
        or now_ms - rate.requests.at_ms > MINUTE_MS
    ) and (
        quota.tokens_per_min is None
        or rate.tokens is None
        or now_ms - rate.tokens.at_ms > MINUTE_MS
    )
    return now_ms < rate.held_until_ms or _learned(rate, now_ms) is not None or not full


def recalled(rate: Rate, known: Rate, now_ms: int) -> Rate:
    """What a server has lost is told again by who knew it; of two that differ, the stricter."""
    learned, before = _learned(rate, now_ms), _learned(known, now_ms)
    bounds = [bound for bound in (learned, before) if bound is not None]
    together = {
        "provider": known.provider,
        "model": known.model,
        "refusals": max(rate.refusals, known.refusals),
        "cut_ms": max(rate.cut_ms, known.cut_ms),
        "bound": min(bounds, default=None),
        "requests": emptier(rate.requests, known.requests),
        "tokens": emptier(rate.tokens, known.tokens),
    }
    return held(rate.model_copy(update=together), known.held_until_ms, now_ms)


def _learned(rate: Rate, now_ms: int) -> float | None:
    """How many calls at once refusals have taught to allow, unless that is too long ago."""
    return rate.bound if now_ms - rate.cut_ms < CALM_MS else None


def _bound(rate: Rate, quota: Quota, now_ms: int) -> float | None:
    learned = _learned(rate, now_ms)
    if quota.concurrency is None or learned is None:
        return quota.concurrency or learned
    return min(learned, quota.concurrency)
