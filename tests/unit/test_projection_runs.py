"""How envelopes become rows of runs and checkpoints. Not how they are stored."""

from dataclasses import replace

from domain import events as e
from domain.asks import Elicitation
from domain.content import BlobRef
from domain.events import Event, Failure
from domain.ids import RunRef
from domain.limits import Usage
from eventlog.port import Stored
from projections.rows import CheckpointRow, RunRow
from projections.seeing import see
from projections.views.runs import RESULT_CHARS_MAX, Outcome
from projections.views.runs import project as projected
from tests.support.asking import SAY
from tests.support.pen import Pen, completed, continued, replied, requested, started

REF = RunRef("acme", "job1", "alpha")
UNKNOWN = e.OpaqueEvent(type="mood.changed.v7", body={"to": "sunny"})


def project(row: RunRow | None, stored: Stored) -> Outcome:
    return projected(row or RunRow(*stored.ref, first_seq=stored.seq), see(stored))


def rows(*batches: tuple[Event, ...]) -> tuple[RunRow, tuple[CheckpointRow, ...]]:
    pen, row = Pen(REF), None
    checkpoints: tuple[CheckpointRow, ...] = ()
    for seq, batch in enumerate(batches, start=1):
        row, ended, violation = project(row, Stored(seq, REF, pen.next(*batch)))
        assert violation is None
        checkpoints += ended
    assert row is not None
    return row, checkpoints


def test_a_started_run_shows_who_does_what_with_which_model() -> None:
    row, checkpoints = rows(started("team/coder", e.Parent(run="boss", call="c1-0")))
    assert (row.tenant, row.job, row.run, row.status) == (*REF, "running")
    assert (row.expert, row.provider, row.model) == ("team/coder", "scripted", "m1")
    assert (row.parent_run, row.parent_call, row.query) == ("boss", "c1-0", "go on then")
    assert (row.step, row.steps_max, row.started_at_ms, row.version) == (1, 100, 1_000, 4)
    assert checkpoints == ()


def test_the_end_of_each_step_is_a_checkpoint_at_the_version_of_its_event() -> None:
    row, checkpoints = rows(
        started(), (replied(1), e.StepEnded(step=1), requested(2)), completed(2, "42")
    )
    assert checkpoints == (
        CheckpointRow(*REF, step=1, version=6, at_ms=1_010, tokens=8),
        CheckpointRow(*REF, step=2, version=9, at_ms=1_020, tokens=16),
    )
    assert (row.status, row.result, row.ended_at_ms, row.version) == ("completed", "42", 1_020, 10)
    assert row.usage == Usage(input=14, output=2)


def test_a_continued_run_is_running_again_and_forgets_how_it_ended() -> None:
    row, _ = rows(started(), completed(1), continued())
    assert (row.status, row.result, row.ended_at_ms, row.step) == ("running", None, None, 2)
    assert row.query == "go on then"


def test_a_failure_shows_its_kind_and_the_beginning_of_its_message() -> None:
    failure = Failure(kind="auth", message="no " * 5_000)
    row, _ = rows(started(), (e.RunFailed(step=1, failure=failure),))
    assert (row.status, row.failure_kind) == ("failed", "auth")
    assert row.failure_message is not None
    assert len(row.failure_message) < len(failure.message)


def test_a_stopped_run_names_the_limit_and_a_cancelled_one_when_it_was_asked_to() -> None:
    stopped, _ = rows(started(), (e.RunStopped(limit="steps", step=1),))
    assert (stopped.status, stopped.stopped_by) == ("stopped", "steps")
    cancelled, _ = rows(started(), (e.CancelRequested(command="x"),), (e.RunCancelled(step=1),))
    assert (cancelled.status, cancelled.cancel_requested_at_ms) == ("cancelled", 1_010)


def test_a_large_result_is_named_by_digest_and_a_long_text_is_cut() -> None:
    blob = BlobRef(digest="f" * 64, size=99_000)
    row, _ = rows(started(), (e.RunCompleted(step=1, result=blob),))
    assert (row.result, row.result_digest) == (None, "f" * 64)
    row, _ = rows(started(), (e.RunCompleted(step=1, result="x" * 40_000),))
    assert len(row.result or "") == RESULT_CHARS_MAX


def test_lost_and_late_generations_and_delegates_are_charged_as_the_log_says() -> None:
    row, _ = rows(
        started(),
        (e.GenerationAbandoned(step=1, attempt=1, reason="holder_lost", charged=100),),
        (e.GenerationSuperseded(step=1, attempt=1, usage=Usage(input=30, output=10), refunded=60),),
        (e.DelegationSettled(call="c", child="x", status="completed", steps=1, tokens=5),),
    )
    assert row.tokens_charged == 45
    assert row.usage.tokens == 40


def test_events_of_a_newer_release_count_as_versions_and_change_nothing_else() -> None:
    row, checkpoints = rows(started(), (UNKNOWN, replied(1)), (UNKNOWN,), completed(2))
    plain, _ = rows(started(), (replied(1),), completed(2))
    assert (row.unknown_events, row.status, row.integrity) == (2, "completed", None)
    assert row.version == plain.version + 2
    assert [c.version for c in checkpoints] == [9]


