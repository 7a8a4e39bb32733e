"""Output within limits: what is kept of a stream, and how it reads."""

import pytest

from services.sandbox.capture import Capture, joined


def captured(*chunks: bytes, kept_max: int = 1000, tail_max: int = 100) -> Capture:
    capture = Capture(kept_max=kept_max, tail_max=tail_max)
    for chunk in chunks:
        capture.add(chunk)
    return capture


def test_short_streams_are_joined_as_they_are() -> None:
    assert joined((captured(b"out"), captured(b"err")), 10) == ("outerr", False)
    assert joined((), 10) == ("", False)


def test_of_a_long_stream_the_middle_goes() -> None:
    text, cut = joined((captured(b"a" * 50, b"b" * 50),), 20)
    assert cut
    assert text == "aaaaaaaaaa\n[... 80 bytes left out ...]\nbbbbbbbbbb"


def test_the_end_is_the_end_of_the_last_stream() -> None:
    text, _ = joined((captured(b"o" * 200), captured(b"the end")), 20)
    assert text.endswith("ooothe end")
    assert text.startswith("oooooooooo\n")


def test_the_end_is_known_when_the_middle_was_never_kept() -> None:
    capture = captured(*(b"%04d" % number for number in range(1000)), kept_max=8)
    assert capture.whole() == b"00000001\n[3992 bytes dropped]\n"
    assert joined((capture,), 16)[0] == "00000001\n[... 3984 bytes left out ...]\n09980999"


@pytest.mark.parametrize("cut_at", range(10, 18))
def test_a_cut_never_leaves_half_a_character(cut_at: int) -> None:
    text, _ = joined((captured("äöü€🙂".encode() * 8),), cut_at)
    assert "\ufffd" not in text


def test_bytes_that_are_not_text_are_replaced() -> None:
    assert joined((captured(b"\xff\xfeok"),), 100) == ("\ufffd\ufffdok", False)
