"""What rows show of texts: cut, in a line, or by digest. Not what terminals or pages make of them.

Content that is kept outside the log is named by its digest and never read.
"""

from collections.abc import Iterable
from typing import Any, cast

import orjson

from domain.content import AssistantPart, BlobRef, ContentPart, Text, TextPart, ThinkingPart

ARGUMENTS_MAX = 6
ARGUMENT_CHARS_MAX = 60
"""How many arguments of a call a line names, and how much of each."""

THOUGHTS = frozenset({None, "thinking", "reasoning"})
"""The types of blocks that hold thoughts; chat formats give theirs no type."""


def shown(text: Text, chars_max: int) -> str:
    """The beginning of a text; of one that is kept elsewhere, its size and digest."""
    return text[:chars_max] if isinstance(text, str) else _named(text)


def shown_parts(parts: Iterable[ContentPart], chars_max: int) -> str:
    """The beginning of what a person or a tool handed over; files are named."""
    found: list[str] = []
    left = chars_max
    for part in parts:
        if left <= 0:
            break
        text = shown(part.text, left) if isinstance(part, TextPart) else _named(part.blob)
        found.append(text)
        left -= len(text)
    return "".join(found)[:chars_max]


def said(parts: Iterable[AssistantPart], chars_max: int) -> str:
    """The beginning of what a model said in words."""
    return shown_parts((part for part in parts if isinstance(part, TextPart)), chars_max)


def thought(parts: Iterable[AssistantPart], chars_max: int) -> str:
    """The beginning of what a model thought, as far as its provider lets people read it."""
    blocks = (part.block for part in parts if isinstance(part, ThinkingPart))
    found = [text for block in blocks if isinstance(block, str) and (text := _thought_of(block))]
    return "\n\n".join(found)[:chars_max]


def in_a_line(text: str, chars_max: int) -> str:
    """The text without line breaks, cut."""
    line = " ".join(text[: 4 * chars_max].split())
    return line if len(line) <= chars_max else f"{line[: chars_max - 1]}…"


def arguments_line(arguments: Text, chars_max: int) -> str:
    """The arguments of a call as a person would note them down."""
    if isinstance(arguments, BlobRef):
        return _named(arguments)
    values = _object(arguments)
    if values is None:
        return in_a_line(arguments, chars_max)
    command = values.get("command")
    if isinstance(command, str):
        words = values.get("args")
        rest = cast("list[object]", words) if isinstance(words, list) else []
        return in_a_line(" ".join([command, *map(_plain, rest)]), chars_max)
    named = list(values.items())[:ARGUMENTS_MAX]
    if len(named) == 1:
        return in_a_line(_plain(named[0][1]), chars_max)
    pairs = (f"{name}={in_a_line(_plain(value), ARGUMENT_CHARS_MAX)}" for name, value in named)
    return in_a_line(" ".join(pairs), chars_max)


def _named(blob: BlobRef) -> str:
    return f"[{blob.size} bytes: {blob.digest}]"


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _plain(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _thought_of(block: str) -> str:
    """What the block of a provider says: Anthropic's, Responses' and chat forms are known.

    Nothing for one that is redacted or encrypted, and for what is no thought.
    """
    value = _object(block)
    if value is None or value.get("type") not in THOUGHTS:
        return ""
    for name in ("thinking", "reasoning_content", "reasoning"):
        text = value.get(name)
        if isinstance(text, str):
            return text
    return "\n\n".join(_texts(value.get("summary"))) or "".join(_texts(value.get("content")))


def _texts(items: object) -> list[str]:
    rows = cast("list[object]", items) if isinstance(items, list) else []
    found = [cast("dict[str, object]", row).get("text") for row in rows if isinstance(row, dict)]
    return [text for text in found if isinstance(text, str)]
