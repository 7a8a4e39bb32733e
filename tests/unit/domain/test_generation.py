"""The ends of generations: replies, failures, retries, lost workers. Not providers."""

import pytest

from domain import commands as c
from domain.content import BlobRef, TextPart
from domain.effects import ArmTimer, CallTool, Generate
from domain.events import (
    Failure,
    GenerationCompleted,
    GenerationRequested,
    GenerationSuperseded,
    TimerArmed,
)
from domain.limits import Limits, Usage
from domain.state import RunState
from domain.tools import Lane
from tests.support.runs import (
    ELSEWHERE,
    NOW_MS,
    REF,
    call,
    cancel,
    delegate,
    fails,
    fires,
    given,
    goes_on,
    outcomes,
    read_by_model,
    replies,
    result,
    situation,
    start,
    when,
)

TODO = '{"newTodos": ["one", "two"]}'


def test_reply_without_calls_is_the_end() -> None:
    then = when(given(start()), replies("the answer"))
    assert then.types == ["generation.completed.v2", "step.ended.v1", "run.completed.v2"]
    assert then.after.result == "the answer"


def test_result_of_several_texts_is_all_of_them_and_large_ones_are_named() -> None:
    large = TextPart(text=BlobRef(digest="b" * 64, size=50_000))
    assert when(given(start()), replies("one ", "two")).after.result == "one two"
    assert when(given(start()), replies(large)).after.result == large.text
    both = when(given(start()), replies("see ", large)).after.result
    assert both == f"see [50000 bytes: {'b' * 64}]"


def test_empty_reply_ends_the_run_without_a_result_and_without_an_empty_message() -> None:
    state = given(start(), replies())
    assert (state.status, state.result) == ("completed", "")
    assert len(state.conversation.messages) == 1


def test_calls_are_recorded_with_the_reply_and_claimed_for_this_process() -> None:
    """Rules 5 and 6: one envelope."""
    then = when(given(start()), replies(call("exec"), call("buy")))
    assert then.types == [
        "generation.completed.v2",
        "tool_call.requested.v2",
        "tool_call.claimed.v1",
        "tool_call.requested.v2",
        "tool_call.claimed.v1",
    ]
    assert [e.call.holder for e in then.effects if isinstance(e, CallTool)] == ["e1", "e1"]


def test_calls_stay_unclaimed_without_room_here() -> None:
    then = when(given(start()), replies(call("exec")), ELSEWHERE)
    assert [e.call.holder for e in then.effects if isinstance(e, CallTool)] == [None]


def test_only_lanes_with_room_are_claimed() -> None:
    here = situation(lanes=frozenset({Lane.TOOL}))
    then = when(given(start()), replies(call("exec"), call("buy")), here)
    assert [one.holder for one in then.after.open_calls] == [None, "e1"]


REFUSED_CALLS = {
    "unknown_tool": call("nope"),
    "malformed_arguments": call("exec", '{"cmd": '),
    "malformed_arguments: a list": call("exec", "[1]"),
    "malformed_arguments: deep": call("exec", "[" * 30_000),
    "malformed_arguments: no UTF-8 form": call("todo", '{"newTodos": ["\\ud800"]}'),
    "invalid_arguments": call("helper", "{}"),
    "invalid_arguments: no text": call("helper", '{"query": 7}'),
    "arguments_too_long": call("todo").model_copy(
        update={"arguments": BlobRef(digest="a" * 64, size=40_000)}
    ),
}


@pytest.mark.parametrize("code", REFUSED_CALLS)
def test_call_that_cannot_be_executed_is_refused_in_words_and_the_run_goes_on(code: str) -> None:
    """C4: a malformed call never poisons a conversation."""
    then = when(given(start()), replies(REFUSED_CALLS[code]))
    assert code.split(":", maxsplit=1)[0] in read_by_model(then.events, "c1-0")
    assert then.after.step == 2


def test_long_arguments_of_an_executed_call_are_left_to_its_executor() -> None:
    large = call("exec").model_copy(update={"arguments": BlobRef(digest="a" * 64, size=40_000)})
    assert outcomes(when(given(start()), replies(large)).after) == {"c1-0": "open"}


def test_calls_beyond_the_limit_of_a_reply_are_refused() -> None:
    state = given(start(Limits(calls_per_step_max=2)), replies(*[call("exec")] * 4))
    assert outcomes(state) == {"c1-0": "open", "c1-1": "open", "c1-2": "refused", "c1-3": "refused"}


