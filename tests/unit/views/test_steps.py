"""What a step shows of its attempts, its model and its costs. Not the sums over runs."""

from domain import events as e
from domain.asks import SampleReply
from domain.ids import RunRef
from domain.limits import ModelChoice, Usage
from eventlog.port import Stored
from projections.seeing import see
from projections.views.steps import StepsView
from tests.support.asking import SAY
from tests.support.pen import Pen, completed, continued, forked, replied, requested, started
from tests.support.tables import Row, Rows

REF = RunRef("acme", "j1", "j1")


def steps(*batches: tuple[e.Event, ...]) -> list[Row]:
    return Rows(StepsView()).tell(Pen(REF), *batches).of("steps")


def pinned(model: str, cause: str = "fallback") -> e.ContextPinned:
    choice = ModelChoice(provider="other", model=model)
    return e.ContextPinned.model_validate(
        {
            "renderer": "r1",
            "context": "c" * 64,
            "context_bytes": 1,
            "model": choice,
            "tools": (),
            "cause": cause,
        }
    )


def failed(attempt: int, kind: str = "network", charged: int = 5) -> e.GenerationFailed:
    return e.GenerationFailed(
        step=1,
        attempt=attempt,
        failure=e.Failure(kind=kind, message="no"),
        retryable=True,
        usage=None,
        charged=charged,
        charged_money=2,
    )


def again(attempt: int) -> e.GenerationRequested:
    return e.GenerationRequested(step=1, attempt=attempt, request="r", reserved=10)


def test_a_step_shows_when_it_began_when_the_reply_came_and_when_its_calls_were_over() -> None:
    (row,) = steps(started(), (replied(1),), (e.StepEnded(step=1),))
    times = (row["started_at_ms"], row["generated_at_ms"], row["ended_at_ms"])
    assert times == (1_000, 1_010, 1_020)
    assert (row["provider"], row["model"], row["stop_reason"]) == ("scripted", "m1", "end")
    assert (row["attempts"], row["failures"], row["input_tokens"], row["output_tokens"]) == (
        1,
        0,
        7,
        1,
    )


def test_attempts_in_vain_are_paid_by_their_step_and_the_last_one_says_which_model() -> None:
    (row,) = steps(
        started(), (failed(1), again(2)), (failed(2), pinned("m2"), again(3)), (replied(1),)
    )
    assert (row["attempts"], row["failures"], row["model"]) == (3, 2, "m2")
    assert (row["tokens_charged"], row["money_charged"]) == (5 + 5 + 8, 4)
    assert row["started_at_ms"] == 1_000


def test_attempts_that_we_held_back_ourselves_are_no_failures() -> None:
    """C13."""
    (row,) = steps(started(), (failed(1, "held_back", charged=0), again(2)))
    assert (row["attempts"], row["failures"]) == (2, 0)


def test_an_attempt_that_nobody_had_begun_is_no_failure() -> None:
    gone = e.GenerationAbandoned(step=1, attempt=1, reason="cancelled", charged=0)
    (row,) = steps(started(), (gone, e.RunCancelled(step=1)))
    assert (row["failures"], row["ended_at_ms"], row["generated_at_ms"]) == (0, 1_010, None)


def test_a_late_end_corrects_the_step_that_was_charged() -> None:
    lost = e.GenerationAbandoned(step=1, attempt=1, reason="interrupted", charged=90)
    late = e.GenerationSuperseded(
        step=1, attempt=1, usage=Usage(input=20, output=2), refunded=68, refunded_money=-3
    )
    first, second = steps(
        started(), (lost, again(2)), (replied(1), e.StepEnded(step=1), requested(2)), (late,)
    )
    assert (first["tokens_charged"], first["money_charged"]) == (90 - 68 + 8, 3)
    assert (first["input_tokens"], first["failures"], second["tokens_charged"]) == (27, 1, 0)


def test_what_the_model_says_to_a_tool_is_paid_by_the_step_of_the_call_however_late() -> None:
    asked = e.ToolCallAsked(call="c1-0", ask="q", holder="e", about=SAY)
    sampled = e.SamplingRequested(ask="q", request="r", reserved=50)
    lost = e.SamplingEnded(ask="q", how="abandoned", usage=None, charged=50, charged_money=5)
    late = e.SamplingSettled(ask="q", usage=Usage(input=1, output=1), refunded=48, refunded_money=4)
    first, second = steps(
        started(),
        (replied(1), asked, sampled),
        (lost,),
        (e.StepEnded(step=1), requested(2)),
        (late, late.model_copy(update={"ask": "unheard of", "refunded": 1})),
    )
    assert (first["tokens_charged"], first["money_charged"], first["failures"]) == (8 + 2, 1, 1)
    assert second["tokens_charged"] == -1


def test_a_sampling_that_replied_is_over() -> None:
    asked = e.SamplingRequested(ask="q", request="r", reserved=50)
    usage = Usage(input=3, output=1)
    over = e.SamplingEnded(ask="q", how="replied", usage=usage, charged=4)
    said = e.ToolCallAnswered(
        call="c1-0",
        ask="q",
        action="accept",
        source="model",
        sampled=SampleReply(text="hi", model="m", stop_reason="end"),
    )
    rows = Rows(StepsView()).tell(Pen(REF), started(), (replied(1), asked), (over, said))
    assert rows.one("steps")["tokens_charged"] == 12
    assert rows.heads[REF].asks is None


def test_a_step_whose_run_ends_in_its_middle_ends_with_it() -> None:
    failure = e.Failure(kind="auth", message="no")
    (row,) = steps(started(), (failed(1), e.RunFailed(step=1, failure=failure)))
    assert row["ended_at_ms"] == 1_010


def test_a_continued_run_goes_on_with_a_step_of_its_own() -> None:
    first, second = steps(started(), completed(1), continued(), completed(2))
    assert (first["ended_at_ms"], second["started_at_ms"], second["ended_at_ms"]) == (
        1_010,
        1_020,
        1_030,
    )


def test_the_steps_before_a_fork_are_its_sources() -> None:
    (row,) = steps((forked(), pinned("m2", "start"), requested(5)), (replied(5),))
    assert (row["step"], row["model"], row["tokens_charged"]) == (5, "m2", 8)


def test_what_a_child_has_spent_is_in_no_step_of_its_parent() -> None:
    told = e.DelegationSettled(call="c", child="k", status="completed", steps=3, tokens=70, money=7)
    (row,) = steps(started(), (replied(1),), (told,))
    assert (row["tokens_charged"], row["money_charged"]) == (8, 0)


def test_what_nobody_can_read_or_knows_is_in_no_step() -> None:
    """C17."""
    rows = Rows(StepsView()).tell(Pen(REF), started())
    before = rows.of("steps")
    rows.hear(see(Stored(9, REF, b"{}")))
    rows.tell(Pen(REF, version=9), (e.OpaqueEvent(type="step.painted.v1", body={"step": 1}),))
    assert rows.of("steps") == before
