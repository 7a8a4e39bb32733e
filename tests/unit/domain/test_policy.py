"""Rules: which calls may run, which need a person, which never run. Not the wait for a person."""

from typing import Any

import pytest

from domain.commands import Standing
from domain.events import PolicyChanged, PolicyPinned
from domain.policy import Asked, Judgement, PolicyLayer, PolicyRule, Verdict, judge
from domain.state import RunState
from tests.support.runs import (
    REF,
    adds,
    asks_for,
    call,
    children,
    delegate,
    given,
    goes_on,
    handed_out,
    outcomes,
    read_by_model,
    rejected,
    replies,
    restarted,
    result,
    start,
    team,
    when,
)

EXEC = Asked("boss", "base", "exec", {"command": "rm", "args": ["-r", "/tmp/x"], "n": 3})


def layer(*rules: PolicyRule, name: str = "definition") -> PolicyLayer:
    return PolicyLayer.model_validate({"name": name, "rules": rules})


def verdict(*rules: PolicyRule, asked: Asked = EXEC) -> str:
    """What one layer says."""
    return judge((layer(*rules),), (), asked).verdict


# ---------------------------------------------------------------- one rule


def test_call_that_no_rule_matches_is_allowed() -> None:
    assert judge((), (), EXEC) == Judgement("allow")
    assert verdict(asks_for("deny", tool="buy")) == "allow"


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ({}, "deny"),
        ({"tool": "exec"}, "deny"),
        ({"tool": "ex*"}, "deny"),
        ({"tool": "exe"}, "allow"),
        ({"tool": "EXEC"}, "allow"),
        ({"expert": "boss"}, "deny"),
        ({"expert": "@boss/*"}, "allow"),
        ({"skill": "b[a-c]se"}, "deny"),
        ({"skill": "own"}, "allow"),
        ({"tool": "exec", "expert": "other"}, "allow"),
    ],
)
def test_every_pattern_is_a_glob_over_the_whole_name(patterns: dict[str, str], found: str) -> None:
    assert verdict(asks_for("deny", **patterns)) == found


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"command": "rm"}, "deny"),
        ({"command": "r"}, "allow"),
        ({"command": "r?"}, "deny"),
        ({"args.0": "-r"}, "deny"),
        ({"args.1": "/tmp/*"}, "deny"),
        ({"args.*": "/tmp/*"}, "deny"),
        ({"args.2": "*"}, "allow"),
        ({"args": '*"-r"*'}, "deny"),
        ({"n": "3"}, "deny"),
        ({"env.HOME": "*"}, "allow"),
        ({"command.0": "*"}, "allow"),
        ({"command": "rm", "args.0": "-x"}, "allow"),
        ({"command": "rm", "args.0": "-r"}, "deny"),
    ],
)
def test_arguments_are_matched_by_path_and_all_of_them_have_to_fit(
    arguments: dict[str, str], found: str
) -> None:
    assert verdict(asks_for("deny", arguments=arguments)) == found


def test_path_that_names_several_texts_allows_only_if_all_fit_and_objects_if_one_does() -> None:
    """One harmless argument does not carry a harmful one past a rule."""
    allows = PolicyRule(verdict="allow", arguments={"args.*": "/tmp/*"})
    denies = PolicyRule(verdict="deny", arguments={"args.*": "/tmp/*"})
    last = PolicyRule(verdict="ask")
    assert verdict(allows, last) == "ask"
    assert verdict(denies, last) == "deny"


def test_what_is_too_long_to_be_read_is_never_waved_through() -> None:
    unread = EXEC._replace(arguments=None)
    allows = PolicyRule(verdict="allow", arguments={"command": "*"})
    denies = PolicyRule(verdict="deny", arguments={"command": "rm"})
    last = PolicyRule(verdict="ask")
    assert verdict(allows, last, asked=unread) == "ask"
    assert verdict(denies, asked=unread) == "deny"
    assert verdict(PolicyRule(verdict="allow"), last, asked=unread) == "allow"


