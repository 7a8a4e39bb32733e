"""What follows when a model does not answer: tries, limits of providers, the next model (C13)."""

from typing import Any

import pytest

from domain import commands as c
from domain.effects import Generate, effects
from domain.events import ContextPinned, GenerationRequested, PinnedModel, RunFailed, TimerArmed
from domain.limits import Limits, Price, Usage
from domain.prompt import request_digest
from domain.state import RunState
from tests.support.runs import (
    ELSEWHERE,
    MODEL,
    NOW_MS,
    call,
    delegate,
    fails,
    fires,
    given,
    outcomes,
    pauses,
    replies,
    result,
    resumes,
    start,
    steers,
    team,
    tells,
    when,
)

FIRST = MODEL.model_copy(update={"price": Price(input=1_000_000, output=1_000_000)})
SECOND = PinnedModel(
    context="2" * 64,
    context_bytes=1_000,
    model=MODEL.model_copy(
        update={"model": "second", "price": Price(input=9_000_000, output=9_000_000)}
    ),
)
THIRD = PinnedModel(
    context="3" * 64, context_bytes=1_000, model=MODEL.model_copy(update={"model": "third"})
)
CHAIN = team(model=FIRST, fallbacks=(SECOND, THIRD))
USED = Usage(input=40, output=10)


def chained(**limits: Any) -> RunState:
    """A run with two more models to go on with."""
    return given(start(Limits(**limits)), where=CHAIN)


def model_of(state: RunState) -> str:
    assert state.model is not None
    return state.model.model


def test_model_that_cannot_answer_is_followed_by_the_next_of_its_chain() -> None:
    then = when(chained(), fails("auth", retryable=False), CHAIN)
    assert then.types == [
        "generation.failed.v2",
        "context.pinned.v2",
        "generation.requested.v2",
    ]
    _, pinned, again = then.events
    assert isinstance(pinned, ContextPinned)
    assert (pinned.cause, pinned.context, pinned.fallbacks) == ("fallback", "2" * 64, (THIRD,))
    assert isinstance(again, GenerationRequested)
    assert (again.step, again.attempt) == (1, 2)
    assert again.request == request_digest("2" * 64, then.after.conversation.digest)
    assert model_of(then.after) == "second"
    assert [one for one in then.effects if isinstance(one, Generate)] == [Generate(1, 2, "e1")]


def test_what_does_not_depend_on_the_model_stays() -> None:
    before = chained()
    after = when(before, fails("auth", retryable=False), CHAIN).after
    assert (after.tools, after.renderer, after.output_schema) == (
        before.tools,
        before.renderer,
        before.output_schema,
    )
    assert after.conversation.messages == before.conversation.messages


def test_model_is_tried_as_often_as_its_limit_says_before_the_next_one_is() -> None:
    state = chained(generation_attempts_max=2)
    state = when(state, fails("overloaded"), CHAIN).after
    assert model_of(state) == "some-model"
    state = when(state, fires("retry"), CHAIN).after
    assert model_of(when(state, fails("overloaded"), CHAIN).after) == "second"


def test_next_model_begins_to_count_anew() -> None:
    state = chained(generation_attempts_max=2)
    for one in (fails(), fires("retry"), fails(), fails()):
        state = when(state, one, CHAIN).after
    assert model_of(state) == "second"
    assert [one.purpose for one in state.timers.values()] == ["retry"]


def test_run_fails_when_the_last_of_the_chain_gives_up() -> None:
    state = chained()
    for _ in range(2):
        state = when(state, fails("auth", retryable=False), CHAIN).after
    assert model_of(state) == "third"
    then = when(state, fails("not_found", retryable=False), CHAIN)
    failed = then.events[-1]
    assert isinstance(failed, RunFailed)
    assert failed.failure.kind == "not_found"


def test_run_without_a_chain_fails_with_what_its_model_said() -> None:
    then = when(given(start()), fails("auth", retryable=False))
    assert then.types == ["generation.failed.v2", "run.failed.v1"]


def test_answer_of_the_next_model_is_used_and_it_stays_for_the_steps_after() -> None:
    state = when(chained(), fails("auth", retryable=False), CHAIN).after
    state = when(state, replies(call("exec"))).after
    then = when(state, result("c1-0"))
    asked = then.events[-1]
    assert isinstance(asked, GenerationRequested)
    assert asked.request == request_digest("2" * 64, then.after.conversation.digest)


def test_each_model_is_charged_at_its_own_price() -> None:
    """C12."""
    state = when(chained(), fails("auth", retryable=False, usage=USED), CHAIN).after
    assert state.money_charged == 50
    assert when(state, replies(call("exec"), usage=USED)).after.money_charged == 50 + 9 * 50


def test_late_end_of_an_attempt_is_not_settled_at_the_price_of_another_model() -> None:
    """C12: what the first model's tokens cost is not known any more: the charge stays."""
    before = chained()
    late = replies("late", usage=USED)(before)
    state = when(before, c.AbandonHolder(holder="e1"), CHAIN).after
    money = state.money_charged
    state = when(state, fails("auth", retryable=False, usage=Usage()), CHAIN).after
    then = when(state, late)
    assert then.types == ["generation.superseded.v2"]
    assert then.after.money_charged == money
    assert then.after.tokens_charged == 50


