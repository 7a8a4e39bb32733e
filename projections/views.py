"""The view of runs and checkpoints as pure folds of envelopes. Not storage: `sqlite` is.

A view never reads what it does not show, and an event it does not know only counts as a version.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from domain import events as e
from domain.asks import Elicitation
from domain.content import BlobRef, text_of
from domain.envelope import FIRST_HASH, Envelope, decode, hash_of
from domain.errors import IntegrityViolated
from domain.ids import RunRef
from domain.limits import Usage
from domain.state import Status
from eventlog.port import Stored

QUERY_CHARS_MAX = 500
RESULT_CHARS_MAX = 32 * 1024
FAILURE_CHARS_MAX = 2_000
"""How much of a text a row holds, in characters; results above are in BLOBS, by digest."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as people list it. `version` and `head` are those of its last envelope."""

    tenant: str
    job: str
    run: str
    first_seq: int  # stream sequence of the first envelope: the order runs are listed in
    version: int = 0
    head: str = FIRST_HASH
    status: Status = "new"
    expert: str = ""
    definition: str = ""
    parent_run: str | None = None
    parent_call: str | None = None
    depth: int = 0
    provider: str = ""
    model: str = ""
    query: str = ""  # the beginning of the first input
    step: int = 0
    steps_max: int = 0
    started_at_ms: int = 0
    updated_at_ms: int = 0
    ended_at_ms: int | None = None
    cancel_requested_at_ms: int | None = None
    paused_at_ms: int | None = None
    waiting: str = ""  # ids of what waits for a person, with spaces between them
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    tokens_charged: int = 0  # what counts against the budget, children included
    money_charged: int = 0  # micro-USD, children included
    result: str | None = None
    result_digest: str | None = None  # the blob that holds a large result
    stopped_by: str | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    unknown_events: int = 0  # written by a newer release, carried opaque (C17)
    source_job: str | None = None  # of a fork: the job of the run whose past it has
    source_run: str | None = None
    source_version: int | None = None  # up to there
    source_step: int | None = None
    integrity: str | None = None  # what is wrong with the stored history; None: sound

    @property
    def ref(self) -> RunRef:
        """The full name."""
        return RunRef(self.tenant, self.job, self.run)

    @property
    def usage(self) -> Usage:
        """What the providers reported so far."""
        return Usage(
            input=self.input_tokens,
            output=self.output_tokens,
            reasoning=self.reasoning_tokens,
            cached=self.cached_tokens,
            cache_written=self.cache_written_tokens,
        )


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """The end of a step: where a run can be looked at again."""

    tenant: str
    job: str
    run: str
    step: int
    version: int
    at_ms: int
    tokens: int  # input and output of the run up to here


class Change(NamedTuple):
    """What one envelope does to the view; `violation` names what is wrong with it, if anything."""

    row: RunRow
    checkpoints: tuple[CheckpointRow, ...] = ()
    violation: str | None = None


def project(row: RunRow | None, stored: Stored) -> Change:
    """The change one stored envelope makes. Never fails: what is wrong is marked on the row."""
    row = row or RunRow(*stored.ref, first_seq=stored.seq)
    try:
        envelope = decode(stored.data)
    except IntegrityViolated as error:
        return _marked(Change(row), str(error))
    if envelope.ref != stored.ref:
        return _marked(Change(row), f"holds an envelope of run {envelope.ref.run!r}")
    change = fold(row, envelope)
    head = hash_of(stored.data)
    change = change._replace(row=replace(change.row, head=head))
    return _marked(change, _broken(row, envelope))


def fold(row: RunRow, envelope: Envelope) -> Change:
    """The row and the new checkpoints after a decoded envelope."""
    checkpoints: list[CheckpointRow] = []
    started_at_ms = envelope.at_ms if row.version == 0 else row.started_at_ms
    row = replace(row, updated_at_ms=envelope.at_ms, started_at_ms=started_at_ms)
    for version, event in enumerate(envelope.events, start=envelope.version):
        row = replace(_after(row, event), version=version)
        if isinstance(event, e.StepEnded):
            at = (event.step, version, envelope.at_ms, row.usage.tokens)
            checkpoints.append(CheckpointRow(*row.ref, *at))
    return Change(row, tuple(checkpoints))


