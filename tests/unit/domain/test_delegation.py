"""Delegation: children carved out of one ledger, and their ends (rule 8, C12)."""

import pytest

from domain import commands as c
from domain.content import TextPart
from domain.decide import decide
from domain.effects import StartChild, TellParent
from domain.events import Parent
from domain.evolve import evolve_all
from domain.ids import RunRef, child_run_id
from domain.limits import Limits, Usage
from domain.state import RunState
from tests.support.runs import (
    HERE,
    REF,
    Asked,
    call,
    cancel,
    delegate,
    fails,
    given,
    outcomes,
    read_by_model,
    replies,
    result,
    start,
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
    children: list[RunState] = []
    for one in root.open_calls:
        assert one.delegation is not None
        command = start(one.delegation.limits, child=True)
        ref = RunRef(REF.tenant, REF.job, one.delegation.child)
        child = RunState(ref=ref)
        child = evolve_all(child, decide(child, command, HERE))
        while not child.at_rest:
            child = when(child, replies(call("todo"), usage=usage)).after
        children.append(child)
    return [root, *children]


def test_a_tree_never_uses_more_than_its_budget() -> None:
    """C12: hard limit never overshoots."""
    runs = tree_of_runs(12_000, 700)
    assert all(run.at_rest for run in runs[1:])
    assert sum(run.tokens_charged for run in runs) <= 12_000
