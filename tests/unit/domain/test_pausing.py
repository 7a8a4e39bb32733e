"""Pauses: nothing new begins in a run and under it; what is at work is finished and recorded."""

import pytest

from domain import commands as c
from domain.decisions.sandbox import PLACE_RETURN_MS
from domain.effects import CallTool, Effect, Generate, ReformTeam, effects
from domain.events import Parent, PolicyChanged, RunPaused
from domain.limits import Limits
from domain.policy import PolicyRule
from domain.state import RunState
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
    fails,
    fires,
    given,
    handed_out,
    outcomes,
    pauses,
    rejected,
    replies,
    restarted,
    result,
    resumes,
    situation,
    start,
    team,
    tells,
    when,
)

PLACED = c.PlaceSandbox(
    place="disk",
    epoch="e1",
    backend="bubblewrap",
    report="{}",
    workspace="own",
    snapshots=True,
)


def test_pause_says_so_and_asks_for_nothing() -> None:
    then = when(given(start(), replies(call("exec"))), pauses())
    assert then.types == ["run.paused.v1"]
    assert then.after.waits, "C7: a paused run is not stuck, and says so"


def test_call_at_work_is_finished_and_recorded_and_no_reply_is_asked_for() -> None:
    state = given(start(), replies(call("exec")), pauses())
    assert list(handed_out(effects(state))) == ["c1-0"], "its result is still waited for"
    then = when(state, result("c1-0"))
    assert then.types == ["tool_call.ended.v1", "step.ended.v1"]
    assert then.effects == ()
    assert then.after.waits


def test_resumed_run_goes_on_where_it_was_held() -> None:
    state = given(start(), replies(call("exec")), pauses(), result("c1-0"))
    then = when(state, resumes())
    assert then.types == ["run.resumed.v1", "generation.requested.v2"]
    assert then.after.step == 2
    assert not then.after.waits


def test_reply_that_was_being_made_is_recorded_and_its_calls_are_kept_back() -> None:
    state = given(start(), pauses())
    assert [one for one in effects(state) if isinstance(one, Generate)] == [Generate(1, 1, "e1")]
    then = when(state, replies(call("exec"), call("buy"), delegate()))
    assert "tool_call.claimed.v1" not in then.types
    assert handed_out(then.effects) == {}
    resumed = when(then.after, resumes())
    assert resumed.types == ["run.resumed.v1"] + ["tool_call.claimed.v1"] * 2
    assert list(handed_out(resumed.effects)) == ["c1-0", "c1-1"]


def test_reply_that_ends_the_run_ends_it() -> None:
    then = when(given(start(), pauses()), replies("done"))
    assert then.after.status == "completed"
    assert not then.after.paused


def test_call_nobody_has_begun_cannot_be_claimed_or_retried() -> None:
    state = given(start(), replies(call("buy"), call("read")), pauses(), where=ELSEWHERE)
    assert handed_out(effects(state)) == {}
    assert when(state, claim("c1-0", "e7")).events == ()
    assert when(state, c.RetryToolCall(call="c1-1", attempt=1)).events == ()
    resumed = when(state, resumes(), ELSEWHERE)
    assert list(handed_out(resumed.effects)) == ["c1-0", "c1-1"]
    assert when(resumed.after, claim("c1-0", "e7")).types == ["tool_call.claimed.v1"]


def test_attempt_nobody_has_begun_is_given_to_nobody() -> None:
    state = given(start(), pauses(), where=ELSEWHERE)
    assert effects(state) == ()
    assert when(state, c.ClaimGeneration(step=1, attempt=1, holder="e7")).events == ()
    resumed = when(state, resumes(), ELSEWHERE)
    assert resumed.effects == (Generate(1, 1, None),)
    claimed = when(resumed.after, c.ClaimGeneration(step=1, attempt=1, holder="e7"))
    assert claimed.types == ["generation.claimed.v1"]


def test_worker_that_takes_the_workspace_does_not_get_what_is_kept_back() -> None:
    """Of a base-tool call the journal of that worker would be the claim."""
    state = given(start(), pauses(), replies(call("exec")), PLACED)
    assert handed_out(effects(state)) == {}
    assert when(state, claim("c1-0")).events == ()
    assert outcomes(when(state, cancel()).after) == {"c1-0": "cancelled"}
    resumed = when(state, resumes()).after
    assert resumed.calls["c1-0"].may_have_begun


