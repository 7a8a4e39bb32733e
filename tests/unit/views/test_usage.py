"""On which day, and for which expert and model, something is booked. Not the sums of worlds."""

from domain import events as e
from domain.ids import RunRef
from domain.limits import ModelChoice, Usage
from domain.tools import Lane
from eventlog.port import Stored
from projections.seeing import see
from projections.views.usage import MS_A_DAY, UsageView, day_of
from tests.support.pen import Pen, called, completed, ended, forked, replied, requested, started
from tests.support.tables import Row, Rows

REF = RunRef("acme", "j1", "j1")
LATE = Usage(input=20, output=2)


def usage(*batches: tuple[e.Event, ...]) -> list[Row]:
    return Rows(UsageView()).tell(Pen(REF), *batches).of("usage")


def pinned(model: str, cause: str = "fallback") -> e.ContextPinned:
    return e.ContextPinned.model_validate(
        {
            "renderer": "r1",
            "context": "c" * 64,
            "context_bytes": 1,
            "model": ModelChoice(provider="other", model=model),
            "tools": (),
            "cause": cause,
        }
    )


def lost(attempt: int = 1, charged: int = 90) -> e.GenerationAbandoned:
    return e.GenerationAbandoned(step=1, attempt=attempt, reason="holder_lost", charged=charged)


def late(attempt: int = 1) -> e.GenerationSuperseded:
    return e.GenerationSuperseded(
        step=1, attempt=attempt, usage=LATE, refunded=68, refunded_money=3
    )


def again(attempt: int) -> e.GenerationRequested:
    return e.GenerationRequested(step=1, attempt=attempt, request="r", reserved=10)


def second_reply() -> e.Event:
    return replied(1).model_copy(update={"attempt": 2})


def failed(kind: str = "network") -> e.GenerationFailed:
    failure = e.Failure(kind=kind, message="no")
    return e.GenerationFailed(
        step=1, attempt=1, failure=failure, retryable=True, usage=Usage(input=3), charged=3
    )


def test_a_reply_is_booked_for_the_expert_and_model_that_made_it() -> None:
    (row,) = usage(started("boss"), completed(1))
    assert (row["day"], row["expert"], row["provider"], row["model"]) == (
        "1970-01-01",
        "boss",
        "scripted",
        "m1",
    )
    assert (row["runs"], row["generations"], row["failures"]) == (1, 1, 0)
    assert (row["input_tokens"], row["output_tokens"], row["tokens_charged"]) == (7, 1, 8)


def test_days_are_those_of_utc_and_of_the_envelope() -> None:
    pen = Pen(REF, at_ms=MS_A_DAY - 1)
    rows = Rows(UsageView()).tell(pen, started(), (replied(1),)).of("usage")
    assert [(row["day"], row["runs"], row["generations"]) for row in rows] == [
        ("1970-01-01", 1, 0),
        ("1970-01-02", 0, 1),
    ]
    assert day_of(1_795_380_389_742) == "2026-11-22"


def test_times_that_no_calendar_has_are_booked_all_the_same() -> None:
    assert (day_of(-(10**18)), day_of(10**18)) == ("0001-01-01", "9999-12-31")


def test_after_a_fallback_each_model_has_its_own_attempts() -> None:
    first, second = usage(started(), (failed(), pinned("m2"), again(2)), (second_reply(),))
    assert (first["model"], first["generations"], first["failures"]) == ("m2", 1, 0)
    assert (second["model"], second["generations"], second["failures"]) == ("m1", 1, 1)
    assert (first["runs"], second["runs"], second["tokens_charged"]) == (0, 1, 3)


def test_a_late_end_is_booked_on_its_day_for_the_model_that_was_called() -> None:
    pen = Pen(REF)
    rows = Rows(UsageView()).tell(
        pen, started(), (lost(), pinned("m2"), again(2)), (second_reply(),)
    )
    pen.at_ms = 5 * MS_A_DAY
    rows.tell(pen, (late(),))
    first, other = rows.of("usage", day="1970-01-01")
    (corrected,) = rows.of("usage", day="1970-01-06")
    assert (first["model"], first["failures"], first["tokens_charged"]) == ("m2", 0, 8)
    assert (other["model"], other["failures"], other["tokens_charged"]) == ("m1", 1, 90)
    assert (corrected["model"], corrected["tokens_charged"], corrected["money_charged"]) == (
        "m1",
        -68,
        -3,
    )
    assert (corrected["input_tokens"], corrected["generations"], corrected["failures"]) == (
        20,
        0,
        0,
    )


def test_a_late_end_of_an_attempt_of_the_model_before_the_last_is_booked_for_that() -> None:
    rows = usage(
        started(),
        (lost(1), again(2)),
        (lost(2), pinned("m2"), again(3)),
        (lost(3), pinned("m3"), again(4)),
        (late(2), late(3)),
    )
    found = {row["model"]: row["input_tokens"] for row in rows}
    assert found == {"m1": 20, "m2": 20}