# ---------------------------------------------------------------- several


def test_in_one_layer_the_first_rule_that_matches_counts() -> None:
    assert verdict(asks_for("allow", tool="exec"), asks_for("deny")) == "allow"
    assert verdict(asks_for("deny", tool="e*"), asks_for("allow")) == "deny"


def test_of_all_layers_the_strictest_verdict_counts() -> None:
    allow, ask, deny = layer(asks_for("allow")), layer(asks_for("ask")), layer(asks_for("deny"))
    assert judge((allow, ask), (), EXEC).verdict == "ask"
    assert judge((deny, allow), (), EXEC).verdict == "deny"
    assert judge((ask, deny, allow), (), EXEC).verdict == "deny"
    assert judge((allow, layer()), (), EXEC).verdict == "allow"


def test_reason_is_that_of_the_rule_that_decides() -> None:
    strict = layer(asks_for("deny", reason="never here"))
    found = judge((layer(asks_for("ask", reason="perhaps")), strict), (), EXEC)
    assert found == Judgement("deny", "never here")


PEOPLE: dict[tuple[Verdict, Verdict], Verdict] = {
    ("allow", "allow"): "allow",
    ("allow", "ask"): "ask",
    ("allow", "deny"): "deny",
    ("ask", "allow"): "allow",
    ("ask", "ask"): "ask",
    ("ask", "deny"): "deny",
    ("deny", "allow"): "deny",
    ("deny", "ask"): "deny",
    ("deny", "deny"): "deny",
}


@pytest.mark.parametrize(("layers", "people"), PEOPLE)
def test_people_may_allow_what_asks_and_forbid_anything_but_allow_nothing_that_is_denied(
    layers: Verdict, people: Verdict
) -> None:
    rule, said = asks_for(layers), asks_for(people)
    assert judge((layer(rule),), (said,), EXEC).verdict == PEOPLE[layers, people]


# ---------------------------------------------------------------- in a run


def test_run_begins_with_its_rules_in_the_log() -> None:
    then = when(RunState(ref=REF), start(), team(asks_for("deny", tool="buy")))
    pinned = [one for one in then.events if isinstance(one, PolicyPinned)]
    assert [one.layers[0].rules for one in pinned] == [(asks_for("deny", tool="buy"),)]
    assert "policy.pinned.v1" not in when(RunState(ref=REF), start(), team()).types


def test_denied_call_never_runs_and_the_model_reads_why() -> None:
    forbids = team(asks_for("deny", tool="buy", reason="no money"))
    then = when(given(start(), where=forbids), replies(call("buy"), call("exec")))
    assert outcomes(then.after) == {"c1-0": "refused", "c1-1": "open"}
    assert "no money" in read_by_model(then.events, "c1-0")
    assert list(handed_out(then.effects)) == ["c1-1"]
    assert "approval.requested.v1" not in then.types


def test_rules_are_about_delegates_and_questions_too() -> None:
    forbids = team(asks_for("deny", tool="helper"), asks_for("deny", tool="ask"))
    then = when(given(start(), where=forbids), replies(delegate(), call("ask")))
    assert "delegation.requested.v2" not in then.types
    assert "question.asked.v1" not in then.types
    assert then.types.count("tool_call.ended.v1") == 2


def test_tools_of_the_loop_need_no_rule() -> None:
    then = when(given(start(), where=team(asks_for("deny"))), replies(call("todo")))
    assert '"todos":[]' in read_by_model(then.events, "c1-0")


def test_call_that_could_not_run_anyway_asks_nobody() -> None:
    state = given(start(), where=team(asks_for("ask")))
    then = when(state, replies(call("nope"), call("exec", "[")))
    assert "approval.requested.v1" not in then.types
    assert then.types.count("tool_call.ended.v1") == 2


