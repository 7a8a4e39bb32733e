"""Delegation: children carved out of one ledger, and their ends (rule 8, C12)."""

import pytest

from domain import commands as c
from domain.content import ResultPart, TextPart
from domain.decide import decide
from domain.effects import CancelChild, StartChild, TellParent, effects, tell_parent
from domain.events import DelegationSettled, Parent
from domain.evolve import evolve_all
from domain.ids import RunRef, child_run_id
from domain.limits import Limits, Price, Usage
from domain.state import RunState
from tests.support.invariants import render
from tests.support.runs import (
    HERE,
    MODEL,
    REF,
    Asked,
    approves,
    asks_for,
    call,
    cancel,
    children,
    delegate,
    denies,
    fails,
    given,
    outcomes,
    read_by_model,
    replies,
    result,
    start,
    team,
    tells,
    told,
    when,
)


def test_delegate_call_starts_a_child_whose_id_derives_from_the_call() -> None:
    then = when(given(start()), replies(delegate("do this")))
    effect = then.effects[0]
    assert isinstance(effect, StartChild)
    assert effect.child == RunRef(REF.tenant, REF.job, child_run_id(REF.run, "c1-0"))
    command = effect.command
    assert command.expert == "@boss/helper"
    assert command.parts == (TextPart(text="do this"),)
    assert (command.parent, command.depth) == (Parent(run=REF.run, call="c1-0"), 1)


def test_what_is_left_is_split_over_the_children_and_the_run_itself() -> None:
    """Rule 8: budgets are carved out of the parent's remainder before the child starts."""
    limits = Limits(steps_max=10, tokens_max=10_000)
    state = given(start(limits), replies(delegate(), delegate(), usage=Usage(input=1_000)))
    carved = [one.delegation.limits for one in state.open_calls if one.delegation]
    assert [(one.steps_max, one.tokens_max) for one in carved] == [(3, 3_000)] * 2
    assert (state.steps_left, state.tokens_left) == (3, 3_000)


def test_what_a_child_did_not_use_comes_back() -> None:
    limits = Limits(steps_max=10, tokens_max=10_000)
    state = given(
        start(limits), replies(delegate(), call("buy"), usage=Usage(input=1_000)), tells("c1-0")
    )
    assert (state.steps_left, state.tokens_left) == (8, 10_000 - 1_000 - 7)


def test_children_of_a_run_without_steps_left_get_none() -> None:
    """C12: children never open an allowance of their own."""
    state = given(start(Limits(steps_max=1)), replies(*[delegate()] * 3))
    carved = [one.delegation.limits.steps_max for one in state.open_calls if one.delegation]
    assert carved == [0, 0, 0]


def test_child_without_a_budget_stops_at_once_and_says_so() -> None:
    state = given(start(Limits(steps_max=0), child=True))
    told_parent = when(state, cancel()).effects[0]
    assert isinstance(told_parent, TellParent)
    assert (told_parent.command.status, told_parent.command.steps) == ("stopped", 0)


ENDS: dict[str, tuple[str, bool]] = {
    "completed": ("succeeded", False),
    "stopped": ("failed", True),
    "failed": ("failed", True),
    "cancelled": ("cancelled", True),
}


@pytest.mark.parametrize("status", ["completed", "stopped", "failed", "cancelled"])
def test_end_of_a_child_is_the_outcome_of_its_call(status: c.RestStatus) -> None:
    state = given(start(), replies(delegate(), call("buy")))
    then = when(state, told(state, "c1-0", status))
    assert then.types == ["delegation.settled.v2", "tool_call.ended.v1"]
    outcome, is_error = ENDS[status]
    ended = then.after.calls["c1-0"].ended
    assert ended is not None
    assert (ended.outcome, ended.is_error) == (outcome, is_error)
    assert read_by_model(then.events, "c1-0") == f"the child {status}"


def test_end_told_twice_or_by_a_stranger_changes_nothing() -> None:
    state = given(start(), replies(delegate(), call("buy")))
    end = told(state, "c1-0")
    assert when(when(state, end).after, end).events == ()
    assert when(state, end.model_copy(update={"child": "other"})).events == ()
    assert when(state, end.model_copy(update={"call": "c1-1"})).events == ()
    assert when(state, end.model_copy(update={"call": "c9-0"})).events == ()
    assert outcomes(state) == {"c1-0": "open", "c1-1": "open"}


CHILDREN: dict[str, tuple[tuple[Asked, ...], str]] = {
    "completed": ((replies("the answer"),), "the answer"),
    "stopped": ((replies(call("exec")), result("c1-0")), "limit of steps"),
    "failed": ((fails("auth", retryable=False),), "auth: it did not work"),
    "cancelled": ((cancel(),), "was cancelled"),
}


