"""Lines out of bytes, and how many values a JSON text has: both bounded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tool.mcp.lines import Lines, TooLong, has_too_many_values


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")), max_size=8))
def test_lines_come_out_however_they_come_in(lines: list[bytes]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    for size in (1, 3, 1000):
        splitter = Lines(1000)
        found = [
            line
            for start in range(0, len(stream), size)
            for line in splitter.feed(stream[start : start + size])
        ]
        assert found == lines


def test_what_has_no_end_yet_is_kept() -> None:
    lines = Lines(10)
    assert lines.feed(b"ab") == []
    assert lines.feed(b"c\nd") == [b"abc"]


@pytest.mark.parametrize(
    "pieces", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"a\n" + b"x" * 11 + b"\n"]]
)
def test_a_line_longer_than_may_be_is_refused(pieces: list[bytes]) -> None:
    lines = Lines(10)
    *first, last = pieces
    for piece in first:
        assert lines.feed(piece) == []
    with pytest.raises(TooLong):
        lines.feed(last)


def test_values_are_counted_outside_of_strings() -> None:
    prose = json.dumps({"text": 'a, "b", [c], {d}, \\' * 100}).encode()
    assert not has_too_many_values(prose, 10)
    assert has_too_many_values(json.dumps([[]] * 10).encode(), 10)
    assert not has_too_many_values(json.dumps([[]] * 4).encode(), 10)


def test_a_string_without_an_end_does_not_hold_up_the_count() -> None:
    assert has_too_many_values(b'"' + b"a," * 1_000_000, 10)
