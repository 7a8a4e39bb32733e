"""What a call shows from the moment it is asked for to its outcome. Not what tools do."""

import pytest

from domain import events as e
from domain.asks import Elicitation
from domain.content import BlobRef, FilePart, TextPart
from domain.ids import RunRef
from domain.limits import Limits
from domain.tools import Lane, Safety
from eventlog.port import Stored
from projections.seeing import see
from projections.views.calls import TEXT_CHARS_MAX, CallsView
from tests.support.asking import SAY
from tests.support.pen import Pen, replied, started
from tests.support.tables import Row, Rows

REF = RunRef("acme", "j1", "j1")
BLOB = BlobRef(digest="b" * 64, size=99_000)


def call(
    name: str = "c1-0",
    lane: Lane = Lane.TOOL,
    arguments: str | BlobRef = '{"at": 1}',
    tool: str = "look",
) -> e.ToolCallRequested:
    return e.ToolCallRequested(
        call=name,
        step=1,
        provider_id="p",
        tool=tool,
        skill="own",
        lane=lane,
        safety=Safety.UNSAFE,
        arguments=arguments,
        key="k",
    )


def ended(
    name: str = "c1-0", outcome: e.Outcome = "succeeded", text: str | BlobRef = "seen"
) -> e.ToolCallEnded:
    content = (TextPart(text=text),)
    wrong = outcome != "succeeded"
    return e.ToolCallEnded(call=name, outcome=outcome, content=content, is_error=wrong)


def claimed(attempt: int = 1) -> e.ToolCallClaimed:
    return e.ToolCallClaimed(call="c1-0", attempt=attempt, holder="e1")


def after(*batches: tuple[e.Event, ...]) -> Row:
    """The call after a run has begun, asked for it, and heard these."""
    rows = Rows(CallsView())
    return rows.tell(Pen(REF), started(), *batches).one("calls", call="c1-0")


def test_a_call_shows_what_was_asked_for_who_took_it_and_what_came_of_it() -> None:
    end = ended().model_copy(update={"duration_ms": 7})
    row = after((replied(1), call()), (claimed(),), (end,))
    assert (row["tool"], row["skill"], row["lane"], row["safety"]) == (
        "look",
        "own",
        "tool",
        "unsafe",
    )
    assert (row["arguments"], row["result"], row["status"]) == ('{"at": 1}', "seen", "succeeded")
    times = (row["requested_at_ms"], row["claimed_at_ms"], row["ended_at_ms"], row["duration_ms"])
    assert times == (1_010, 1_020, 1_030, 7)
    assert (row["step"], row["attempts"], row["seq"], row["version"]) == (1, 1, 2, 6)
    assert (row["is_error"], row["child"]) == (False, None)


@pytest.mark.parametrize("outcome", ["failed", "refused", "cancelled", "outcome_unknown"])
def test_each_outcome_is_the_status_of_its_call(outcome: e.Outcome) -> None:
    row = after((call(),), (ended(outcome=outcome),))
    assert (row["status"], row["is_error"]) == (outcome, True)
    assert row["duration_ms"] is None


def test_a_call_that_is_handed_out_again_is_at_nobody_until_somebody_takes_it() -> None:
    lost = e.ToolCallRetried(call="c1-0", attempt=2)
    row = after((call(), claimed()), (lost,))
    assert (row["status"], row["attempts"]) == ("requested", 2)
    row = after((call(), claimed()), (lost,), (claimed(2),))
    assert (row["status"], row["attempts"], row["claimed_at_ms"]) == ("claimed", 2, 1_030)


def test_a_call_waits_for_its_approval_and_then_for_somebody_to_take_it() -> None:
    asked = e.ApprovalRequested(approval="c1-0", digest="d" * 64)
    approved = e.ApprovalDecided(approval="c1-0", verdict="approved")
    assert after((call(), asked))["status"] == "waiting"
    assert after((call(), asked), (approved,))["status"] == "requested"
    assert after((call(), asked), (approved, claimed()))["status"] == "claimed"
    denied = approved.model_copy(update={"verdict": "denied"})
    assert after((call(), asked), (denied, ended(outcome="refused")))["status"] == "refused"


def test_what_a_person_made_of_the_arguments_is_what_a_call_shows() -> None:
    """C14: what runs."""
    asked = e.ApprovalRequested(approval="c1-0", digest="d" * 64)
    edited = e.ApprovalDecided(approval="c1-0", verdict="edited", arguments='{"at": 2}')
    assert after((call(), asked), (edited,))["arguments"] == '{"at": 2}'


