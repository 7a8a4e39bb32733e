"""How texts and calls read in a line, with nothing a terminal would obey. Not their layout."""

import json
from typing import Any, cast

from domain.content import BlobRef, Text

ARGUMENT_CHARS_MAX = 60
ARGUMENTS_MAX = 6

_NEWLINE, _TAB = 0x0A, 0x09
_UNSAFE = {
    code: None
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if code not in {_NEWLINE, _TAB}
}
"""Control characters and changes of writing direction: what a model or a tool says must not move
the cursor, recolour the screen or hide text."""


def clean(text: str) -> str:
    """The text without anything a terminal would obey."""
    return text.translate(_UNSAFE)


def short(text: str, chars_max: int) -> str:
    """The text in one line, cut."""
    line = " ".join(clean(text[: 4 * chars_max]).split())
    return line if len(line) <= chars_max else f"{line[: chars_max - 1]}…"


def call_line(tool: str, arguments: Text) -> str:
    """A tool call as a person would note it down."""
    if isinstance(arguments, BlobRef):
        return f"{clean(tool)} ({arguments.size:,} bytes of arguments)"
    values = object_in(arguments)
    if values is None:
        return f"{clean(tool)} {short(arguments, ARGUMENT_CHARS_MAX)}"
    if isinstance(command := values.get("command"), str):
        line = " ".join([command, *(plain(word) for word in list_in(values.get("args")))])
        return f"{clean(tool)} {short(line, 2 * ARGUMENT_CHARS_MAX)}"
    shown = [
        f"{clean(name)}={short(plain(value), ARGUMENT_CHARS_MAX)}"
        for name, value in list(values.items())[:ARGUMENTS_MAX]
    ]
    return " ".join([clean(tool), *shown])


def object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, if it is one."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def list_in(value: object) -> list[object]:
    """A list as it is; anything else is an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def plain(value: object) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