@pytest.mark.parametrize("status", CHILDREN)
def test_child_at_rest_owes_its_parent_its_end_and_what_it_used(status: str) -> None:
    """Rule 8."""
    history, text = CHILDREN[status]
    state = given(start(Limits(steps_max=1), child=True), *history)
    effect = when(state, cancel("again")).effects[0]
    assert isinstance(effect, TellParent)
    assert effect.parent == RunRef(REF.tenant, REF.job, "parent")
    assert (effect.command.status, effect.command.call) == (status, "c1-0")
    assert effect.command.steps == 1
    assert effect.command.tokens == state.tokens_charged
    part = effect.command.content[0]
    assert isinstance(part, TextPart)
    assert isinstance(part.text, str)
    assert text in part.text


def test_steps_of_grandchildren_count_in_what_a_child_used() -> None:
    """One ledger per tree."""
    state = given(start(child=True), replies(delegate()), tells("c1-0"), replies("done"))
    effect = when(state, cancel()).effects[0]
    assert isinstance(effect, TellParent)
    assert effect.command.steps == 3
    assert effect.command.tokens == 15 + 7 + 15


def test_root_run_tells_nobody() -> None:
    assert when(given(start(), replies("done")), cancel()).effects == ()


def tree_of_runs(tokens_max: int, reply_tokens: int) -> list[RunState]:
    """A coordinator and two children that each use what they may, to the end."""
    usage = Usage(input=reply_tokens)
    root = given(start(Limits(tokens_max=tokens_max)), replies(delegate(), delegate(), usage=usage))
    below: list[RunState] = []
    for one in root.open_calls:
        assert one.delegation is not None
        command = start(one.delegation.limits, child=True)
        ref = RunRef(REF.tenant, REF.job, one.delegation.child)
        child = RunState(ref=ref)
        child = evolve_all(child, decide(child, command, HERE))
        while not child.at_rest:
            child = when(child, replies(call("todo"), usage=usage)).after
        below.append(child)
    return [root, *below]


def test_a_tree_never_uses_more_than_its_budget() -> None:
    """C12: hard limit never overshoots."""
    runs = tree_of_runs(12_000, 700)
    assert all(run.at_rest for run in runs[1:])
    assert sum(run.tokens_charged for run in runs) <= 12_000


# ---------------------------------------------------------------- several at once


def at_work(state: RunState) -> list[str]:
    return list(children(effects(state)))


def given_team(count: int, fan_out: int) -> RunState:
    return given(start(Limits(fan_out_max=fan_out)), replies(*[delegate()] * count))


def test_delegates_of_one_reply_start_together() -> None:
    assert at_work(given_team(5, 16)) == ["c1-0", "c1-1", "c1-2", "c1-3", "c1-4"]


def test_more_than_the_fan_out_wait_for_their_turn_in_call_order() -> None:
    state = given_team(5, 2)
    assert at_work(state) == ["c1-0", "c1-1"]
    then = when(state, tells("c1-1"))
    assert at_work(then.after) == ["c1-0", "c1-2"]
    then = when(then.after, tells("c1-0", "failed"))
    assert at_work(then.after) == ["c1-2", "c1-3"]