def test_a_soft_limit_that_waits_is_no_call() -> None:
    asked = e.ApprovalRequested(approval="budget-1", limit="tokens", soft=5)
    over = e.ApprovalDecided(approval="budget-1", verdict="approved")
    rows = Rows(CallsView()).tell(Pen(REF), started(), (asked,), (over,))
    assert rows.of("calls") == []


def test_a_question_waits_until_it_is_answered() -> None:
    asked = (call(lane=Lane.PERSON), e.QuestionAsked(call="c1-0"))
    assert after(asked)["status"] == "waiting"
    said = e.QuestionAnswered(call="c1-0", command="a", parts=(TextPart(text="blue"),))
    row = after(asked, (said, ended(text="blue")))
    assert (row["status"], row["result"]) == ("succeeded", "blue")


def test_a_call_whose_tool_asks_a_person_waits_and_goes_on_with_the_last_answer() -> None:
    one = e.ToolCallAsked(call="c1-0", ask="q1", holder="e1", about=Elicitation(message="?"))
    two = one.model_copy(update={"ask": "q2"})
    answer = e.ToolCallAnswered(call="c1-0", ask="q1", action="accept", source="person")
    other = answer.model_copy(update={"ask": "q2"})
    assert after((call(), claimed()), (one, two), (answer,))["status"] == "waiting"
    assert after((call(), claimed()), (one, two), (answer, other))["status"] == "claimed"


def test_a_call_whose_tool_asks_the_model_does_not_wait_for_a_person() -> None:
    asked = e.ToolCallAsked(call="c1-0", ask="q1", holder="e1", about=SAY)
    assert after((call(), claimed()), (asked,))["status"] == "claimed"


def test_a_call_that_is_forwarded_is_the_loops_from_then_on() -> None:
    forwarded = e.ToolCallForwarded(call="c1-0", content="[experts]")
    row = after((call(lane=Lane.SANDBOX), claimed()), (forwarded,))
    assert (row["lane"], row["status"]) == ("team", "requested")


def test_a_delegates_call_names_its_child() -> None:
    asked = e.DelegationRequested(call="c1-0", child="kid", expert="helper", limits=Limits())
    row = after((call(lane=Lane.DELEGATE), asked))
    assert (row["child"], row["lane"]) == ("kid", "delegate")


def test_a_late_result_changes_nothing() -> None:
    """Rule 7."""
    late = e.ToolResultLate(call="c1-0", content=(TextPart(text="late"),), is_error=True)
    again = e.ToolCallRetried(call="c1-0", attempt=9)
    row = after((call(), ended()), (late, again, claimed(9)))
    assert (row["result"], row["status"], row["attempts"]) == ("seen", "succeeded", 1)


def test_long_texts_are_cut_and_those_kept_elsewhere_are_named() -> None:
    row = after((call(arguments="x" * 9_000), ended(text="y" * 9_000)))
    assert row["arguments"] == "x" * TEXT_CHARS_MAX
    assert row["result"] == "y" * TEXT_CHARS_MAX
    row = after((call(arguments=BLOB), ended(text=BLOB)))
    assert row["arguments"] == row["result"] == f"[99000 bytes: {BLOB.digest}]"


def test_a_file_in_a_result_is_named() -> None:
    end = e.ToolCallEnded(
        call="c1-0", outcome="succeeded", content=(TextPart(text="a map "), FilePart(blob=BLOB))
    )
    assert after((call(), end))["result"] == f"a map [99000 bytes: {BLOB.digest}]"


def test_what_is_said_of_calls_that_nobody_asked_for_is_left_out() -> None:
    """As of a fork's past: its calls are the source's."""
    rows = Rows(CallsView()).tell(Pen(REF), started(), (claimed(), ended()))
    assert rows.of("calls") == []


def test_what_nobody_can_read_or_knows_changes_nothing() -> None:
    """C17."""
    pen = Pen(REF)
    rows = Rows(CallsView()).tell(pen, started(), (call(),))
    before = rows.of("calls")
    rows.hear(see(Stored(9, REF, b"[]")))
    rows.tell(pen, (e.OpaqueEvent(type="tool_call.painted.v1", body={"call": "c1-0"}),))
    assert rows.of("calls") == before


def test_a_run_remembers_its_open_calls_only() -> None:
    rows = Rows(CallsView()).tell(Pen(REF), started(), (call(), call("c1-1")), (ended(),))
    assert set(rows.heads[REF].open) == {"c1-1"}
