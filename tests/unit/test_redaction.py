"""What a redactor finds, and what it leaves alone (C15). Not where values come from."""

import base64
import html
import json
import shlex
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.commands import CompleteGeneration, RecordToolResult, StartRun
from domain.content import CallPart, TextPart, ThinkingPart
from domain.forms import forms_of
from domain.redaction import (
    THOUGHT_WITHHELD,
    WITHHELD,
    DataStream,
    Redactor,
    TextStream,
    redact_command,
)
from domain.secrets import SecretRef, SecretValue, marker, unfit

NAMES = ("A_TOKEN", "B_TOKEN", "C_TOKEN")

TOKEN = "sk-Canary/1+2:3_x9"
REDACTOR = Redactor([("A_TOKEN", TOKEN)])

values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=6, max_size=40)
contexts = st.text(st.characters(codec="utf-8"), max_size=30)

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64url": lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
    "percent": lambda v: urllib.parse.quote(v, safe=""),
    "percent lower": lambda v: "".join(f"%{byte:02x}" for byte in v.encode()),
    "percent upper": lambda v: "".join(f"%{byte:02X}" for byte in v.encode()),
    "form field": urllib.parse.quote_plus,
    "path": urllib.parse.quote,
    "json": lambda v: json.dumps(v)[1:-1],
    "json utf-8": lambda v: json.dumps(v, ensure_ascii=False)[1:-1],
    "hex": lambda v: v.encode().hex(),
    "hex upper": lambda v: v.encode().hex().upper(),
    "repr": lambda v: repr(v)[1:-1],
    "html": html.escape,
    "shell": shlex.quote,
    "lower": str.lower,
}


def fit(*secrets: str) -> bool:
    """Values that are none of the marker's own words, whose forms are no part of it either."""
    return all(
        form.text not in marker(name) for one in secrets for form in forms_of(one) for name in NAMES
    )


def contains(text: str, value: str) -> bool:
    return any(form.text in text for form in forms_of(value))


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(value=values, before=contexts, after=contexts)
def test_no_encoding_of_a_value_leaves(encoding: str, value: str, before: str, after: str) -> None:
    assume(fit(value))
    text = before + ENCODINGS[encoding](value) + after
    redactor = Redactor([("A_TOKEN", value)])
    assert not contains(redactor.text(text), value)
    clean = redactor.data(text.encode())
    assert not contains(clean.decode(), value)
    assert redactor.finds(text.encode()) == "A_TOKEN"


@given(value=values, before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_base64_hides_no_value_at_any_place_in_what_was_encoded(
    value: str, before: bytes, after: bytes
) -> None:
    assume(fit(value))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + value.encode() + after).decode()
        clean = Redactor([("A_TOKEN", value)]).text(text)
        assert marker("A_TOKEN") in clean
        assert not contains(clean, value)


@given(
    value=values,
    encoding=st.sampled_from(sorted(ENCODINGS.keys() - {"shell"})),
    width=st.integers(1, 20),
    broken_by=st.sampled_from(["\n", "\r\n", "\\n", "\\r\\n"]),
)
def test_a_value_broken_into_lines_is_found(
    value: str, encoding: str, width: int, broken_by: str
) -> None:
    text = ENCODINGS[encoding](value)
    assume(fit(value) and not any(one in text for one in "\\\r\n"))
    folded = broken_by.join(text[at : at + width] for at in range(0, len(text), width))
    assert Redactor([("A_TOKEN", value)]).text(folded) == marker("A_TOKEN")


@given(
    secrets=st.lists(values, min_size=1, max_size=3, unique=True),
    parts=st.lists(
        st.one_of(
            contexts,
            st.tuples(st.integers(0, 2), st.sampled_from(sorted(ENCODINGS))),
        ),
        max_size=6,
    ),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=30),
)
def test_a_stream_shows_no_value_however_it_is_cut(
    secrets: list[str], parts: list[str | tuple[int, str]], cuts: list[int]
) -> None:
    assume(fit(*secrets))
    text = "".join(
        part if isinstance(part, str) else ENCODINGS[part[1]](secrets[part[0] % len(secrets)])
        for part in parts
    )
    redactor = Redactor(zip(NAMES, secrets, strict=False))
    words, data = TextStream(lambda: redactor), DataStream(lambda: redactor)
    shown, bytes_shown, at = "", b"", 0
    for index in range(len(text)):
        if at >= len(text):
            break
        piece = text[at : at + cuts[index % len(cuts)]]
        at += len(piece)
        shown += words.feed(piece)
        bytes_shown += data.feed(piece.encode())
    shown += words.end()
    bytes_shown += data.end()
    for one in secrets:
        assert not contains(shown, one)
        assert not contains(bytes_shown.decode("utf-8", "replace"), one)


