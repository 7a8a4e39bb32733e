"""What counts as an act of a person, and as whose. Not what came of it."""

from typing import Any

from domain import events as e
from domain.asks import SampleReply
from domain.content import BlobRef, TextPart
from domain.ids import RunRef
from domain.limits import Limits
from domain.policy import PolicyRule
from eventlog.port import Stored
from projections.seeing import see
from projections.views.audit import DETAIL_CHARS_MAX, AuditView
from tests.support.pen import Pen, completed, requested, started
from tests.support.tables import Row, Rows

REF = RunRef("acme", "j1", "j1")
PARENT = e.Parent(run="boss", call="c1-0")
ANN = e.Principal(name="ann", via="cli")
BOB = e.Principal(name="bob", via="http")


def acts(*batches: tuple[e.Event, ...], parent: e.Parent | None = None) -> list[Row]:
    """Those after a run has begun."""
    pinned, asked, wanted = started()[1:]
    speaker = "user" if parent is None else "expert"
    asked = asked.model_copy(update={"speaker": speaker})
    begun = (started(parent=parent)[0], pinned, asked, wanted)
    rows = Rows(AuditView()).tell(Pen(REF), begun, *batches).of("audit")
    return rows[1:] if parent is None else rows


def act(*events: e.Event) -> Row:
    (row,) = acts(events)
    return row


def says(text: str = "hurry", by: e.Principal = ANN) -> e.InputReceived:
    return e.InputReceived(input="w1", speaker="user", parts=(TextPart(text=text),), by=by)


def decided(verdict: str, **more: Any) -> e.ApprovalDecided:
    return e.ApprovalDecided.model_validate({"approval": "c1-0", "verdict": verdict, **more})


def test_a_start_is_one_act_with_what_was_said() -> None:
    begun = started()
    start = begun[0].model_copy(update={"by": ANN})
    (row,) = Rows(AuditView()).tell(Pen(REF), (start, *begun[1:])).of("audit")
    assert (row["action"], row["what"], row["detail"]) == ("started", "s1", "go on then")
    assert (row["name"], row["via"]) == ("ann", "cli")
    assert (row["tenant"], row["job"], row["run"]) == REF
    assert (row["seq"], row["index"], row["at_ms"]) == (1, 0, 1_000)


def test_the_start_of_a_child_is_no_act_of_a_person() -> None:
    assert acts(parent=PARENT) == []


def test_a_continue_is_one_act_with_what_was_said() -> None:
    row = act(e.RunContinued(command="k1", by=BOB), says(by=BOB), requested(2))
    assert (row["action"], row["what"], row["name"], row["detail"]) == (
        "continued",
        "k1",
        "bob",
        "hurry",
    )


def test_a_fork_says_where_it_comes_from() -> None:
    source = e.Source(job="j0", run="r0", version=9, hash="f" * 64)
    forked = e.RunForked(
        command="f1",
        source=source,
        generation=1,
        step=4,
        expert="boss",
        definition="d",
        limits=Limits(),
        by=ANN,
    )
    (row,) = Rows(AuditView()).tell(Pen(REF), (forked, started()[1], says())).of("audit")
    assert (row["action"], row["what"], row["name"]) == ("forked", "f1", "ann")
    assert row["detail"] == "run r0 of job j0, version 9"


def test_what_is_said_to_a_run_at_work_is_said_or_steered_as_it_was_asked_for() -> None:
    said = act(says())
    assert (said["action"], said["what"], said["detail"]) == ("said", "w1", "hurry")
    pen = Pen(REF, cause="steer_run.v1")
    (_, steered) = Rows(AuditView()).tell(pen, started(), (says(),)).of("audit")
    assert (steered["action"], steered["name"]) == ("steered", "ann")


def test_what_the_runtime_and_delegating_experts_say_is_no_act() -> None:
    note = says().model_copy(update={"speaker": "runtime"})
    expert = says().model_copy(update={"speaker": "expert"})
    assert acts((note,), (expert,)) == []


def test_decisions_name_what_they_are_about_who_made_them_and_why() -> None:
    approved = act(decided("approved", by=ANN))
    assert (approved["action"], approved["what"], approved["name"]) == ("approved", "c1-0", "ann")
    denied = act(decided("denied", by=BOB, reason="too\ndear"))
    assert (denied["action"], denied["detail"], denied["via"]) == ("denied", "too dear", "http")
    edited = act(decided("edited", arguments='{"a": 1}', reason="less"))
    assert (edited["action"], edited["detail"]) == ("edited", 'less {"a": 1}')
    blob = BlobRef(digest="b" * 64, size=9)
    assert act(decided("edited", arguments=blob))["detail"] == "b" * 64


def test_a_rule_decides_in_the_name_of_who_gave_it() -> None:
    row = act(decided("denied", by=ANN, by_rule=True, reason="no pay"))
    assert (row["action"], row["name"], row["detail"]) == ("denied", "ann", "by a rule: no pay")


