"""Steering: what people say to a run at work, with its next request or at once."""

import pytest

from domain import commands as c
from domain.content import AssistantMessage, TextPart, UserMessage
from domain.effects import Generate, effects
from domain.events import GenerationAbandoned, GenerationRequested, GenerationSuperseded
from domain.limits import Limits, Usage
from domain.state import RunState
from tests.support.invariants import render
from tests.support.runs import (
    ELSEWHERE,
    REF,
    call,
    cancel,
    fails,
    fires,
    given,
    goes_on,
    handed_out,
    outcomes,
    pauses,
    rejected,
    replies,
    result,
    resumes,
    start,
    steers,
    when,
)


def said(state: RunState) -> list[str]:
    """The texts of people in the request that is open."""
    last = state.conversation.messages[-1]
    assert isinstance(last, UserMessage)
    return [p.text for p in last.parts if isinstance(p, TextPart) and isinstance(p.text, str)]


def test_word_is_heard_with_the_next_request_and_disturbs_nothing_before() -> None:
    state = given(start(), replies(call("exec")))
    then = when(state, steers("turn left"))
    assert then.types == ["input.received.v2"]
    assert handed_out(then.effects) == {"c1-0": "{}"}
    after = when(then.after, result("c1-0"))
    assert said(after.after) == ["turn left"]


def test_word_during_a_generation_leaves_the_attempt_as_it_was_asked_for() -> None:
    state = given(start())
    then = when(state, steers("turn left"))
    assert then.types == ["input.received.v2"]
    assert then.after.generation == state.generation
    assert said(then.after) == ["go"]


def test_reply_that_would_end_the_run_does_not_while_a_word_is_unheard() -> None:
    state = given(start(), steers("turn left"))
    then = when(state, replies("done"))
    assert then.types[-1] == "generation.requested.v2"
    assert said(then.after) == ["turn left"]


def test_completion_while_a_word_is_unheard_goes_on() -> None:
    then = when(given(start(), steers("turn left")), replies(call("attemptCompletion")))
    assert then.types[-1] == "generation.requested.v2"


def test_words_are_each_heard_once_and_in_order() -> None:
    state = given(
        start(), replies(call("exec")), steers("one", "s1"), steers("two", "s2"), result("c1-0")
    )
    assert said(state) == ["one", "two"]
    state = when(state, replies(call("exec"))).after
    assert said(when(state, result("c2-0")).after) == []


def test_now_interrupts_the_open_attempt_and_asks_again_with_the_word() -> None:
    state = given(start())
    then = when(state, steers("turn left", now=True))
    assert then.types == [
        "input.received.v2",
        "generation.abandoned.v2",
        "generation.requested.v2",
    ]
    _, abandoned, again = then.events
    assert isinstance(abandoned, GenerationAbandoned)
    assert (abandoned.reason, abandoned.charged) == ("interrupted", state.tokens_reserved)
    assert isinstance(again, GenerationRequested)
    assert (again.step, again.attempt) == (1, 2)
    assert state.generation is not None
    assert again.request != state.generation.request
    assert said(then.after)[-1] == "turn left"


def test_now_keeps_the_results_the_interrupted_attempt_was_asked_with() -> None:
    """C4: each call is answered, whatever was interrupted."""
    state = given(start(), replies(call("exec")), result("c1-0", "it ran"))
    state = when(state, steers("turn left", now=True)).after
    messages = render(state)
    assert [type(one) for one in messages] == [
        UserMessage,
        AssistantMessage,
        UserMessage,
        UserMessage,
    ]
    assert "it ran" in repr(messages[2])
    assert "turn left" in repr(messages[3])


def test_reply_of_an_interrupted_attempt_is_settled_and_dropped() -> None:
    state = given(start())
    reply = replies("the old way", usage=Usage(input=7, output=1))(state)
    state = when(state, steers(now=True)).after
    then = when(state, reply)
    assert then.types == ["generation.superseded.v2"]
    settled = then.events[0]
    assert isinstance(settled, GenerationSuperseded)
    assert then.after.tokens_charged == 8
    assert "the old way" not in repr(render(then.after))