def test_worker_that_holds_the_workspace_gets_what_is_kept_back_with_the_resume() -> None:
    state = given(start(), PLACED, pauses(), replies(call("exec")))
    assert not state.calls["c1-0"].may_have_begun
    assert when(state, resumes(), ELSEWHERE).after.calls["c1-0"].may_have_begun
    asking = given(start(), PLACED, where=team(asks_for("ask")))
    for one in (replies(call("exec")), pauses(), approves("c1-0")):
        asking = when(asking, one).after
    assert not asking.calls["c1-0"].may_have_begun
    assert when(asking, resumes(), ELSEWHERE).after.calls["c1-0"].may_have_begun


def test_call_that_a_worker_may_have_begun_stays_with_it() -> None:
    state = given(start(), PLACED, replies(call("exec")), pauses())
    assert state.calls["c1-0"].may_have_begun
    assert list(handed_out(effects(state))) == ["c1-0"]
    assert when(state, result("c1-0")).types == ["tool_call.ended.v1", "step.ended.v1"]


def test_call_at_work_is_not_forgotten_when_its_workspace_moves_in_a_pause() -> None:
    """C3: it may have run at every worker that held the workspace; then nobody runs it again."""
    state = given(start(), replies(call("exec")), pauses())
    state = when(state, PLACED.model_copy(update={"epoch": "e2"})).after
    state = when(state, claim("c1-0", "e2")).after
    assert state.calls["c1-0"].holder == "e2"
    state = when(state, c.AbandonHolder(holder="e2")).after
    assert state.calls["c1-0"].may_have_begun
    elsewhere = PLACED.model_copy(update={"place": "other", "epoch": "e3"})
    moved = when(state, elsewhere, situation(NOW_MS + PLACE_RETURN_MS))
    assert outcomes(moved.after) == {"c1-0": "outcome_unknown"}


def test_retry_that_comes_due_waits_for_the_resume() -> None:
    state = given(start(), fails(), pauses())
    then = when(state, fires("retry"))
    assert then.types == ["timer.fired.v1"]
    again = when(then.after, resumes())
    assert again.types == ["run.resumed.v1", "generation.requested.v2"]
    assert again.after.generation is not None
    assert (again.after.generation.step, again.after.generation.attempt) == (1, 2)


def test_retry_that_is_not_due_yet_stays_due_after_the_resume() -> None:
    state = given(start(), fails(), pauses())
    then = when(state, resumes())
    assert then.types == ["run.resumed.v1"]
    assert when(then.after, fires("retry")).types[-1] == "generation.requested.v2"


def test_work_of_a_lost_worker_is_taken_back_and_not_given_out_again() -> None:
    state = given(start(), pauses())
    then = when(state, c.AbandonHolder(holder="e1"))
    assert then.types == ["generation.abandoned.v2"]
    assert then.after.tokens_charged == state.tokens_reserved, "C12: charged once"
    assert when(then.after, resumes()).types[-1] == "generation.requested.v2"
    state = given(start(), replies(call("read"), call("buy")), pauses())
    then = when(state, c.AbandonHolder(holder="e1"))
    assert outcomes(then.after) == {"c1-0": "open", "c1-1": "outcome_unknown"}
    assert handed_out(then.effects) == {}
    assert list(handed_out(when(then.after, resumes()).effects)) == ["c1-0"]


def test_change_of_the_team_is_kept_back() -> None:
    state = given(start(), pauses(), replies(call("createExpert")), where=team())
    assert not any(isinstance(one, ReformTeam) for one in effects(state))
    closing = c.CloseTeamCall(call="c1-0", base="d" * 64, content="{}", is_error=True)
    assert when(state, closing).events == ()
    resumed = when(state, resumes())
    assert [type(one) for one in resumed.effects] == [ReformTeam]
    assert when(resumed.after, closing).types[0] == "tool_call.ended.v1"


def test_pause_and_resume_are_idempotent() -> None:
    """A word that changed nothing is remembered, too: its late copy must not change anything."""
    state = given(start(), pauses("h1"), pauses("h2"))
    assert state.paused
    state = when(state, resumes("r1")).after
    assert when(state, pauses("h1")).events == (), "a late copy does not pause again"
    assert when(state, pauses("h2")).events == (), "nor does one of the word that changed nothing"
    state = when(state, resumes("r2")).after
    state = when(state, pauses("h3")).after
    assert when(state, resumes("r1")).events == (), "a late copy does not resume"
    assert when(state, resumes("r2")).events == ()


