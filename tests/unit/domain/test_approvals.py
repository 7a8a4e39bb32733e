"""Approvals: a call that waits for a person, and what people and rules say of it (C14)."""

from itertools import permutations

import pytest

from domain import commands as c
from domain.content import BlobRef, CallPart
from domain.decide import decide
from domain.effects import ArmTimer, CallTool, effects
from domain.events import (
    ApprovalDecided,
    ApprovalRequested,
    InputReceived,
    ToolCallRequested,
)
from domain.evolve import evolve_all
from domain.limits import Limits
from domain.record import digest_of
from domain.snapshot import restore, take
from domain.state import RunState
from tests.support.invariants import render
from tests.support.runs import (
    ELSEWHERE,
    NOW_MS,
    REF,
    adds,
    approves,
    asks_for,
    call,
    cancel,
    children,
    claim,
    delegate,
    denies,
    fires,
    given,
    handed_out,
    outcomes,
    pauses,
    read_by_model,
    rejected,
    replies,
    restarted,
    result,
    resumes,
    start,
    team,
    when,
)

BUY = '{"what": "a ship"}'
ASKING = team(asks_for("ask", tool="buy", reason="it costs money"))


def waiting(*parts: CallPart, limits: Limits | None = None) -> RunState:
    """A run whose calls of `buy` wait."""
    return given(start(limits), replies(*(parts or (call("buy", BUY),))), where=ASKING)


def told(state: RunState) -> str:
    """Everything the model would be told with the next request."""
    return repr(render(state)[-1])


def test_call_that_a_rule_asks_about_waits_with_the_digest_of_its_exact_arguments() -> None:
    then = when(given(start(), where=ASKING), replies(call("buy", BUY)))
    assert then.types == [
        "generation.completed.v2",
        "tool_call.requested.v2",
        "timer.armed.v2",
        "approval.requested.v1",
    ]
    asked = then.events[-1]
    assert isinstance(asked, ApprovalRequested)
    assert (asked.approval, asked.digest) == ("c1-0", digest_of(BUY.encode()))
    assert asked.reason == "it costs money"
    assert handed_out(then.effects) == {}


def test_what_waits_is_visible_and_nothing_else_is_wanted_of_the_run() -> None:
    """C7: a run that waits for a person says so; it is not stuck."""
    state = waiting()
    assert state.waits
    assert not state.at_rest
    assert [type(one) for one in effects(state)] == [ArmTimer]
    assert not given(start(), replies(call("buy"))).waits


def test_approved_call_is_the_recorded_one_and_no_model_is_asked_again() -> None:
    """C14: what runs is the recorded call, not a new answer of the model."""
    then = when(waiting(), approves("c1-0"))
    assert then.types == ["approval.decided.v1", "tool_call.claimed.v1"]
    assert handed_out(then.effects) == {"c1-0": BUY}
    assert not then.after.waits


def test_approved_call_without_room_here_goes_to_whoever_claims_it() -> None:
    then = when(waiting(), approves("c1-0"), ELSEWHERE)
    assert then.types == ["approval.decided.v1"]
    assert handed_out(then.effects) == {"c1-0": BUY}
    assert when(then.after, claim("c1-0", "e7")).types == ["tool_call.claimed.v1"]


def test_call_that_waited_runs_once() -> None:
    """C3: neither the same word again nor another person's runs it a second time."""
    state = when(waiting(), approves("c1-0")).after
    assert when(state, approves("c1-0")).events == ()
    assert rejected(state, approves("c1-0", "a2")) == "not_waiting"
    assert rejected(state, denies("c1-0", "a3")) == "not_waiting"
    over = when(state, result("c1-0", "bought")).after
    assert when(over, approves("c1-0")).events == ()
    assert rejected(over, approves("c1-0", "a4")) == "not_waiting"
    assert handed_out(when(over, cancel()).effects) == {}


