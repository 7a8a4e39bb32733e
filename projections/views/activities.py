"""The view of activities: what an expert did, as people follow it. Not the log: that says it all.

An activity is named by the version of the event it came with. What becomes of it, such as the
outcome of a call, changes its status.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Index, MetaData, Table

from domain import events as e
from domain.asks import Elicitation
from domain.base_tools import BASE_TOOLS
from domain.definition import BASE_SKILL
from domain.envelope import Envelope
from domain.folds.generation import HELD_BACK
from domain.ids import RunRef
from domain.tools import Lane
from projections.columns import key, key_number, maybe_number, maybe_text, number, text
from projections.view import Change, Folded, Put, Seen, Value
from projections.views.showing import (
    arguments_line,
    in_a_line,
    said,
    shown,
    shown_parts,
    thought,
)

REASONING_CHARS_MAX = 2_000
SUMMARY_CHARS_MAX = 500
"""How much an activity shows of what was thought, and how long its line is."""


@dataclass(frozen=True, slots=True)
class ActivitiesHead:
    """Who acts, and which activities may yet change, by what they are about."""

    expert: str = ""
    parent: str | None = None
    open: Mapping[str, int] | None = None  # versions by call, `=approval`, `?ask` and PAUSE


PAUSE = "/"
"""Under this name is the pause that a run is in: no call has such an id."""


class ActivitiesView:
    """One row an activity."""

    name = "activities"
    version = 1
    hears_deletions = False

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """The one table, by run; of a job, in the order of the log."""
        name = f"activities{suffix}"
        return {
            "activities": Table(
                name,
                metadata,
                *map(key, ("tenant", "job", "run")),
                key_number("version"),
                number("seq"),
                number("at_ms"),
                text("type"),
                text("expert"),
                maybe_text("delegated_by"),
                text("reasoning"),
                text("summary"),
                maybe_text("call"),
                text("status"),
                maybe_number("ended_at_ms"),
                Index(f"{name}_of_job", "tenant", "job", "seq", "version"),
                sqlite_with_rowid=False,
            )
        }

    def fresh(self, ref: RunRef, seq: int) -> ActivitiesHead:  # noqa: ARG002 - of any run
        """Nobody has done anything yet."""
        return ActivitiesHead()

    def load(self, data: str) -> ActivitiesHead:
        """The head that `dump` wrote."""
        return ActivitiesHead(**orjson.loads(data))

    def dump(self, head: ActivitiesHead) -> str:
        """The head as JSON."""
        return orjson.dumps(head).decode()

    def fold(self, head: ActivitiesHead, seen: Seen) -> Folded[ActivitiesHead]:
        """The activities of one more envelope, and what it says of earlier ones."""
        if seen.envelope is None:
            return Folded(head)
        change = _Change(head, seen.seq, seen.envelope)
        ref = seen.ref
        run = {"tenant": ref.tenant, "job": ref.job, "run": ref.run}
        changes: tuple[Change, ...] = tuple(
            Put("activities", {**run, "version": version}, row)
            for version, row in change.rows.items()
        )
        return Folded(change.close(), changes)


class _Change:
    """What one envelope adds and changes, while it is read."""

    def __init__(self, head: ActivitiesHead, seq: int, envelope: Envelope) -> None:
        self.rows: dict[int, dict[str, Value]] = {}
        self._head = head
        self._open = dict(head.open or {})
        self._told: dict[str, int] = {}  # activities that the outcome of a call is told in
        self._reasoning = ""  # of the reply whose calls come next
        self._fails = any(type(event) is e.RunFailed for event in envelope.events)
        self._seq = seq
        self._at_ms = envelope.at_ms
        for version, event in enumerate(envelope.events, start=envelope.version):
            hear = _HEARD.get(type(event))
            if hear is not None:
                hear(self, event, version)

    def close(self) -> ActivitiesHead:
        """The head after all events."""
        left = self._open or None
        return self._head if left == self._head.open else replace(self._head, open=left)

    def _add(self, version: int, kind: str, summary: str, status: str, call: str = "") -> None:
        self.rows[version] = {
            "seq": self._seq,
            "at_ms": self._at_ms,
            "type": kind,
            "expert": self._head.expert,
            "delegated_by": self._head.parent,
            "reasoning": self._reasoning,
            "summary": summary,
            "call": call or None,
            "status": status,
        }
        self._reasoning = ""  # it is told once, with the first thing that came of it

    def _turn(self, name: str, status: str) -> None:
        version = self._open.get(name)
        if version is not None:
            self.rows.setdefault(version, {})["status"] = status

    def _end(self, name: str, status: str) -> None:
        self._turn(name, status)
        version = self._open.pop(name, None)
        if version is not None:
            self.rows[version]["ended_at_ms"] = self._at_ms

    # ------------------------------------------------------------------ the run

    def start(self, event: e.RunStarted, _: int) -> None:
        """Who acts from here on."""
        parent = event.parent.run if event.parent else None
        self._head = replace(self._head, expert=event.expert, parent=parent)

    def fork(self, event: e.RunForked, version: int) -> None:
        """It goes on from another run's past."""
        self._head = replace(self._head, expert=event.expert)
        self._add(version, "forked", f"run {event.source.run}, step {event.step}", "forked")

    def hear(self, event: e.InputReceived, version: int) -> None:
        """What a person or the caller wants; a note of the runtime is no query."""
        if event.speaker != "runtime":
            line = in_a_line(shown_parts(event.parts, 4 * SUMMARY_CHARS_MAX), SUMMARY_CHARS_MAX)
            self._add(version, "query", line, event.speaker)

    def pause(self, _: e.RunPaused, version: int) -> None:
        """Nothing new begins."""
        self._add(version, "paused", "", "paused")
        self._open[PAUSE] = version

    def resume(self, _: e.RunResumed, __: int) -> None:
        """It goes on."""
        self._end(PAUSE, "resumed")

    def complete(self, event: e.RunCompleted, version: int) -> None:
        """The result."""
        result = shown(event.result, 4 * SUMMARY_CHARS_MAX)
        self._add(version, "complete", in_a_line(result, SUMMARY_CHARS_MAX), "completed")
        self._rest()

    def fail(self, event: e.RunFailed, version: int) -> None:
        """Why it cannot go on."""
        line = in_a_line(event.failure.message, SUMMARY_CHARS_MAX)
        self._add(version, "error", line, event.failure.kind)
        self._rest()

    def stop(self, event: e.RunStopped, version: int) -> None:
        """Which limit was reached."""
        self._add(version, "stopped", f"limit of {event.limit}", event.limit)
        self._rest()

    def cancel(self, _: e.RunCancelled, version: int) -> None:
        """It was stopped from outside."""
        self._add(version, "cancelled", "", "cancelled")
        self._rest()

    def _rest(self) -> None:
        """What a run at rest has open is over without a word, such as its pause."""
        for name in tuple(self._open):
            self._end(name, "over")

    # ------------------------------------------------------------------ the model

    def reply(self, event: e.GenerationCompleted, _: int) -> None:
        """Why it does what it does: its thoughts, or else what it says beside its calls."""
        reasoning = thought(event.parts, REASONING_CHARS_MAX)
        if not reasoning and event.stop_reason == "tool_calls":
            reasoning = said(event.parts, REASONING_CHARS_MAX)
        self._reasoning = reasoning

    def retry(self, event: e.GenerationFailed, version: int) -> None:
        """An attempt in vain, unless the run fails with it; being held back is none."""
        kind = event.failure.kind
        if not self._fails and kind not in HELD_BACK:
            line = in_a_line(event.failure.message, SUMMARY_CHARS_MAX)
            self._add(version, "retry", line, kind)

    def lose(self, event: e.GenerationAbandoned, version: int) -> None:
        """The worker that waited for the reply is gone."""
        if event.reason == "holder_lost":
            self._add(version, "retry", "the worker that asked was lost", event.reason)

    # ------------------------------------------------------------------ calls

    def call(self, event: e.ToolCallRequested, version: int) -> None:
        """A tool, a delegate or a person is called."""
        line = arguments_line(event.arguments, SUMMARY_CHARS_MAX)
        kind = _kind_of(event)
        if kind in ("generalTool", "interactiveTool", "delegate"):
            line = in_a_line(f"{event.tool} {line}", SUMMARY_CHARS_MAX)
        self._add(version, kind, line, "requested", event.call)
        self._open[event.call] = version

    def claim(self, event: e.ToolCallClaimed, _: int) -> None:
        """Somebody is at it."""
        self._turn(event.call, "claimed")

    def need_answer(self, event: e.QuestionAsked, _: int) -> None:
        """A person has to answer."""
        self._turn(event.call, "waiting")

    def settle(self, event: e.DelegationSettled, version: int) -> None:
        """A child came to rest; what it said is the outcome of the call, which comes next."""
        self._add(version, "delegationComplete", "", event.status, event.call)
        self._told[event.call] = version

    def end_call(self, event: e.ToolCallEnded, _: int) -> None:
        """The outcome."""
        self._end(event.call, event.outcome)
        told = self._told.pop(event.call, None)
        if told is not None:
            text = shown_parts(event.content, 4 * SUMMARY_CHARS_MAX)
            self.rows[told]["summary"] = in_a_line(text, SUMMARY_CHARS_MAX)

    # ------------------------------------------------------------------ people

    def need_approval(self, event: e.ApprovalRequested, version: int) -> None:
        """A call, or going beyond a soft limit, waits for a person."""
        about_call = event.limit is None
        what = event.reason if about_call else f"beyond {event.soft} of {event.limit}"
        line = in_a_line(what, SUMMARY_CHARS_MAX)
        self._add(version, "approval", line, "waiting", event.approval if about_call else "")
        self._open[f"={event.approval}"] = version
        self._turn(event.approval, "waiting")

    def decide(self, event: e.ApprovalDecided, _: int) -> None:
        """What the person, or a rule, said."""
        self._end(f"={event.approval}", event.verdict)
        if event.verdict in ("approved", "edited"):
            self._turn(event.approval, "requested")

    def be_asked(self, event: e.ToolCallAsked, version: int) -> None:
        """A tool asks a person in the middle of its call."""
        if isinstance(event.about, Elicitation):
            line = in_a_line(event.about.message, SUMMARY_CHARS_MAX)
            self._add(version, "interactiveTool", line, "waiting", event.call)
            self._open[f"?{event.ask}"] = version

    def be_answered(self, event: e.ToolCallAnswered, _: int) -> None:
        """What came of that."""
        answered = event.source == "person"
        self._end(f"?{event.ask}", event.action if answered else event.source)