def test_a_rule_that_comes_during_a_pause_holds_for_what_was_kept_back() -> None:
    """C14: whatever has not begun hears a new rule."""
    state = given(start(), pauses(), replies(call("exec"), call("buy")))
    deny = c.ChangePolicy(id="r1", rules=(asks_for("deny"),))
    state = when(state, deny).after
    assert outcomes(state) == {"c1-0": "refused", "c1-1": "refused"}


def test_pause_survives_a_restart_of_everything() -> None:
    history = (start(), replies(call("exec")), pauses(), result("c1-0"))
    state = restarted(*history)
    assert state == given(*history)
    assert when(state, resumes()).types[-1] == "generation.requested.v2"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (RunState(ref=REF), "no_such_run"),
        (given(start(), replies("done")), "at_rest"),
        (given(start(), replies(call("exec")), cancel()), "cancelling"),
    ],
    ids=["new", "at rest", "cancelling"],
)
def test_run_that_is_not_at_work_cannot_be_paused(state: RunState, code: str) -> None:
    assert rejected(state, pauses()) == code


def test_paused_run_is_cancelled_at_once() -> None:
    """C6."""
    then = when(given(start(), pauses(), replies(call("exec"), call("buy"))), cancel())
    assert then.after.status == "cancelled"
    assert outcomes(then.after) == {"c1-0": "cancelled", "c1-1": "cancelled"}
    assert not then.after.paused
    claimed = when(given(start(), replies(call("exec")), pauses()), cancel()).after
    assert claimed.cancelling
    assert when(claimed, result("c1-0", outcome="cancelled")).after.status == "cancelled"


# ---------------------------------------------------------------- the runs below


def heard(found: tuple[Effect, ...], name: str = "c1-0") -> c.Standing:
    """What the child of a call is told of its parent."""
    standing = children(found)[name].standing
    assert standing is not None
    return standing


def test_pause_is_told_to_every_child_and_so_is_its_end() -> None:
    state = given(start(), replies(delegate(), delegate()))
    assert [one.standing for one in children(effects(state)).values()] == [None, None]
    paused = when(state, pauses())
    assert [heard(paused.effects, name).paused for name in ("c1-0", "c1-1")] == [True, True]
    resumed = when(paused.after, resumes())
    assert [heard(resumed.effects, name).paused for name in ("c1-0", "c1-1")] == [False, False]
    assert heard(resumed.effects).number > heard(paused.effects).number


def standing(
    number: int, *rules: PolicyRule, paused: bool = False, turned: int | None = None
) -> c.StartRun:
    """The parent's start again, with what it has to say by now."""
    said = c.Standing(
        number=number, paused=paused, turned=number if turned is None else turned, rules=rules
    )
    return start(child=True).model_copy(update={"standing": said})


def test_child_is_paused_and_resumed_with_its_parent() -> None:
    state = given(start(child=True), replies(call("exec")))
    then = when(state, standing(1, paused=True))
    assert then.types == ["standing.adopted.v1", "run.paused.v1"]
    held = when(then.after, result("c1-0"))
    assert held.types == ["tool_call.ended.v1", "step.ended.v1"]
    resumed = when(held.after, standing(2))
    assert resumed.types == ["standing.adopted.v1", "run.resumed.v1", "generation.requested.v2"]


def test_child_tells_its_own_children() -> None:
    state = given(start(child=True), replies(delegate()), standing(1, paused=True))
    assert heard(effects(state)).paused


def test_older_word_of_the_parent_is_not_heard_after_a_newer_one() -> None:
    """Commands overtake each other."""
    state = given(start(child=True), standing(2))
    assert when(state, standing(1, paused=True)).events == ()
    assert when(state, standing(2, paused=True)).events == ()
    assert not state.paused


def test_child_that_starts_under_a_paused_parent_asks_for_nothing_yet() -> None:
    then = when(RunState(ref=REF), standing(1, paused=True))
    assert then.types[0] == "run.started.v2"
    assert "generation.requested.v2" not in then.types
    assert then.after.waits
    assert when(then.after, standing(2)).types[-1] == "generation.requested.v2"


