"""A stream over any number of connections: once, in order, and when it is over. Not its bytes."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import Unavailable
from domain.events import OpaqueEvent, RunPaused
from peritus.client.errors import Faulty, NotFound
from peritus.client.exchange import Reply
from peritus.client.following import Follower, Stream
from peritus.client.frames import (
    Beat,
    Delta,
    End,
    Frame,
    Heard,
    Hello,
    Other,
    Output,
    OutputSoFar,
    Reset,
    SoFar,
    Trouble,
)

LIFE = "abc"
PLACE = {"job": "j1", "run": "r1"}


def follower(**more: Any) -> Follower:
    root, follow = more.pop("root", "r1"), more.pop("follow", False)
    stream = Stream("/v1/runs/r1/events", {}, root, follow)
    return Follower(stream, lambda: 0.5, **more)


def frame(name: str, place: str | None = None, /, **data: Any) -> bytes:
    head = "" if place is None else f"id: {place}\n"
    return f"{head}event: {name}\ndata: {orjson.dumps(data).decode()}\n\n".encode()


def hello(seq: int = 0, life: str = LIFE) -> bytes:
    return frame("hello", f"{life}-{seq}-0", cursor=f"{life}-{seq}-0", **PLACE)


def event(seq: int, index: int = 0, kind: str = "run.paused.v1", **more: Any) -> bytes:
    what = {"type": kind, "command": f"c{seq}", **more}
    place = {"version": seq, "at_ms": 1, "expert": "clerk", "parent": None}
    return frame(kind, f"{LIFE}-{seq}-{index}", **PLACE, **place, event=what)


def end(seq: int, run: str = "r1") -> bytes:
    return frame("end", f"{LIFE}-{seq}-0", job="j1", run=run, status="completed")


def heard(frames: list[Frame]) -> list[str]:
    return [one.cursor for one in frames if isinstance(one, Heard)]


def test_every_frame_is_typed() -> None:
    delta: dict[str, Any] = {"step": 1, "attempt": 1, "kind": "text", "part": 0}
    frames = follower().feed(
        hello()
        + event(1)
        + event(2, kind="mood.changed.v7", to="sunny")
        + frame("live", type="delta.v1", offset=2, text="ab", tool="", **delta, **PLACE)
        + frame("live", type="tool_output.v1", call="c1-0", offset=0, text="x", **PLACE)
        + frame("live", type="mood.v1", **PLACE)
        + frame("so_far", text="ab", tool="", **delta, **PLACE)
        + frame("so_far", call="c1-0", offset=3, text="x", **PLACE)
        + frame("problem", f"{LIFE}-3-0", code="integrity_violated", detail="no", **PLACE)
        + frame("heartbeat", f"{LIFE}-9-0", cursor=f"{LIFE}-9-0")
        + frame("news", **PLACE)
        + end(9)
    )
    assert [type(one) for one in frames] == [
        Hello, Heard, Heard, Delta, Output, Other, SoFar, OutputSoFar, Trouble, Beat, Other, End,
    ]  # fmt: skip
    first, second = frames[1], frames[2]
    assert isinstance(first, Heard)
    assert first == Heard(
        f"{LIFE}-1-0", "j1", "r1", 1, 1, RunPaused(command="c1"), "clerk", parent=None
    )
    assert isinstance(second, Heard)
    assert second.event == OpaqueEvent(
        type="mood.changed.v7", body={"command": "c2", "to": "sunny"}
    )


def test_known_event_with_more_in_it_than_this_release_knows_is_carried() -> None:
    (found,) = follower().feed(event(1, mood="sunny"))
    assert isinstance(found, Heard)
    assert found.event == OpaqueEvent(type="run.paused.v1", body={"command": "c1", "mood": "sunny"})


def test_next_connection_asks_for_what_comes_after_the_last_frame() -> None:
    one = follower()
    assert "Last-Event-ID" not in one.headers
    one.opened()
    one.feed(hello() + event(3, 1) + event(4)[:-1])
    assert one.headers["Last-Event-ID"] == f"{LIFE}-3-1"
    assert one.lost() > 0
    one.opened()
    greeting, *events = one.feed(hello(3) + event(4))
    assert greeting == Hello(f"{LIFE}-3-0", "j1", "r1")  # nothing of what broke off is in it
    assert heard(events) == [f"{LIFE}-4-0"]


def test_what_was_told_already_is_told_no_more() -> None:
    one = follower()
    one.feed(hello() + event(1) + event(2))
    one.lost()
    one.opened()
    assert heard(one.feed(hello(1) + event(1) + event(2) + event(3))) == [f"{LIFE}-3-0"]


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), max_size=6))
def test_cuts_anywhere_lose_and_repeat_nothing(cuts: list[int]) -> None:
    one, found = follower(), list[Frame]()
    for cut in [*cuts, 1_000_000]:
        one.opened()
        seq = 0 if one.cursor is None else int(one.cursor.split("-")[1])
        rest = b"".join(event(n) for n in range(seq + 1, 9)) + end(8)
        found += one.feed((hello(seq) + rest)[:cut])
        one.lost()
        if one.done:
            break
    assert heard(found) == [f"{LIFE}-{n}-0" for n in range(1, 9)]
    assert [type(frame) for frame in found if isinstance(frame, End)] == [End]


def test_end_of_the_run_ends_the_stream_and_another_one_does_not() -> None:
    one = follower()
    one.feed(hello() + end(5, run="child"))
    assert one.lost() > 0
    assert not one.done
    one.feed(end(6))
    assert one.lost() == 0
    assert one.done


def test_end_that_is_told_again_is_told_once() -> None:
    one = follower(follow=True)
    assert any(isinstance(frame, End) for frame in one.feed(hello() + event(5) + end(5)))
    assert one.lost() > 0
    one.opened()
    assert one.feed(hello(5) + end(5))[1:] == []
    more = one.feed(event(6, kind="run.continued.v2") + event(7) + end(7))
    assert [type(frame) for frame in more] == [Heard, Heard, End]
    assert not one.done


def test_run_that_goes_on_after_its_end_is_not_over() -> None:
    one = follower()
    one.feed(hello() + end(5) + event(6, kind="run.continued.v2"))
    assert one.lost() > 0
    assert not one.done


def test_reset_is_told_also_when_the_cut_comes_between_it_and_the_greeting() -> None:
    one = follower(cursor="old-7-0")
    one.feed(hello(0))
    one.lost()
    assert one.headers["Last-Event-ID"] == "old-7-0"
    one.opened()
    start = f"{LIFE}-0-0"
    reset = frame("reset", start, reason="incarnation", cursor=start, **PLACE)
    found = one.feed(hello(0) + reset + event(1))
    assert found[1:] == [Reset(start, "incarnation"), *found[2:]]
    assert heard(found) == [f"{LIFE}-1-0"]


def test_events_of_before_a_reset_of_the_same_life_are_told_again() -> None:
    one = follower()
    one.feed(hello() + event(1) + event(2))
    reset = frame("reset", f"{LIFE}-0-0", reason="retention", cursor=f"{LIFE}-0-0", **PLACE)
    assert heard(one.feed(hello() + reset + event(1))) == [f"{LIFE}-1-0"]


def test_waits_grow_until_something_new_comes_and_end_in_an_error() -> None:
    one = follower(reconnects_max=3)
    waits = [one.lost(Unavailable("away")) for _ in range(2)]
    assert waits[1] > waits[0] > 0
    one.feed(hello() + event(1))
    assert one.lost(Unavailable("away")) == waits[0]
    for _ in range(2):
        one.lost(Unavailable("away"))
    with pytest.raises(Unavailable, match="away"):
        one.lost(Unavailable("away"))


def test_greeting_alone_is_nothing_new() -> None:
    one = follower(reconnects_max=3)
    for _ in range(3):
        one.opened()
        one.feed(hello())
        one.lost()
    with pytest.raises(Unavailable):
        one.lost()


def test_goodbye_leads_to_another_connection_and_a_problem_to_an_error() -> None:
    one = follower()
    one.feed(hello() + frame("goodbye", f"{LIFE}-4-0", reason="slow", cursor=f"{LIFE}-4-0"))
    assert one.lost() > 0
    assert one.cursor == f"{LIFE}-4-0"
    one.opened()
    one.feed(frame("problem", code="unavailable", detail="later"))
    assert one.lost() > 0
    one.opened()
    one.feed(frame("problem", code="integrity_violated", detail="broken"))
    with pytest.raises(Faulty, match="broken"):
        one.lost()


def test_refusals_are_errors_and_what_is_away_is_tried_again() -> None:
    one = follower()
    assert one.refused(Reply(503, {"retry-after": "7"}, b"{}")) >= 7
    with pytest.raises(NotFound):
        one.refused(Reply(404, {}, b'{"code": "no_such_run", "detail": "There is none."}'))
    with pytest.raises(Faulty):
        one.refused(Reply(200, {}, b"<html>"))