def test_text_cut_at_the_output_limit_is_gone_on_with() -> None:
    then = when(given(start()), replies("half a sen", stop="max_tokens"))
    assert then.types == [
        "generation.completed.v2",
        "input.received.v2",
        "step.ended.v1",
        "generation.requested.v2",
    ]


@pytest.mark.parametrize("arguments", ['{"cmd": "rm', "", "{}"])
def test_last_call_cut_at_the_output_limit_is_refused_and_those_before_run(arguments: str) -> None:
    """A call whose arguments never came must not run without them."""
    then = when(given(start()), replies(call("exec"), call("exec", arguments), stop="max_tokens"))
    assert outcomes(then.after) == {"c1-0": "open", "c1-1": "refused"}
    assert "cut_off" in read_by_model(then.events, "c1-1")


def test_whole_call_before_the_output_limit_runs() -> None:
    state = given(start(), replies(call("exec", '{"cmd": "ls"}'), stop="max_tokens"))
    assert outcomes(state) == {"c1-0": "open"}


def test_refusal_fails_the_run_and_executes_nothing_it_asked_for() -> None:
    then = when(given(start()), replies("no", call("exec"), delegate(), stop="refusal"))
    assert then.after.status == "failed"
    assert then.after.failure_kind == "refusal"
    assert outcomes(then.after) == {"c1-0": "refused", "c1-1": "refused"}
    assert "delegation.requested.v2" not in then.types


def test_todos_are_kept_in_the_log() -> None:
    state = given(start(), replies(call("todo", TODO)))
    assert [(t.id, t.title, t.completed) for t in state.todos] == [
        (0, "one", False),
        (1, "two", False),
    ]
    state = when(state, replies(call("todo", '{"completedTodos": [1]}'))).after
    assert [t.completed for t in state.todos] == [False, True]
    state = when(state, replies(call("clearTodo"))).after
    assert state.todos == ()


@pytest.mark.parametrize(
    "arguments",
    [
        '{"newTodos": "one"}',
        '{"newTodos": [1]}',
        '{"completedTodos": ["1"]}',
        '{"completedTodos": [true]}',
        '{"completedTodos": [9]}',
        '{"other": 1}',
        '{"newTodos": [' + ",".join(['"x"'] * 201) + "]}",
        '{"newTodos": ["' + "x" * 501 + '"]}',
    ],
)
def test_wrong_todo_arguments_are_told_and_change_nothing(arguments: str) -> None:
    then = when(given(start()), replies(call("todo", arguments)))
    assert "invalid_arguments" in read_by_model(then.events, "c1-0")
    assert then.after.todos == ()


def test_arguments_given_as_null_count_as_left_out() -> None:
    """Models write both."""
    state = given(start(), replies(call("todo", '{"newTodos": ["a"], "completedTodos": null}')))
    assert [item.title for item in state.todos] == ["a"]
    state = given(start(), replies("so", call("attemptCompletion", '{"result": null}')))
    assert state.result == "so"


def test_completion_with_nothing_left_ends_the_run_with_its_result() -> None:
    then = when(given(start()), replies(call("attemptCompletion", '{"result": "done"}')))
    assert then.types[-3:] == ["tool_call.ended.v1", "step.ended.v1", "run.completed.v2"]
    assert then.after.result == "done"


def test_completion_without_a_result_takes_the_words_beside_it() -> None:
    state = given(start(), replies("so it is", call("attemptCompletion")))
    assert state.result == "so it is"
    assert given(start(), replies(call("attemptCompletion"))).result == ""


def test_result_that_is_no_text_is_kept_as_json() -> None:
    state = given(start(), replies(call("attemptCompletion", '{"result": {"a": 1}}')))
    assert state.result == '{"a": 1}'


def test_completion_with_todos_left_hands_them_back() -> None:
    then = when(given(start()), replies(call("todo", TODO), call("attemptCompletion")))
    assert then.after.status == "running"
    assert "two" in read_by_model(then.events, "c1-1")


def test_completion_beside_other_calls_waits_for_all_of_them() -> None:
    state = given(start(), replies(call("attemptCompletion"), call("exec"), delegate()))
    assert outcomes(state) == {"c1-0": "open", "c1-1": "open", "c1-2": "open"}
    state = when(state, result("c1-1")).after
    assert state.status == "running"
    delegation = state.calls["c1-2"].delegation
    assert delegation is not None
    end = c.RecordDelegation(
        call="c1-2", child=delegation.child, status="failed", content=(), steps=1, tokens=1
    )
    then = when(state, end)
    assert then.after.status == "completed"
    assert outcomes(then.after) == {"c1-0": "succeeded", "c1-1": "succeeded", "c1-2": "failed"}


