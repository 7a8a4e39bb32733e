"""The view of jobs: each as its root is, with the sums over all its runs. Not the runs themselves.

A job has one root run. What the others do only adds to the sums, so it does not matter in which
order their envelopes come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Column, Index, MetaData, Table, Text, literal_column

from domain import events as e
from domain.asks import Elicitation
from domain.envelope import Envelope
from domain.folds.calls import COUNTED
from domain.ids import RunRef
from projections.columns import key, maybe_number, maybe_text, number, text
from projections.view import Add, Change, Folded, Put, Seen, Value
from projections.views.showing import shown_parts
from projections.views.spending import (
    SPENDING,
    SPENDING_COLUMNS,
    Spending,
    columns_of,
    spent,
)

QUERY_CHARS_MAX = 500
"""How much of what it was asked a job shows."""


@dataclass(frozen=True, slots=True)
class JobHead:
    """What a run of the job has to remember to add itself to it once."""

    seq: int  # of its first envelope
    root: bool
    seen: bool = False  # whether it counts as a run of the job
    told: bool = False  # whether the job shows what it was asked
    running: bool = False
    waits: tuple[str, ...] = ()  # what waits for a person; of a call's own asks `call/ask`
    step: int = 0
    calls: tuple[str, ...] = ()  # that are open and count


class JobsView:
    """One row a job."""

    name = "jobs"
    version = 1
    hears_deletions = False

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """The one table; listed by when the job was begun, newest first."""
        name = f"jobs{suffix}"
        return {
            "jobs": Table(
                name,
                metadata,
                key("tenant"),
                key("job"),
                number("first_seq"),
                text("run"),
                text("expert"),
                text("definition"),
                Column("status", Text, nullable=False, server_default="new"),
                text("query"),
                number("started_at_ms"),
                number("updated_at_ms"),
                maybe_number("ended_at_ms"),
                *map(number, ("runs", "running", "waiting", "steps", "tool_calls")),
                *map(number, SPENDING_COLUMNS),
                maybe_text("forked_from"),
                Index(f"{name}_newest", "tenant", "first_seq"),
                Index(f"{name}_by_status", "tenant", "status", "first_seq"),
                Index(f"{name}_by_expert", "tenant", "expert", "first_seq"),
                Index(
                    f"{name}_waiting",
                    "tenant",
                    "first_seq",
                    sqlite_where=literal_column("waiting") > literal_column("0"),
                    postgresql_where=literal_column("waiting") > literal_column("0"),
                ),
                Index(f"{name}_forks", "tenant", "forked_from", "first_seq"),
                sqlite_with_rowid=False,
            )
        }

    def fresh(self, ref: RunRef, seq: int) -> JobHead:
        """A root has the name of its job; an embedding program may do without."""
        return JobHead(seq, root=ref.run == ref.job)

    def load(self, data: str) -> JobHead:
        """The head that `dump` wrote."""
        raw: dict[str, Any] = orjson.loads(data)
        raw["waits"], raw["calls"] = tuple(raw["waits"]), tuple(raw["calls"])
        return JobHead(**raw)

    def dump(self, head: JobHead) -> str:
        """The head as JSON."""
        return orjson.dumps(head).decode()

    def fold(self, head: JobHead, seen: Seen) -> Folded[JobHead]:
        """The row of the run's job after one more envelope."""
        change = _Change(head, seen)
        if seen.envelope is not None:
            change.hear(seen.envelope)
        return Folded(change.head, change.changes())


