"""The view of steps: what each took and cost where it was made. Not what its children cost.

A step that a fork has from its source is the source's, and has no row of the fork.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import MetaData, Table

from domain import events as e
from domain.envelope import Envelope
from domain.ids import RunRef
from projections.columns import key, key_number, maybe_number, maybe_text, number, text
from projections.view import Add, Change, Folded, Put, Seen, Value
from projections.views.spending import SPENDING_COLUMNS, Spending, columns_of, spent


@dataclass(frozen=True, slots=True)
class StepHead:
    """Where a run is, and which step has to pay for what comes late."""

    step: int = 0
    over: bool = True  # whether the end of that step is known
    provider: str = ""
    model: str = ""
    asks: Mapping[str, int] | None = None  # the steps of asks whose call of the model may yet end


class StepsView:
    """One row a step."""

    name = "steps"
    version = 1
    hears_deletions = False

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """The one table, by run."""
        return {
            "steps": Table(
                f"steps{suffix}",
                metadata,
                *map(key, ("tenant", "job", "run")),
                key_number("step"),
                number("attempts"),
                text("provider"),
                text("model"),
                *map(maybe_number, ("started_at_ms", "generated_at_ms", "ended_at_ms")),
                *map(number, SPENDING_COLUMNS),
                maybe_text("stop_reason"),
                *map(number, ("calls", "failures")),
                sqlite_with_rowid=False,
            )
        }

    def fresh(self, ref: RunRef, seq: int) -> StepHead:  # noqa: ARG002 - of any run
        """Before the first step."""
        return StepHead()

    def load(self, data: str) -> StepHead:
        """The head that `dump` wrote."""
        return StepHead(**orjson.loads(data))

    def dump(self, head: StepHead) -> str:
        """The head as JSON."""
        return orjson.dumps(head).decode()

    def fold(self, head: StepHead, seen: Seen) -> Folded[StepHead]:
        """The rows of the steps that one more envelope says something of."""
        if seen.envelope is None:
            return Folded(head)
        change = _Change(head, seen.envelope)
        return Folded(change.head, change.changes(seen.ref))


class _Change:
    """What one envelope does to the steps of a run, while it is read."""

    def __init__(self, head: StepHead, envelope: Envelope) -> None:
        self.head = head
        self._at_ms = envelope.at_ms
        self._puts: dict[int, dict[str, Value]] = {}
        self._adds: dict[int, dict[str, int]] = {}
        for event in envelope.events:
            hear = _HEARD.get(type(event))
            if hear is not None:
                hear(self, event)

    def changes(self, ref: RunRef) -> tuple[Change, ...]:
        """The rows', each with its key."""
        run = {"tenant": ref.tenant, "job": ref.job, "run": ref.run}
        found: list[Change] = [
            Put("steps", {**run, "step": step}, values) for step, values in self._puts.items()
        ]
        found.extend(
            Add("steps", {**run, "step": step}, values) for step, values in self._adds.items()
        )
        return tuple(found)

    def _put(self, step: int, **values: Value) -> None:
        self._puts.setdefault(step, {}).update(values)

    def _add(self, step: int, more: Mapping[str, int]) -> None:
        adds = self._adds.setdefault(step, {})
        for name, count in more.items():
            adds[name] = adds.get(name, 0) + count

    def pin(self, event: e.ContextPinned) -> None:
        """The model from here on."""
        model = event.model
        self.head = replace(self.head, provider=model.provider, model=model.model)

    def request(self, event: e.GenerationRequested) -> None:
        """An attempt: of a step that begins with it, or one more of the step there is."""
        head = self.head
        if event.step != head.step or head.over:
            self._put(event.step, started_at_ms=self._at_ms)
            self.head = replace(head, step=event.step, over=False)
        self._put(event.step, provider=head.provider, model=head.model)
        self._add(event.step, {"attempts": 1})

    def complete(self, event: e.GenerationCompleted) -> None:
        """The reply."""
        self._put(event.step, generated_at_ms=self._at_ms, stop_reason=event.stop_reason)
        self._spend(event.step, event)

    def spend(
        self, event: e.GenerationFailed | e.GenerationAbandoned | e.GenerationSuperseded
    ) -> None:
        """An attempt without a reply, or its late end: its own step pays."""
        self._spend(event.step, event)

    def call(self, event: e.ToolCallRequested) -> None:
        """The reply asked for it."""
        self._add(event.step, {"calls": 1})

    def ask(self, event: e.SamplingRequested) -> None:
        """What the model says to a tool is paid by the step of the call, which is this one."""
        asks = {**(self.head.asks or {}), event.ask: self.head.step}
        self.head = replace(self.head, asks=asks)

    def sample(self, event: e.SamplingEnded) -> None:
        """A call of the model for a tool; one that was given up may yet be settled."""
        self._spend(self._step_of(event.ask), event)
        if event.how != "abandoned":
            self._without(event.ask)

    def settle(self, event: e.SamplingSettled) -> None:
        """The late end of one."""
        self._spend(self._step_of(event.ask), event)
        self._without(event.ask)

    def end(self, event: e.StepEnded) -> None:
        """All its calls are over."""
        self._put(event.step, ended_at_ms=self._at_ms)
        self.head = replace(self.head, over=True)

    def rest(self, _: e.Event) -> None:
        """The run is over, and the step with it."""
        if not self.head.over:
            self._put(self.head.step, ended_at_ms=self._at_ms)
            self.head = replace(self.head, over=True)

    def _spend(self, step: int, event: Spending) -> None:
        one = spent(event)
        self._add(step, {**columns_of(one), "failures": int(one.failed)})

    def _step_of(self, ask: str) -> int:
        return (self.head.asks or {}).get(ask, self.head.step)

    def _without(self, ask: str) -> None:
        asks = self.head.asks or {}
        if ask in asks:
            left = {name: step for name, step in asks.items() if name != ask}
            self.head = replace(self.head, asks=left or None)


_HEARD: Mapping[type[e.Event], Callable[[_Change, Any], None]] = {
    e.ContextPinned: _Change.pin,
    e.GenerationRequested: _Change.request,
    e.GenerationCompleted: _Change.complete,
    e.GenerationFailed: _Change.spend,
    e.GenerationAbandoned: _Change.spend,
    e.GenerationSuperseded: _Change.spend,
    e.ToolCallRequested: _Change.call,
    e.SamplingRequested: _Change.ask,
    e.SamplingEnded: _Change.sample,
    e.SamplingSettled: _Change.settle,
    e.StepEnded: _Change.end,
    e.RunCompleted: _Change.rest,
    e.RunStopped: _Change.rest,
    e.RunFailed: _Change.rest,
    e.RunCancelled: _Change.rest,
}
"""What steps hear of; all else, and what this release does not know, changes nothing (C17)."""
