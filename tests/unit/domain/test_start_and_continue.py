"""Start, continue and steer, decided from given histories. Not the handlers."""

import pytest

from domain import commands as c
from domain.content import BlobRef, FilePart, TextPart, UserMessage
from domain.decide import decide
from domain.effects import Generate, TellParent
from domain.errors import Rejected, Unavailable
from domain.events import OpaqueEvent, Parent
from domain.evolve import evolve
from domain.ids import RunRef
from domain.limits import Limits, Usage
from domain.state import RunState
from tests.support.runs import (
    ELSEWHERE,
    HERE,
    NOW_MS,
    REF,
    Asked,
    call,
    cancel,
    delegate,
    fails,
    fires,
    given,
    goes_on,
    pinned,
    replies,
    result,
    says,
    situation,
    start,
    tells,
    when,
)

NEW = RunState(ref=REF)


def refused(state: RunState, command: c.Command) -> str:
    with pytest.raises(Rejected) as caught:
        decide(state, command, HERE)
    return caught.value.code


def test_start_pins_what_requests_depend_on_before_the_first_one() -> None:
    """Rules 5 and 13."""
    then = when(NEW, start())
    assert then.types == [
        "run.started.v2",
        "context.pinned.v2",
        "input.received.v2",
        "generation.requested.v2",
    ]
    assert then.effects == (Generate(1, 1, "e1"),)


def test_start_without_room_here_leaves_the_generation_to_whoever_claims_it() -> None:
    assert when(NEW, start(), ELSEWHERE).effects == (Generate(1, 1, None),)


def test_same_start_again_changes_nothing_and_another_is_refused() -> None:
    """Rule 3."""
    state = given(start())
    assert when(state, start()).events == ()
    assert refused(state, start().model_copy(update={"id": "other"})) == "run_exists"


def test_start_of_a_child_again_changes_nothing_whatever_its_id() -> None:
    """Rule 8: a start on an existing run has its state told, by the handler."""
    state = given(start(child=True))
    again = start(child=True).model_copy(update={"id": "other"})
    assert when(state, again).events == ()


def test_start_after_a_cancel_nobody_expected_is_refused() -> None:
    """Rule 9: a cancel of a run nobody knows leaves a tombstone."""
    tombstone = given(cancel())
    assert tombstone.status == "cancelled"
    assert refused(tombstone, start()) == "cancelled"
    assert refused(tombstone, goes_on()) == "no_such_run"


def test_child_cancelled_before_its_start_owes_its_parent_an_end() -> None:
    """Rule 8: nobody waits for it for ever, however the two messages overtake each other."""
    early = cancel().model_copy(update={"parent": Parent(run="parent", call="c1-0")})
    then = when(NEW, early)
    told = then.effects[0]
    assert isinstance(told, TellParent)
    assert (told.command.call, told.command.status, told.command.tokens) == ("c1-0", "cancelled", 0)
    assert when(then.after, start(child=True)).events == ()


def test_start_without_anything_to_do_is_refused() -> None:
    assert refused(NEW, start(text="")) == "empty_input"


def test_start_without_a_context_is_refused() -> None:
    with pytest.raises(Rejected) as caught:
        decide(NEW, start(), c.Situation(now_ms=NOW_MS))
    assert caught.value.code == "no_context"


def test_delegation_deeper_than_the_limit_is_refused() -> None:
    deep = start(Limits(depth_max=2), child=True).model_copy(update={"depth": 3})
    assert refused(NEW, deep) == "too_deep"


def test_limits_of_the_definition_hold_unless_the_start_brings_its_own() -> None:
    own = when(NEW, start(Limits(steps_max=3)), situation(context=pinned(Limits(steps_max=9))))
    assert own.after.limits.steps_max == 3
    pinned_limits = when(NEW, start(), situation(context=pinned(Limits(steps_max=9))))
    assert pinned_limits.after.limits.steps_max == 9
    assert pinned().limits == Limits()


RESTS: dict[str, tuple[Asked, ...]] = {
    "completed": (start(), replies("answer")),
    "stopped": (start(Limits(steps_max=1)), replies(call("exec")), result("c1-0")),
    "failed": (start(), fails("auth", retryable=False)),
    "cancelled": (start(), cancel()),
    "refused": (start(), replies("no", call("exec"), stop="refusal")),
    "refused without a word": (start(), replies(stop="refusal")),
}


@pytest.mark.parametrize("history", RESTS.values(), ids=RESTS)
def test_root_run_goes_on_from_every_kind_of_rest(history: tuple[Asked, ...]) -> None:
    state = given(*history)
    assert state.at_rest
    then = when(state, goes_on())
    assert then.types == ["run.continued.v2", "input.received.v2", "generation.requested.v2"]
    assert then.after.steps_left == then.after.limits.steps_max - 1
    assert then.after.failure_kind == then.after.stopped_by == ""


@pytest.mark.parametrize("history", [RESTS["stopped"], RESTS["failed"], RESTS["cancelled"]])
def test_run_that_did_not_finish_goes_on_without_a_word(history: tuple[Asked, ...]) -> None:
    then = when(given(*history), goes_on(text=""))
    assert then.types == ["run.continued.v2", "generation.requested.v2"]


