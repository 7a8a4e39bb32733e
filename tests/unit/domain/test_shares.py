"""Shares of children: carved out of what is left, asked for where a soft limit is in the way."""

from domain import commands as c
from domain.content import CallPart
from domain.effects import StartChild, tell_parent
from domain.events import ApprovalRequested, DelegationRequested
from domain.limits import Limits, Price, Usage
from tests.support.runs import (
    MODEL,
    approves,
    asks_for,
    call,
    delegate,
    denies,
    given,
    outcomes,
    replies,
    start,
    team,
    tells,
    when,
)

USD = 1_000_000
PRICE = Price(input=2 * USD, output=10 * USD, cached=USD // 5)
PRICED = team(model=MODEL.model_copy(update={"price": PRICE}))


def shares(*parts: CallPart, limits: Limits) -> list[Limits]:
    asked = replies(*parts, usage=Usage())
    then = when(given(start(limits), where=PRICED), asked)
    return [one.limits for one in then.events if isinstance(one, DelegationRequested)]


def test_child_gets_a_share_of_every_budget_and_asks_nobody() -> None:
    limits = Limits(
        steps_max=31,
        tokens_max=9_000,
        money_max=60_000,
        tool_calls_max=12,
        tokens_soft=6_000,
        money_soft=30_000,
        wall_ms_max=60_000,
    )
    (share, _) = shares(delegate("a"), delegate("b"), limits=limits)
    assert (share.steps_max, share.tool_calls_max) == (10, 4)
    assert (share.tokens_max, share.money_max) == (2_000, 10_000), "below the soft limits"
    assert (share.tokens_soft, share.money_soft, share.wall_ms_max) == (None, None, None)


def test_without_a_budget_above_a_child_has_none() -> None:
    (share,) = shares(delegate(), limits=Limits())
    assert (share.tokens_max, share.money_max, share.tool_calls_max) == (None, None, None)


def test_child_beyond_its_share_stops_and_its_caller_reads_why() -> None:
    state = given(start(Limits(money_max=10), child=True), where=PRICED)
    told = tell_parent(state)
    assert told is not None
    assert told.command.status == "stopped"
    assert "its limit of money" in repr(told.command.content)


def test_share_comes_back_with_the_end_of_the_child() -> None:
    limits = Limits(tokens_max=10_000, money_max=8_000, tool_calls_max=10)
    state = given(start(limits), replies(delegate(), call("buy"), usage=Usage()), where=PRICED)
    assert (state.tokens_left, state.money_left, state.tool_calls_left) == (5_000, 4_000, 5)
    state = when(state, tells("c1-0")).after
    assert (state.tokens_left, state.money_left, state.tool_calls_left) == (9_993, 8_000, 9)


SCARCE = Limits(tokens_soft=2_000, tokens_max=50_000)
"""Two children would get a few hundred tokens each below the soft limit: not one reply."""


def test_a_person_is_asked_before_children_get_too_little_below_a_soft_limit() -> None:
    """C12: a soft limit asks; it does not starve delegates in silence."""
    asked = replies(delegate("a"), delegate("b"), call("buy"), usage=Usage(input=900))
    then = when(given(start(SCARCE)), asked)
    (approval,) = [one for one in then.events if isinstance(one, ApprovalRequested)]
    assert (approval.approval, approval.limit, approval.soft) == ("budget-1", "tokens", 2_000)
    assert [one for one in then.effects if isinstance(one, StartChild)] == []
    allowed = when(then.after, approves("budget-1"))
    carved = [
        one.limits.tokens_max for one in allowed.events if isinstance(one, DelegationRequested)
    ]
    assert carved == [16_366, 16_366]
    assert len([one for one in allowed.effects if isinstance(one, StartChild)]) == 2


def test_who_may_not_pass_the_soft_limit_stops_with_every_call_answered() -> None:
    asked = replies(delegate("a"), delegate("b"), usage=Usage(input=900))
    state = given(start(SCARCE), asked)
    then = when(state, denies("budget-1"))
    assert then.after.status == "stopped"
    assert then.after.stopped_by == "tokens"
    assert outcomes(then.after) == {"c1-0": "cancelled", "c1-1": "cancelled"}


def test_a_queued_delegate_is_refused_by_a_rule_that_comes_before_its_turn() -> None:
    """C14: a new rule is heard by whatever has not begun; the share comes back."""
    limits = Limits(fan_out_max=1, tokens_max=9_000)
    state = given(start(limits), replies(delegate("a"), delegate("b"), usage=Usage()))
    deny = c.ChangePolicy(id="r1", rules=(asks_for("deny", tool="helper"),))
    then = when(state, deny)
    assert outcomes(then.after) == {"c1-0": "open", "c1-1": "refused"}
    assert then.after.tokens_left == 6_000
    assert then.types == [
        "policy.changed.v1",
        "delegation.settled.v2",
        "tool_call.ended.v1",
    ]
