"""The view of usage: what was spent on a day, by expert and model. Not by run: `runs` says that.

Each call of a model counts once, where it was made and on the day it was over; a late end corrects
its charge on the day it came, for the model that was called. What children spent is in their own
events, and what a fork has from its source is the source's. What a job spent goes with the
job when that is deleted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Index, MetaData, Table

from domain import events as e
from domain.envelope import Envelope
from domain.folds.calls import COUNTED
from domain.ids import RunRef
from projections.columns import key, number
from projections.view import Add, Change, Folded, Seen
from projections.views.spending import SPENDING_COLUMNS, Spending, columns_of, spent

MS_A_DAY = 86_400_000
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


class Since(NamedTuple):
    """From that attempt on, the run asked this model."""

    step: int
    attempt: int
    provider: str
    model: str


class Asked(NamedTuple):
    """A call of the model for a tool that may yet end."""

    ask: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class UsageHead:
    """Who spends, and which model made what may come late."""

    expert: str = ""
    provider: str = ""
    model: str = ""
    begun: bool = False  # whether it counts as a run
    since: tuple[Since, ...] = ()
    asks: tuple[Asked, ...] = ()
    calls: tuple[str, ...] = ()  # that are open and count


class UsageView:
    """One row a day, expert, provider and model of each job."""

    name = "usage"
    version = 1
    hears_deletions = False

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """The one table, by day."""
        return {
            "usage": Table(
                f"usage{suffix}",
                metadata,
                *map(key, ("tenant", "day", "expert", "provider", "model", "job")),
                *map(number, ("runs", "generations", "failures", "tool_calls")),
                *map(number, SPENDING_COLUMNS),
                Index(f"usage{suffix}_of_job", "tenant", "job"),
                sqlite_with_rowid=False,
            )
        }

    def fresh(self, ref: RunRef, seq: int) -> UsageHead:  # noqa: ARG002 - of any run
        """Nothing was spent yet."""
        return UsageHead()

    def load(self, data: str) -> UsageHead:
        """The head that `dump` wrote."""
        raw: dict[str, Any] = orjson.loads(data)
        raw["since"] = tuple(Since(*one) for one in raw["since"])
        raw["asks"] = tuple(Asked(*one) for one in raw["asks"])
        raw["calls"] = tuple(raw["calls"])
        return UsageHead(**raw)

    def dump(self, head: UsageHead) -> str:
        """The head as JSON."""
        plain = {
            "expert": head.expert,
            "provider": head.provider,
            "model": head.model,
            "begun": head.begun,
            "since": [tuple(one) for one in head.since],
            "asks": [tuple(one) for one in head.asks],
            "calls": head.calls,
        }
        return orjson.dumps(plain).decode()

    def fold(self, head: UsageHead, seen: Seen) -> Folded[UsageHead]:
        """What one more envelope adds to its day."""
        if seen.envelope is None:
            return Folded(head)
        change = _Change(head, seen.envelope)
        return Folded(change.head, change.changes(seen.ref, seen.envelope.at_ms))


class _Change:
    """What one envelope adds, while it is read."""

    def __init__(self, head: UsageHead, envelope: Envelope) -> None:
        self.head = head
        self._adds: dict[tuple[str, str], dict[str, int]] = {}
        for event in envelope.events:
            hear = _HEARD.get(type(event))
            if hear is not None:
                hear(self, event)

    def changes(self, ref: RunRef, at_ms: int) -> tuple[Change, ...]:
        """The rows', each with its key."""
        if not self._adds:
            return ()
        row = {
            "tenant": ref.tenant,
            "day": day_of(at_ms),
            "expert": self.head.expert,
            "job": ref.job,
        }
        return tuple(
            Add("usage", {**row, "provider": provider, "model": model}, grown)
            for (provider, model), adds in self._adds.items()
            if (grown := {name: more for name, more in adds.items() if more})
        )

    def begin(self, event: e.RunStarted | e.RunForked) -> None:
        """Whose budget it is spent of."""
        self.head = replace(self.head, expert=event.expert)

    def pin(self, event: e.ContextPinned) -> None:
        """The model from here on; a run counts for the one it begins with."""
        begun, model = self.head.begun, event.model
        self.head = replace(self.head, provider=model.provider, model=model.model, begun=True)
        if not begun:
            self._grow(model.provider, model.model, runs=1)

    def request(self, event: e.GenerationRequested) -> None:
        """An attempt is the model's that was pinned when it was asked for, however late it ends."""
        head = self.head
        last = head.since[-1] if head.since else None
        if last is None or (last.provider, last.model) != (head.provider, head.model):
            now = Since(event.step, event.attempt, head.provider, head.model)
            self.head = replace(head, since=(*head.since, now))

    def spend(
        self,
        event: e.GenerationCompleted
        | e.GenerationFailed
        | e.GenerationAbandoned
        | e.GenerationSuperseded,
    ) -> None:
        """An attempt is over, or its charge is settled."""
        attempt = (event.step, event.attempt)
        made = next((one for one in reversed(self.head.since) if one[:2] <= attempt), None)
        provider, model = (made.provider, made.model) if made else self._pinned
        self._spend(provider, model, event)

    def ask(self, event: e.SamplingRequested) -> None:
        """The model will be asked for a tool."""
        asked = Asked(event.ask, self.head.provider, self.head.model)
        self.head = replace(self.head, asks=(*self._other_asks(event.ask), asked))

    def sample(self, event: e.SamplingEnded) -> None:
        """That call is over; one that was given up may yet be settled."""
        self._spend(*self._made(event.ask), event)
        if event.how != "abandoned":
            self.head = replace(self.head, asks=self._other_asks(event.ask))

    def settle(self, event: e.SamplingSettled) -> None:
        """The late end of one."""
        self._spend(*self._made(event.ask), event)
        self.head = replace(self.head, asks=self._other_asks(event.ask))

    def call(self, event: e.ToolCallRequested) -> None:
        """A call counts once it is over, unless it was refused."""
        if event.lane in COUNTED:
            self.head = replace(self.head, calls=(*self.head.calls, event.call))

    def end_call(self, event: e.ToolCallEnded) -> None:
        """It counts for the model that asked for it, and on the day it was over."""
        calls = self.head.calls
        if event.call not in calls:
            return
        self.head = replace(self.head, calls=tuple(one for one in calls if one != event.call))
        if event.outcome != "refused":
            since = self.head.since
            provider, model = (since[-1].provider, since[-1].model) if since else self._pinned
            self._grow(provider, model, tool_calls=1)

    @property
    def _pinned(self) -> tuple[str, str]:
        return self.head.provider, self.head.model

    def _made(self, ask: str) -> tuple[str, str]:
        found = (one for one in self.head.asks if one.ask == ask)
        return next(((one.provider, one.model) for one in found), self._pinned)

    def _other_asks(self, ask: str) -> tuple[Asked, ...]:
        return tuple(one for one in self.head.asks if one.ask != ask)

    def _spend(self, provider: str, model: str, event: Spending) -> None:
        one = spent(event)
        over, failed = int(one.over), int(one.failed)
        self._grow(provider, model, generations=over, failures=failed, **columns_of(one))

    def _grow(self, provider: str, model: str, **more: int) -> None:
        adds = self._adds.setdefault((provider, model), {})
        for name, count in more.items():
            adds[name] = adds.get(name, 0) + count


def day_of(at_ms: int) -> str:
    """The day in UTC, as YYYY-MM-DD; times that no calendar has are its first or last day."""
    return _day(at_ms // MS_A_DAY)


@lru_cache(maxsize=1_000)
def _day(days: int) -> str:
    ordinal = min(max(EPOCH_ORDINAL + days, date.min.toordinal()), date.max.toordinal())
    return date.fromordinal(ordinal).isoformat()


_HEARD: Mapping[type[e.Event], Callable[[_Change, Any], None]] = {
    e.RunStarted: _Change.begin,
    e.RunForked: _Change.begin,
    e.ContextPinned: _Change.pin,
    e.GenerationRequested: _Change.request,
    e.GenerationCompleted: _Change.spend,
    e.GenerationFailed: _Change.spend,
    e.GenerationAbandoned: _Change.spend,
    e.GenerationSuperseded: _Change.spend,
    e.SamplingRequested: _Change.ask,
    e.SamplingEnded: _Change.sample,
    e.SamplingSettled: _Change.settle,
    e.ToolCallRequested: _Change.call,
    e.ToolCallEnded: _Change.end_call,
}
"""What is heard; all else, and what this release does not know, changes nothing (C17)."""