def test_what_the_model_says_to_tools_is_a_generation_of_its_own_model() -> None:
    sampled = e.SamplingRequested(ask="q1", request="r", reserved=50)
    other = sampled.model_copy(update={"ask": "q2"})
    over = e.SamplingEnded(ask="q1", how="replied", usage=Usage(input=4), charged=4)
    gone = e.SamplingEnded(ask="q2", how="abandoned", usage=None, charged=50, charged_money=5)
    settled = e.SamplingSettled(ask="q2", usage=LATE, refunded=28, refunded_money=4)
    (row,) = usage(
        started(), (replied(1), sampled, other), (over, pinned("m2", "team"), gone), (settled,)
    )
    assert (row["model"], row["generations"], row["failures"]) == ("m1", 3, 1)
    assert (row["tokens_charged"], row["money_charged"]) == (8 + 4 + 50 - 28, 1)
    assert row["input_tokens"] == 7 + 4 + 20


def test_what_is_settled_is_forgotten_and_what_is_not_is_kept() -> None:
    sampled = e.SamplingRequested(ask="q1", request="r", reserved=50)
    gone = e.SamplingEnded(ask="q1", how="abandoned", usage=None, charged=50)
    rows = Rows(UsageView())
    pen = Pen(REF)
    rows.tell(pen, started(), (replied(1), sampled, gone))
    assert [one.ask for one in rows.heads[REF].asks] == ["q1"]
    rows.tell(pen, (e.SamplingSettled(ask="q1", usage=LATE, refunded=28),))
    assert rows.heads[REF].asks == ()


def test_calls_of_the_model_that_nobody_made_are_none() -> None:
    """C13: what our own limits held back counts for nothing, however often."""
    held = failed("held_back").model_copy(update={"usage": None, "charged": 0})
    sampled = e.SamplingRequested(ask="q1", request="r", reserved=50)
    none = e.SamplingEnded(ask="q1", how="abandoned", usage=None, charged=0)
    (row,) = usage(started(), (held, again(2)), (lost(2, charged=0), again(3)), (sampled, none))
    assert (row["generations"], row["failures"], row["tokens_charged"]) == (0, 0, 0)


def test_what_children_have_spent_is_in_their_own_rows() -> None:
    """C12."""
    told = e.DelegationSettled(
        call="c", child="k", status="completed", steps=3, tokens=70, money=7, tool_calls=4
    )
    kid = Pen(RunRef("acme", "j1", "kid"))
    rows = Rows(UsageView()).tell(Pen(REF), started("boss"), (replied(1),), (told,))
    rows.tell(kid, started("helper", e.Parent(run="j1", call="c")), completed(1))
    found = [(row["expert"], row["tokens_charged"], row["tool_calls"]) for row in rows.of("usage")]
    assert found == [("boss", 8, 0), ("helper", 8, 0)]


def test_a_fork_is_a_run_and_has_nothing_of_its_sources_charges() -> None:
    (row,) = usage((forked(), pinned("m2", "start"), requested(5)), (replied(5),))
    assert (row["expert"], row["model"], row["runs"], row["tokens_charged"]) == ("boss", "m2", 1, 8)


def test_a_child_that_was_cancelled_before_it_started_is_no_run() -> None:
    cancel = e.CancelRequested(command="x", parent=e.Parent(run="j1", call="c"))
    assert usage((cancel, e.RunCancelled(step=0))) == []


def test_tool_calls_count_when_they_are_over_unless_they_were_refused() -> None:
    pen = Pen(REF)
    rows = Rows(UsageView())
    asked = (
        called("c1-0"),
        called("c1-1"),
        called("c1-2", Lane.LOOP),
        called("c1-3", Lane.DELEGATE),
    )
    rows.tell(pen, started(), (replied(1), *asked, ended("c1-2"), ended("c1-3")))
    assert [row["tool_calls"] for row in rows.of("usage")] == [0]
    pen.at_ms = 2 * MS_A_DAY
    rows.tell(pen, (ended("c1-0", "outcome_unknown"), ended("c1-1", "refused"), ended("c1-1")))
    assert [row["tool_calls"] for row in rows.of("usage", day="1970-01-03")] == [1]


def test_a_continue_books_on_the_day_it_goes_on() -> None:
    pen = Pen(REF)
    rows = Rows(UsageView()).tell(pen, started(), completed(1))
    pen.at_ms = 2 * MS_A_DAY
    rows.tell(pen, (e.RunContinued(command="k"), requested(2)), completed(2))
    assert [(row["day"], row["runs"], row["generations"]) for row in rows.of("usage")] == [
        ("1970-01-01", 1, 1),
        ("1970-01-03", 0, 1),
    ]


def test_what_nobody_can_read_or_knows_is_booked_nowhere() -> None:
    """C17."""
    pen = Pen(REF)
    rows = Rows(UsageView()).tell(pen, started(), (replied(1),))
    before = rows.of("usage")
    rows.hear(see(Stored(9, REF, b"null")))
    rows.tell(pen, (e.OpaqueEvent(type="generation.gifted.v1", body={"charged": -5}),))
    assert rows.of("usage") == before
