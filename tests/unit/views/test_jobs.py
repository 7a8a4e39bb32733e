"""How a job shows its root and the sums over its runs. Not the sums of whole worlds."""

from domain import events as e
from domain.asks import Elicitation
from domain.content import BlobRef, TextPart
from domain.ids import RunRef
from domain.limits import Usage
from domain.tools import Lane
from eventlog.port import Stored
from projections.seeing import see
from projections.view import Seen
from projections.views.jobs import QUERY_CHARS_MAX, JobsView
from tests.support.asking import SAY
from tests.support.pen import (
    Pen,
    called,
    completed,
    continued,
    ended,
    forked,
    replied,
    requested,
    started,
)
from tests.support.tables import Rows

ROOT = RunRef("acme", "j1", "j1")
CHILD = RunRef("acme", "j1", "kid")
PARENT = e.Parent(run="j1", call="c1-0")
UNKNOWN = e.OpaqueEvent(type="mood.changed.v7", body={"to": "sunny"})


def jobs() -> Rows:
    return Rows(JobsView())


def test_a_job_is_as_its_root_is() -> None:
    row = jobs().tell(Pen(ROOT), started("boss"), completed(1)).one("jobs")
    assert (row["tenant"], row["job"], row["run"]) == ("acme", "j1", "j1")
    assert (row["expert"], row["definition"], row["query"]) == ("boss", "d" * 64, "go on then")
    assert (row["status"], row["first_seq"], row["runs"]) == ("completed", 1, 1)
    assert (row["started_at_ms"], row["ended_at_ms"], row["updated_at_ms"]) == (1_000, 1_010, 1_010)


def test_a_child_adds_to_the_sums_and_says_nothing_of_what_the_job_is() -> None:
    rows = jobs().tell(Pen(ROOT), started("boss"))
    rows.tell(Pen(CHILD, at_ms=5_000), started("helper", PARENT), completed(1))
    row = rows.one("jobs")
    assert (row["run"], row["expert"], row["query"]) == ("j1", "boss", "go on then")
    assert (row["status"], row["ended_at_ms"], row["first_seq"]) == ("running", None, 1)
    assert (row["runs"], row["running"], row["steps"]) == (2, 1, 2)
    assert row["updated_at_ms"] == 5_010


def test_what_a_child_has_spent_is_counted_once_whatever_its_parent_is_told() -> None:
    """C12."""
    pen, kid = Pen(ROOT), Pen(CHILD)
    rows = jobs().tell(
        pen, started("boss"), (replied(1, tokens=100), called("c1-0", Lane.DELEGATE))
    )
    rows.tell(kid, started("helper", PARENT), completed(1))
    told = e.DelegationSettled(
        call="c1-0", child="kid", status="completed", steps=1, tokens=8, tool_calls=0
    )
    rows.tell(pen, (told, ended("c1-0")))
    row = rows.one("jobs")
    assert (row["tokens_charged"], row["input_tokens"]) == (101 + 8, 107)
    assert (row["steps"], row["tool_calls"]) == (2, 0)


def test_a_continued_job_is_running_again_and_keeps_what_it_was_asked_first() -> None:
    row = jobs().tell(Pen(ROOT), started(), completed(1), continued()).one("jobs")
    assert (row["status"], row["ended_at_ms"], row["running"]) == ("running", None, 1)
    assert (row["query"], row["steps"]) == ("go on then", 2)


def test_a_fork_is_a_job_of_its_own_with_nothing_of_its_sources_steps_and_charges() -> None:
    row = jobs().tell(Pen(ROOT), (forked(), requested(5)), (replied(5),)).one("jobs")
    assert (row["forked_from"], row["steps"], row["tokens_charged"]) == ("j0", 1, 8)
    assert (row["status"], row["expert"], row["query"]) == ("running", "boss", "")


def test_a_root_may_have_another_name_than_its_job() -> None:
    other = RunRef("acme", "j1", "other")
    row = jobs().tell(Pen(other), started("boss")).one("jobs")
    assert (row["run"], row["first_seq"], row["status"]) == ("other", 1, "running")


def test_a_job_that_was_cancelled_before_it_started_has_nobody_at_work() -> None:
    events = (e.CancelRequested(command="x"), e.RunCancelled(step=0))
    row = jobs().tell(Pen(ROOT), events).one("jobs")
    assert (row["status"], row["running"], row["runs"]) == ("cancelled", 0, 1)
    assert (row["run"], row["expert"], row["ended_at_ms"]) == ("j1", "", 1_000)