def test_child_that_a_person_paused_stays_so_when_its_parent_has_new_rules() -> None:
    state = given(start(child=True), pauses())
    then = when(state, standing(1, asks_for("ask"), turned=0))
    assert then.types == ["standing.adopted.v1", "policy.changed.v1"]
    assert then.after.paused


def test_child_that_a_person_resumed_stays_so_when_its_paused_parent_has_new_rules() -> None:
    state = given(start(child=True), standing(1, paused=True), resumes())
    assert not when(state, standing(2, asks_for("ask"), paused=True, turned=1)).after.paused


def test_child_hears_of_a_second_pause_although_the_word_between_was_lost() -> None:
    """Commands get lost: each word says all there is to say."""
    state = given(start(child=True), standing(1, paused=True), resumes())
    assert when(state, standing(3, paused=True)).after.paused


def test_word_of_a_run_says_when_it_was_paused_or_resumed_last() -> None:
    state = given(start(), replies(delegate()), pauses(), adds(asks_for("ask")))
    assert (heard(effects(state)).number, heard(effects(state)).turned) == (2, 1)
    state = when(state, resumes()).after
    assert (heard(effects(state)).number, heard(effects(state)).turned) == (3, 3)


def test_child_that_a_person_paused_goes_on_with_the_resume_of_what_is_above_it() -> None:
    state = given(start(child=True), pauses(), standing(1, paused=True))
    assert not when(state, standing(2)).after.paused


def test_rules_that_come_with_a_pause_let_nothing_go_before_it() -> None:
    asks = team(asks_for("ask", tool="exec"))
    state = given(start(child=True), replies(call("exec")), where=asks)
    then = when(state, standing(1, asks_for("allow"), paused=True))
    assert [type(one) for one in then.events[1:3]] == [RunPaused, PolicyChanged]
    assert then.after.approvals == {}
    assert not any(isinstance(one, CallTool) for one in then.effects)
    assert list(handed_out(when(then.after, standing(2, asks_for("allow"))).effects)) == ["c1-0"]


def test_word_of_the_parent_is_nothing_to_a_run_that_is_over_or_ending() -> None:
    over = given(start(child=True), replies("done"))
    assert when(over, standing(1, paused=True)).events == ()
    ending = given(start(child=True), replies(call("exec")), cancel())
    assert when(ending, standing(1, paused=True)).events == ()


def test_run_that_ends_as_it_is_resumed_is_not_changed_after_its_end() -> None:
    one_step = start(Limits(steps_max=1), child=True)
    state = given(one_step, replies(call("exec")), standing(1, paused=True), result("c1-0"))
    then = when(state, standing(2, asks_for("ask")))
    assert then.types == ["standing.adopted.v1", "run.resumed.v1", "run.stopped.v2"]


def test_rule_from_above_that_refuses_the_last_call_of_the_last_step_ends_the_run() -> None:
    one_step = start(Limits(steps_max=1), child=True)
    state = given(one_step, replies(call("exec")), where=team(asks_for("ask")))
    then = when(state, standing(1, asks_for("deny")))
    assert then.types[-1] == "run.stopped.v2"
    held = when(state, standing(1, asks_for("deny"), paused=True))
    assert held.after.paused
    assert outcomes(held.after) == {"c1-0": "refused"}


def test_end_of_a_child_is_recorded_while_paused_and_its_share_comes_back() -> None:
    state = given(start(), replies(delegate()), pauses())
    left = state.steps_left
    then = when(state, tells("c1-0"))
    assert then.types == ["delegation.settled.v2", "tool_call.ended.v1", "step.ended.v1"]
    assert then.after.steps_left > left


def test_delegate_that_is_allowed_while_paused_starts_paused() -> None:
    state = given(start(), replies(delegate()), pauses(), where=team(asks_for("ask")))
    then = when(state, approves("c1-0"))
    assert heard(then.effects).paused


def test_rules_of_people_are_told_below_with_those_from_above() -> None:
    own, above = asks_for("deny", tool="own"), asks_for("ask", tool="above")
    state = given(start(child=True), replies(delegate()), standing(1, above))
    then = when(state, adds(own))
    assert heard(then.effects).rules == (own, above)
    assert children(then.effects)["c1-0"].parent == Parent(run=REF.run, call="c1-0")
