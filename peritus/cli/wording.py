"""How calls, outcomes and numbers read in a line. Not how lines are laid out or coloured."""

from collections.abc import Sequence
from typing import cast

from commands.wording import call_line, clean, list_in, object_in, plain, short
from domain.content import text_of
from domain.events import ToolCallEnded
from domain.limits import Usage

OUTCOME_CHARS_MAX = 160
FAILURE_CHARS_MAX = 600

__all__ = ["call_line", "clean", "columns", "duration", "outcome_line", "short", "usage_line"]


def outcome_line(ended: ToolCallEnded) -> str:
    """What came of a call: the telling part of what the model reads."""
    text = text_of(ended.content)
    values = object_in(text)
    if values is None:
        return short(text, OUTCOME_CHARS_MAX)
    if isinstance(output := values.get("output"), str):
        code = values.get("exitCode")
        end = "timed out" if values.get("timedOut") else f"exit {code}" if code else ""
        said = short(_tail(output), FAILURE_CHARS_MAX if ended.is_error else OUTCOME_CHARS_MAX)
        return ": ".join(part for part in (end, said) if part)
    if isinstance(message := values.get("message"), str):
        return short(message, FAILURE_CHARS_MAX)
    if items := list_in(values.get("items")):
        names = ", ".join(_name(item) for item in items)
        return short(f"{len(items)} entries: {names}", OUTCOME_CHARS_MAX)
    if isinstance(content := values.get("content"), str):
        return f"{len(content.splitlines())} lines"
    facts = (f"{name} {plain(value)}" for name, value in values.items() if name != "path")
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


def _name(item: object) -> str:
    if isinstance(item, dict):
        return str(cast("dict[str, object]", item).get("name", "?"))
    return str(item)


def _tail(output: str) -> str:
    """The last lines of an output: where programs say what went wrong."""
    lines = [line for line in output.splitlines() if any(char.isalnum() for char in line)]
    return " / ".join(lines[-3:])