class _Change:
    """What one envelope does to a job, while it is read."""

    def __init__(self, head: JobHead, seen: Seen) -> None:
        self._before = head
        self._ref = seen.ref
        self._at_ms = 0
        self._puts: dict[str, Value] = {}
        self._adds: dict[str, int] = {}
        self.head = head
        if not head.seen:
            self.head = replace(head, seen=True)
            self._adds["runs"] = 1
            if head.root:
                self._be_root()

    def hear(self, envelope: Envelope) -> None:
        """All its events, in order."""
        self._at_ms = self._puts["updated_at_ms"] = envelope.at_ms
        if not self._before.seen and self._before.root:
            self._puts["started_at_ms"] = envelope.at_ms
        for event in envelope.events:
            hear = _HEARD.get(type(event))
            if hear is not None:
                hear(self, event)

    def changes(self) -> tuple[Change, ...]:
        """The row's, with what has changed in how many runs are at work and wait."""
        before, after = self._before, self.head
        self.grow("running", after.running - before.running)
        self.grow("waiting", bool(after.waits) - bool(before.waits))
        row = {"tenant": self._ref.tenant, "job": self._ref.job}
        grown = {name: more for name, more in self._adds.items() if more}
        found: list[Change] = []
        if self._puts:
            found.append(Put("jobs", row, self._puts))
        if grown:
            found.append(Add("jobs", row, grown))
        return tuple(found)

    def grow(self, name: str, more: int) -> None:
        """A column has grown."""
        self._adds[name] = self._adds.get(name, 0) + more

    def spend(self, event: Spending) -> None:
        """A call of the model was paid for, or the charge of one settled."""
        for name, more in columns_of(spent(event)).items():
            self.grow(name, more)

    # ------------------------------------------------------------------ steps and calls

    def step(self, event: e.GenerationRequested) -> None:
        """An attempt: of a step that is begun with it, or of the one there is."""
        if event.step > self.head.step:
            self.grow("steps", event.step - self.head.step)
            self.head = replace(self.head, step=event.step)

    def call(self, event: e.ToolCallRequested) -> None:
        """A call counts as soon as it is asked for."""
        if event.lane in COUNTED:
            self.grow("tool_calls", 1)
            self.head = replace(self.head, calls=(*self.head.calls, event.call))

    def end_call(self, event: e.ToolCallEnded) -> None:
        """One that was refused never ran, and does not count after all."""
        calls = self.head.calls
        if event.call in calls:
            if event.outcome == "refused":
                self.grow("tool_calls", -1)
            left = tuple(name for name in calls if name != event.call)
            self.head = replace(self.head, calls=left)
        self._without(event.call)

    # ------------------------------------------------------------------ people

    def need_approval(self, event: e.ApprovalRequested) -> None:
        """A call, or a soft limit, waits."""
        self._wait(event.approval)

    def need_answer(self, event: e.QuestionAsked) -> None:
        """A question waits."""
        self._wait(event.call)

    def be_asked(self, event: e.ToolCallAsked) -> None:
        """A tool waits for a person, or for the model, which is nobody's wait."""
        if isinstance(event.about, Elicitation):
            self._wait(f"{event.call}/{event.ask}")

    def decide(self, event: e.ApprovalDecided) -> None:
        """That wait is over."""
        self._without(event.approval)

    def answer(self, event: e.QuestionAnswered) -> None:
        """That wait is over."""
        self._without(event.call)

    def answer_ask(self, event: e.ToolCallAnswered) -> None:
        """That wait is over."""
        self._without(f"{event.call}/{event.ask}")

    def _wait(self, name: str) -> None:
        self.head = replace(self.head, waits=(*self.head.waits, name))

    def _without(self, name: str) -> None:
        """Nobody waits for it any more, nor for what is asked in the call of that name."""
        waits = self.head.waits
        if waits:
            below = f"{name}/"
            left = tuple(one for one in waits if one != name and not one.startswith(below))
            self.head = replace(self.head, waits=left)

    # ------------------------------------------------------------------ from start to rest

    def start(self, event: e.RunStarted) -> None:
        """The root, or another run of the job."""
        self.head = replace(self.head, root=event.parent is None, running=True)
        self._begin(event)

    def fork(self, event: e.RunForked) -> None:
        """A root whose steps so far are its source's."""
        self.head = replace(self.head, root=True, running=True, step=event.step)
        self._begin(event)
        self._puts["forked_from"] = event.source.job

    def _begin(self, event: e.RunStarted | e.RunForked) -> None:
        if self.head.root:
            self._be_root()
            self._puts["started_at_ms"] = self._at_ms
            self._puts["expert"] = event.expert
            self._puts["definition"] = event.definition
        self._turn("running", None)

    def _be_root(self) -> None:
        self._puts["run"] = self._ref.run
        self._puts["first_seq"] = self.head.seq

    def be_told(self, event: e.InputReceived) -> None:
        """The first words of a person are what the job is about."""
        head = self.head
        if head.root and not head.told and event.speaker != "runtime":
            self._puts["query"] = shown_parts(event.parts, QUERY_CHARS_MAX)
            self.head = replace(head, told=True)

    def be_cancelled(self, event: e.CancelRequested) -> None:
        """What is cancelled before it started says here whose child it would have been."""
        head = self.head
        if event.parent is not None:
            self.head = replace(head, root=False)
        elif not self._before.seen and not head.running:
            self.head = replace(head, root=True)
            self._be_root()
            self._puts["started_at_ms"] = self._at_ms

    def go_on(self, _: e.RunContinued) -> None:
        """At work again."""
        self.head = replace(self.head, running=True)
        self._turn("running", None)

    def complete(self, _: e.RunCompleted) -> None:
        """At rest."""
        self._rest("completed")

    def stop(self, _: e.RunStopped) -> None:
        """At rest."""
        self._rest("stopped")

    def fail(self, _: e.RunFailed) -> None:
        """At rest."""
        self._rest("failed")

    def cancel(self, _: e.RunCancelled) -> None:
        """At rest."""
        self._rest("cancelled")

    def _rest(self, status: str) -> None:
        self.head = replace(self.head, running=False, waits=(), calls=())
        self._turn(status, self._at_ms)

    def _turn(self, status: str, ended_at_ms: int | None) -> None:
        if self.head.root:
            self._puts["status"] = status
            self._puts["ended_at_ms"] = ended_at_ms


_HEARD: Mapping[type[e.Event], Callable[[_Change, Any], None]] = {
    **dict.fromkeys(SPENDING, _Change.spend),
    e.GenerationRequested: _Change.step,
    e.ToolCallRequested: _Change.call,
    e.ToolCallEnded: _Change.end_call,
    e.ApprovalRequested: _Change.need_approval,
    e.QuestionAsked: _Change.need_answer,
    e.ToolCallAsked: _Change.be_asked,
    e.ApprovalDecided: _Change.decide,
    e.QuestionAnswered: _Change.answer,
    e.ToolCallAnswered: _Change.answer_ask,
    e.RunStarted: _Change.start,
    e.RunForked: _Change.fork,
    e.InputReceived: _Change.be_told,
    e.CancelRequested: _Change.be_cancelled,
    e.RunContinued: _Change.go_on,
    e.RunCompleted: _Change.complete,
    e.RunStopped: _Change.stop,
    e.RunFailed: _Change.fail,
    e.RunCancelled: _Change.cancel,
}
"""What a job hears of; all else, and what this release does not know, changes nothing (C17)."""
