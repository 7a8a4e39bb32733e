"""Claims, results and lost executors of tool calls. Not their execution."""

from dataclasses import replace

import pytest

from domain import commands as c
from domain.effects import CallTool
from domain.events import ToolResultLate
from domain.limits import Limits
from domain.state import RunState
from domain.tools import Lane, Safety, ToolEntry
from tests.support.runs import (
    ELSEWHERE,
    call,
    cancel,
    claim,
    delegate,
    given,
    outcomes,
    pinned,
    read_by_model,
    replies,
    result,
    situation,
    start,
    when,
)

THERE = situation(epoch="e2", holder="e2")


def open_call(tool: str, limits: Limits | None = None) -> RunState:
    """A run with one call that nobody has claimed, and a completion that waits for it."""
    asked = replies(call(tool), call("attemptCompletion"))
    return given(start(limits), asked, where=ELSEWHERE)


def test_first_claim_wins_and_the_second_changes_nothing() -> None:
    """Rule 6."""
    then = when(open_call("exec"), claim("c1-0", "e1"))
    assert then.types == ["tool_call.claimed.v1"]
    assert when(then.after, claim("c1-0", "e2")).events == ()
    assert then.after.calls["c1-0"].holder == "e1"


def test_claim_of_another_attempt_or_of_no_call_changes_nothing() -> None:
    state = open_call("exec")
    assert when(state, claim("c1-0", attempt=2)).events == ()
    assert when(state, claim("c9-9")).events == ()


@pytest.mark.parametrize("name", ["c1-0", "c1-1"])
def test_calls_that_no_executor_runs_cannot_be_claimed_retried_or_reported(name: str) -> None:
    state = given(start(), replies(delegate(), call("attemptCompletion")))
    assert when(state, claim(name)).events == ()
    assert when(state, c.RetryToolCall(call=name, attempt=1)).events == ()
    assert when(state, result(name)).events == ()


def test_result_ends_the_call_and_the_step() -> None:
    then = when(given(start(), replies(call("exec"))), result("c1-0"))
    assert then.types == ["tool_call.ended.v1", "step.ended.v1", "generation.requested.v2"]


def test_step_waits_for_all_its_calls() -> None:
    state = given(start(), replies(call("exec"), call("buy")))
    assert when(state, result("c1-1")).types == ["tool_call.ended.v1"]


def test_result_of_an_unsafe_call_counts_only_from_its_claimant() -> None:
    """Rule 6: what another one says is kept visibly, and is no outcome."""
    state = given(start(), replies(call("exec")))
    then = when(state, result("c1-0", holder="e7"))
    assert then.types == ["tool_result.late.v1"]
    assert outcomes(then.after) == {"c1-0": "open"}
    assert outcomes(when(then.after, result("c1-0")).after) == {}


@pytest.mark.parametrize("tool", ["read", "write"])
def test_repeatable_call_may_be_reported_by_anybody(tool: str) -> None:
    assert outcomes(when(open_call(tool), result("c1-0", holder="e7")).after)["c1-0"] == "succeeded"


def test_same_result_again_changes_nothing_in_this_step_and_the_next() -> None:
    """Rule 7."""
    state = given(start(), replies(call("exec"), call("buy")), result("c1-0"))
    assert when(state, result("c1-0")).events == ()
    later = when(state, result("c1-1")).after
    assert later.step == 2
    assert when(later, result("c1-0")).events == ()


def test_different_second_result_is_late_once_and_never_the_outcome() -> None:
    """Rule 7."""
    state = given(start(), replies(call("exec"), call("buy")), result("c1-0", "first"))
    then = when(state, result("c1-0", "second"))
    assert then.types == ["tool_result.late.v1"]
    assert isinstance(then.events[0], ToolResultLate)
    assert when(then.after, result("c1-0", "second")).events == ()
    assert when(then.after, result("c1-0", "third")).types == ["tool_result.late.v1"]


def test_result_of_a_call_nobody_asked_for_changes_nothing() -> None:
    assert when(open_call("exec"), result("c8-0")).events == ()


