"""How what waits reads, and what a run is told by the command line. Not the deciding."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
import typer

from domain import events as e
from domain.definition import Expert
from domain.errors import Rejected
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice
from domain.policy import PolicyRule, literally, whole
from domain.record import digest_of
from peritus.cli.asks import (
    Shown,
    block,
    commands_for,
    headline,
    pretty,
    rule_line,
    who,
)
from peritus.cli.branches import tree_text
from peritus.cli.people_lines import people_line
from peritus.cli.tasks import Task
from peritus.cli.wording import columns, duration
from projections.family import Family
from projections.waits import Wait, WaitKind
from tests.support.pen import started

REF = RunRef("t", "job", "run")
LETTER = '{"to": "Ada", "text": "Dear Ada,\\nhello"}'
DAY_MS = 86_400_000


def wait(kind: WaitKind, **more: Any) -> Wait:
    return replace(Wait(REF, "clerk", "c2-0", kind, 0), **more)


def letter(**more: Any) -> Shown:
    digest = digest_of(LETTER.encode())
    return Shown(wait("approval", tool="send", skill="office", digest=digest, **more), LETTER)


def test_an_approval_is_shown_with_every_argument_why_and_until_when() -> None:
    text = block(letter(reason="letters are read first", due_ms=2 * DAY_MS), 10_000)

    name = f"c2-0@{digest_of(LETTER.encode())[:8]}"
    assert text == (
        "clerk wants to call send to=Ada text=Dear Ada, hello\n"
        '  to: "Ada"\n'
        "  text:\n"
        "    | Dear Ada,\n"
        "    | hello\n"
        "  because: letters are read first\n"
        f"  {name} in run run · for 10.0 s · expires in 47 h 59 min\n"
    )


def test_a_question_is_its_only_text_and_else_all_it_has() -> None:
    plain = Shown(wait("question", tool="ask", digest="ab" * 32), '{"text": "Which?"}')
    rich = Shown(wait("question", tool="ask"), '{"text": "Which?", "of": ["a", "b"], "why": "x"}')

    assert headline(plain) == "clerk asks: Which?"
    assert block(plain, 0) == "clerk asks: Which?\n  c2-0@abababab in run run\n"
    assert '  of: ["a", "b"]\n' in block(rich, 0)


def test_a_budget_is_shown_with_its_figures() -> None:
    money = wait("budget", limit="money", soft=50_000, used=20_000, most=200_000)
    tokens = wait("budget", limit="tokens", soft=3_000, used=1_000)

    assert headline(Shown(money)) == (
        "clerk has used $0.02 and may use more than $0.05 with its next reply (hard limit: $0.20)"
    )
    assert headline(Shown(tokens)) == (
        "clerk has used 1,000 tokens and may use more than 3,000 tokens with its next reply "
        "(hard limit: none)"
    )


def test_nothing_a_model_writes_is_obeyed_by_the_terminal() -> None:
    nasty = json.dumps({"command": "\x1b[2Jrm\u202e", "two\x1b": "lines\n\x1b[31mred"})
    text = block(Shown(wait("approval", tool="exec\x1b", skill="s"), nasty), 0)

    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_commands_name_the_run_and_what_was_shown() -> None:
    assert commands_for(wait("question")) == ["peritus answer run c2-0 TEXT"]
    name = f"c2-0@{letter().wait.digest[:8]}"
    assert commands_for(letter().wait) == [
        f"peritus approve run {name}",
        f"peritus deny run {name}",
    ]
    assert commands_for(wait("budget"))[1] == "peritus deny run c2-0  # the run stops"


def test_arguments_that_are_no_object_are_shown_as_they_are() -> None:
    assert pretty("[1, 2") == "[1, 2"
    assert pretty("[1, 2]") == "[1, 2]"


def test_rules_are_told_in_words_and_exact_ones_without_their_escapes() -> None:
    exact = PolicyRule(
        verdict="allow",
        expert=literally("clerk"),
        tool=literally("s[e]nd"),
        arguments={"": literally(whole({"to": "[Ada]*"}))},
    )
    assert rule_line(exact) == ('allow  expert clerk, tool s[e]nd, with exactly {"to": "[Ada]*"}')
    assert rule_line(PolicyRule(verdict="ask", tool="exec", arguments={"args.*": "rm*"})) == (
        "ask    tool exec, args.*=rm*"
    )
    assert rule_line(PolicyRule(verdict="deny", reason="no")) == "deny   every call  (no)"


def test_people_are_named_with_the_way_they_came() -> None:
    assert who(e.Principal(name="ada", via="http")) == "ada (http)"
    assert who(e.NOBODY) == "somebody"


ADA = e.Principal(name="ada", via="cli")
LINES: list[tuple[e.Event, str | None]] = [
    (e.RunPaused(command="c", by=ADA), "‖ paused by ada (cli)"),
    (e.RunPaused(command="c"), "‖ paused"),
    (e.RunResumed(command="c", by=ADA), "▶ goes on by ada (cli)"),
    (
        e.ApprovalDecided(approval="budget-1", verdict="denied", reason="no", by=ADA),
        "✗ denied by ada (cli): no · budget-1",
    ),
    (
        e.ApprovalDecided(approval="x", verdict="approved", by_rule=True),
        "✓ approved by a rule · x",
    ),
    (
        e.ApprovalRequested(approval="b", limit="money", soft=5_000),
        "? waits for you: may it use more than $0.005?",
    ),
    (
        e.QuestionAnswered(call="c", command="c", parts=(), expired=True),
        "! nobody answered in time",
    ),
    (
        e.PolicyChanged(command="c", rules=(), by=ADA),
        "§ 0 rules of people in force by ada (cli)",
    ),
    (e.PolicyChanged(command="c", rules=()), None),  # heard from a parent
    (e.StepEnded(step=1), None),
]


@pytest.mark.parametrize(("event", "text"), LINES, ids=str)
def test_what_people_do_is_a_line(event: e.Event, text: str | None) -> None:
    line = people_line(event, {})
    assert (None if line is None else f"{line.mark} {line.text}") == text


def test_columns_are_as_wide_as_they_have_to_be() -> None:
    assert columns([("A", "BB"), ("long", "")]) == "A     BB\nlong\n"


@pytest.mark.parametrize(
    ("ms", "text"),
    [(3_599_000, "59 min 59 s"), (3_600_000, "1 h 0 min"), (DAY_MS * 7, "7 d 0 h")],
)
def test_long_durations_are_told_in_hours_and_days(ms: int, text: str) -> None:
    assert duration(ms) == text


CHOICE = ModelChoice(provider="p", model="m")
PLAIN = Expert(key="clerk", instruction="Write.", skills={}, model=CHOICE)
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
TYPED = PLAIN.model_copy(update={"input_schema": SCHEMA})


def task(
    query: str = "", data: str | None = None, *, go_on: bool = False, answers: bool = False
) -> Task:
    return Task(query, data, go_on=go_on, answers=answers)


def test_a_task_is_a_text_or_data_as_the_expert_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert task("Go").of(PLAIN) == "Go"
    assert task(data='{"n": 3}').of(TYPED) == '{"n":3}'
    assert task('{"n": 3}').of(TYPED) == '{"n":3}'
    monkeypatch.setattr("sys.stdin", io.StringIO('{"n": 4}'))
    assert task(data="-").of(TYPED) == '{"n":4}'


@pytest.mark.parametrize(
    ("given", "expert", "message"),
    [
        ({"query": "three"}, TYPED, "no JSON object"),
        ({"data": '{"n": "x"}'}, TYPED, "not of type 'integer'"),
        ({"data": '{"n": 3}'}, PLAIN, "takes a text"),
        ({"query": "Go", "data": '{"n": 3}'}, TYPED, "not both"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_with_the_reason(
    given: dict[str, Any], expert: Expert, message: str
) -> None:
    with pytest.raises(Rejected, match=message):
        task(**given).of(expert)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": "{}", "go_on": True},
        {"query": "x", "answers": True},
        {"go_on": True, "answers": True},
    ],
)
def test_what_does_not_go_together_is_bad_usage(given: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter):
        task(**given)


def test_the_answer_is_a_text_or_perstacks_json() -> None:
    def answer(text: str) -> tuple[str | None, str]:
        return task(text, go_on=True, answers=True).answer

    assert answer("blue") == (None, "blue")
    assert answer('{"colour": "blue"}') == (None, '{"colour": "blue"}')
    assert answer('{"toolCallId": "c1-0", "text": "blue"}') == ("c1-0", "blue")
    assert answer('{"text": "blue"}') == (None, "blue")


def test_a_job_is_a_tree_with_what_each_run_waits_for_and_no_empty_column() -> None:
    family, root = Family(), RunRef("t", "one", "one")
    delegated = [
        e.DelegationRequested(call=f"c1-{at}", child=name, expert=expert, limits=Limits())
        for at, (name, expert) in enumerate((("a", "writer"), ("b", "checker\x1b")))
    ]
    for version, event in enumerate((*started("lead"), *delegated), start=1):
        family.hear(root, event, version, 0)
    family.hear(RunRef("t", "one", "a"), started("writer")[0], 1, 0)
    nested = e.DelegationRequested(call="c1-0", child="c", expert="helper", limits=Limits())
    family.hear(RunRef("t", "one", "a"), nested, 2, 0)
    shown = Shown(replace(wait("question"), ref=RunRef("t", "one", "c")), '{"text": "Which?"}')

    lines = tree_text(family, root, []).splitlines()
    assert [line[:12].rstrip() for line in lines] == [
        *("EXPERT", "lead", "├─ writer", "│  └─ helper", "└─ checker"),
    ]
    assert lines[0].split() == ["EXPERT", "RUN", "STATUS", "STEP", "TOKENS"]
    assert lines[3].split()[-2:] == ["not", "started"]
    assert "c2-0: asks: Which?" in tree_text(family, root, [shown]).splitlines()[3]
