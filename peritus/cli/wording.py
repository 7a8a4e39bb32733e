"""How calls, outcomes and numbers read in a line. Not how lines are laid out or coloured."""

import json
from collections.abc import Sequence
from typing import Any, cast

from domain.content import BlobRef, Text, text_of
from domain.events import ToolCallEnded
from domain.limits import Usage

ARGUMENT_CHARS_MAX = 60
ARGUMENTS_MAX = 6
OUTCOME_CHARS_MAX = 160
FAILURE_CHARS_MAX = 600

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
    values = _object(arguments)
    if values is None:
        return f"{clean(tool)} {short(arguments, ARGUMENT_CHARS_MAX)}"
    if isinstance(command := values.get("command"), str):
        line = " ".join([command, *(_plain(word) for word in _list(values.get("args")))])
        return f"{clean(tool)} {short(line, 2 * ARGUMENT_CHARS_MAX)}"
    shown = [
        f"{clean(name)}={short(_plain(value), ARGUMENT_CHARS_MAX)}"
        for name, value in list(values.items())[:ARGUMENTS_MAX]
    ]
    return " ".join([clean(tool), *shown])


def outcome_line(ended: ToolCallEnded) -> str:
    """What came of a call: the telling part of what the model reads."""
    text = text_of(ended.content)
    values = _object(text)
    if values is None:
        return short(text, OUTCOME_CHARS_MAX)
    if isinstance(output := values.get("output"), str):
        code = values.get("exitCode")
        end = "timed out" if values.get("timedOut") else f"exit {code}" if code else ""
        said = short(_tail(output), FAILURE_CHARS_MAX if ended.is_error else OUTCOME_CHARS_MAX)
        return ": ".join(part for part in (end, said) if part)
    if isinstance(message := values.get("message"), str):
        return short(message, FAILURE_CHARS_MAX)
    if items := _list(values.get("items")):
        names = ", ".join(_name(item) for item in items)
        return short(f"{len(items)} entries: {names}", OUTCOME_CHARS_MAX)
    if isinstance(content := values.get("content"), str):
        return f"{len(content.splitlines())} lines"
    facts = (f"{name} {_plain(value)}" for name, value in values.items() if name != "path")
    return short(", ".join(facts), OUTCOME_CHARS_MAX)


def usage_line(usage: Usage) -> str:
    """Tokens as read and written; empty when nothing was spent."""
    if not usage.tokens:
        return ""
    cached = f" ({usage.cached:,} cached)" if usage.cached else ""
    return f"{usage.input:,} tokens in{cached}, {usage.output:,} out"


def duration(ms: int) -> str:
    """A duration, to two figures that matter."""
    if ms < 1_000:  # noqa: PLR2004 - a second
        return f"{ms} ms"
    seconds = ms / 1_000
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:  # noqa: PLR2004 - two days
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows under each other, each column as wide as it has to be."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    )


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _name(item: object) -> str:
    if isinstance(item, dict):
        return str(cast("dict[str, object]", item).get("name", "?"))
    return str(item)


def _tail(output: str) -> str:
    """The last lines of an output: where programs say what went wrong."""
    lines = [line for line in output.splitlines() if any(char.isalnum() for char in line)]
    return " / ".join(lines[-3:])
