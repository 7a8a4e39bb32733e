"""Server-sent events out of bytes in any pieces, as the standard says. Not what events mean."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peritus.client import sse
from peritus.client.sse import Message, Parser, StreamTooLarge

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Message]]:
    """Some messages, written with whatever the standard allows, and what they are."""
    written, meant = "", list[Message]()
    for _ in range(draw(st.integers(0, 6))):
        end, event, name = draw(ENDS), draw(LINES), draw(st.none() | LINES)
        data = draw(st.lists(LINES, min_size=1, max_size=4))
        lines = [f"event: {event}", *(f"data: {line}" for line in data), ": a comment", "other: x"]
        if name is not None:
            lines.append(f"id: {name}")
        written += "".join(line + end for line in lines) + end
        meant.append(Message(event or "message", "\n".join(data), name))
    return written.encode(), meant


def parsed(data: bytes, cuts: list[int]) -> list[Message]:
    parser, found, before = Parser(), list[Message](), 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found += parser.feed(data[before:cut])
        before = cut
    return found


@settings(deadline=None)
@given(streams(), st.lists(st.integers(0, 10_000), max_size=12))
def test_pieces_do_not_matter(stream: tuple[bytes, list[Message]], cuts: list[int]) -> None:
    data, meant = stream
    assert parsed(data, cuts) == meant


@settings(deadline=None)
@given(streams())
def test_one_byte_at_a_time_is_the_same(stream: tuple[bytes, list[Message]]) -> None:
    data, meant = stream
    assert parsed(data, list(range(len(data)))) == meant


@settings(deadline=None)
@given(streams(), st.integers(0, 10_000))
def test_what_breaks_off_was_never_there(stream: tuple[bytes, list[Message]], cut: int) -> None:
    data, meant = stream
    found = Parser().feed(data[: cut % (len(data) + 1)])
    assert found == meant[: len(found)]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_are_taken(pieces: list[bytes]) -> None:
    parser = Parser()
    whole = Parser().feed(b"".join(pieces))
    assert [message for piece in pieces for message in parser.feed(piece)] == whole


@pytest.mark.parametrize(
    ("data", "meant"),
    [
        (b"\xef\xbb\xbfdata: a\n\n", [Message("message", "a")]),
        (b"data:a\n\n", [Message("message", "a")]),
        (b"data:  a\n\n", [Message("message", " a")]),
        (b"data\n\n", [Message("message", "")]),
        (b"event: e\nid: 1\n\n", []),
        (b"id: 1\ndata: a\n\ndata: b\n\n", [Message("message", "a", "1"), Message("message", "b")]),
        (b"id: a\0b\ndata: c\n\n", [Message("message", "c")]),
        (b": alive\n\n", []),
        (b"data: \xc3\xa9\n\n", [Message("message", "é")]),
    ],
)
def test_fields_are_read_as_the_standard_says(data: bytes, meant: list[Message]) -> None:
    assert Parser().feed(data) == meant


def test_a_time_to_wait_is_kept() -> None:
    parser = Parser()
    parser.feed(b"retry: 1500\nretry: soon\ndata: a\n\n")
    assert parser.retry_ms == 1500


def test_a_message_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MESSAGE_BYTES_MAX", 100)
    for piece in (b"data: ten bytes", b"data: ten bytes\n"):
        parser = Parser()
        with pytest.raises(StreamTooLarge):
            [parser.feed(piece) for _ in range(20)]