def test_two_completions_in_one_reply_both_end() -> None:
    twice = [call("attemptCompletion", f'{{"result": "{n}"}}') for n in (1, 2)]
    state = given(start(), replies(*twice))
    assert (state.status, state.result) == ("completed", "2")


def test_malformed_completion_is_refused_and_does_not_end_the_run() -> None:
    assert given(start(), replies(call("attemptCompletion", "{"))).status == "running"


def test_unknown_usage_is_charged_as_the_whole_reservation() -> None:
    """C12: unknown must not count as zero."""
    state = given(start())
    reserved = state.tokens_reserved
    assert reserved > 0
    assert when(state, replies("x", known=False)).after.tokens_charged == reserved


def test_failure_of_a_request_nobody_worked_on_costs_nothing() -> None:
    assert given(start(), fails("rate_limited")).tokens_charged == 0
    broken = given(start())
    assert when(broken, fails("network")).after.tokens_charged == broken.tokens_reserved
    known = when(broken, fails("network", usage=Usage(input=4))).after
    assert known.tokens_charged == 4


def test_retryable_failure_arms_a_timer_and_says_nothing_to_the_model() -> None:
    state = given(start())
    then = when(state, fails())
    assert then.types == ["generation.failed.v2", "timer.armed.v2"]
    assert then.after.conversation == state.conversation
    assert isinstance(then.effects[0], ArmTimer)


def test_fired_timer_asks_again_as_a_new_attempt_with_the_same_request() -> None:
    state = given(start())
    then = when(when(state, fails()).after, fires("retry"))
    assert then.types == ["timer.fired.v1", "generation.requested.v2"]
    asked = then.events[-1]
    assert isinstance(asked, GenerationRequested)
    assert (asked.step, asked.attempt) == (1, 2)
    assert state.generation is not None
    assert asked.request == state.generation.request
    assert then.effects == (Generate(1, 2, "e1"),)


def test_timer_that_is_not_pending_is_ignored() -> None:
    """Rule 10."""
    state = given(start(), fails(), fires("retry"))
    assert when(state, c.FireTimer(timer="retry-1-1")).events == ()


def delay_ms(attempt: int, retry_after_ms: int | None = None) -> int:
    state = given(start(Limits(generation_attempts_max=20)))
    for _ in range(attempt - 1):
        state = when(when(state, fails()).after, fires("retry")).after
    armed = when(state, fails(retry_after_ms=retry_after_ms)).events[-1]
    assert isinstance(armed, TimerArmed)
    return armed.due_ms - NOW_MS


def test_retries_back_off_with_pure_jitter_up_to_a_bound() -> None:
    """C13."""
    assert [delay_ms(n) for n in (1, 2, 3)] == [delay_ms(n) for n in (1, 2, 3)]
    for attempt, most in ((1, 1_000), (2, 2_000), (3, 4_000), (12, 60_000)):
        assert most / 2 <= delay_ms(attempt) <= most


def test_retry_is_never_sooner_than_the_provider_asked_for() -> None:
    """C13: Retry-After is honoured, also beyond our own bound."""
    assert delay_ms(1, retry_after_ms=90_000) == 90_000


def test_attempts_are_bounded() -> None:
    """Rule 5."""
    state = given(start(Limits(generation_attempts_max=2)), fails(), fires("retry"))
    then = when(state, fails())
    assert then.types == ["generation.failed.v2", "run.failed.v1"]
    assert then.after.failure_kind == "overloaded"


def test_terminal_failure_is_not_tried_again() -> None:
    """C19: a 400 is never retried with identical bytes."""
    then = when(given(start()), fails("rejected", retryable=False))
    assert then.types == ["generation.failed.v2", "run.failed.v1"]


def test_second_end_of_an_attempt_changes_nothing() -> None:
    state = given(start(), fails())
    assert when(state, fails()).events == ()
    assert when(state, replies("late")).events == ()


def test_lost_holder_is_replaced_by_a_new_attempt_that_is_charged_for_the_old() -> None:
    """Rule 5."""
    state = given(start())
    then = when(state, c.AbandonHolder(holder="e1"), situation(epoch="e2", holder="e2"))
    assert then.types == ["generation.abandoned.v2", "generation.requested.v2"]
    assert then.effects == (Generate(1, 2, "e2"),)
    assert then.after.tokens_charged == state.tokens_reserved


