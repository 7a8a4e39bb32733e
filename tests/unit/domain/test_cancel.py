"""Cancel in every phase of a run: two phases, always applied again (rule 9, C6)."""

from domain import commands as c
from domain.effects import ArmTimer, CallTool, CancelChild, Generate
from domain.events import Parent
from domain.state import RunState
from tests.support.runs import (
    ELSEWHERE,
    REF,
    call,
    cancel,
    claim,
    delegate,
    fails,
    fires,
    given,
    goes_on,
    outcomes,
    replies,
    result,
    start,
    tells,
    when,
)


def test_cancel_of_an_open_generation_charges_it_and_ends_the_run_at_once() -> None:
    state = given(start())
    then = when(state, cancel())
    assert then.types == [
        "run.cancel_requested.v2",
        "generation.abandoned.v2",
        "run.cancelled.v1",
    ]
    assert then.after.tokens_charged == state.tokens_reserved
    assert then.effects == ()


def test_reply_that_comes_after_a_cancel_settles_its_charge_and_starts_nothing() -> None:
    state = given(start())
    reply = replies(call("exec"))(state)
    then = when(when(state, cancel()).after, reply)
    assert then.types == ["generation.superseded.v2"]
    assert then.after.tokens_charged == 15


def test_reply_that_comes_after_a_childs_end_is_dropped() -> None:
    state = given(start(child=True))
    reply = replies("late")(state)
    assert when(when(state, cancel()).after, reply).events == ()


def test_cancel_between_attempts_ends_the_run_and_its_timer_is_ignored() -> None:
    state = given(start(), fails())
    timer = fires("retry")(state)
    then = when(state, cancel())
    assert then.types == ["run.cancel_requested.v2", "run.cancelled.v1"]
    assert when(then.after, timer).events == ()


def test_unclaimed_calls_are_cancelled_at_once() -> None:
    state = given(start(), replies(call("exec"), call("attemptCompletion")), where=ELSEWHERE)
    then = when(state, cancel())
    assert outcomes(then.after) == {"c1-0": "cancelled", "c1-1": "cancelled"}
    assert then.after.status == "cancelled"


def test_claimed_call_gets_its_grace_to_say_what_happened() -> None:
    then = when(given(start(), replies(call("exec"))), cancel())
    assert then.after.cancelling
    assert [type(effect) for effect in then.effects] == [CallTool, ArmTimer]
    ended = when(then.after, result("c1-0", outcome="cancelled"))
    assert ended.types == ["tool_call.ended.v1", "run.cancelled.v1"]


def test_claimed_call_that_does_not_report_in_its_grace_is_unknown() -> None:
    state = given(start(), replies(call("exec"), call("read")), cancel())
    then = when(state, fires("cancel_grace"))
    assert outcomes(then.after) == {"c1-0": "outcome_unknown", "c1-1": "outcome_unknown"}
    assert then.types[-1] == "run.cancelled.v1"


def test_dead_claimant_ends_the_grace_also_of_repeatable_calls() -> None:
    state = given(start(), replies(call("read")), cancel())
    then = when(state, c.AbandonHolder(holder="e1"))
    assert then.types == ["tool_call.ended.v1", "run.cancelled.v1"]


def test_nothing_new_starts_while_a_cancel_is_under_way() -> None:
    asked = replies(call("exec"), delegate())
    state = given(start(), asked, cancel())
    assert when(state, claim("c1-1", "e5")).events == ()
    assert when(state, c.RetryToolCall(call="c1-0", attempt=1)).events == ()
    assert when(state, c.ClaimGeneration(step=1, attempt=1, holder="e5")).events == ()
    assert not any(isinstance(effect, Generate) for effect in when(state, cancel()).effects)


def test_cancel_reaches_every_child_and_waits_for_their_ends() -> None:
    """Rule 9: the cancel of every child that has not ended is an effect."""
    state = given(start(), replies(delegate(), delegate(), call("buy")), tells("c1-0"))
    then = when(state, cancel())
    children = [effect for effect in then.effects if isinstance(effect, CancelChild)]
    assert [child.parent for child in children] == [Parent(run=REF.run, call="c1-1")]
    state = when(then.after, fires("cancel_grace")).after
    assert state.cancelling, "the grace is for calls; children say themselves that they ended"
    then = when(state, tells("c1-1", "cancelled"))
    assert then.after.status == "cancelled"
    assert outcomes(then.after)["c1-1"] == "cancelled"
    assert then.after.tokens_charged == 15 + 2 * 7


def test_second_cancel_changes_nothing_but_its_effects_remain() -> None:
    """C6: repeated cancel is idempotent; the handler applies the effects again."""
    state = given(start(), replies(delegate()), cancel())
    then = when(state, cancel("x2"))
    assert then.events == ()
    assert [type(effect) for effect in then.effects] == [CancelChild]


def test_cancel_of_a_run_at_rest_changes_nothing() -> None:
    assert when(given(start(), replies("done")), cancel()).events == ()


def test_cancel_of_an_unknown_run_leaves_a_tombstone() -> None:
    then = when(RunState(ref=REF), cancel())
    assert then.types == ["run.cancel_requested.v2", "run.cancelled.v1"]


def test_run_can_be_cancelled_again_after_it_went_on() -> None:
    state = given(start(), replies(call("exec")), cancel(), fires("cancel_grace"), goes_on())
    state = when(state, replies(call("exec"))).after
    then = when(state, cancel("x2"))
    assert list(then.after.timers) == ["cancel-2"], "never the timer of the cancel before"
    assert when(then.after, c.FireTimer(timer="cancel-1")).events == ()


def test_model_reads_what_became_of_its_calls_when_the_run_goes_on() -> None:
    state = given(start(), replies(call("exec"), call("read")), cancel())
    state = when(state, result("c1-0", "half done", outcome="cancelled")).after
    state = when(state, fires("cancel_grace")).after
    state = when(state, goes_on("so?")).after
    parts = state.conversation.messages[-1].parts
    assert [part.kind for part in parts] == ["result", "result", "text"]