def test_what_was_said_meanwhile_rides_in_the_request_to_the_next_model() -> None:
    state = when(chained(), steers("turn left")).after
    after = when(state, fails("auth", retryable=False), CHAIN).after
    assert "turn left" in repr(after.conversation.messages[-1])
    assert after.inputs == ()


def test_next_model_of_a_paused_run_is_asked_when_it_is_resumed() -> None:
    state = when(chained(), pauses()).after
    then = when(state, fails("auth", retryable=False), CHAIN)
    assert then.types == ["generation.failed.v2", "context.pinned.v2"]
    assert effects(then.after) == ()
    again = when(then.after, resumes(), CHAIN)
    assert again.types == ["run.resumed.v1", "generation.requested.v2"]


def test_next_model_without_room_here_is_left_to_whoever_claims_it() -> None:
    then = when(chained(), fails("auth", retryable=False), ELSEWHERE)
    assert [one for one in then.effects if isinstance(one, Generate)] == [Generate(1, 2, None)]


def test_next_model_that_does_not_fit_the_budget_stops_the_run() -> None:
    """C12."""
    state = chained(money_max=2_000)
    then = when(state, fails("auth", retryable=False), CHAIN)
    assert then.types[-1] == "run.stopped.v2"
    assert then.after.stopped_by == "money"


def test_lost_workers_are_no_fault_of_the_model_and_end_in_a_failure_of_their_own() -> None:
    state = when(chained(generation_attempts_max=1), c.AbandonHolder(holder="e1"), CHAIN).after
    assert (state.status, state.failure_kind) == ("failed", "attempts_exhausted")


def test_refusal_of_a_model_is_an_answer_not_a_reason_to_ask_the_next() -> None:
    then = when(chained(), replies("no", stop="refusal"), CHAIN)
    assert (then.after.status, then.after.failure_kind) == ("failed", "refusal")


# ---------------------------------------------------------------- limits of providers


def turned_away(state: RunState, times: int) -> RunState:
    for _ in range(times):
        state = when(state, fails("rate_limited"), CHAIN).after
        state = when(state, fires("retry"), CHAIN).after
    return state


def test_attempt_a_provider_turns_away_is_asked_again_and_is_no_try_of_the_model() -> None:
    """C13: rate limited = later, not failed."""
    state = turned_away(chained(generation_attempts_max=2), 30)
    assert (state.status, model_of(state)) == ("running", "some-model")
    assert state.generation is not None
    assert (state.generation.tries, state.generation.limited) == (0, 30)
    assert state.generation.attempt == 31


def test_both_kinds_of_failures_are_counted_apart() -> None:
    state = turned_away(chained(generation_attempts_max=2), 5)
    state = when(state, fails("overloaded"), CHAIN).after
    state = turned_away(when(state, fires("retry"), CHAIN).after, 5)
    assert model_of(state) == "some-model"
    assert model_of(when(state, fails("overloaded"), CHAIN).after) == "second"


def test_being_turned_away_is_bounded_too() -> None:
    """C13: a provider that never lets us in is given up, in the end."""
    state = turned_away(chained(rate_limited_attempts_max=4), 3)
    assert model_of(when(state, fails("rate_limited"), CHAIN).after) == "second"


@pytest.mark.parametrize("kind", ["rate_limited", "overloaded"])
def test_next_attempt_never_comes_before_the_provider_said(kind: str) -> None:
    state = when(chained(), fails(kind, retry_after_ms=90_000), CHAIN).after
    (timer,) = state.timers.values()
    assert timer.due_ms >= NOW_MS + 90_000


def test_attempts_come_ever_later_and_not_all_runs_at_once() -> None:
    state, waits = chained(retry_base_ms=1_000, retry_max_ms=8_000), list[int]()
    for _ in range(6):
        then = when(state, fails("rate_limited"), CHAIN)
        (armed,) = [one for one in then.events if isinstance(one, TimerArmed)]
        waits.append(armed.due_ms - then.after.at_ms)
        state = when(then.after, fires("retry"), CHAIN).after
    for n, wait in enumerate(waits):
        assert min(8_000, 1_000 * 2**n) / 2 <= wait <= min(8_000, 1_000 * 2**n)
    assert len(set(waits)) == len(waits), "spread"


def test_count_of_a_step_is_not_taken_into_the_next() -> None:
    state = turned_away(chained(), 3)
    state = when(state, replies(call("todo")), CHAIN).after
    assert state.generation is not None
    assert (state.generation.step, state.generation.limited) == (2, 0)


def test_finished_siblings_are_kept_when_a_delegate_fails() -> None:
    """C13: a storm costs the run it hit, not its siblings' results."""
    state = given(start(), replies(delegate("a"), delegate("b")), tells("c1-0"))
    then = when(state, tells("c1-1", "failed"))
    assert outcomes(state) == {"c1-0": "succeeded", "c1-1": "open"}
    assert then.types[-1] == "generation.requested.v2"
    assert "the child completed" in repr(then.after.conversation.messages[-1])