def test_interrupted_attempts_are_no_tries_of_the_model() -> None:
    limits = Limits(generation_attempts_max=2)
    words = [steers("on", f"s{n}", now=True) for n in range(5)]
    state = given(start(limits), *words, fails())
    assert state.status == "running", "one try of two has failed"
    then = when(when(state, fires("retry")).after, fails())
    assert then.types[-1] == "run.failed.v1"


def test_now_between_two_attempts_asks_at_once_and_the_timer_is_over() -> None:
    state = given(start(), fails())
    late = fires("retry")(state)
    then = when(state, steers(now=True))
    assert then.types == ["input.received.v2", "timer.fired.v1", "generation.requested.v2"]
    assert then.after.timers == {}
    assert when(then.after, late).events == ()


def test_without_now_the_next_attempt_asks_the_same_and_the_word_waits() -> None:
    state = given(start(), fails(), steers("turn left"))
    assert "retry" in [timer.purpose for timer in state.timers.values()]
    state = when(state, fires("retry")).after
    assert said(state) == ["go"]
    assert said(when(state, replies("done")).after) == ["turn left"]


def test_now_while_tools_run_lets_them_finish() -> None:
    state = given(start(), replies(call("exec"), call("buy")))
    then = when(state, steers("turn left", now=True))
    assert then.types == ["input.received.v2"]
    assert list(handed_out(then.effects)) == ["c1-0", "c1-1"]
    assert outcomes(then.after) == {"c1-0": "open", "c1-1": "open"}


def test_now_without_room_here_leaves_the_new_attempt_to_whoever_claims_it() -> None:
    then = when(given(start()), steers(now=True), ELSEWHERE)
    assert [one for one in then.effects if isinstance(one, Generate)] == [Generate(1, 2, None)]


def test_now_while_paused_ends_the_attempt_and_asks_when_the_run_is_resumed() -> None:
    state = given(start(), pauses())
    then = when(state, steers("turn left", now=True))
    assert then.types == ["input.received.v2", "generation.abandoned.v2"]
    assert effects(then.after) == ()
    after = when(then.after, resumes())
    assert after.types == ["run.resumed.v1", "generation.requested.v2"]
    assert said(after.after) == ["turn left"]


def test_now_without_budget_for_another_attempt_stops_the_run_and_says_so() -> None:
    """C12: the interrupted attempt is charged, so the next may not fit."""
    state = given(start())
    limits = Limits(tokens_max=state.tokens_reserved + 10)
    then = when(given(start(limits)), steers(now=True))
    assert then.types[-1] == "run.stopped.v2"
    assert then.after.stopped_by == "tokens"


def test_child_is_steered_like_any_other_run() -> None:
    then = when(given(start(child=True)), steers("turn left", now=True))
    assert then.types[-1] == "generation.requested.v2"
    assert said(then.after)[-1] == "turn left"


def test_same_word_again_changes_nothing() -> None:
    state = given(start(), steers("turn left", now=True))
    assert when(state, steers("turn left", now=True)).events == ()


RESTING = given(start(), replies("done"))
STOPPING = given(start(), replies(call("exec")), cancel())
REFUSED: dict[str, tuple[RunState, c.Command]] = {
    "no_such_run": (RunState(ref=REF), steers()),
    "at_rest": (RESTING, steers()),
    "cancelling": (STOPPING, steers(now=True)),
    "empty_input": (given(start()), steers("")),
}


@pytest.mark.parametrize("code", REFUSED)
def test_word_nobody_could_hear_is_refused(code: str) -> None:
    state, command = REFUSED[code]
    assert rejected(state, command) == code


def test_run_at_rest_is_continued_not_steered() -> None:
    assert when(RESTING, goes_on("more")).types[0] == "run.continued.v2"