def test_what_expired_was_nobodys_act_and_is_told_and_what_was_withdrawn_is_not() -> None:
    late = e.QuestionAnswered(call="c1-1", command="x", parts=(), expired=True)
    ask = e.ToolCallAnswered(call="c1-2", ask="q", action="cancel", source="expired")
    rows = acts((decided("expired"), late, ask, decided("withdrawn")))
    assert [(row["action"], row["what"], row["name"]) for row in rows] == [
        ("expired", "c1-0", ""),
        ("expired", "c1-1", ""),
        ("expired", "q", ""),
    ]


def test_answers_are_acts() -> None:
    parts = (TextPart(text="blue"),)
    row = act(e.QuestionAnswered(call="c1-1", command="a", parts=parts, by=ANN))
    assert (row["action"], row["what"], row["detail"]) == ("answered", "c1-1", "blue")
    ask = e.ToolCallAnswered(call="c1-2", ask="q", action="decline", source="person", by=BOB)
    row = act(ask)
    assert (row["action"], row["what"], row["detail"], row["name"]) == (
        "answered",
        "q",
        "decline",
        "bob",
    )


def test_answers_that_no_person_gave_are_none() -> None:
    said = SampleReply(text="hi", model="m", stop_reason="end")
    model = e.ToolCallAnswered(call="c", ask="q", action="accept", source="model", sampled=said)
    limit = model.model_copy(update={"source": "limit"})
    gone = model.model_copy(update={"source": "withdrawn"})
    assert acts((model, limit, gone)) == []


def test_pauses_and_cancels_are_acts() -> None:
    rows = acts(
        (e.RunPaused(command="p", by=ANN),),
        (e.RunResumed(command="r", by=BOB),),
        (e.CancelRequested(command="x", reason="enough", by=ANN), e.RunCancelled(step=1)),
    )
    assert [(row["action"], row["what"], row["name"], row["detail"]) for row in rows] == [
        ("paused", "p", "ann", ""),
        ("resumed", "r", "bob", ""),
        ("cancelled", "x", "ann", "enough"),
    ]


def test_a_limit_that_stops_a_run_is_nobody() -> None:
    assert acts((e.CancelRequested(command="x", limit="wall_time"),)) == []


def test_what_a_child_hears_from_the_run_above_is_recorded_there() -> None:
    rule = PolicyRule(verdict="allow", tool="pay")
    heard = (
        e.StandingAdopted(number=1, turned=1),
        e.RunPaused(command="p"),
        e.PolicyChanged(command="p", rules=(), inherited=(rule,)),
        e.RunResumed(command="p"),
    )
    stopped = e.CancelRequested(command="x")
    assert acts(heard, (stopped,), parent=PARENT) == []
    never = Rows(AuditView()).tell(Pen(REF), (e.CancelRequested(command="x", parent=PARENT),))
    assert never.of("audit") == []


def test_what_a_person_says_to_a_child_itself_is_an_act() -> None:
    rows = acts(
        (e.RunPaused(command="p", by=ANN),),
        (e.CancelRequested(command="x", by=BOB),),
        parent=PARENT,
    )
    assert [(row["action"], row["name"]) for row in rows] == [
        ("paused", "ann"),
        ("cancelled", "bob"),
    ]


def test_a_root_that_an_older_release_cancelled_says_so_without_a_name() -> None:
    row = act(e.CancelRequested(command="x"))
    assert (row["action"], row["name"], row["via"]) == ("cancelled", "", "")


def test_new_rules_are_an_act() -> None:
    rule = PolicyRule(verdict="allow", tool="pay")
    row = act(e.PolicyChanged(command="r1", rules=(rule, rule), by=ANN))
    assert (row["action"], row["what"], row["detail"]) == ("policy_changed", "r1", "2 rules")


def test_several_acts_of_one_envelope_have_places_of_their_own() -> None:
    rows = acts((decided("approved"), completed(1)[1], decided("denied", approval="c1-1")))
    assert [(row["seq"], row["index"], row["what"]) for row in rows] == [
        (2, 0, "c1-0"),
        (2, 2, "c1-1"),
    ]


def test_what_is_said_is_shown_by_its_beginning() -> None:
    assert len(act(says("x" * 9_000))["detail"]) == DETAIL_CHARS_MAX


def test_what_nobody_can_read_or_knows_is_no_act() -> None:
    """C17."""
    pen = Pen(REF)
    rows = Rows(AuditView()).tell(pen, started())
    before = rows.of("audit")
    rows.hear(see(Stored(9, REF, b"{}")))
    rows.tell(pen, (e.OpaqueEvent(type="run.blessed.v1", body={"by": {"name": "x"}}),))
    assert rows.of("audit") == before