def test_each_waiting_delegate_has_its_share_from_the_start() -> None:
    """C12: whoever comes later does not find the budget empty."""
    state = given_team(5, 2)
    shares = [one.delegation.limits.steps_max for one in state.open_calls if one.delegation]
    assert shares == [99 // 6] * 5


ASKED_FIRST = team(asks_for("ask", tool="helper"))


def test_delegate_that_is_allowed_late_queues_behind_those_at_work() -> None:
    """One that is at work stays so: its cancel, its news and its end are still waited for."""
    asking = team(asks_for("ask", arguments={"query": "ask first"}))
    state = given(
        start(Limits(fan_out_max=1)),
        replies(delegate("ask first"), delegate("go")),
        where=asking,
    )
    assert at_work(state) == ["c1-1"]
    state = when(state, approves("c1-0")).after
    assert at_work(state) == ["c1-1"]
    stopping = when(state, cancel())
    assert [one.parent.call for one in stopping.effects if isinstance(one, CancelChild)] == ["c1-1"]
    assert outcomes(stopping.after) == {"c1-0": "cancelled", "c1-1": "open"}
    assert at_work(when(state, tells("c1-1")).after) == ["c1-0"]


def test_last_delegate_to_be_allowed_gets_as_much_as_the_first() -> None:
    """C12: one after the other, each would else get half of what the one before left."""
    limits = Limits(steps_max=101, tokens_max=100_000, money_max=5_000, tool_calls_max=50)
    state = given(
        start(limits), replies(*[delegate()] * 4, usage=Usage(input=0)), where=ASKED_FIRST
    )
    for name in ("c1-2", "c1-0", "c1-3", "c1-1"):
        state = when(state, approves(name, f"k{name}")).after
    shares = [one.delegation.limits for one in state.open_calls if one.delegation]
    assert {one.steps_max for one in shares} == {20}
    assert {one.tokens_max for one in shares} == {20_000}
    assert {one.tool_calls_max for one in shares} == {10}
    assert (state.steps_left, state.tokens_left) == (20, 20_000)


def test_share_of_a_delegate_that_was_denied_goes_to_those_that_are_allowed_later() -> None:
    state = given(start(Limits(steps_max=13)), replies(*[delegate()] * 3), where=ASKED_FIRST)
    state = when(state, denies("c1-0")).after
    state = when(state, approves("c1-1")).after
    delegation = state.calls["c1-1"].delegation
    assert delegation is not None
    assert delegation.limits.steps_max == 12 // 3


def test_cancel_ends_queued_children_without_starting_them() -> None:
    """C6: and what was carved out for them comes back untouched."""
    state = given(start(Limits(fan_out_max=2, tokens_max=90_000)), replies(*[delegate()] * 5))
    then = when(state, cancel())
    assert children(then.effects) == {}
    told_to_stop = [one.parent.call for one in then.effects if isinstance(one, CancelChild)]
    assert told_to_stop == ["c1-0", "c1-1"]
    assert outcomes(then.after) == {
        "c1-0": "open",
        "c1-1": "open",
        "c1-2": "cancelled",
        "c1-3": "cancelled",
        "c1-4": "cancelled",
    }
    settled = [one for one in then.events if isinstance(one, DelegationSettled)]
    assert [(one.call, one.status, one.tokens) for one in settled] == [
        (name, "cancelled", 0) for name in ("c1-2", "c1-3", "c1-4")
    ]
    state = when(when(then.after, tells("c1-0", "cancelled")).after, tells("c1-1")).after
    assert state.status == "cancelled"
    assert state.tokens_charged == 15 + 2 * 7


def test_results_of_delegates_are_read_in_call_order_however_they_come_in() -> None:
    """C13: and what is finished stays finished when a sibling fails."""
    state = given(start(), replies(*[call("helper", '{"query": "x"}', f"p{n}") for n in range(3)]))
    for told_now in (tells("c1-2"), tells("c1-0", "failed"), tells("c1-1")):
        state = when(state, told_now).after
    parts = render(state)[-1].parts
    assert [part.provider_id for part in parts if isinstance(part, ResultPart)] == [
        "p0",
        "p1",
        "p2",
    ]
    assert ["failed" in repr(part) for part in parts] == [True, False, False]


def test_delegation_below_the_deepest_level_is_a_result_the_model_reads() -> None:
    state = given(start(Limits(depth_max=1), child=True))
    then = when(state, replies(delegate(), call("buy")))
    assert "1 deep" in read_by_model(then.events, "c1-0")
    assert children(then.effects) == {}


def test_what_a_child_spent_and_called_is_charged_above() -> None:
    """C12: one ledger a tree."""
    limits = Limits(money_max=9_000, tool_calls_max=30)
    priced = team(model=MODEL.model_copy(update={"price": Price(input=3, output=15)}))
    free = replies(delegate(), call("buy"), usage=Usage())
    state = given(start(limits), free, where=priced)
    share = state.calls["c1-0"].delegation
    assert share is not None
    assert (share.limits.money_max, share.limits.tool_calls_max) == (4_500, 14)
    end = told(state, "c1-0").model_copy(update={"money": 1_200, "tool_calls": 3})
    after = when(state, end).after
    assert (after.money_charged, after.money_left) == (1_200, 7_800)
    assert (after.tool_calls, after.tool_calls_left) == (1 + 3, 26)
    assert (after.money_reserved, after.tool_calls_reserved) == (0, 0)


def test_child_tells_what_it_and_its_own_children_spent_and_called() -> None:
    state = given(start(child=True), replies(delegate(), call("buy")), result("c1-1"))
    end = told(state, "c1-0").model_copy(update={"money": 40, "tool_calls": 2})
    state = when(when(state, end).after, replies("done")).after
    effect = tell_parent(state)
    assert effect is not None
    assert (effect.command.money, effect.command.tool_calls) == (40, 1 + 2)
