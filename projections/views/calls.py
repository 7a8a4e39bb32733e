"""The view of tool calls: what was asked for, who is at it, what came of it. Not what tools do.

A call that a fork has from its source is the source's, and has no row of the fork.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Index, MetaData, Table

from domain import events as e
from domain.asks import Elicitation
from domain.envelope import Envelope
from domain.ids import RunRef
from projections.columns import flag, key, maybe_number, maybe_text, number, text
from projections.view import Change, Folded, Put, Seen, Value
from projections.views.showing import shown, shown_parts

TEXT_CHARS_MAX = 2_000
"""How much of its arguments and of its result a call shows."""

REQUESTED, WAITING, CLAIMED = "requested", "waiting", "claimed"
"""Nobody is at it; a person has to do something first; somebody is at it."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call without an outcome."""

    claimed: bool = False
    waits: tuple[str, ...] = ()  # what a person has to do: the call itself, or its asks

    @property
    def status(self) -> str:
        """What its row says."""
        if self.waits:
            return WAITING
        return CLAIMED if self.claimed else REQUESTED


@dataclass(frozen=True, slots=True)
class CallsHead:
    """The open calls of a run."""

    open: Mapping[str, OpenCall]


class CallsView:
    """One row a call."""

    name = "calls"
    version = 1
    hears_deletions = False

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """The one table, by run; of a job, in the order in which they were asked for."""
        name = f"calls{suffix}"
        return {
            "calls": Table(
                name,
                metadata,
                *map(key, ("tenant", "job", "run", "call")),
                number("seq"),
                number("version"),
                number("step"),
                *map(text, ("tool", "skill", "lane", "safety", "status")),
                *map(maybe_number, ("requested_at_ms", "claimed_at_ms", "ended_at_ms")),
                maybe_number("duration_ms"),
                text("arguments"),
                maybe_text("result"),
                flag("is_error"),
                maybe_text("child"),
                number("attempts"),
                Index(f"{name}_of_job", "tenant", "job", "seq", "version"),
                sqlite_with_rowid=False,
            )
        }

    def fresh(self, ref: RunRef, seq: int) -> CallsHead:  # noqa: ARG002 - of any run
        """No call yet."""
        return CallsHead({})

    def load(self, data: str) -> CallsHead:
        """The head that `dump` wrote."""
        raw: dict[str, dict[str, Any]] = orjson.loads(data)["open"]
        return CallsHead(
            {
                name: OpenCall(claimed=one["claimed"], waits=tuple(one["waits"]))
                for name, one in raw.items()
            }
        )

    def dump(self, head: CallsHead) -> str:
        """The head as JSON."""
        return orjson.dumps(head).decode()

    def fold(self, head: CallsHead, seen: Seen) -> Folded[CallsHead]:
        """The rows of the calls that one more envelope says something of."""
        if seen.envelope is None:
            return Folded(head)
        change = _Change(head, seen.seq, seen.envelope)
        if not change.rows:
            return Folded(head)
        ref = seen.ref
        run = {"tenant": ref.tenant, "job": ref.job, "run": ref.run}
        puts = (Put("calls", {**run, "call": name}, row) for name, row in change.rows.items())
        changes: tuple[Change, ...] = tuple(puts)
        return Folded(CallsHead(change.open), changes)


