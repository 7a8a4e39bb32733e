"""The view of runs and of the ends of their steps. Not storage, and not the queries.

A view never reads what it does not show, and an event it does not know only counts as a version.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from operator import attrgetter
from typing import Any, NamedTuple, get_args

import orjson
from sqlalchemy import Column, Index, MetaData, Table

from domain import events as e
from domain.asks import Elicitation
from domain.content import BlobRef, text_of
from domain.envelope import Envelope
from domain.ids import RunRef
from domain.limits import Usage
from projections.columns import key, key_number, maybe_number, maybe_text, text
from projections.columns import number as number_column
from projections.rows import CheckpointRow, RunRow, changed
from projections.view import Change, Folded, Put, Seen, Value

QUERY_CHARS_MAX = 500
RESULT_CHARS_MAX = 32 * 1024
FAILURE_CHARS_MAX = 2_000
"""How much of a text a row holds, in characters; results above are in BLOBS, by digest."""


class Outcome(NamedTuple):
    """What one envelope does to a run; `violation` names what is wrong with it, if anything."""

    row: RunRow
    checkpoints: tuple[CheckpointRow, ...] = ()
    violation: str | None = None


class RunsView:
    """Runs, and their checkpoints. The head of a run is its row."""

    name = "runs"
    version = 1
    hears_deletions = False

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """`runs` and `checkpoints`."""
        runs, checkpoints = f"runs{suffix}", f"checkpoints{suffix}"
        table = Table(
            runs,
            metadata,
            *(_column(field, {"tenant", "job", "run"}) for field in fields(RunRow)),
            Index(f"{runs}_newest", "tenant", "first_seq"),
            Index(f"{runs}_by_name", "tenant", "run"),
            # What lists are filtered by: without these, what is seldom is looked for in all runs.
            Index(f"{runs}_of_job", "tenant", "job", "first_seq"),
            Index(f"{runs}_of_expert", "tenant", "expert", "first_seq"),
            Index(f"{runs}_of_status", "tenant", "status", "first_seq"),
            sqlite_with_rowid=False,
        )
        forks = table.c.source_job.is_not(None)
        Index(
            f"{runs}_forks",
            table.c.tenant,
            table.c.source_job,
            sqlite_where=forks,
            postgresql_where=forks,
        )
        return {
            "runs": table,
            "checkpoints": Table(
                checkpoints,
                metadata,
                *(
                    _column(field, {"tenant", "job", "run", "version"})
                    for field in fields(CheckpointRow)
                ),
                sqlite_with_rowid=False,
            ),
        }

    def fresh(self, ref: RunRef, seq: int) -> RunRow:
        """A run of which nothing is known."""
        return RunRow(*ref, first_seq=seq)

    def load(self, data: str) -> RunRow:
        """The row that `dump` wrote."""
        return RunRow(*orjson.loads(data))

    def dump(self, head: RunRow) -> str:
        """The row as JSON."""
        return orjson.dumps(VALUES_OF(head)).decode()

    def fold(self, head: RunRow, seen: Seen) -> Folded[RunRow]:
        """The run after one more envelope."""
        row, checkpoints, violation = project(head, seen)
        changes: list[Change] = [Put("runs", _key(row), row_values(row))]
        for point in checkpoints:
            key = _key(row) | {"version": point.version}
            values = {"step": point.step, "at_ms": point.at_ms, "tokens": point.tokens}
            changes.append(Put("checkpoints", key, values))
        return Folded(row, tuple(changes), violation)


VALUES_OF = attrgetter(*(field.name for field in fields(RunRow)))
VALUE_NAMES = tuple(field.name for field in fields(RunRow) if field.name not in RunRef._fields)
_values_of = attrgetter(*VALUE_NAMES)


def row_values(row: RunRow) -> dict[str, Value]:
    """What a row holds beside its key."""
    return dict(zip(VALUE_NAMES, _values_of(row), strict=True))


def _key(row: RunRow) -> dict[str, Value]:
    return {"tenant": row.tenant, "job": row.job, "run": row.run}


def _column(field: "Field[Any]", keys: set[str]) -> Column[Any]:
    """The column of a field of a record."""
    number = field.type in {int, int | None}
    if field.name in keys:
        return key_number(field.name) if number else key(field.name)
    if field.type in {int | None, str | None}:
        return maybe_number(field.name) if number else maybe_text(field.name)
    return number_column(field.name) if number else text(field.name)


def project(row: RunRow, seen: Seen) -> Outcome:
    """The change one envelope makes. Never fails: what is wrong is marked on the row."""
    if seen.envelope is None:
        return _marked(Outcome(row), seen.broken)
    outcome = fold(row, seen.envelope)
    outcome = outcome._replace(row=changed(outcome.row, head=seen.digest))
    return _marked(outcome, _broken(row, seen.envelope))


def fold(row: RunRow, envelope: Envelope) -> Outcome:
    """The row and the new checkpoints after a decoded envelope."""
    checkpoints: list[CheckpointRow] = []
    started_at_ms = envelope.at_ms if row.version == 0 else row.started_at_ms
    last = envelope.next_version - 1
    row = changed(row, updated_at_ms=envelope.at_ms, started_at_ms=started_at_ms, version=last)
    for version, event in enumerate(envelope.events, start=envelope.version):
        after = AFTER.get(type(event))
        row = row if after is None else after(row, event)
        if isinstance(event, e.StepEnded):
            at = (event.step, version, envelope.at_ms, row.usage.tokens)
            checkpoints.append(CheckpointRow(*row.ref, *at))
    return Outcome(row, tuple(checkpoints))


def _broken(row: RunRow, envelope: Envelope) -> str | None:
    """What is missing between the row and its next envelope."""
    if envelope.version != row.version + 1:
        return f"version {envelope.version} follows version {row.version}"
    if envelope.prev != row.head and row.integrity is None:
        return f"version {envelope.version} does not name the envelope before it"
    return None


def _marked(outcome: Outcome, violation: str | None) -> Outcome:
    """The outcome with its row marked; the first violation of a run is the one that stays."""
    if violation is None:
        return outcome
    row = changed(outcome.row, integrity=outcome.row.integrity or violation)
    return outcome._replace(row=row, violation=violation)


Holding = (
    e.ApprovalRequested
    | e.ApprovalDecided
    | e.QuestionAsked
    | e.QuestionAnswered
    | e.ToolCallAsked
    | e.ToolCallAnswered
    | e.ToolCallEnded
    | e.RunPaused
    | e.RunResumed
)


def _held(row: RunRow, event: Holding) -> RunRow:
    """The row of a run that a person holds up, or that waits for one."""
    match event:
        case e.RunPaused():
            return changed(row, paused_at_ms=row.updated_at_ms)
        case e.RunResumed():
            return changed(row, paused_at_ms=None)
        case e.ApprovalRequested():
            return changed(row, waiting=f"{row.waiting} {event.approval}".strip())
        case e.QuestionAsked():
            return changed(row, waiting=f"{row.waiting} {event.call}".strip())
        case e.ToolCallAsked():
            person = isinstance(event.about, Elicitation)
            name = f"{event.call}/{event.ask}" if person else ""
            return changed(row, waiting=f"{row.waiting} {name}".strip())
        case (
            e.ApprovalDecided(approval=over)
            | e.QuestionAnswered(call=over)
            | e.ToolCallEnded(call=over)
        ):
            return _without(row, over)
        case e.ToolCallAnswered():
            return _without(row, f"{event.call}/{event.ask}")


def _without(row: RunRow, name: str) -> RunRow:
    """The row without what waits under that name, or in the call of that name."""
    if not row.waiting:
        return row
    names = row.waiting.split()
    left = [one for one in names if one != name and not one.startswith(f"{name}/")]
    return changed(row, waiting=" ".join(left))


def _forked(row: RunRow, event: e.RunForked) -> RunRow:
    return changed(
        row,
        status="running",
        expert=event.expert,
        definition=event.definition,
        step=event.step,
        steps_max=event.limits.steps_max,
        source_job=event.source.job,
        source_run=event.source.run,
        source_version=event.source.version,
        source_step=event.step,
    )


Beginning = e.RunStarted | e.ContextPinned | e.InputReceived | e.GenerationRequested


def _begun(row: RunRow, event: Beginning) -> RunRow:
    """The row after what a run, or a step of it, begins with."""
    match event:
        case e.RunStarted():
            return changed(
                row,
                status="running",
                expert=event.expert,
                definition=event.definition,
                parent_run=event.parent.run if event.parent else None,
                parent_call=event.parent.call if event.parent else None,
                depth=event.depth,
                steps_max=event.limits.steps_max,
            )
        case e.ContextPinned():
            return changed(row, provider=event.model.provider, model=event.model.model)
        case e.InputReceived():
            said = "" if event.speaker == "runtime" else text_of(event.parts)[:QUERY_CHARS_MAX]
            return changed(row, query=row.query or said)
        case e.GenerationRequested():
            return changed(row, step=event.step)


Moving = (
    e.RunContinued
    | e.CancelRequested
    | e.RunCompleted
    | e.RunStopped
    | e.RunFailed
    | e.RunCancelled
)


def _moved(row: RunRow, event: Moving) -> RunRow:
    """The row of a run that goes to rest, or on from it."""
    ended = changed(row, ended_at_ms=row.updated_at_ms, waiting="", paused_at_ms=None)
    match event:
        case e.RunContinued():
            return _continued(row, event)
        case e.CancelRequested():
            return changed(row, cancel_requested_at_ms=row.updated_at_ms)
        case e.RunCompleted():
            return _completed(ended, event)
        case e.RunStopped():
            return changed(ended, status="stopped", stopped_by=event.limit)
        case e.RunFailed():
            kind, message = event.failure.kind, event.failure.message[:FAILURE_CHARS_MAX]
            return changed(ended, status="failed", failure_kind=kind, failure_message=message)
        case e.RunCancelled():
            return changed(ended, status="cancelled")


def _continued(row: RunRow, event: e.RunContinued) -> RunRow:
    return changed(
        row,
        status="running",
        steps_max=row.steps_max if event.steps_max is None else event.steps_max,
        ended_at_ms=None,
        cancel_requested_at_ms=None,
        result=None,
        result_digest=None,
        stopped_by=None,
        failure_kind=None,
        failure_message=None,
    )


def _completed(row: RunRow, event: e.RunCompleted) -> RunRow:
    if isinstance(event.result, BlobRef):
        return changed(row, status="completed", result_digest=event.result.digest)
    return changed(row, status="completed", result=event.result[:RESULT_CHARS_MAX])


Settling = (
    e.GenerationCompleted
    | e.GenerationFailed
    | e.GenerationAbandoned
    | e.GenerationSuperseded
    | e.SamplingEnded
    | e.SamplingSettled
    | e.DelegationSettled
)


def _spent(row: RunRow, event: Settling) -> RunRow:
    """The row after an event that settles a charge."""
    match event:
        case e.GenerationCompleted() | e.GenerationFailed():
            return _used(row, event.usage, event.charged, event.charged_money)
        case e.GenerationAbandoned():
            return _used(row, None, event.charged, event.charged_money)
        case e.SamplingEnded():
            return _used(row, event.usage, event.charged, event.charged_money)
        case e.SamplingSettled():
            return _used(row, event.usage, -event.refunded, -event.refunded_money)
        case e.GenerationSuperseded():
            return _used(row, event.usage, -event.refunded, -event.refunded_money)
        case e.DelegationSettled():
            return _used(row, None, event.tokens, event.money)


def _used(row: RunRow, usage: Usage | None, charged: int, money: int) -> RunRow:
    used = row.usage.plus(usage) if usage else row.usage
    return changed(
        row,
        input_tokens=used.input,
        output_tokens=used.output,
        reasoning_tokens=used.reasoning,
        cached_tokens=used.cached,
        cache_written_tokens=used.cache_written,
        tokens_charged=row.tokens_charged + charged,
        money_charged=row.money_charged + money,
    )


def _unknown(row: RunRow, event: e.OpaqueEvent) -> RunRow:
    del event
    return changed(row, unknown_events=row.unknown_events + 1)


After = Callable[[RunRow, Any], RunRow]

_GROUPS: tuple[tuple[Any, After], ...] = (
    (Beginning, _begun),
    (Moving, _moved),
    (Holding, _held),
    (Settling, _spent),
)

AFTER: Mapping[type, After] = {
    e.OpaqueEvent: _unknown,
    e.RunForked: _forked,
    **{kind: after for kinds, after in _GROUPS for kind in get_args(kinds)},
}
"""What an event does to a row; one that is not here does nothing."""