def test_a_child_that_was_cancelled_before_it_started_leaves_its_job_alone() -> None:
    rows = jobs().tell(Pen(ROOT), started("boss"))
    rows.tell(Pen(CHILD), (e.CancelRequested(command="x", parent=PARENT), e.RunCancelled(step=0)))
    row = rows.one("jobs")
    assert (row["status"], row["run"], row["ended_at_ms"]) == ("running", "j1", None)
    assert (row["runs"], row["running"]) == (2, 1)


def test_runs_that_wait_for_a_person_are_counted_until_nothing_of_them_does() -> None:
    asked = e.ToolCallAsked(call="c1-2", ask="q", holder="e", about=Elicitation(message="?"))
    model = asked.model_copy(update={"ask": "m", "about": SAY})
    approval = e.ApprovalRequested(approval="c1-0", digest="d")
    pen, rows = Pen(ROOT), jobs()
    rows.tell(pen, started(), (approval, e.QuestionAsked(call="c1-1"), asked, model))
    assert rows.one("jobs")["waiting"] == 1
    rows.tell(pen, (e.ApprovalDecided(approval="c1-0", verdict="approved"),))
    rows.tell(pen, (e.QuestionAnswered(call="c1-1", command="a", parts=()),))
    assert rows.one("jobs")["waiting"] == 1
    rows.tell(pen, (ended("c1-2"),))
    assert rows.one("jobs")["waiting"] == 0
    rows.tell(pen, (approval,))
    assert rows.one("jobs")["waiting"] == 1
    rows.tell(pen, (e.RunCancelled(step=1),))
    assert rows.one("jobs")["waiting"] == 0


def test_calls_that_are_refused_do_not_count_and_those_of_the_loop_never_do() -> None:
    pen, rows = Pen(ROOT), jobs()
    todo, asks = called("c1-2", Lane.LOOP), called("c1-1", Lane.PERSON)
    rows.tell(pen, started(), (called("c1-0"), asks, todo, ended("c1-2")))
    assert rows.one("jobs")["tool_calls"] == 2
    rows.tell(pen, (ended("c1-0", "refused"), ended("c1-1", "outcome_unknown")))
    assert rows.one("jobs")["tool_calls"] == 1


def test_late_ends_correct_what_was_charged() -> None:
    pen, used = Pen(ROOT), Usage(input=30, output=10)
    rows = jobs().tell(
        pen,
        started(),
        (e.GenerationAbandoned(step=1, attempt=1, reason="holder_lost", charged=100),),
        (e.RunFailed(step=1, failure=e.Failure(kind="auth", message="no")),),
        (e.GenerationSuperseded(step=1, attempt=1, usage=used, refunded=60),),
    )
    row = rows.one("jobs")
    assert (row["tokens_charged"], row["input_tokens"], row["status"]) == (40, 30, "failed")
    assert (row["updated_at_ms"], row["ended_at_ms"]) == (1_030, 1_020)


def test_notes_of_the_runtime_are_not_what_a_job_is_about_and_long_words_are_cut() -> None:
    note = e.InputReceived(input="n", speaker="runtime", parts=(TextPart(text="psst"),))
    said = e.InputReceived(input="s", speaker="user", parts=(TextPart(text="x" * 9_000),))
    begun = started()[:2]
    row = jobs().tell(Pen(ROOT), (*begun, note, said)).one("jobs")
    assert row["query"] == "x" * QUERY_CHARS_MAX


def test_what_is_kept_elsewhere_is_named_and_not_read() -> None:
    blob = BlobRef(digest="b" * 64, size=99_000)
    said = e.InputReceived(input="s", speaker="user", parts=(TextPart(text=blob),))
    row = jobs().tell(Pen(ROOT), (*started()[:2], said)).one("jobs")
    assert row["query"] == f"[99000 bytes: {'b' * 64}]"


def test_events_of_a_newer_release_change_nothing() -> None:
    """C17."""
    plain = jobs().tell(Pen(ROOT), started(), completed(1)).one("jobs")
    pen, rows = Pen(ROOT), jobs()
    events = started()
    row = rows.tell(pen, (*events[:2], UNKNOWN, *events[2:]), completed(1)).one("jobs")
    assert row == plain


def test_an_envelope_nobody_can_read_is_a_run_of_its_job_and_no_more() -> None:
    rows = jobs()
    rows.hear(see(Stored(7, ROOT, b"\x00 not an envelope")))
    row = rows.one("jobs")
    assert (row["run"], row["status"], row["runs"], row["first_seq"]) == ("j1", "new", 1, 7)
    rows.hear(Seen(8, ROOT, "d", None, "again"))
    assert rows.one("jobs")["runs"] == 1


def test_jobs_of_two_tenants_are_two() -> None:
    """C18."""
    rows = jobs().tell(Pen(ROOT), started()).tell(Pen(ROOT._replace(tenant="evil")), started())
    assert [row["runs"] for row in rows.of("jobs")] == [1, 1]
