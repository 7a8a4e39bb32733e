"""The view of what people asked and decided: who, when, what about. Not what came of it.

What a run hears from the run above it is recorded there, with the name of who said it; here it is
left out, as are ends that nobody asked for, such as that of a limit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Index, MetaData, Table

from domain import events as e
from domain.content import BlobRef
from domain.envelope import Envelope
from domain.ids import RunRef
from projections.columns import key, key_number, number, text
from projections.view import Change, Folded, Put, Seen, Value
from projections.views.showing import in_a_line, shown_parts

DETAIL_CHARS_MAX = 200
"""How much of what was said or why an entry shows."""

ORDER = ("at_ms", "seq", "index")
"""How acts are listed."""

STEER = "steer_run.v1"
"""The command that says something to a run at work; what else says something is `said`."""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """Whether a run answers another one's call: then most of what it hears is from there."""

    child: bool = False


class AuditView:
    """One row an act of a person."""

    name = "audit"
    version = 1
    hears_deletions = True

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """The one table, by time."""
        name = f"audit{suffix}"
        return {
            "audit": Table(
                name,
                metadata,
                key("tenant"),
                key_number("seq"),
                key_number("index"),
                number("at_ms"),
                *map(text, ("job", "run", "action", "what", "name", "via", "detail")),
                Index(f"{name}_newest", "tenant", *ORDER),
                Index(f"{name}_by_name", "tenant", "name", *ORDER),
                Index(f"{name}_by_job", "tenant", "job", *ORDER),
                Index(f"{name}_by_action", "tenant", "action", *ORDER),
                sqlite_with_rowid=False,
            )
        }

    def fresh(self, ref: RunRef, seq: int) -> AuditHead:  # noqa: ARG002 - of any run
        """A root, until it says otherwise."""
        return AuditHead()

    def load(self, data: str) -> AuditHead:
        """The head that `dump` wrote."""
        return AuditHead(**orjson.loads(data))

    def dump(self, head: AuditHead) -> str:
        """The head as JSON."""
        return orjson.dumps(head).decode()

    def fold(self, head: AuditHead, seen: Seen) -> Folded[AuditHead]:
        """The acts that one more envelope records."""
        if seen.envelope is None:
            return Folded(head)
        change = _Change(head, seen)
        change.hear(seen.envelope)
        return Folded(change.head, tuple(change.found))