def test_rules_people_add_come_before_those_they_gave() -> None:
    state = given(start(), adds(asks_for("deny", tool="buy")))
    state = when(state, adds(asks_for("allow", tool="buy"), command="p2")).after
    assert [rule.verdict for rule in state.rules] == ["allow", "deny"]
    assert list(handed_out(when(state, replies(call("buy"))).effects)) == ["c1-0"]
    state = when(state, adds(asks_for("ask"), command="p3", replace=True)).after
    assert [rule.verdict for rule in state.rules] == ["ask"]


def test_rules_of_people_hold_in_the_steps_after_and_after_a_continue() -> None:
    state = given(start(), adds(asks_for("deny", tool="buy")), replies("done"), goes_on())
    then = when(state, replies(call("buy"), call("exec")))
    assert outcomes(then.after)["c2-0"] == "refused"


def test_rules_do_not_touch_what_runs_already() -> None:
    state = given(start(), replies(call("buy")))
    then = when(state, adds(asks_for("deny")))
    assert then.types == ["policy.changed.v1"]
    assert when(then.after, result("c1-0")).types[0] == "tool_call.ended.v1"


def test_own_rules_of_a_run_come_before_those_from_above() -> None:
    above, own = asks_for("ask", tool="buy"), asks_for("allow", tool="buy")
    told = Standing(number=1, paused=False, rules=(above,))
    child = start(child=True).model_copy(update={"standing": told})
    state = given(child, replies(call("buy")))
    assert list(state.approvals) == ["c1-0"]
    then = when(state, adds(own))
    changed = then.events[0]
    assert isinstance(changed, PolicyChanged)
    assert (changed.rules, changed.inherited) == ((own,), (above,))
    assert list(handed_out(then.effects)) == ["c1-0"]


def test_children_hear_of_the_rules_people_gave_above_them() -> None:
    state = given(start(), adds(asks_for("deny", tool="buy")))
    told = children(when(state, replies(delegate())).effects)["c1-0"].standing
    assert told is not None
    assert told.rules == (asks_for("deny", tool="buy"),)
    child = when(RunState(ref=REF), start(child=True).model_copy(update={"standing": told})).after
    assert child.rules_above == told.rules
    then = when(child, replies(call("buy"), call("exec")))
    assert outcomes(then.after)["c1-0"] == "refused"


def test_same_change_again_changes_nothing() -> None:
    state = given(start(), adds(asks_for("deny", tool="buy")))
    assert when(state, adds(asks_for("deny", tool="buy"))).events == ()


def test_rules_survive_a_restart_of_everything() -> None:
    history = (start(), adds(asks_for("deny", tool="buy")))
    state = restarted(*history, where=team(asks_for("ask", tool="exec")))
    then = when(state, replies(call("buy"), call("exec")))
    assert outcomes(then.after) == {"c1-0": "refused", "c1-1": "open"}
    assert list(then.after.approvals) == ["c1-1"]


def test_rules_of_a_run_that_is_over_are_changed_in_its_job() -> None:
    over: dict[str, Any] = {"no_such_run": RunState(ref=REF)}
    over["at_rest"] = given(start(child=True), replies("done"))
    for code, state in over.items():
        assert rejected(state, adds(asks_for("deny"))) == code
    root = given(start(), replies("done"))
    assert when(root, adds(asks_for("deny"))).types == ["policy.changed.v1"]


def test_a_rule_means_a_tool_of_a_server_by_either_of_its_names() -> None:
    asked = Asked("a", "find", "find__delete", {}, own="delete")
    for pattern in ("delete", "del*", "find__delete", "find__*"):
        rules = [PolicyRule(verdict="deny", tool=pattern)]
        assert judge([PolicyLayer(name="expert", rules=tuple(rules))], (), asked).verdict == "deny"
    other = PolicyRule(verdict="deny", tool="delete", skill="other")
    assert judge([PolicyLayer(name="expert", rules=(other,))], (), asked).verdict == "allow"
    plain = Asked("a", "base", "exec", {})
    empty = PolicyRule(verdict="deny", tool="")
    assert judge([PolicyLayer(name="expert", rules=(empty,))], (), plain).verdict == "allow"