def _broken(row: RunRow, envelope: Envelope) -> str | None:
    """What is missing between the row and its next envelope."""
    if envelope.version != row.version + 1:
        return f"version {envelope.version} follows version {row.version}"
    if envelope.prev != row.head and row.integrity is None:
        return f"version {envelope.version} does not name the envelope before it"
    return None


def _marked(change: Change, violation: str | None) -> Change:
    """The change with its row marked; the first violation of a run is the one that stays."""
    if violation is None:
        return change
    row = replace(change.row, integrity=change.row.integrity or violation)
    return change._replace(row=row, violation=violation)


def _after(row: RunRow, event: e.Event) -> RunRow:
    match event:
        case e.OpaqueEvent():
            return replace(row, unknown_events=row.unknown_events + 1)
        case e.RunForked():
            return _forked(row, event)
        case e.RunStarted() | e.ContextPinned() | e.InputReceived() | e.GenerationRequested():
            return _begun(row, event)
        case (
            e.RunContinued()
            | e.CancelRequested()
            | e.RunCompleted()
            | e.RunStopped()
            | e.RunFailed()
            | e.RunCancelled()
        ):
            return _moved(row, event)
        case (
            e.ApprovalRequested()
            | e.ApprovalDecided()
            | e.QuestionAsked()
            | e.QuestionAnswered()
            | e.ToolCallAsked()
            | e.ToolCallAnswered()
            | e.ToolCallEnded()
            | e.RunPaused()
            | e.RunResumed()
        ):
            return _held(row, event)
        case _:
            return _spent(row, event)


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
            return replace(row, paused_at_ms=row.updated_at_ms)
        case e.RunResumed():
            return replace(row, paused_at_ms=None)
        case e.ApprovalRequested():
            return replace(row, waiting=f"{row.waiting} {event.approval}".strip())
        case e.QuestionAsked():
            return replace(row, waiting=f"{row.waiting} {event.call}".strip())
        case e.ToolCallAsked():
            person = isinstance(event.about, Elicitation)
            name = f"{event.call}/{event.ask}" if person else ""
            return replace(row, waiting=f"{row.waiting} {name}".strip())
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
    names = row.waiting.split()
    left = [one for one in names if one != name and not one.startswith(f"{name}/")]
    return replace(row, waiting=" ".join(left))


def _forked(row: RunRow, event: e.RunForked) -> RunRow:
    return replace(
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


def _begun(
    row: RunRow, event: e.RunStarted | e.ContextPinned | e.InputReceived | e.GenerationRequested
) -> RunRow:
    """The row after what a run, or a step of it, begins with."""
    match event:
        case e.RunStarted():
            return replace(
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
            return replace(row, provider=event.model.provider, model=event.model.model)
        case e.InputReceived():
            said = "" if event.speaker == "runtime" else text_of(event.parts)[:QUERY_CHARS_MAX]
            return replace(row, query=row.query or said)
        case e.GenerationRequested():
            return replace(row, step=event.step)


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
    ended = replace(row, ended_at_ms=row.updated_at_ms, waiting="", paused_at_ms=None)
    match event:
        case e.RunContinued():
            return _continued(row, event)
        case e.CancelRequested():
            return replace(row, cancel_requested_at_ms=row.updated_at_ms)
        case e.RunCompleted():
            return _completed(ended, event)
        case e.RunStopped():
            return replace(ended, status="stopped", stopped_by=event.limit)
        case e.RunFailed():
            kind, message = event.failure.kind, event.failure.message[:FAILURE_CHARS_MAX]
            return replace(ended, status="failed", failure_kind=kind, failure_message=message)
        case e.RunCancelled():
            return replace(ended, status="cancelled")


def _continued(row: RunRow, event: e.RunContinued) -> RunRow:
    return replace(
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
        return replace(row, status="completed", result_digest=event.result.digest)
    return replace(row, status="completed", result=event.result[:RESULT_CHARS_MAX])


def _spent(row: RunRow, event: e.Event) -> RunRow:
    """The row after an event that settles a charge; any other leaves it as it is."""
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
        case _:
            return row


def _used(row: RunRow, usage: Usage | None, charged: int, money: int) -> RunRow:
    used = row.usage.plus(usage) if usage else row.usage
    return replace(
        row,
        input_tokens=used.input,
        output_tokens=used.output,
        reasoning_tokens=used.reasoning,
        cached_tokens=used.cached,
        cache_written_tokens=used.cache_written,
        tokens_charged=row.tokens_charged + charged,
        money_charged=row.money_charged + money,
    )
