"""The forms in which a text turns up again: itself, and as programs encode it. Not the search."""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from domain.secrets import SECRET_CHARS_MIN

LINE_CHARS_MIN = 16
"""A line of a value counts like a value of its own, if it is at least that long."""

FRAME = "-----"
"""What the first and last line of a key in PEM form begin with: no secret."""

UNQUOTED = ("", "/", "!'()*", "!'()*/", "!'()*;,/?:@&=+$#")
"""Characters that one or another program leaves as they are in the parts of an address."""

BASE64_SKIPPED = (0, 2, 3)
"""By the place of a value in a group of three bytes: the characters that also hold bits before."""


class Form(NamedTuple):
    """One form; what may follow it where the text ends there is in `tails`."""

    text: str
    tails: tuple[str, ...] = ()


def forms_of(value: str) -> tuple[Form, ...]:
    """All forms of a value, and of its long lines if it has several; none if it is too short."""
    lines = value.splitlines()
    parts = [value, value.strip()]
    if len(lines) > 1:
        parts += [
            line.strip()
            for line in lines
            if len(line.strip()) >= LINE_CHARS_MIN and not line.startswith(FRAME)
        ]
    found = {
        form.text: form
        for part in dict.fromkeys(parts)
        if len(part) >= SECRET_CHARS_MIN
        for form in _forms(part)
        if len(form.text) >= SECRET_CHARS_MIN
    }
    return tuple(found.values())


def _forms(value: str) -> Iterator[Form]:
    data = value.encode("utf-8", "surrogateescape")
    plain = (
        value,
        value.lower(),  # as a host name, and as a header
        value.upper(),
        *_as_json(value),
        *(again for once in _as_json(value) for again in _as_json(once)),  # an answer is JSON, too
        repr(value)[1:-1],
        html.escape(value),
        value.replace("'", "'\"'\"'"),  # as a shell has it in quotes
        value.replace("'", "'\\''"),
        re.sub(r"([^A-Za-z0-9_@%+=:,./-])", r"\\\1", value),  # what printf %q makes of it
        data.hex(),
        data.hex().upper(),
        *_in_address(data),
    )
    yield from (Form(text) for text in dict.fromkeys(plain))
    for place in range(3):
        yield _base64(b64encode(bytes(place) + data).decode(), place, len(data))
        yield _base64(urlsafe_b64encode(bytes(place) + data).decode(), place, len(data))


def _as_json(value: str) -> Iterator[str]:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield text
        yield text.replace("/", "\\/")
        yield text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _in_address(data: bytes) -> Iterator[str]:
    texts = [quote(data, safe=safe) for safe in UNQUOTED]
    texts += [quote_plus(data), "".join(f"%{byte:02X}" for byte in data)]
    for text in texts:
        yield text
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), text)


def _base64(text: str, place: int, size: int) -> Form:
    """The characters that hold bits of the value alone; the last one and padding are the tail."""
    whole = (place + size) * 8 // 6
    tail = text[whole:]
    tails = (tail, tail.rstrip("=")) if tail else ()
    return Form(text[BASE64_SKIPPED[place] : whole], tails)
