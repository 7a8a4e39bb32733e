"""Rules about all arguments of a call together: what "exactly this" means. Not other rules."""

import json
from typing import Any

import pytest

from domain.policy import Asked, PolicyRule, judge, literally, whole

SEEN: dict[str, Any] = {"command": "npm", "args": ["test", "[a-z]*?"]}
EXACTLY = PolicyRule(verdict="allow", arguments={"": literally(whole(SEEN))})


def verdict(arguments: dict[str, Any] | None, rule: PolicyRule = EXACTLY) -> str:
    ask = PolicyRule(verdict="ask")
    return judge((), (rule, ask), Asked("clerk", "base", "exec", arguments)).verdict


def test_the_same_arguments_are_met_in_whatever_order_they_are_written() -> None:
    assert verdict(SEEN) == "allow"
    assert verdict(json.loads('{"args": ["test", "[a-z]*?"], "command": "npm"}')) == "allow"


@pytest.mark.parametrize(
    "other",
    [
        SEEN | {"env": {"NODE_OPTIONS": "--require ./x"}},
        SEEN | {"args": ["test", "[a-z]*?", "more"]},
        SEEN | {"args": ["test", "b"]},
        {"command": "npm"},
        {},
        None,
    ],
)
def test_no_other_arguments_are_met_nor_any_that_cannot_be_read(
    other: dict[str, Any] | None,
) -> None:
    assert verdict(other) == "ask"