def test_a_missing_envelope_marks_the_run_and_the_rest_still_shows() -> None:
    pen = Pen(REF)
    row, _, _ = project(None, Stored(1, REF, pen.next(*started())))
    pen.next(replied(1))
    row, _, violation = project(row, Stored(3, REF, pen.next(*completed(1, "late"))))
    assert violation == row.integrity == "version 6 follows version 4"
    assert (row.status, row.result) == ("completed", "late")
    row, _, violation = project(row, Stored(4, REF, pen.next(*continued())))
    assert violation is None
    assert row.integrity == "version 6 follows version 4"


def test_an_envelope_that_names_another_predecessor_marks_the_run() -> None:
    pen = Pen(REF)
    row, _, _ = project(None, Stored(1, REF, pen.next(*started())))
    pen.prev = "e" * 64
    row, _, violation = project(row, Stored(2, REF, pen.next(replied(1))))
    assert violation is not None
    assert row.integrity == violation


def test_bytes_nobody_can_read_and_another_runs_envelope_mark_the_run() -> None:
    row, _, violation = project(None, Stored(9, REF, b"\x00 not an envelope"))
    assert (row.ref, row.first_seq, row.version) == (REF, 9, 0)
    assert violation is not None
    other = Pen(replace_run(REF, "beta"))
    row, _, violation = project(None, Stored(1, REF, other.next(*started())))
    assert (row.status, violation) == ("new", "holds an envelope of run 'beta'")


def test_a_row_keeps_its_first_violation() -> None:
    row, _, first = project(None, Stored(1, REF, b"{}"))
    again, _, second = project(replace(row), Stored(2, REF, b"[]"))
    assert second is not None
    assert again.integrity == first


def replace_run(ref: RunRef, run: str) -> RunRef:
    return ref._replace(run=run)


def asked(name: str) -> e.ApprovalRequested:
    return e.ApprovalRequested(approval=name, digest="d" * 64)


def test_a_row_names_what_waits_for_a_person_until_it_is_decided_or_over() -> None:
    answered = e.QuestionAnswered(call="c1-1", command="k", parts=())
    ended = e.ToolCallEnded(call="c1-2", outcome="cancelled", content=())
    waits = (asked("c1-0"), e.QuestionAsked(call="c1-1"), e.QuestionAsked(call="c1-2"))
    approved = e.ApprovalDecided(approval="c1-0", verdict="approved")

    assert rows(started(), waits)[0].waiting == "c1-0 c1-1 c1-2"
    assert rows(started(), waits, (approved,))[0].waiting == "c1-1 c1-2"
    assert rows(started(), waits, (approved, answered, ended))[0].waiting == ""
    assert rows(started(), waits, (e.RunCancelled(step=1),))[0].waiting == ""


def test_a_row_names_what_a_tool_asks_until_it_is_answered_or_its_call_is_over() -> None:
    first = e.ToolCallAsked(call="c1-0", ask="q1", holder="e", about=Elicitation(message="?"))
    second = first.model_copy(update={"ask": "q2"})
    model = first.model_copy(update={"ask": "q3", "about": SAY})
    waits = (first, second, model)
    said = e.ToolCallAnswered(call="c1-0", ask="q1", action="decline", source="person")
    ended = e.ToolCallEnded(call="c1-0", outcome="succeeded", content=())

    assert rows(started(), waits)[0].waiting == "c1-0/q1 c1-0/q2"
    assert rows(started(), waits, (said,))[0].waiting == "c1-0/q2"
    assert rows(started(), waits, (ended,))[0].waiting == ""


def test_a_row_counts_what_the_model_says_to_tools() -> None:
    """C12."""
    used = Usage(input=10, output=5)
    over = e.SamplingEnded(ask="q1", how="replied", usage=used, charged=15, charged_money=4)
    lost = e.SamplingEnded(ask="q2", how="abandoned", usage=None, charged=90, charged_money=9)
    late = e.SamplingSettled(ask="q2", usage=used, refunded=75, refunded_money=5)
    row = rows(started(), (over, lost), (late,))[0]
    assert (row.tokens_charged, row.money_charged, row.usage.tokens) == (30, 8, 30)


def test_a_row_says_since_when_a_run_is_paused() -> None:
    paused = rows(started(), (e.RunPaused(command="p"),))[0]
    resumed = rows(started(), (e.RunPaused(command="p"), e.RunResumed(command="r")))[0]
    stopped = rows(started(), (e.RunPaused(command="p"), e.RunCancelled(step=1)))[0]

    assert (paused.status, paused.paused_at_ms) == ("running", 1_010)
    assert (resumed.paused_at_ms, stopped.paused_at_ms) == (None, None)


def test_money_is_summed_with_what_children_spent_and_late_ends_give_back() -> None:
    spent = e.GenerationCompleted(
        step=1, attempt=1, stop_reason="end", parts=(), usage=None, charged=1, charged_money=700
    )
    settled = e.DelegationSettled(
        call="c1-0", child="x", status="completed", steps=1, tokens=5, money=200
    )
    late = e.GenerationSuperseded(step=1, attempt=1, usage=None, refunded=1, refunded_money=100)

    assert rows(started(), (spent, settled, late))[0].money_charged == 800