def test_completion_of_a_superseded_attempt_settles_its_reservation_and_is_dropped() -> None:
    """Rule 5."""
    first = given(start())
    late = replies("too late")(first)
    lost = when(first, c.AbandonHolder(holder="e1"), situation(epoch="e2", holder="e2")).after
    then = when(lost, late)
    assert then.types == ["generation.superseded.v2"]
    settled = then.events[0]
    assert isinstance(settled, GenerationSuperseded)
    assert then.after.tokens_charged == 15
    assert then.after.conversation == lost.conversation
    assert when(then.after, replies("in time")).after.result == "in time"


def test_late_failure_of_a_request_nobody_worked_on_gives_all_of_it_back() -> None:
    first = given(start())
    late = c.FailGeneration(
        step=1,
        attempt=1,
        failure=Failure(kind="overloaded", message=""),
        retryable=True,
    )
    lost = when(first, c.AbandonHolder(holder="e1"), situation(epoch="e2", holder="e2")).after
    assert when(lost, late).after.tokens_charged == 0
    unknown = late.model_copy(update={"failure": Failure(kind="network", message="")})
    assert when(lost, unknown).after.tokens_charged == lost.tokens_charged


def test_late_end_from_before_a_continue_does_not_raise_the_new_budget() -> None:
    """C12: a hard limit never overshoots."""
    first = given(start(Limits(tokens_max=2_000)))
    late = c.CompleteGeneration(
        step=1, attempt=1, parts=(), stop_reason="end", usage=Usage(input=1)
    )
    state = when(when(first, cancel()).after, goes_on()).after
    left = state.tokens_left
    assert when(state, late).after.tokens_left == left


def test_workers_lost_too_often_fail_the_run() -> None:
    """Rule 5: a poison call cannot crash workers for ever."""
    state = given(start(Limits(generation_attempts_max=1)))
    then = when(state, c.AbandonHolder(holder="e1"))
    assert then.types == ["generation.abandoned.v2", "run.failed.v1"]
    assert then.after.failure_kind == "attempts_exhausted"


def test_abandoning_somebody_else_or_other_work_changes_nothing() -> None:
    state = given(start())
    assert when(state, c.AbandonHolder(holder="e9")).events == ()
    assert when(state, c.AbandonHolder(holder="e1", names=("g1.7",))).events == ()
    named = c.AbandonHolder(holder="e1", names=("g1.1",))
    there = situation(epoch="e2", holder="e2")
    assert "generation.abandoned.v2" in when(state, named, there).types


def test_first_claim_of_an_attempt_wins_and_the_second_changes_nothing() -> None:
    state = given(start(), where=ELSEWHERE)
    then = when(state, c.ClaimGeneration(step=1, attempt=1, holder="e2"))
    assert then.types == ["generation.claimed.v1"]
    assert when(then.after, c.ClaimGeneration(step=1, attempt=1, holder="e3")).events == ()
    assert when(state, c.ClaimGeneration(step=1, attempt=2, holder="e3")).events == ()


def test_model_that_answered_is_recorded_with_the_reply() -> None:
    state = given(start())
    end = c.CompleteGeneration(
        step=1,
        attempt=1,
        parts=(TextPart(text="x"),),
        stop_reason="end",
        usage=None,
        response_id="r1",
        model="m-1",
    )
    first = when(state, end).events[0]
    assert isinstance(first, GenerationCompleted)
    assert (first.response_id, first.model) == ("r1", "m-1")


@pytest.mark.parametrize(("steps", "status"), [(1, "stopped"), (2, "running")])
def test_run_stops_at_its_limit_of_steps(steps: int, status: str) -> None:
    state = given(start(Limits(steps_max=steps)), replies(call("exec")), result("c1-0"))
    assert state.status == status
    assert state.stopped_by == ("steps" if status == "stopped" else "")


def test_run_without_a_single_step_stops_at_once() -> None:
    then = when(RunState(ref=REF), start(Limits(steps_max=0)))
    assert then.types[-1] == "run.stopped.v2"


def test_worst_case_is_reserved_before_the_call_and_the_run_stops_when_it_does_not_fit() -> None:
    """C12: reserve worst case before each call; a hard limit never overshoots."""
    enough = given(start(Limits(tokens_max=1_000)))
    assert 0 < enough.tokens_reserved <= 1_000
    then = when(enough, replies(call("exec"), usage=Usage(input=600, output=100)))
    stopped = when(then.after, result("c1-0")).after
    assert (stopped.status, stopped.stopped_by) == ("stopped", "tokens")


def test_retry_that_does_not_fit_the_budget_stops_the_run() -> None:
    state = given(start(Limits(tokens_max=800)), fails("network"))
    then = when(state, fires("retry"))
    assert then.types == ["timer.fired.v1", "run.stopped.v2"]