@given(text=st.text(max_size=200), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_nothing_else_changes(text: str, cuts: list[int]) -> None:
    assume(not contains(text.replace("\\r", "").replace("\\n", ""), TOKEN))
    assert REDACTOR.text(text) is text
    data = text.encode("utf-8", "surrogatepass")
    assert REDACTOR.data(data) is data
    stream = TextStream(lambda: REDACTOR)
    shown, at, index = "", 0, 0
    while at < len(text):
        shown += stream.feed(text[at : at + cuts[index % len(cuts)]])
        at, index = at + cuts[index % len(cuts)], index + 1
    assert shown + stream.end() == text


def test_a_stream_holds_back_less_than_a_form_and_only_what_may_become_one() -> None:
    stream = TextStream(lambda: REDACTOR)
    assert stream.feed("hello") == "hello"
    assert stream.feed(f"key {TOKEN[:-1]}") == "key "
    assert stream.feed("?") == f"{TOKEN[:-1]}?"
    assert stream.feed(TOKEN[:9]) == ""
    assert stream.feed(TOKEN[9:]) == "[secret:A_TOKEN]"
    assert stream.feed(TOKEN[:4]) == ""
    assert stream.end() == TOKEN[:4]


def test_a_stream_knows_values_that_became_known_meanwhile() -> None:
    known = [Redactor()]
    stream = TextStream(lambda: known[0])
    assert stream.feed(f"{TOKEN} ") == f"{TOKEN} "
    known[0] = REDACTOR
    assert stream.feed(f"{TOKEN} ") == "[secret:A_TOKEN] "


def test_of_values_in_one_another_the_longest_is_hidden_and_overlaps_leave_nothing() -> None:
    redactor = Redactor([("A_TOKEN", "abcdef"), ("B_TOKEN", "abcdefghi"), ("C_TOKEN", "ghijkl")])
    assert redactor.text("-abcdefghi-") == "-[secret:B_TOKEN]-"
    assert redactor.text("-abcdefg-") == "-[secret:A_TOKEN]g-"
    assert redactor.text("-abcdefghijkl-") == "-[secret:B_TOKEN]-"
    assert Redactor([("A_TOKEN", "aaaaaa")]).text("a" * 11) == "[secret:A_TOKEN]"


def test_lines_of_a_key_are_hidden_one_by_one_but_not_its_frame() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nBAQEFAASCBKcwgg\n-----END KEY-----\n"
    redactor = Redactor([("A_TOKEN", key)])
    assert redactor.text(f"cat: {key}") == "cat: [secret:A_TOKEN]"
    assert redactor.text("grep: MIIEvQIBADANBgkqhkiG9w0 -----BEGIN KEY-----") == (
        "grep: [secret:A_TOKEN] -----BEGIN KEY-----"
    )


def test_a_text_that_cannot_be_searched_is_withheld_whole() -> None:
    class Odd(str):
        __slots__ = ()

        def replace(self, *_: object) -> str:
            raise RuntimeError

    assert REDACTOR.text(Odd(f"my {TOKEN}")) == WITHHELD

    def broken() -> Redactor:
        raise RuntimeError

    stream = TextStream(broken)
    assert (stream.feed(TOKEN), stream.end()) == (WITHHELD, WITHHELD)


def test_json_values_and_records_are_redacted_through_and_kept_when_clean() -> None:
    clean = {"a": ["b", 1, None], "c": ("d",)}
    assert REDACTOR.value(clean) is clean
    assert REDACTOR.value({"a": [TOKEN, 1], TOKEN: (f"x{TOKEN}",)}) == {
        "a": ["[secret:A_TOKEN]", 1],
        "[secret:A_TOKEN]": ("x[secret:A_TOKEN]",),
    }


def test_a_command_is_redacted_in_what_was_said_and_keeps_its_names() -> None:
    """C15: everything that enters the log is a command first."""
    call = "ca11-0-abcdef"
    redactor = Redactor([("A_TOKEN", TOKEN), ("B_TOKEN", call)])
    command = RecordToolResult(
        call=call,
        holder="h",
        outcome="succeeded",
        content=(TextPart(text=json.dumps({"stdout": f"{TOKEN}\n"})),),
        full_output=f"all of it: {TOKEN}",
    )
    clean = redact_command(redactor, command)
    assert clean.call == call
    assert clean.content == (TextPart(text='{"stdout": "[secret:A_TOKEN]\\n"}'),)
    assert clean.full_output == "all of it: [secret:A_TOKEN]"
    start = StartRun(id="1", expert="e", definition="d", parts=(TextPart(text="hello"),))
    assert redact_command(redactor, start) is start


def test_a_providers_block_stays_byte_exact_or_goes_whole() -> None:
    """C19: a block is never edited."""
    clean = ThinkingPart(provider="anthropic", block='{"thinking": "hm", "signature": "x"}')
    dirty = ThinkingPart(provider="anthropic", block=json.dumps({"thinking": f"it is {TOKEN}"}))
    asked = CallPart(provider_id="p", tool="exec", arguments=json.dumps({"args": [TOKEN]}))
    command = CompleteGeneration(
        step=1, attempt=1, parts=(clean, dirty, asked), stop_reason="end", usage=None
    )
    parts = redact_command(REDACTOR, command).parts
    assert parts[0] is clean
    assert parts[1] == TextPart(text=THOUGHT_WITHHELD)
    assert parts[2] == asked.model_copy(update={"arguments": '{"args": ["[secret:A_TOKEN]"]}'})


def test_values_that_cannot_be_hidden_are_not_fit() -> None:
    assert unfit("A_TOKEN", TOKEN) is None
    assert "5 characters" in (unfit("A_TOKEN", "short") or "")
    assert "part of [secret:PASSWORD]" in (unfit("PASSWORD", "secret:P") or "")
    assert "65536 bytes" in (unfit("A_TOKEN", "x" * 70_000) or "")
    assert Redactor([("A_TOKEN", "short")]).text("short") == "short"


def test_a_secret_value_shows_itself_nowhere() -> None:
    value = SecretValue(SecretRef(name="A_TOKEN"), TOKEN, "a file")
    shown = [repr(value), str(value), f"{value:>20}", json.dumps([value], default=str)]
    assert not any(TOKEN in one for one in shown)
    with pytest.raises(TypeError, match="cannot be pickled"):
        value.__reduce__()