def _kind_of(event: e.ToolCallRequested) -> str:
    if event.lane is Lane.DELEGATE:
        return "delegate"
    if event.lane is Lane.PERSON:
        return "interactiveTool"
    if event.skill == BASE_SKILL and event.tool in BASE_TOOLS:
        return event.tool
    return "generalTool"


_HEARD: Mapping[type[e.Event], Callable[[_Change, Any, int], None]] = {
    e.RunStarted: _Change.start,
    e.RunForked: _Change.fork,
    e.InputReceived: _Change.hear,
    e.RunPaused: _Change.pause,
    e.RunResumed: _Change.resume,
    e.RunCompleted: _Change.complete,
    e.RunFailed: _Change.fail,
    e.RunStopped: _Change.stop,
    e.RunCancelled: _Change.cancel,
    e.GenerationCompleted: _Change.reply,
    e.GenerationFailed: _Change.retry,
    e.GenerationAbandoned: _Change.lose,
    e.ToolCallRequested: _Change.call,
    e.ToolCallClaimed: _Change.claim,
    e.QuestionAsked: _Change.need_answer,
    e.DelegationSettled: _Change.settle,
    e.ToolCallEnded: _Change.end_call,
    e.ApprovalRequested: _Change.need_approval,
    e.ApprovalDecided: _Change.decide,
    e.ToolCallAsked: _Change.be_asked,
    e.ToolCallAnswered: _Change.be_answered,
}
"""What becomes an activity; all else, and what this release does not know, is none (C17)."""