def test_approval_is_of_one_call_and_says_nothing_of_the_next() -> None:
    """C14: the same call in the next step waits again."""
    state = given(start(), replies(call("buy", BUY)), approves("c1-0"), where=ASKING)
    state = when(state, result("c1-0")).after
    then = when(state, replies(call("buy", BUY)))
    assert list(then.after.approvals) == ["c2-0"]
    assert handed_out(then.effects) == {}
    assert rejected(then.after, approves("c1-0", "a2")) == "not_waiting"


def test_approval_of_other_arguments_than_those_shown_is_refused() -> None:
    state = waiting()
    assert rejected(state, approves("c1-0", digest="0" * 64)) == "other_arguments"
    assert rejected(state, denies("c1-0", digest="0" * 64)) == "other_arguments"
    seen = approves("c1-0", digest=state.approvals["c1-0"].digest)
    assert handed_out(when(state, seen).effects) == {"c1-0": BUY}


def test_approval_of_a_call_that_does_not_wait_is_refused() -> None:
    state = waiting(call("buy"), call("exec"))
    assert rejected(state, approves("c1-1")) == "not_waiting"
    assert rejected(state, approves("c9-9")) == "not_waiting"


def test_nobody_can_claim_report_retry_or_free_a_call_that_waits() -> None:
    state = given(start(), replies(call("buy")), where=team(asks_for("ask")))
    assert when(state, claim("c1-0")).events == ()
    assert when(state, c.RetryToolCall(call="c1-0", attempt=1)).events == ()
    assert when(state, c.AbandonHolder(holder="e1")).events == ()
    stray = when(state, result("c1-0", "bought already"))
    assert stray.types == ["tool_result.late.v1"], "kept and alarmed, never an outcome"
    assert outcomes(stray.after) == {"c1-0": "open"}


def placed(epoch: str = "e1", number: int | None = None) -> c.PlaceSandbox:
    return c.PlaceSandbox(
        place=f"disk-{epoch}",
        epoch=epoch,
        backend="bubblewrap",
        report="{}",
        workspace="own",
        snapshots=True,
        number=number,
    )


def test_worker_that_takes_the_workspace_does_not_get_what_waits() -> None:
    """C14: of a base-tool call the journal of that worker would be the claim."""
    state = given(start(), replies(call("exec"), call("write")), where=team(asks_for("ask")))
    state = when(when(state, placed()).after, approves("c1-1")).after
    assert not state.calls["c1-0"].may_have_begun
    assert state.calls["c1-1"].may_have_begun
    assert when(state, claim("c1-0")).events == ()
    cancelled = when(state, cancel())
    assert outcomes(cancelled.after) == {"c1-0": "cancelled", "c1-1": "open"}


def test_worker_that_holds_the_workspace_gets_what_waits_with_the_approval_and_not_before() -> None:
    state = given(start(), placed(), where=team(asks_for("ask")))
    state = when(state, replies(call("exec"))).after
    assert not state.calls["c1-0"].may_have_begun
    assert when(state, approves("c1-0")).after.calls["c1-0"].may_have_begun


def test_resume_lets_nothing_go_that_waits_for_a_person() -> None:
    state = given(start(), placed(), where=team(asks_for("ask")))
    for one in (replies(call("exec"), call("buy")), pauses()):
        state = when(state, one).after
    then = when(state, resumes())
    assert then.types == ["run.resumed.v1"]
    assert not any(call.may_have_begun for call in then.after.open_calls)
    assert handed_out(then.effects) == {}


def test_result_of_a_call_that_waits_is_no_outcome_even_where_anybody_could_report_it() -> None:
    state = given(start(), replies(call("read")), where=team(asks_for("ask")))
    then = when(state, result("c1-0", "read already"))
    assert outcomes(then.after) == {"c1-0": "open"}
    assert when(then.after, approves("c1-0")).types[0] == "approval.decided.v1"


