"""Values in answers become stand-ins again, however they are cut; nothing else does (C15)."""

import base64
import gzip
import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.sandbox import SecretGrant
from domain.secrets import SecretRef, SecretValue
from services.sandbox.egress.clean import Cleaner
from services.sandbox.egress.echo import FILL, Echo, clean_headers, swaps
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.stand_ins import StandIn, new_token, put_in, unfit


def stand_in(value: str, token: str = "", name: str = "KEY") -> StandIn:
    secret = SecretValue(SecretRef(name=name), value)
    grant = SecretGrant(name=name, deliver="egress", hosts=("api.test",))
    return StandIn(grant, (token or "T" * len(value.encode())).encode(), secret)


def through(known: tuple[tuple[bytes, bytes], ...], *pieces: bytes) -> bytes:
    echo = Echo(known)
    return b"".join([*(echo.feed(piece) for piece in pieces), echo.finish()])


VALUE = b"abcabcabd-secret"
KNOWN = swaps([stand_in(VALUE.decode(), "0123456789abcdef")])


@given(
    st.lists(st.sampled_from([VALUE, b"abc", b"abcabcab", b"d-secret", b" ", b"x" * 50])), st.data()
)
def test_however_it_is_cut_the_answer_is_the_same(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    edges = [0, *cuts, len(whole)]
    pieces = [whole[start:end] for start, end in itertools.pairwise(edges)]
    cleaned = through(KNOWN, *pieces)
    assert cleaned == whole.replace(VALUE, b"0123456789abcdef")
    assert len(cleaned) == len(whole)


def test_only_what_could_become_a_value_is_held_back() -> None:
    echo = Echo(KNOWN)
    assert echo.feed(b"data: x\n\n") == b"data: x\n\n"
    assert echo.feed(b"..abcabc") == b".."
    assert echo.feed(b"abx") == b"abcabcabx"
    assert echo.feed(VALUE[:-1]) == b""
    assert echo.finish() == VALUE[:-1]


def test_a_value_that_begins_like_another_is_found_whole() -> None:
    known = swaps([stand_in("token-one"), stand_in("token-one-and-more", name="MORE")])
    for cut in range(18):
        text = b"token-one-and-more"
        assert through(known, text[:cut], text[cut:]) == b"T" * 18
    assert through(known, b"token-one", b"!") == b"T" * 9 + b"!"


def test_values_that_overlap_are_both_gone() -> None:
    known = swaps([stand_in("aaaabbbb"), stand_in("bbbbcccc", name="OTHER")])
    for cut in range(12):
        cleaned = through(known, b"aaaabbbbcccc"[:cut], b"aaaabbbbcccc"[cut:])
        assert b"aaaabbbb" not in cleaned
        assert b"bbbbcccc" not in cleaned
        assert len(cleaned) == 12


@pytest.mark.parametrize("before", [b"", b"u", b"us", b"user:"])
def test_base64_of_a_value_is_filled(before: bytes) -> None:
    encoded = base64.b64encode(before + VALUE)
    cleaned = through(KNOWN, encoded)
    assert len(cleaned) == len(encoded)
    assert FILL * (len(VALUE) * 8 // 6 - 1) in cleaned


def test_a_value_that_was_changed_since_has_its_own_length() -> None:
    for token in ("short", "much-longer-than-the-value-it-is-for"):
        known = swaps([stand_in("new-value-123", token)])
        cleaned = through(known, b"[new-value-123]")
        assert len(cleaned) == 15
        assert b"new-value" not in cleaned


def test_heads_are_cleaned_whole() -> None:
    headers = [(b"location", b"https://api.test/?k=" + VALUE), (b"x", b"y")]
    assert clean_headers(headers, KNOWN) == [
        (b"location", b"https://api.test/?k=0123456789abcdef"),
        (b"x", b"y"),
    ]


@pytest.mark.parametrize(
    ("sent", "swapped"),
    [
        (b"Bearer 0123456789abcdef", b"Bearer " + VALUE),
        (b"a=0123456789abcdef;b=0123456789abcdef", b"a=" + VALUE + b";b=" + VALUE),
        (
            b"Basic " + base64.b64encode(b"me:0123456789abcdef"),
            b"Basic " + base64.b64encode(b"me:" + VALUE),
        ),
        (
            b"basic  " + base64.b64encode(b"0123456789abcdef:"),
            b"basic " + base64.b64encode(VALUE + b":"),
        ),
    ],
)
def test_values_are_put_into_headers(sent: bytes, swapped: bytes) -> None:
    made = [stand_in(VALUE.decode(), "0123456789abcdef")]
    assert put_in([(b"authorization", sent)], made) == ([(b"authorization", swapped)], ("KEY",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"host", b"0123456789abcdef"),
        (b"authorization", b"Bearer 0123456789abcde"),
        (b"authorization", b"Basic !!!"),
        (b"authorization", b"Basic " + base64.b64encode(b"me:you")),
        (b"x", b"0123456789ABCDEF"),
    ],
)
def test_nothing_else_is_touched(name: bytes, value: bytes) -> None:
    made = [stand_in(VALUE.decode(), "0123456789abcdef")]
    assert put_in([(name, value)], made) == ([(name, value)], ())


@pytest.mark.parametrize(
    "value", ["4bc12", "line\nbreak", "ends \n", " begins", "nul\0inside", "x" * 5000]
)
def test_some_values_fit_into_no_header(value: str) -> None:
    why = unfit(SecretValue(SecretRef(name="KEY"), value))
    assert why
    assert value not in why


def test_others_do() -> None:
    for value in ("secret", "with blanks inside", "umläute-äöü", "p@ss,w0rd;\"'"):
        secret = SecretValue(SecretRef(name="KEY"), value)
        assert unfit(secret) == ""
        assert len(new_token(secret)) == len(value.encode())
    assert unfit(None)


def test_a_stand_in_shows_nothing() -> None:
    assert "secret" not in repr(stand_in(VALUE.decode())).replace("SecretGrant", "")


def cleaner(coding: bytes, known: tuple[tuple[bytes, bytes], ...] = KNOWN) -> Cleaner:
    headers = [(b"content-encoding", coding), (b"content-length", b"99"), (b"x", VALUE)]
    return Cleaner(h11.Response(status_code=200, reason=VALUE, headers=headers), headers, known)


def test_a_compressed_body_is_read() -> None:
    made = cleaner(b"GZIP")
    assert made.headers == [(b"x", b"0123456789abcdef")]
    assert made.reason == b"0123456789abcdef"
    packed = gzip.compress(VALUE * 100_000, mtime=0)
    pieces = list(made.feed(packed))
    assert b"".join([*pieces, made.finish()]) == b"0123456789abcdef" * 100_000
    assert max(map(len, pieces)) <= 65 * 1024  # a bomb comes out in small pieces


@pytest.mark.parametrize(
    "data", [b"nonsense", gzip.compress(b"x", mtime=0)[:-1], gzip.compress(b"x", mtime=0) + b"more"]
)
def test_a_body_that_is_not_what_it_says_is_broken(data: bytes) -> None:
    made = cleaner(b"gzip")
    with pytest.raises(Refused) as refused:
        b"".join([*made.feed(data), made.finish()])
    assert refused.value.reason == Reason.BROKEN


def test_a_body_nobody_can_read_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        cleaner(b"br")
    assert refused.value.reason == Reason.ENCODED_RESPONSE
    assert cleaner(b"identity").headers[0] == (b"content-encoding", b"identity")
