"""Budgets: reserve the worst case, charge what it was, never go over (C12, C8)."""

from random import Random

import pytest

from domain import commands as c
from domain.content import CallPart
from domain.effects import effects
from domain.events import (
    ApprovalRequested,
    DelegationRequested,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationRequested,
    GenerationSuperseded,
    LimitReached,
    RunStopped,
)
from domain.limits import Limits, ModelChoice, Price, Usage
from domain.state import RunState
from tests.support.runs import (
    MODEL,
    Asked,
    approves,
    asks_for,
    call,
    cancel,
    delegate,
    denies,
    fails,
    fires,
    given,
    goes_on,
    handed_out,
    outcomes,
    read_by_model,
    replies,
    result,
    start,
    steers,
    team,
    when,
)

USD = 1_000_000
PRICE = Price(input=2 * USD, output=10 * USD, cached=USD // 5)
"""2 and 10 micro-USD a token."""

PRICED = team(model=MODEL.model_copy(update={"price": PRICE}))
USED = Usage(input=40, output=10)


def reserved(state: RunState) -> tuple[int, int]:
    assert state.generation is not None
    return state.generation.reserved, state.generation.reserved_money


def stopped(events: tuple[Event, ...]) -> str:
    """The limit that a run stopped at."""
    last = events[-1]
    assert isinstance(last, RunStopped), last
    return last.limit


# ---------------------------------------------------------------- reserve, then charge


def test_worst_case_is_reserved_before_the_call() -> None:
    """C12: every two bytes of the prompt are a token, and all the output the model may make."""
    state = given(start(), where=PRICED)
    prompt = (state.context_bytes + state.conversation.size) // 2
    assert reserved(state) == (prompt + 100, 2 * prompt + 10 * 100)
    assert (state.tokens_reserved, state.money_reserved) == reserved(state)


def test_what_was_used_is_charged_and_the_reservation_is_over() -> None:
    state = given(start(), replies(call("exec"), usage=USED), where=PRICED)
    assert (state.tokens_charged, state.tokens_reserved) == (50, 0)
    assert (state.money_charged, state.money_reserved) == (40 * 2 + 10 * 10, 0)


def test_cached_tokens_cost_what_cached_tokens_cost() -> None:
    usage = Usage(input=100, output=10, cached=60)
    state = given(start(), replies(call("exec"), usage=usage), where=PRICED)
    assert state.money_charged == 40 * 2 + 60 // 5 + 10 * 10


def test_part_of_a_micro_dollar_is_charged_whole() -> None:
    usage = Usage(input=1, cached=1)
    state = given(start(), replies(call("exec"), usage=usage), where=PRICED)
    assert state.money_charged == 1


def test_unknown_usage_is_charged_as_reserved() -> None:
    """C12: unknown usage must not count as zero."""
    before = given(start(), where=PRICED)
    then = when(before, replies(call("exec"), known=False))
    assert (then.after.tokens_charged, then.after.money_charged) == reserved(before)


def test_unknown_price_is_charged_as_reserved_which_is_all_that_is_left() -> None:
    before = given(start(Limits(money_max=700)))
    assert reserved(before)[1] == 700
    after = when(before, replies(call("exec"), usage=USED)).after
    assert (after.money_charged, after.money_left) == (700, 0)
    assert stopped(when(after, result("c1-0")).events) == "money"


def test_request_that_was_never_worked_on_costs_nothing() -> None:
    for kind in ("rate_limited", "overloaded", "auth"):
        then = when(given(start(), where=PRICED), fails(kind))
        failed = then.events[0]
        assert isinstance(failed, GenerationFailed)
        assert (failed.charged, failed.charged_money) == (0, 0)
        assert (then.after.tokens_reserved, then.after.money_reserved) == (0, 0)


def test_attempt_that_may_have_been_worked_on_is_charged_as_reserved() -> None:
    before = given(start(), where=PRICED)
    then = when(before, fails("network"))
    assert (then.after.tokens_charged, then.after.money_charged) == reserved(before)


def test_retry_is_not_counted_twice() -> None:
    """C12: each attempt is charged once, and only the open one is reserved."""
    state = given(
        start(), fails("overloaded"), fires("retry"), fails("network", usage=USED), where=PRICED
    )
    assert state.tokens_charged == 50
    state = when(state, fires("retry"), PRICED).after
    assert (state.tokens_reserved, state.money_reserved) == reserved(state)
    state = when(state, replies(call("exec"), usage=USED)).after
    assert (state.tokens_charged, state.tokens_reserved) == (100, 0)
    assert (state.money_charged, state.money_reserved) == (2 * 180, 0)


def test_attempt_of_a_lost_worker_is_charged_until_its_end_is_known() -> None:
    before = given(start(), where=PRICED)
    late = replies("late", usage=USED)(before)
    state = when(before, c.AbandonHolder(holder="e1"), PRICED).after
    assert (state.tokens_charged, state.money_charged) == reserved(before)
    then = when(state, late)
    settled = then.events[0]
    assert isinstance(settled, GenerationSuperseded)
    assert (then.after.tokens_charged, then.after.money_charged) == (50, 180)
    assert when(then.after, late).events == ()


def test_attempt_that_used_more_than_was_reserved_is_charged_what_it_used() -> None:
    before = given(start(), where=PRICED)
    late = replies("late", usage=Usage(input=9_000))(before)
    state = when(before, c.AbandonHolder(holder="e1"), PRICED).after
    after = when(state, late).after
    assert (after.tokens_charged, after.money_charged) == (9_000, 18_000)


# ---------------------------------------------------------------- hard limits


HARD: dict[str, tuple[Limits, str]] = {
    "steps": (Limits(steps_max=1), "steps"),
    "tokens": (Limits(tokens_max=1_100), "tokens"),
    "money": (Limits(money_max=2_100), "money"),
    "tool_calls": (Limits(tool_calls_max=0), "tool_calls"),
}


@pytest.mark.parametrize("limit", HARD)
def test_run_stops_at_its_limit_and_says_which(limit: str) -> None:
    """C12: a typed terminal reason, before anything is spent on what does not fit."""
    limits, name = HARD[limit]
    state, said = given(start(limits), where=PRICED), list[Event]()
    while not state.at_rest:
        then = when(state, replies(call("todo"), call("exec"), usage=Usage(input=200)), PRICED)
        state, said = then.after, [*said, *then.events]
        for open_call in state.open_calls:
            then = when(state, result(open_call.id), PRICED)
            state, said = then.after, [*said, *then.events]
    assert stopped(tuple(said)) == name
    assert state.stopped_by == name


def test_request_that_does_not_fit_is_not_made() -> None:
    state = given(start(Limits(tokens_max=100)), where=PRICED)
    assert (state.status, state.stopped_by) == ("stopped", "tokens")
    assert state.generation is None
    state = given(start(Limits(money_max=100)), where=PRICED)
    assert (state.status, state.stopped_by) == ("stopped", "money")
    assert state.generation is None


def test_model_without_a_price_cannot_begin_when_no_money_is_left() -> None:
    state = given(start(Limits(money_max=0)))
    assert (state.status, state.stopped_by) == ("stopped", "money")


@pytest.mark.parametrize("seed", range(25))
def test_no_run_goes_over_its_limits_however_its_attempts_end(seed: int) -> None:
    """C12: hard never overshoots, as long as a provider uses no more than it can."""
    dice = Random(seed)
    limits = Limits(
        tokens_max=dice.randint(900, 9_000),
        money_max=dice.randint(2_000, 30_000),
        tool_calls_max=dice.randint(0, 6),
        generation_attempts_max=50,
    )
    state = given(start(limits), where=PRICED)
    while not state.at_rest:
        state = when(state, _next(state, dice), PRICED).after
        assert state.tokens_charged + state.tokens_reserved <= (limits.tokens_max or 0)
        assert state.money_charged + state.money_reserved <= (limits.money_max or 0)
        assert state.tool_calls <= (limits.tool_calls_max or 0)


def _next(state: RunState, dice: Random) -> Asked:
    if state.open_calls:
        return result(state.open_calls[0].id)
    assert state.generation is not None
    if state.generation.phase == "backoff":
        return fires("retry")
    used = Usage(input=dice.randint(0, state.generation.reserved - 100), output=dice.randint(0, 99))
    if dice.random() < 0.3:
        return fails("network", usage=dice.choice((None, used)))
    calls: list[CallPart] = [call("exec", "{}", f"p{n}") for n in range(dice.randint(1, 3))]
    return replies(*calls, usage=used, known=dice.random() < 0.7)


# ---------------------------------------------------------------- tool calls


def test_call_beyond_the_limit_is_refused_with_a_result_and_the_run_stops_after_the_step() -> None:
    state = given(start(Limits(tool_calls_max=2)), where=PRICED)
    then = when(state, replies(*[call("exec", "{}", f"p{n}") for n in range(3)]))
    assert list(handed_out(then.effects)) == ["c1-0", "c1-1"]
    assert "none is left" in read_by_model(then.events, "c1-2")
    assert [one.call for one in then.events if isinstance(one, LimitReached)] == ["c1-2"]
    state = when(then.after, result("c1-0")).after
    then = when(state, result("c1-1"))
    assert then.types == ["tool_call.ended.v1", "step.ended.v1", "run.stopped.v2"]
    assert stopped(then.events) == "tool_calls"


def test_tools_of_the_loop_do_not_count() -> None:
    state = given(start(Limits(tool_calls_max=0)), replies(call("todo")))
    assert state.status == "running"
    assert state.tool_calls == 0


def test_call_that_waits_holds_its_place_and_gives_it_back_when_it_is_denied() -> None:
    """C12: what may still run is counted as if it did."""
    asks = team(asks_for("ask", tool="buy"))
    state = given(start(Limits(tool_calls_max=1)), replies(call("buy"), call("exec")), where=asks)
    assert outcomes(state) == {"c1-0": "open", "c1-1": "refused"}
    denied = when(state, denies("c1-0"))
    assert denied.after.tool_calls == 0
    state = given(start(Limits(tool_calls_max=1)), replies(call("buy")), where=asks)
    state = when(state, denies("c1-0")).after
    assert list(handed_out(when(state, replies(call("exec"))).effects)) == ["c2-0"]


def test_refused_calls_of_a_limit_do_not_stop_a_run_that_completes() -> None:
    state = given(start(Limits(tool_calls_max=0)))
    then = when(state, replies(call("exec"), call("attemptCompletion")))
    assert then.after.status == "completed"


# ---------------------------------------------------------------- soft limits


SOFT = Limits(tokens_soft=1_000)


def at_soft(limits: Limits = SOFT) -> RunState:
    """A run that would pass a soft limit with its second request."""
    return given(
        start(limits),
        replies(call("exec"), usage=Usage(input=500)),
        result("c1-0"),
        where=PRICED,
    )


def test_soft_limit_asks_a_person_before_it_is_passed() -> None:
    """C12: soft asks."""
    state = at_soft()
    assert list(state.approvals) == ["budget-1"]
    assert state.approvals["budget-1"].limit == "tokens"
    assert state.generation is not None
    assert state.generation.phase == "over", "nothing is asked for meanwhile"
    assert state.waits
    assert state.tokens_charged + state.tokens_reserved <= 1_000


def test_question_about_a_soft_limit_says_which_and_how_much() -> None:
    state = given(start(SOFT), replies(call("exec"), usage=Usage(input=500)), where=PRICED)
    asked = when(state, result("c1-0"), PRICED).events[-1]
    assert isinstance(asked, ApprovalRequested)
    assert (asked.limit, asked.soft) == ("tokens", 1_000)
    assert asked.due_ms is not None


def test_below_its_soft_limit_a_run_asks_nobody() -> None:
    assert at_soft(Limits(tokens_soft=50_000)).approvals == {}


def test_run_that_may_go_on_is_not_asked_about_that_limit_again() -> None:
    state = when(at_soft(), approves("budget-1"), PRICED).after
    assert state.step == 2
    state = when(state, replies(call("exec"), usage=Usage(input=5_000))).after
    state = when(state, result("c2-0"), PRICED).after
    assert (state.approvals, state.step) == ({}, 3)


def test_hard_limit_holds_also_for_a_run_that_may_pass_its_soft_one() -> None:
    state = at_soft(Limits(tokens_soft=1_000, tokens_max=1_200))
    assert (state.status, state.stopped_by) == ("stopped", "tokens"), "nothing to ask for"
    limits = Limits(tokens_soft=1_000, tokens_max=2_500)
    state = when(at_soft(limits), approves("budget-1"), PRICED).after
    state = when(state, replies(call("exec"), usage=Usage(input=1_500))).after
    assert stopped(when(state, result("c2-0"), PRICED).events) == "tokens"


def test_denied_soft_limit_stops_the_run_there() -> None:
    then = when(at_soft(), denies("budget-1"))
    assert then.types == ["approval.decided.v1", "run.stopped.v2"]
    assert stopped(then.events) == "tokens"


def test_soft_limit_nobody_answers_about_stops_the_run() -> None:
    then = when(at_soft(), fires("answer_expiry"))
    assert stopped(then.events) == "tokens"


def test_each_soft_limit_is_asked_about_by_itself() -> None:
    limits = Limits(tokens_soft=1_000, money_soft=2_500)
    state = when(at_soft(limits), approves("budget-1"), PRICED).after
    assert list(state.approvals) == ["budget-2"]
    assert state.approvals["budget-2"].limit == "money"
    assert when(state, approves("budget-2", "a2"), PRICED).after.step == 2


def test_first_request_of_a_run_may_be_beyond_its_soft_limit() -> None:
    state = given(start(Limits(tokens_soft=10)), where=PRICED)
    assert state.generation is None
    assert list(state.approvals) == ["budget-1"]
    then = when(state, approves("budget-1"), PRICED)
    assert then.types[-1] == "generation.requested.v2"


def test_retry_beyond_a_soft_limit_is_asked_about_too() -> None:
    state = given(start(Limits(tokens_soft=1_000)), fails("network"), where=PRICED)
    state = when(state, fires("retry"), PRICED).after
    assert list(state.approvals) == ["budget-1"]
    asked = when(state, approves("budget-1"), PRICED).events[-1]
    assert isinstance(asked, GenerationRequested)
    assert (asked.step, asked.attempt) == (1, 2)


def test_word_at_once_does_not_pass_a_soft_limit_by_itself() -> None:
    state = when(at_soft(), steers(now=True), PRICED).after
    assert list(state.approvals) == ["budget-1"]
    assert when(state, approves("budget-1"), PRICED).types[-1] == "generation.requested.v2"


def test_run_that_waits_for_its_soft_limit_is_cancelled_at_once() -> None:
    """C6."""
    assert when(at_soft(), cancel()).after.status == "cancelled"


# ---------------------------------------------------------------- continue


AT_LIMIT: dict[str, Limits] = {
    "steps": Limits(steps_max=1),
    "tokens": Limits(tokens_max=1_100),
    "money": Limits(money_max=2_700),
    "tool_calls": Limits(tool_calls_max=1),
}
LARGER: dict[str, dict[str, int]] = {
    "steps": {"steps_max": 5},
    "tokens": {"tokens_max": 9_000},
    "money": {"money_max": 90_000},
    "tool_calls": {"tool_calls_max": 3},
}


@pytest.mark.parametrize("limit", AT_LIMIT)
def test_run_at_its_limit_goes_on_with_a_larger_one(limit: str) -> None:
    """C12: and what it used before does not count again."""
    state = given(start(AT_LIMIT[limit]), where=PRICED)
    while not state.at_rest:
        state = when(
            state,
            replies(*[call("exec", "{}", f"p{n}") for n in range(2)], usage=Usage(input=600)),
            PRICED,
        ).after
        for open_call in state.open_calls:
            state = when(state, result(open_call.id), PRICED).after
    assert state.stopped_by == limit
    more = goes_on().model_copy(update=LARGER[limit])
    then = when(state, more, PRICED)
    assert then.types[-1] == "generation.requested.v2"
    after = when(then.after, replies(call("exec"), usage=USED)).after
    assert list(handed_out(effects(after))) == [f"c{after.step}-0"]


def test_continued_run_has_its_limits_whole_again() -> None:
    limits = Limits(steps_max=5, tokens_max=9_000, money_max=60_000, tool_calls_max=4)
    spent = replies(call("exec"), usage=USED)
    state = given(start(limits), spent, result("c1-0"), replies("done"), where=PRICED)
    assert (state.tokens_charged, state.money_charged, state.tool_calls) == (65, 250, 1)
    state = when(state, goes_on(), PRICED).after
    assert state.generation is not None
    assert (state.tokens_left, state.money_left) == (
        9_000 - state.generation.reserved,
        60_000 - state.generation.reserved_money,
    )
    assert (state.steps_left, state.tool_calls_left) == (5 - 1, 4)


def test_limit_that_was_reached_does_not_end_the_run_after_its_continue() -> None:
    state = given(start(Limits(tool_calls_max=1)), where=PRICED)
    state = when(state, replies(call("exec", "{}", "p0"), call("exec", "{}", "p1"))).after
    state = when(state, result("c1-0")).after
    assert state.stopped_by == "tool_calls"
    more = goes_on().model_copy(update={"tool_calls_max": 9})
    state = when(when(state, more, PRICED).after, replies(call("exec"))).after
    then = when(state, result(state.open_calls[0].id), PRICED)
    assert then.types[-1] == "generation.requested.v2"


def test_continued_run_is_asked_about_its_soft_limit_anew() -> None:
    state = when(at_soft(), approves("budget-1"), PRICED).after
    state = when(state, replies("done", usage=USED)).after
    state = when(state, goes_on(), PRICED).after
    assert state.lifted == frozenset()
    state = when(state, replies(call("exec"), usage=Usage(input=900)), PRICED).after
    state = when(state, result(state.open_calls[0].id), PRICED).after
    assert list(state.approvals) == ["budget-2"]


def test_late_end_of_an_attempt_from_before_the_continue_settles_what_was_before() -> None:
    before = given(start(Limits(money_max=9_000)), where=PRICED)
    late = replies("late", usage=USED)(before)
    state = when(when(before, cancel()).after, goes_on(), PRICED).after
    left = (state.tokens_left, state.money_left)
    after = when(state, late).after
    assert after.money_charged < state.money_charged
    assert (after.tokens_left, after.money_left) == left, "the new budget gains nothing by it"


def test_charges_are_in_the_log() -> None:
    """The ledger is a fold: every figure of it stands in an event."""
    state = given(start(), where=PRICED)
    completed = when(state, replies("done", usage=USED)).events[0]
    assert isinstance(completed, GenerationCompleted)
    assert (completed.charged, completed.charged_money) == (50, 180)


UNPRICED = ModelChoice(provider="scripted", model="other", output_tokens_max=100)


def test_cost_of_no_tokens_is_nothing_even_without_a_price() -> None:
    state = given(start(Limits(money_max=700)), where=team(model=UNPRICED))
    assert when(state, replies(call("exec"), usage=Usage())).after.money_charged == 0


def test_child_shares_all_that_is_left_once_a_person_lifted_the_soft_limit() -> None:
    state = when(
        at_soft(Limits(tokens_soft=1_000, tokens_max=20_500)), approves("budget-1"), PRICED
    ).after
    asked = when(state, replies(delegate(), usage=Usage())).events[-1]
    assert isinstance(asked, DelegationRequested)
    assert asked.limits.tokens_max == 10_000