def test_edited_call_runs_with_the_persons_arguments_and_a_digest_of_its_own() -> None:
    """C14: edit = new digest, visible in history, and the model is told."""
    edited = '{"what": "a boat"}'
    then = when(waiting(), approves("c1-0", arguments=edited, reason="cheaper"))
    decided, note, _ = then.events
    assert isinstance(decided, ApprovalDecided)
    assert (decided.verdict, decided.reason) == ("edited", "cheaper")
    assert (decided.digest, decided.arguments) == (digest_of(edited.encode()), edited)
    assert isinstance(note, InputReceived)
    assert note.speaker == "runtime"
    assert handed_out(then.effects) == {"c1-0": edited}
    assert edited in told(when(then.after, result("c1-0")).after).replace("\\", "")


def test_what_the_model_asked_for_stays_in_the_history_of_an_edited_call() -> None:
    state = given(start(), replies(call("buy", BUY)), where=ASKING)
    asked = when(given(start(), where=ASKING), replies(call("buy", BUY))).events[1]
    assert isinstance(asked, ToolCallRequested)
    assert asked.arguments == BUY
    said = render(when(state, approves("c1-0", arguments="{}")).after)[-2]
    assert BUY in repr(said)


def test_edited_call_makes_the_run_go_on_so_that_the_model_hears_of_it() -> None:
    state = given(start(), replies(call("buy"), call("attemptCompletion")), where=ASKING)
    state = when(state, approves("c1-0", arguments='{"what": "less"}')).after
    then = when(state, result("c1-0"))
    assert then.types[-1] == "generation.requested.v2"
    plain = when(given(start(), replies(call("buy"), call("attemptCompletion"))), result("c1-0"))
    assert plain.types[-1] == "run.completed.v2"


def test_long_edited_arguments_run_by_digest() -> None:
    large = BlobRef(digest="b" * 64, size=99_999)
    then = when(waiting(), approves("c1-0", arguments=large))
    decided = then.events[0]
    assert isinstance(decided, ApprovalDecided)
    assert decided.digest == large.digest
    assert handed_out(then.effects) == {"c1-0": large}
    assert "99999 bytes" in told(when(then.after, result("c1-0")).after)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("buy", "[1]"),
        ("buy", '{"cut'),
        ("counter", '{"count": "two"}'),
        ("helper", "{}"),
        ("helper", '{"query": "  "}'),
        ("helper", BlobRef(digest="b" * 64, size=99_999)),
    ],
)
def test_edit_that_a_model_would_be_refused_for_is_refused_and_the_call_waits_on(
    tool: str, arguments: str | BlobRef
) -> None:
    fine = {"buy": BUY, "counter": '{"count": 1}', "helper": '{"query": "help"}'}[tool]
    state = given(start(), replies(call(tool, fine)), where=team(asks_for("ask")))
    assert rejected(state, approves("c1-0", arguments=arguments)) == "bad_arguments"
    assert list(state.approvals) == ["c1-0"]


def test_edit_that_a_rule_forbids_is_refused() -> None:
    forbids = asks_for("deny", tool="buy", arguments={"what": "*star*"})
    state = given(start(), replies(call("buy", BUY)), where=team(forbids, asks_for("ask")))
    assert rejected(state, approves("c1-0", arguments='{"what": "a star"}')) == "denied_by_rule"
    assert handed_out(when(state, approves("c1-0")).effects) == {"c1-0": BUY}


def test_denied_call_is_a_result_the_model_reads_and_the_run_goes_on() -> None:
    then = when(waiting(), denies("c1-0", reason="too dear"))
    assert "did not allow this call: too dear" in read_by_model(then.events, "c1-0")
    assert outcomes(evolve_all(then.before, then.events[:2])) == {"c1-0": "refused"}
    assert then.types[-1] == "generation.requested.v2"
    assert handed_out(then.effects) == {}


