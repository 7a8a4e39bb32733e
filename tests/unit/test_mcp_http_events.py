"""Streams of events in pieces: the same bytes come out, cut where events end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tool.mcp.http_events import Events

ENDS = ("\n", "\r\n", "\r")


@given(
    st.lists(st.lists(st.text(alphabet="ab: ", min_size=1, max_size=5), min_size=1, max_size=3)),
    st.sampled_from(ENDS),
    st.lists(st.integers(min_value=1, max_value=7), min_size=1),
    st.text(alphabet="ab", max_size=4),
)
def test_events_come_out_whole_however_they_came(
    events: list[list[str]], end: str, sizes: list[int], rest: str
) -> None:
    texts = ["".join(line + end for line in lines) + end for lines in events]
    data = ("".join(texts) + rest).encode()
    cut = Events(1_000)
    out: list[bytes] = []
    at = 0
    number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        out += cut.feed(data[at : at + size]) or []
        at, number = at + size, number + 1
    assert b"".join(out) + cut.rest() == data
    assert len(out) == len(texts)


@pytest.mark.parametrize("data", [b"x" * 11, b"x" * 11 + b"\n\n", b"x\n\n" * 9 + b"y" * 11])
def test_an_event_that_is_too_long_is_none(data: bytes) -> None:
    assert Events(10).feed(data) is None


def test_short_events_are_not_counted_together() -> None:
    assert Events(10).feed(b"x\n\n" * 100) == [b"x\n\n"] * 100