class _Change:
    """What one envelope does to the calls of a run, while it is read."""

    def __init__(self, head: CallsHead, seq: int, envelope: Envelope) -> None:
        self.rows: dict[str, dict[str, Value]] = {}
        self.open = dict(head.open)
        self._seq = seq
        self._at_ms = envelope.at_ms
        self._version = envelope.version
        for version, event in enumerate(envelope.events, start=envelope.version):
            hear = _HEARD.get(type(event))
            if hear is not None:
                self._version = version
                hear(self, event)

    def request(self, event: e.ToolCallRequested) -> None:
        """The model asked for it."""
        call = self.open[event.call] = OpenCall()
        self.rows[event.call] = {
            "seq": self._seq,
            "version": self._version,
            "step": event.step,
            "tool": event.tool,
            "skill": event.skill,
            "lane": str(event.lane),
            "safety": str(event.safety),
            "status": call.status,
            "requested_at_ms": self._at_ms,
            "arguments": shown(event.arguments, TEXT_CHARS_MAX),
            "attempts": 1,
        }

    def delegate(self, event: e.DelegationRequested) -> None:
        """A child answers it."""
        self._put(event.call, child=event.child)

    def need_approval(self, event: e.ApprovalRequested) -> None:
        """A person has to allow it; a soft limit is not a call."""
        self._wait(event.approval, event.approval)

    def decide(self, event: e.ApprovalDecided) -> None:
        """What runs is what was asked for, or what the person made of it."""
        if event.arguments is not None:
            self._put(event.approval, arguments=shown(event.arguments, TEXT_CHARS_MAX))
        self._go_on(event.approval, event.approval)

    def need_answer(self, event: e.QuestionAsked) -> None:
        """A person has to answer it."""
        self._wait(event.call, event.call)

    def be_asked(self, event: e.ToolCallAsked) -> None:
        """A person has to answer what the tool asks."""
        if isinstance(event.about, Elicitation):
            self._wait(event.call, event.ask)

    def be_answered(self, event: e.ToolCallAnswered) -> None:
        """The tool goes on."""
        self._go_on(event.call, event.ask)

    def claim(self, event: e.ToolCallClaimed) -> None:
        """Somebody is at it."""
        self._hand(event.call, claimed=True)
        self._put(event.call, claimed_at_ms=self._at_ms, attempts=event.attempt)

    def retry(self, event: e.ToolCallRetried) -> None:
        """Nobody is at it any more, and somebody is to be."""
        self._hand(event.call, claimed=False)
        self._put(event.call, attempts=event.attempt)

    def forward(self, event: e.ToolCallForwarded) -> None:
        """What is left to do is the loop's."""
        self._hand(event.call, claimed=False)
        self._put(event.call, lane="team")

    def end(self, event: e.ToolCallEnded) -> None:
        """The outcome: a call has one."""
        self._put(
            event.call,
            status=event.outcome,
            ended_at_ms=self._at_ms,
            duration_ms=event.duration_ms,
            result=shown_parts(event.content, TEXT_CHARS_MAX),
            is_error=event.is_error,
        )
        self.open.pop(event.call, None)

    def _wait(self, name: str, what: str) -> None:
        call = self.open.get(name)
        if call is not None:
            self._now(name, replace(call, waits=(*call.waits, what)))

    def _go_on(self, name: str, what: str) -> None:
        call = self.open.get(name)
        if call is not None and what in call.waits:
            left = tuple(one for one in call.waits if one != what)
            self._now(name, replace(call, waits=left))

    def _hand(self, name: str, *, claimed: bool) -> None:
        call = self.open.get(name)
        if call is not None:
            self._now(name, replace(call, claimed=claimed))

    def _now(self, name: str, call: OpenCall) -> None:
        self.open[name] = call
        self._put(name, status=call.status)

    def _put(self, name: str, **values: Value) -> None:
        """What is said of a call that is not open is said too late to change anything."""
        if name in self.open:
            self.rows.setdefault(name, {}).update(values)


_HEARD: Mapping[type[e.Event], Callable[[_Change, Any], None]] = {
    e.ToolCallRequested: _Change.request,
    e.DelegationRequested: _Change.delegate,
    e.ApprovalRequested: _Change.need_approval,
    e.ApprovalDecided: _Change.decide,
    e.QuestionAsked: _Change.need_answer,
    e.ToolCallAsked: _Change.be_asked,
    e.ToolCallAnswered: _Change.be_answered,
    e.ToolCallClaimed: _Change.claim,
    e.ToolCallRetried: _Change.retry,
    e.ToolCallForwarded: _Change.forward,
    e.ToolCallEnded: _Change.end,
}
"""What calls hear of; all else, and what this release does not know, changes nothing (C17)."""
