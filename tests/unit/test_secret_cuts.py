"""No part of a value of 8 characters or more is left at a cut, wherever it goes through (C15)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.forms import forms_of
from domain.needles import Needles
from domain.redaction import WITHHELD, DataStream, Redactor
from domain.secrets import SECRET_CHARS_MIN
from services.sandbox.capture import Capture, joined
from services.secrets.cuts import EDGE_CHARS, data_within, piece, within

TOKEN = "sk-Canary/1+2:3_x9\"'&€"
REDACTOR = Redactor([("A_TOKEN", TOKEN)])
FORMS = sorted({form.text for form in forms_of(TOKEN)})
BROKEN = [
    mark.join(form[at : at + 10] for at in range(0, len(form), 10))
    for form in FORMS[::4]
    for mark in ("\n", "\\n")
]
PAD = "." * 30


def parts_of(form: str) -> set[str]:
    """What may not be left of a form: any EDGE_CHARS characters in a row, lines or not."""
    plain = form.replace("\n", "").replace("\\n", "")
    return {plain[at : at + EDGE_CHARS] for at in range(len(plain) - EDGE_CHARS + 1)}


def left_of(form: str, shown: str) -> set[str]:
    """The parts of a form that are left in a text."""
    told = shown.replace("\n", "").replace("\\n", "").replace("[secret:A_TOKEN]", "|")
    return {part for part in parts_of(form) if part in told}


@pytest.mark.parametrize("form", [*FORMS, *BROKEN])
def test_every_cut_through_a_value_hides_both_of_its_ends(form: str) -> None:
    text = f"{PAD}{form}{PAD}"
    for cut in range(len(PAD) + 1, len(PAD) + len(form)):
        before, after = within(REDACTOR, text, 0, cut), within(REDACTOR, text, cut)
        assert left_of(form, before) == set(), cut
        assert left_of(form, after) == set(), cut
        assert before.startswith(PAD)
        assert after.endswith(PAD)
        data = text.encode()
        at = len(text[:cut].encode())
        for start, stop in ((0, at), (at, None)):
            shown = data_within(REDACTOR, data, start, stop).decode("utf-8", "replace")
            assert left_of(form, shown) == set(), cut


@pytest.mark.parametrize("form", [*FORMS, *BROKEN])
def test_a_part_of_a_text_shows_no_part_of_a_value_that_was_cut(form: str) -> None:
    """Nothing is known of what was around it: the beginning, the middle or the end of a value."""
    for start in range(len(form)):
        for size in (5, 8, 9, 20, len(form)):
            part = form[start : start + size]
            assert left_of(form, piece(REDACTOR.in_text, part)) == set(), part
        assert left_of(form, piece(REDACTOR.in_text, f"{form[start:]}{PAD}")) == set(), start
        assert left_of(form, piece(REDACTOR.in_text, f"{PAD}{form[:start]}")) == set(), start


def test_texts_without_values_are_left_as_they_are() -> None:
    for text in ("", "sk-Cana", "nothing of it", PAD, f"x{TOKEN[:7]}", f"{TOKEN[-7:]} x"):
        assert piece(REDACTOR.in_text, text) == text
        assert within(REDACTOR, text) == text
    assert within(REDACTOR, f"a{TOKEN}b", 0, 1) == "a"
    assert within(REDACTOR, f"a{TOKEN}b", len(TOKEN) + 1) == "b"
    assert piece(Redactor().in_text, "any") == "any"


@given(st.text(max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_a_part_of_any_text_is_that_part_where_no_value_is(text: str, one: int, two: int) -> None:
    start, stop = sorted((min(one, len(text)), min(two, len(text))))
    assert within(REDACTOR, text, start, stop) == text[start:stop]


def test_what_cannot_be_searched_is_withheld() -> None:
    class Broken(Needles):
        def hits(self, text: str) -> bool:
            raise RecursionError(text)

    broken = Redactor()
    broken.in_text = broken.in_data = Broken(())
    assert piece(broken.in_text, "any") == within(broken, "any") == WITHHELD
    assert data_within(broken, b"any") == WITHHELD.encode()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_no_cut_of_an_output_leaves_a_part_of_a_value(form: str, chunk: int) -> None:
    """At the end of what is kept, at both sides of what is left out, between two reads."""
    data = form.encode()
    for ahead in range(len(data) + 1):
        capture = Capture(DataStream(lambda: REDACTOR), kept_max=60, tail_max=40)
        whole = b"." * (60 - ahead) + data + b"," * (40 - len(data) // 2) + data + b";" * ahead
        for at in range(0, len(whole), chunk):
            capture.add(whole[at : at + chunk])
        capture.finish()
        for bytes_max in (40, 55, 80):
            shown, _ = joined((capture,), bytes_max)
            assert left_of(form, shown) == set(), (ahead, bytes_max)
        assert left_of(form, capture.whole().decode("utf-8", "replace")) == set(), ahead


def test_what_is_held_back_of_an_output_is_there_when_it_has_ended() -> None:
    capture = Capture(DataStream(lambda: REDACTOR))
    shown = capture.add(f"a {TOKEN[:9]}".encode())
    assert shown == b"a "
    assert capture.finish() == TOKEN[:9].encode()
    assert capture.finish() == b""
    assert joined((capture,), 100) == (f"a {TOKEN[:9]}", False)
    assert capture.total == len(f"a {TOKEN[:9]}")


def test_the_parts_that_are_hidden_are_no_longer_than_the_shortest_value() -> None:
    assert SECRET_CHARS_MIN <= EDGE_CHARS