def test_late_result_does_not_open_a_child_that_is_sealed() -> None:
    """Rule 8."""
    state = given(start(child=True), replies(call("exec")), result("c1-0"), replies("done"))
    assert state.at_rest
    assert when(state, result("c1-0", "other")).events == ()


def test_late_result_after_a_cancel_is_recorded_for_what_was_claimed() -> None:
    state = given(start(), replies(call("exec")), cancel(), c.FireTimer(timer="cancel-1"))
    assert outcomes(state) == {"c1-0": "outcome_unknown"}
    assert when(state, result("c1-0")).types == ["tool_result.late.v1"]


def test_result_of_a_call_cancelled_before_it_was_claimed_is_nothing_new() -> None:
    state = when(open_call("read"), cancel()).after
    assert outcomes(state) == {"c1-0": "cancelled", "c1-1": "cancelled"}
    assert when(state, result("c1-0", holder="e3")).events == ()


def test_unsafe_call_of_a_dead_worker_has_an_unknown_outcome() -> None:
    """Rule 6 and C3: never again, and the model is told in plain words."""
    then = when(given(start(), replies(call("buy"))), c.AbandonHolder(holder="e1"), THERE)
    assert "not known whether" in read_by_model(then.events, "c1-0")
    assert then.after.step == 2


@pytest.mark.parametrize("tool", ["read", "write"])
def test_repeatable_call_of_a_dead_worker_is_handed_out_again_with_the_same_key(tool: str) -> None:
    """C3: pure or idempotent, so it is repeated, with the same idempotency key."""
    state = given(start(), replies(call(tool)))
    then = when(state, c.AbandonHolder(holder="e1"), THERE)
    assert then.types == ["tool_call.retried.v1"]
    again = then.effects[0]
    assert isinstance(again, CallTool)
    assert (again.call.attempt, again.call.holder) == (2, None)
    assert again.call.key == state.calls["c1-0"].key


def test_only_named_work_is_taken_from_a_worker_that_lives() -> None:
    state = given(start(), replies(call("exec"), call("buy")))
    then = when(state, c.AbandonHolder(holder="e1", names=("c1-1.1",)), THERE)
    assert outcomes(then.after) == {"c1-0": "open", "c1-1": "outcome_unknown"}


def test_lost_call_is_retried_a_bounded_number_of_times() -> None:
    """Rule 5: every further attempt is in the log before it starts, and bounded."""
    state = open_call("read", Limits(call_attempts_max=2))
    then = when(state, c.RetryToolCall(call="c1-0", attempt=1), ELSEWHERE)
    assert then.types == ["tool_call.retried.v1"]
    assert when(then.after, c.RetryToolCall(call="c1-0", attempt=1)).events == ()
    last = when(then.after, c.RetryToolCall(call="c1-0", attempt=2))
    assert "attempts_exhausted" in read_by_model(last.events, "c1-0")
    assert last.after.status == "completed"


def test_retry_here_is_claimed_at_once() -> None:
    then = when(open_call("read"), c.RetryToolCall(call="c1-0", attempt=1))
    assert then.types == ["tool_call.retried.v1", "tool_call.claimed.v1"]


def test_claimed_call_is_not_retried() -> None:
    state = given(start(), replies(call("read")))
    assert when(state, c.RetryToolCall(call="c1-0", attempt=1)).events == ()


def test_tool_named_as_the_loops_own_is_executed_like_any_other() -> None:
    """Only the base skill's attemptCompletion is decided by the loop."""
    own = ToolEntry(name="attemptCompletion", skill="own", lane=Lane.TOOL, safety=Safety.UNSAFE)
    where = replace(ELSEWHERE, context=replace(pinned(), tools=(own,)))
    state = given(start(), replies(call("attemptCompletion")), where=where)
    assert outcomes(state) == {"c1-0": "open"}
    assert when(state, claim("c1-0")).types == ["tool_call.claimed.v1"]