class _Change:
    """The acts of one envelope, while it is read."""

    def __init__(self, head: AuditHead, seen: Seen) -> None:
        self.head = head
        self.found: list[Change] = []
        self._seen = seen
        self._index = 0
        self._at_ms = 0
        self._steered = False
        self._inherited = False  # whether it is what the run above says
        self._opened: dict[str, Value] | None = None  # the act that the words to come belong to

    def hear(self, envelope: Envelope) -> None:
        """All its events, in order."""
        self._at_ms = envelope.at_ms
        self._steered = envelope.cause.type == STEER
        for index, event in enumerate(envelope.events):
            hear = _HEARD.get(type(event))
            if hear is not None:
                self._index = index
                hear(self, event)

    def _add(self, action: str, what: str, by: e.Principal, detail: str = "") -> dict[str, Value]:
        ref = self._seen.ref
        values: dict[str, Value] = {
            "at_ms": self._at_ms,
            "job": ref.job,
            "run": ref.run,
            "action": action,
            "what": what,
            "name": by.name,
            "via": by.via,
            "detail": in_a_line(detail, DETAIL_CHARS_MAX),
        }
        place: dict[str, Value] = {
            "tenant": ref.tenant,
            "seq": self._seen.seq,
            "index": self._index,
        }
        self.found.append(Put("audit", place, values))
        return values

    def start(self, event: e.RunStarted) -> None:
        """A person starts a root; a child is the doing of its parent's model."""
        self.head = AuditHead(child=event.parent is not None)
        if event.parent is None:
            self._opened = self._add("started", event.command, event.by)

    def fork(self, event: e.RunForked) -> None:
        """A person goes on from another run's past."""
        self._opened = self._add("forked", event.command, event.by)
        source = event.source
        self._opened["detail"] = f"run {source.run} of job {source.job}, version {source.version}"

    def go_on(self, event: e.RunContinued) -> None:
        """A person has a run at rest go on."""
        self._opened = self._add("continued", event.command, event.by)

    def say(self, event: e.InputReceived) -> None:
        """A person says something: with the act it rides with, or as an act of its own."""
        if event.speaker != "user":
            return
        words = in_a_line(shown_parts(event.parts, 4 * DETAIL_CHARS_MAX), DETAIL_CHARS_MAX)
        if self._opened is None:
            self._add("steered" if self._steered else "said", event.input, event.by, words)
        else:
            self._opened["detail"] = self._opened["detail"] or words

    def answer(self, event: e.QuestionAnswered) -> None:
        """A person answers a question, or nobody did in time."""
        action = "expired" if event.expired else "answered"
        words = shown_parts(event.parts, 4 * DETAIL_CHARS_MAX)
        self._add(action, event.call, event.by, words)

    def answer_ask(self, event: e.ToolCallAnswered) -> None:
        """A person answers what a tool asks; what the model says to it is nobody's act."""
        if event.source == "person":
            self._add("answered", event.ask, event.by, event.action)
        elif event.source == "expired":
            self._add("expired", event.ask, event.by)

    def decide(self, event: e.ApprovalDecided) -> None:
        """A person, or a rule that one gave later, decides; or nobody did in time."""
        if event.verdict == "withdrawn":
            return
        detail = f"by a rule: {event.reason}" if event.by_rule else event.reason
        arguments = event.arguments
        if arguments is not None:
            shown = arguments.digest if isinstance(arguments, BlobRef) else arguments
            detail = f"{detail} {shown}" if detail else shown
        self._add(event.verdict, event.approval, event.by, detail)

    def inherit(self, _: e.StandingAdopted) -> None:
        """What follows was said to a run above this one."""
        self._inherited = True

    def change_policy(self, event: e.PolicyChanged) -> None:
        """A person gives the run rules."""
        if not self._inherited:
            self._add("policy_changed", event.command, event.by, f"{len(event.rules)} rules")

    def pause(self, event: e.RunPaused) -> None:
        """A person holds the run."""
        if not self._inherited:
            self._add("paused", event.command, event.by)

    def resume(self, event: e.RunResumed) -> None:
        """A person lets it go on."""
        if not self._inherited:
            self._add("resumed", event.command, event.by)

    def cancel(self, event: e.CancelRequested) -> None:
        """A person stops it: not a limit, and not the run above."""
        above = event.parent is not None or (self.head.child and event.by == e.NOBODY)
        if event.limit is None and not above:
            self._add("cancelled", event.command, event.by, event.reason)

    def delete(self, event: e.RunDeleted) -> None:
        """Somebody deletes the job; what was done to it before is in no row any more."""
        self._add("deleted", event.command, event.by, f"runs: {event.runs}")


_HEARD: Mapping[type[e.Event], Callable[[_Change, Any], None]] = {
    e.RunStarted: _Change.start,
    e.RunForked: _Change.fork,
    e.RunContinued: _Change.go_on,
    e.InputReceived: _Change.say,
    e.QuestionAnswered: _Change.answer,
    e.ToolCallAnswered: _Change.answer_ask,
    e.ApprovalDecided: _Change.decide,
    e.StandingAdopted: _Change.inherit,
    e.PolicyChanged: _Change.change_policy,
    e.RunPaused: _Change.pause,
    e.RunResumed: _Change.resume,
    e.CancelRequested: _Change.cancel,
    e.RunDeleted: _Change.delete,
}
"""What is an act; all else, and what this release does not know, is none (C17)."""