def test_denied_sibling_does_not_lose_the_others() -> None:
    """C14: the losing sibling has a terminal result, and the others have theirs."""
    state = waiting(call("buy", BUY, "p0"), call("buy", BUY, "p1"), call("exec", "{}", "p2"))
    assert handed_out(effects(state)) == {"c1-2": "{}"}
    state = when(state, denies("c1-0")).after
    state = when(state, approves("c1-1")).after
    state = when(state, result("c1-2", "ran")).after
    assert outcomes(state) == {"c1-0": "refused", "c1-1": "open", "c1-2": "succeeded"}
    then = when(state, result("c1-1", "bought"))
    assert then.types[-2:] == ["step.ended.v1", "generation.requested.v2"]
    answers = render(then.after)[-1].parts
    assert ["did not allow" in repr(part) for part in answers] == [True, False, False]
    assert ["bought" in repr(part) for part in answers] == [False, True, False]


SAID = (
    approves("c1-0", "k0"),
    denies("c1-1", "k1"),
    approves("c1-2", "k2", arguments='{"what": "less"}'),
)


@pytest.mark.parametrize("order", list(permutations(SAID)))
def test_parallel_approvals_are_each_their_own_in_any_order(order: tuple[c.Command, ...]) -> None:
    """C14: no word goes to the wrong call, and none is lost."""
    state = waiting(*(call("buy", BUY, f"p{n}") for n in range(3)))
    for said in order:
        state = when(state, said).after
    assert outcomes(state) == {"c1-0": "open", "c1-1": "refused", "c1-2": "open"}
    assert handed_out(effects(state)) == {
        "c1-0": BUY,
        "c1-2": '{"what": "less"}',
    }


def test_approval_expires_and_the_model_is_told() -> None:
    """C14: approvals have expiry; what nobody allowed in time never runs."""
    state = waiting(limits=Limits(answer_ms_max=5_000))
    armed = next(iter(state.timers.values()))
    assert (armed.purpose, armed.due_ms) == ("answer_expiry", NOW_MS + 5_000)
    assert state.approvals["c1-0"].due_ms == NOW_MS + 5_000
    then = when(state, fires("answer_expiry"))
    assert then.types[:3] == ["timer.fired.v1", "approval.decided.v1", "tool_call.ended.v1"]
    assert "Nobody answered in time" in read_by_model(then.events, "c1-0")
    assert then.types[-1] == "generation.requested.v2"
    assert rejected(then.after, approves("c1-0")) == "not_waiting"


def test_approval_waits_for_ever_where_no_time_is_set() -> None:
    state = waiting(limits=Limits(answer_ms_max=None))
    assert state.timers == {}
    assert state.waits


@pytest.mark.parametrize("said", [approves("c1-0"), denies("c1-0")])
def test_decided_approval_leaves_no_timer_and_a_late_one_changes_nothing(said: c.Command) -> None:
    state = waiting(call("buy"), call("exec"))
    late = fires("answer_expiry")(state)
    after = when(state, said).after
    assert after.timers == {}
    assert when(after, late).events == ()
    assert not any(isinstance(one, ArmTimer) for one in effects(after))


def test_what_waits_survives_a_restart_of_everything() -> None:
    """C14: state is the fold of stored bytes, and a snapshot of it decides the same."""
    history = (start(), replies(call("buy", BUY), call("exec")), result("c1-1"))
    state = restarted(*history, where=ASKING)
    assert state == given(*history, where=ASKING)
    assert handed_out(when(state, approves("c1-0")).effects) == {"c1-0": BUY}
    cached = restore(REF, take(state, 3, "h" * 64))
    assert cached is not None
    for said in (approves("c1-0"), denies("c1-0"), fires("answer_expiry")(state)):
        assert decide(cached.state, said, ASKING) == decide(state, said, ASKING)


def test_rule_that_people_add_is_remembered_and_looks_at_what_waits_again() -> None:
    """C14: "allow always" lets the waiting calls go, and the next ones do not wait."""
    state = waiting(call("buy", BUY, "p0"), call("buy", "{}", "p1"))
    then = when(state, adds(asks_for("allow", tool="buy")))
    decided = [one for one in then.events if isinstance(one, ApprovalDecided)]
    assert [(one.approval, one.verdict, one.by_rule) for one in decided] == [
        ("c1-0", "approved", True),
        ("c1-1", "approved", True),
    ]
    assert handed_out(then.effects) == {"c1-0": BUY, "c1-1": "{}"}
    state = when(when(then.after, result("c1-0")).after, result("c1-1")).after
    assert when(state, replies(call("buy"))).after.approvals == {}


