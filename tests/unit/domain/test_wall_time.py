"""Time as a limit: only where somebody set one, and with its grace (C8)."""

from domain.effects import CancelChild
from domain.events import Event, RunStopped, TimerArmed
from domain.limits import Limits
from tests.support.runs import (
    NOW_MS,
    call,
    delegate,
    fires,
    given,
    goes_on,
    outcomes,
    replies,
    situation,
    start,
    tells,
    when,
)


def stopped(events: tuple[Event, ...]) -> str:
    (event,) = [one for one in events if isinstance(one, RunStopped)]
    return event.limit


def wall(limits: Limits) -> list[TimerArmed]:
    armed = given(start(limits)).timers.values()
    return [one for one in armed if one.purpose == "wall_time"]


def test_time_bounds_a_run_only_where_somebody_set_it() -> None:
    """C8."""
    assert wall(Limits()) == []
    (timer,) = wall(Limits(wall_ms_max=60_000))
    assert timer.due_ms == NOW_MS + 60_000


def test_run_whose_time_is_over_gives_its_calls_their_grace_and_stops_with_that_reason() -> None:
    state = given(start(Limits(wall_ms_max=60_000)), replies(call("exec"), delegate()))
    then = when(state, fires("wall_time"))
    assert then.types[:2] == ["timer.fired.v1", "run.cancel_requested.v2"]
    assert [type(one) for one in then.effects if isinstance(one, CancelChild)] == [CancelChild]
    state = when(then.after, tells("c1-1", "cancelled")).after
    over = when(state, fires("cancel_grace"))
    assert outcomes(over.after) == {"c1-0": "outcome_unknown", "c1-1": "cancelled"}
    assert stopped(over.events) == "wall_time"


def test_continued_run_has_its_time_anew_and_an_old_timer_means_nothing() -> None:
    state = given(start(Limits(wall_ms_max=60_000)))
    old = fires("wall_time")(state)
    state = when(state, replies("done")).after
    assert state.timers == {}
    later = situation(NOW_MS + 9_000)
    state = when(state, goes_on(), later).after
    assert [one.due_ms for one in state.timers.values()] == [NOW_MS + 69_000]
    assert when(state, old).events == ()
    more = goes_on().model_copy(update={"wall_ms_max": 5_000})
    state = when(given(start(), replies("done")), more).after
    assert [one.due_ms for one in state.timers.values()] == [NOW_MS + 5_000]
