"""How `peritus log` chooses: steps, expressions, names of events, context. Not its printing."""

import json

import pytest

from domain import events as e
from domain.content import TextPart
from domain.errors import Rejected
from domain.events import EVENT_TYPES
from domain.ids import RunRef
from domain.limits import Usage
from eventlog.owners import Whose
from eventlog.port import Cursor
from peritus.cli.event_names import SEED, event_types
from peritus.cli.log_lines import entry_line
from peritus.cli.log_read import Choice, is_error
from peritus.cli.log_select import (
    Entry,
    entries,
    expression_test,
    step_test,
    with_context,
)
from peritus.feed import Heard

REF = RunRef("t", "job", "run-abcdef")


def heard(event: e.Event, run: str = "run-abcdef", version: int = 1) -> Heard:
    ref = RunRef("t", "job", run)
    return Heard(Cursor("a", 1), ref, version, 1_000, event, Whose("clerk", "boss"))


def replied(step: int, tokens: int = 7) -> e.GenerationCompleted:
    return e.GenerationCompleted(
        step=step,
        attempt=1,
        stop_reason="end",
        parts=(TextPart(text="Hello"),),
        usage=Usage(input=tokens, output=1),
        charged=tokens,
    )


def ended(call: str, *, is_error: bool = False) -> e.ToolCallEnded:
    return e.ToolCallEnded(
        call=call, outcome="succeeded", content=(TextPart(text="it"),), is_error=is_error
    )


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("5", {5}),
        (">5", {6, 7}),
        (">=5", {5, 6, 7}),
        ("<5", {0, 4}),
        ("<= 5", {0, 4, 5}),
        ("4-6", {4, 5, 6}),
    ],
)
def test_steps_are_named_as_perstack_names_them(text: str, steps: set[int]) -> None:
    fits = step_test(text)
    assert {step for step in (0, 4, 5, 6, 7) if fits(step)} == steps


@pytest.mark.parametrize("text", ["", "five", "5-", ">>5", "1-2-3", "-1"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="none of 5"):
        step_test(text)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('.type == "generation.completed.v2"', True),
        (".type == generation.completed.v2", True),
        (".type != generation.completed.v2", False),
        (".usage.input > 6", True),
        (".usage.input>=7", True),
        (".usage.input < 7", False),
        (".usage.input == 7.0", True),
        (".usage.input > many", False),  # a number and a text have no order
        (".usage.input != many", True),
        ('.parts[].kind == "text"', True),
        ('.parts[0].text == "Hello"', True),
        ('.parts[1].text == "Hello"', False),
        (".parts[].charged > 0", False),
        (".step == true", False),  # 1 is not true
        (".step <= 1", True),
        (".run == run-abcdef", True),
        (".expert == clerk", True),
        (".parent == boss", True),
        (".nothing.there == 1", False),
        (".response_id == ''", True),
    ],
)
def test_an_expression_looks_at_the_event_and_at_its_line(text: str, fits: bool) -> None:  # noqa: FBT001
    (entry,) = entries([heard(replied(1))])
    assert expression_test(text)(entry.facts) is fits


@pytest.mark.parametrize("text", ["", "type == x", ".type", ".type ==", ".type = x", ". == 1"])
def test_what_is_no_expression_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Rejected, match="no expression such as"):
        expression_test(text)


def test_each_event_has_the_step_it_belongs_to_by_itself_its_call_or_what_came_before() -> None:
    found = entries(
        [
            heard(e.RunPaused(command="p")),
            heard(replied(2)),
            heard(e.RunResumed(command="r")),
            heard(e.RunResumed(command="r"), run="other"),
            heard(replied(3)),
            heard(ended("c2-0")),
            heard(e.RunResumed(command="r")),
        ]
    )
    assert [entry.step for entry in found] == [0, 2, 2, 0, 3, 2, 3]


def test_types_are_named_in_full_without_version_by_group_and_as_perstack_does() -> None:
    assert event_types("run.failed.v1") == {"run.failed.v1"}
    assert event_types("run.failed") == {"run.failed.v1"}
    assert event_types("run.failed, run.completed") == {"run.failed.v1", "run.completed.v2"}
    assert event_types("stopRunByError") == {"run.failed.v1"}
    assert event_types("tools") >= {"tool_call.ended.v1", "approval.requested.v1"}
    assert event_types("delegations") >= {"delegation.requested.v2", "delegation.settled.v2"}
    assert {kind for kind in EVENT_TYPES if kind.startswith("run.")} == event_types("run")


def test_every_name_of_perstack_means_an_event_of_ours() -> None:
    assert all(event_types(name) <= set(EVENT_TYPES) for name in SEED)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("stopRunByEror", "stopRunByError"), ("run.complete", "run.completed"), ("", "at least one")],
)
def test_an_unknown_type_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(Rejected, match=hint):
        event_types(name)


def test_errors_are_failures_of_replies_calls_and_runs() -> None:
    failure = e.Failure(kind="auth", message="no")
    failed = e.GenerationFailed(
        step=1, attempt=1, failure=failure, retryable=False, usage=None, charged=0
    )
    assert is_error(failed)
    assert is_error(ended("c1-0", is_error=True))
    assert not is_error(ended("c1-0"))
    assert is_error(e.RunFailed(step=1, failure=failure))
    assert not is_error(replied(1))


def test_a_choice_takes_what_fits_all_of_it() -> None:
    made = entries([heard(replied(1)), heard(ended("c1-0")), heard(replied(2, tokens=9))])
    choice = Choice(
        types=event_types("generation.completed"),
        errors=False,
        step=step_test(">=1"),
        expression=expression_test(".usage.input > 8"),
        take=0,
        offset=0,
        context=0,
    )
    assert [choice.fits(entry) for entry in made] == [False, False, True]
    assert choice.chosen


def test_context_is_shown_around_each_once_and_never_beyond_the_ends() -> None:
    assert with_context([1, 2, 8], 10, 1) == [0, 1, 2, 3, 7, 8, 9]
    assert with_context([1], 10, 0) == [1]
    assert with_context([], 10, 3) == []


def test_a_line_tells_when_whose_which_step_and_what() -> None:
    line = entry_line(Entry(heard(replied(1)), 1), {})
    assert line.split() == [
        *("00:00:01.000", "clerk", "abcdef", "1", "generation.completed"),
        *("Hello", "7", "tokens", "in,", "1", "out"),
    ]


def test_no_line_obeys_what_a_model_or_a_person_writes() -> None:
    nasty = "\x1b[2J\u202egone"
    lines = [
        entry_line(Entry(heard(event), 1), {})
        for event in (
            e.InputReceived(input="i", speaker="user", parts=(TextPart(text=nasty),)),
            e.CancelRequested(command="c", reason=nasty),
            e.QuestionAnswered(call="c", command="c", parts=(TextPart(text=nasty),)),
            e.RunPaused(command="p", by=e.Principal(name=nasty, via="cli")),
        )
    ]
    assert not any("\x1b" in line or "\u202e" in line for line in lines)
    assert json.dumps(lines).count("gone") == 4