def test_rule_about_some_arguments_leaves_the_other_calls_waiting() -> None:
    state = waiting(call("buy", BUY, "p0"), call("buy", '{"what": "tea"}', "p1"))
    then = when(state, adds(asks_for("allow", arguments={"what": "tea"})))
    assert list(then.after.approvals) == ["c1-0"]
    assert handed_out(then.effects) == {"c1-1": '{"what": "tea"}'}


def test_rule_that_denies_refuses_what_waits_with_its_reason() -> None:
    state = waiting(call("buy"), call("exec"))
    then = when(state, adds(asks_for("deny", tool="buy", reason="no money")))
    assert "no money" in read_by_model(then.events, "c1-0")
    assert outcomes(then.after) == {"c1-0": "refused", "c1-1": "open"}


def test_rule_that_asks_leaves_what_waits_waiting() -> None:
    then = when(waiting(), adds(asks_for("ask")))
    assert then.types == ["policy.changed.v1"]
    assert list(then.after.approvals) == ["c1-0"]


def test_delegate_that_waits_is_carved_and_started_when_it_is_allowed() -> None:
    state = given(start(), replies(delegate()), where=team(asks_for("ask", tool="helper")))
    assert state.calls["c1-0"].delegation is None
    assert state.steps_left == 99
    then = when(state, approves("c1-0"))
    assert then.types == ["approval.decided.v1", "delegation.requested.v2"]
    assert list(children(then.effects)) == ["c1-0"]
    never = when(state, denies("c1-0"))
    assert children(never.effects) == {}
    assert never.after.steps_left == 98


def test_edited_delegate_is_told_the_persons_words() -> None:
    state = given(start(), replies(delegate("dig")), where=team(asks_for("ask")))
    then = when(state, approves("c1-0", arguments='{"query": "sow"}'))
    assert "sow" in repr(children(then.effects)["c1-0"].parts)


def test_question_that_a_rule_asks_about_is_asked_once_it_is_allowed() -> None:
    state = given(start(), replies(call("ask")), where=team(asks_for("ask")))
    assert not state.calls["c1-0"].asked
    then = when(state, approves("c1-0"))
    assert then.types == ["approval.decided.v1", "timer.armed.v2", "question.asked.v1"]


def test_call_allowed_while_the_run_is_paused_goes_out_when_it_is_resumed() -> None:
    state = when(waiting(), pauses()).after
    then = when(state, approves("c1-0"))
    assert then.types == ["approval.decided.v1"]
    assert handed_out(then.effects) == {}
    assert when(then.after, claim("c1-0")).events == ()
    assert handed_out(when(then.after, resumes()).effects) == {"c1-0": BUY}


def test_cancel_ends_what_waits_at_once() -> None:
    """C6: a cancel with a waiting approval does not deadlock."""
    then = when(waiting(), cancel())
    assert then.types == [
        "run.cancel_requested.v2",
        "approval.decided.v1",
        "tool_call.ended.v1",
        "run.cancelled.v1",
    ]
    decided = then.events[1]
    assert isinstance(decided, ApprovalDecided)
    assert decided.verdict == "withdrawn"
    assert rejected(then.after, approves("c1-0")) == "not_waiting"


def test_nothing_can_be_allowed_while_a_cancel_is_under_way() -> None:
    state = when(waiting(call("buy"), call("exec")), cancel()).after
    assert state.cancelling
    assert rejected(state, approves("c1-0")) == "not_waiting"
    assert not any(isinstance(one, CallTool) and one.call.id == "c1-0" for one in effects(state))


def test_history_renders_while_a_call_waits() -> None:
    """C4: the open call has an answer in whatever is sent; `when` checks every prefix."""
    assert "interrupted" in told(waiting())
