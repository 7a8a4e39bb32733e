"""Typed input and output: delegates called with data, results that are data. Not the schemas."""

import json
from typing import Any

import pytest

from domain.content import BlobRef, TextPart
from domain.effects import tell_parent
from domain.events import InputReceived, RunCompleted
from domain.limits import Limits
from domain.state import RunState
from tests.support.invariants import render
from tests.support.runs import (
    Asked,
    call,
    children,
    given,
    goes_on,
    outcomes,
    read_by_model,
    replies,
    result,
    start,
    steers,
    team,
    when,
)

PRICE: dict[str, Any] = {
    "type": "object",
    "properties": {"cents": {"type": "integer"}},
    "required": ["cents"],
    "additionalProperties": False,
}
TYPED = team(output=PRICE)


def typed(*asked: Asked, limits: Limits | None = None, child: bool = False) -> RunState:
    """A run whose result is a price."""
    return given(start(limits, child=child), *asked, where=TYPED)


def completes(value: object) -> str:
    return json.dumps({"result": value})


# ---------------------------------------------------------------- input


def test_delegate_with_typed_input_is_told_the_data_it_was_called_with() -> None:
    state = given(start(), replies(call("counter", '{"count": 2}')), where=team())
    (child,) = children(when(state, goes_on()).effects).values()
    assert child.parts == (TextPart(text='{"count":2}'),)


@pytest.mark.parametrize("arguments", ['{"count": "two"}', "{}", '{"query": "two"}'])
def test_data_that_does_not_fit_is_refused_in_words_and_starts_nobody(arguments: str) -> None:
    then = when(given(start(), where=team()), replies(call("counter", arguments)))
    assert "invalid_arguments" in read_by_model(then.events, "c1-0")
    assert "count" in read_by_model(then.events, "c1-0")
    assert children(then.effects) == {}


def test_delegate_without_typed_input_needs_its_task() -> None:
    then = when(given(start(), where=team()), replies(call("helper", '{"count": 2}')))
    assert "parameter query" in read_by_model(then.events, "c1-0")


# ---------------------------------------------------------------- output


def test_completion_with_data_that_fits_is_the_typed_result() -> None:
    then = when(typed(), replies("here", call("attemptCompletion", completes({"cents": 5}))))
    ended = then.events[-1]
    assert isinstance(ended, RunCompleted)
    assert (ended.result, ended.typed) == ('{"cents":5}', True)
    assert (then.after.result, then.after.typed_result) == ('{"cents":5}', True)


@pytest.mark.parametrize(
    "arguments", [completes({"cents": "five"}), completes("5"), completes(None), "{}"]
)
def test_completion_with_data_that_does_not_fit_is_a_failure_the_model_can_correct(
    arguments: str,
) -> None:
    then = when(typed(), replies(call("attemptCompletion", arguments)))
    assert "invalid_result" in read_by_model(then.events, "c1-0")
    assert then.types[-1] == "generation.requested.v2"
    again = when(then.after, replies(call("attemptCompletion", completes({"cents": 5}))))
    assert again.after.result == '{"cents":5}'


@pytest.mark.parametrize("text", ['{"cents": 5}', ' {"cents":5}\n', '```json\n{"cents": 5}\n```'])
def test_reply_that_is_the_data_ends_the_run(text: str) -> None:
    then = when(typed(), replies(text))
    assert then.after.status == "completed"
    assert (then.after.result, then.after.typed_result) == ('{"cents":5}', True)


@pytest.mark.parametrize("text", ["5 cents", '{"cents": "five"}', "", 'Here: {"cents": 5}'])
def test_reply_that_is_not_the_data_is_not_the_end_and_the_model_is_told_why(text: str) -> None:
    then = when(typed(), replies(text))
    notes = [one for one in then.events if isinstance(one, InputReceived)]
    assert [one.speaker for one in notes] == ["runtime"]
    assert then.types[-1] == "generation.requested.v2"
    assert "not what was asked for" in repr(render(then.after)[-1])


def test_each_time_the_model_is_told_anew() -> None:
    first = when(typed(), replies("five cents"))
    second = when(first.after, replies("5 cents"))
    notes = [one for one in (*first.events, *second.events) if isinstance(one, InputReceived)]
    assert len({one.input for one in notes}) == 2


def test_model_that_never_answers_with_the_data_stops_at_its_limit() -> None:
    """C12: trying again is bounded by the steps."""
    state = typed(limits=Limits(steps_max=3))
    for _ in range(3):
        state = when(state, replies("five cents"), TYPED).after
    assert (state.status, state.stopped_by) == ("stopped", "steps")


def test_reply_too_long_to_be_read_is_not_the_data() -> None:
    large = TextPart(text=BlobRef(digest="b" * 64, size=99_999))
    then = when(typed(), replies(large))
    assert "32 KiB" in repr(render(then.after)[-1])


def test_data_that_comes_while_a_word_is_unheard_is_not_the_end() -> None:
    then = when(typed(steers("in euros")), replies('{"cents": 5}'))
    assert then.types[-1] == "generation.requested.v2"
    assert then.after.status == "running"


def test_untyped_run_takes_any_text_and_says_that_it_is_no_data() -> None:
    then = when(given(start()), replies('{"cents": 5}'))
    assert (then.after.result, then.after.typed_result) == ('{"cents": 5}', False)
    state = given(start())
    done = when(state, replies(call("attemptCompletion", completes({"cents": 5}))))
    assert done.after.typed_result is False


def test_caller_reads_the_data_of_a_typed_delegate_and_nothing_beside_it() -> None:
    child = typed(
        replies("Thinking aloud", call("attemptCompletion", completes({"cents": 5}))), child=True
    )
    told = tell_parent(child)
    assert told is not None
    assert told.command.content == (TextPart(text='{"cents":5}'),)


def test_continued_run_owes_its_data_again() -> None:
    state = typed(replies('{"cents": 5}'), goes_on("and now?"))
    assert (state.result, state.typed_result) == (None, False)
    assert when(state, replies("six")).after.status == "running"
    assert when(state, replies('{"cents": 6}')).after.result == '{"cents":6}'


def test_failed_completion_beside_other_calls_waits_for_them() -> None:
    wrong = call("attemptCompletion", completes("five"))
    state = typed(replies(call("exec"), wrong))
    assert outcomes(state) == {"c1-0": "open", "c1-1": "open"}
    then = when(state, result("c1-0"))
    assert then.types[-1] == "generation.requested.v2"
    assert "invalid_result" in read_by_model(then.events, "c1-1")