@pytest.mark.parametrize("name", ["completed", "refused without a word"])
def test_bare_continue_of_an_answered_run_needs_something_to_answer(name: str) -> None:
    """Providers refuse a request that ends with the model's own words (C4)."""
    state = given(*RESTS[name])
    if name == "completed":
        assert refused(state, goes_on(text="")) == "empty_input"
    else:
        assert when(state, goes_on(text="")).after.status == "running"


@pytest.mark.parametrize("history", RESTS.values(), ids=RESTS)
def test_same_continue_again_changes_nothing(history: tuple[Asked, ...]) -> None:
    state = given(*history, goes_on())
    assert when(state, goes_on()).events == ()


def test_continue_with_new_limits_counts_from_there() -> None:
    state = given(*RESTS["stopped"], goes_on(steps_max=2, tokens_max=5_000))
    assert (state.limits.steps_max, state.limits.tokens_max) == (2, 5_000)
    assert state.steps_left == 1
    state = when(state, replies(call("exec"))).after
    state = when(state, result("c2-0")).after
    assert when(state, replies(call("exec"))).after.status == "running"


def test_child_cannot_be_continued() -> None:
    """Rule 8."""
    state = given(start(child=True), replies("answer"))
    assert refused(state, goes_on()) == "child_run"


def test_unknown_run_cannot_be_continued() -> None:
    assert refused(NEW, goes_on()) == "no_such_run"


def test_run_being_cancelled_cannot_be_continued() -> None:
    state = given(start(), replies(call("exec")), cancel())
    assert refused(state, goes_on()) == "cancelling"


def test_what_is_said_while_a_reply_is_made_rides_in_the_next_request() -> None:
    state = given(start())
    steered = when(state, goes_on("turn left"))
    assert steered.types == ["input.received.v2"]
    assert steered.effects == (Generate(1, 1, "e1"),)
    then = when(steered.after, replies("I am done"))
    assert then.types == [
        "generation.completed.v2",
        "step.ended.v1",
        "generation.requested.v2",
    ], "completion waits until the model has heard it"
    assert then.after.conversation.messages[-1] == UserMessage(parts=(TextPart(text="turn left"),))


def test_attempted_completion_waits_for_what_was_said_meanwhile() -> None:
    done = replies(call("attemptCompletion", '{"result": "it"}'))
    then = when(given(start(), goes_on("turn left")), done)
    assert then.after.status == "running"
    assert when(then.after, done).after.result == "it"


def test_saying_nothing_to_a_running_run_is_refused_but_a_file_is_something() -> None:
    state = given(start())
    assert refused(state, goes_on(text="")) == "empty_input"
    assert refused(state, c.ContinueRun(id="k", parts=says(""))) == "empty_input"
    file = FilePart(blob=BlobRef(digest="f" * 64, size=9, media_type="image/png"))
    assert when(state, c.ContinueRun(id="k", parts=(file,))).types == ["input.received.v2"]


def test_retry_does_not_carry_what_was_said_meanwhile() -> None:
    """Rule 5: a further attempt is the same request; what was said rides in the next one."""
    state = given(start(), fails(), goes_on("turn left"))
    then = when(state, fires("retry"))
    assert then.after.generation is not None
    assert state.generation is not None
    assert then.after.generation.request == state.generation.request
    assert then.after.inputs == says("turn left")


def test_run_with_events_of_a_newer_release_folds_but_is_left_to_that_release() -> None:
    """C17."""
    state = evolve(given(start()), OpaqueEvent(type="run.dreamt.v1", body={"why": "x"}))
    assert state.version == 5
    assert state.unknown_events == ("run.dreamt.v1",)
    with pytest.raises(Unavailable, match=r"run\.dreamt\.v1"):
        decide(state, cancel(), HERE)


def test_time_never_runs_backwards_in_a_run() -> None:
    """Rule 1: decide uses the later of the command's time and the last event's."""
    state = given(start(), replies(call("exec")))
    then = when(state, cancel(), situation(NOW_MS - 60_000))
    timer = then.after.timers["cancel-1"]
    assert timer.due_ms == NOW_MS + state.limits.cancel_grace_ms


def test_step_that_mixes_everything_ends_in_the_order_of_its_calls() -> None:
    state = given(
        start(),
        replies("plan", call("read"), delegate(), call("exec"), call("nope")),
        tells("c1-1"),
        result("c1-2"),
        result("c1-0"),
    )
    last = state.conversation.messages[-1]
    assert [getattr(part, "tool", "") for part in last.parts] == ["read", "helper", "exec", "nope"]


def test_usage_adds_up_over_generations() -> None:
    usage = Usage(input=3, output=2, reasoning=1, cached=1, cache_written=1)
    state = given(start(), replies(call("todo"), usage=usage), replies("done", usage=usage))
    assert state.usage == Usage(input=6, output=4, reasoning=2, cached=2, cache_written=2)
    assert state.tokens_charged == 10


def test_runs_are_named_by_tenant_job_and_run() -> None:
    assert NEW.ref == RunRef("acme", "job1", "run1")
