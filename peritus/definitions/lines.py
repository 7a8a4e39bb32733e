"""The line of each key and list item of a TOML text. Not a parser: `tomllib` reads it first."""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")

Loc = tuple[str | int, ...]
"""A place in a document: keys of tables, and indexes of lists."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}#\n]+")
_SPACE = re.compile(r"[ \t]*")
_FILLER = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = re.compile(r"'[^']*'")
# The end of a multi-line string may have one or two quotes of its content right before it.
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL)
_STRINGS = (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL)


def index_lines(text: str) -> Mapping[Loc, int]:
    """The line, counted from 1, of every key and list item of a text that `tomllib` accepts."""
    return _Scanner(text.replace("\r\n", "\n")).scan()


def nearest(places: Mapping[Loc, V], loc: Loc) -> V | None:
    """What is known of a place, or of the nearest place around it; None if of none."""
    for length in range(len(loc), 0, -1):
        found = places.get(loc[:length])
        if found is not None:
            return found
    return None


def line_of(lines: Mapping[Loc, int], loc: Loc) -> int:
    """The line of a place, or of the nearest place around it that is in the text; 0 if none is."""
    return nearest(lines, loc) or 0


class _Scanner:
    """Walks valid TOML once; every method leaves `_at` behind what it has read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[Loc, int] = {}
        self._arrays: dict[Loc, int] = {}  # index of the last table in each array of tables

    def scan(self) -> Mapping[Loc, int]:
        table: Loc = ()
        self._skip(_FILLER)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_FILLER)
        return self._lines

    def _header(self) -> Loc:
        line = self._line()
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        table: Loc = ()
        parts = self._key()
        self._at += brackets
        for part in parts[:-1]:
            table = self._inside((*table, part), line)
        table = (*table, parts[-1])
        if brackets == 1:
            table = self._inside(table, line)
        else:
            self._lines.setdefault(table, line)
            self._arrays[table] = self._arrays.get(table, -1) + 1
            table = (*table, self._arrays[table])
        self._lines[table] = line  # a header of its own beats the line of a child's header
        return table

    def _inside(self, table: Loc, line: int) -> Loc:
        self._lines.setdefault(table, line)
        return (*table, self._arrays[table]) if table in self._arrays else table

    def _pair(self, table: Loc) -> None:
        line = self._line()
        place = table
        for part in self._key():
            place = (*place, part)
            self._lines.setdefault(place, line)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(place)

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = self._text[self._at] in "\"'"
            raw = self._read(_string_pattern(self._text[self._at]) if quoted else _BARE_KEY)
            parts.append(str(tomllib.loads(f"key = {raw}")["key"]) if quoted else raw)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _value(self, place: Loc) -> None:
        start = self._text[self._at]
        if start == "[":
            self._list(place)
        elif start == "{":
            self._inline_table(place)
        elif start in "\"'":
            for pattern in _STRINGS:
                if (found := pattern.match(self._text, self._at)) is not None:
                    self._at = found.end()
                    return
        else:
            self._read(_BARE_VALUE)

    def _list(self, place: Loc) -> None:
        index = 0
        self._at += 1
        self._skip(_FILLER)
        while self._text[self._at] != "]":
            item = (*place, index)
            self._lines[item] = self._line()
            self._value(item)
            index += 1
            self._separator()
        self._at += 1

    def _inline_table(self, place: Loc) -> None:
        self._at += 1
        self._skip(_FILLER)
        while self._text[self._at] != "}":
            self._pair(place)
            self._separator()
        self._at += 1

    def _separator(self) -> None:
        self._skip(_FILLER)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_FILLER)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        self._at = self._at if found is None else found.end()

    def _read(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None, f"not TOML at offset {self._at}"  # noqa: S101 - tomllib read it
        self._at = found.end()
        return found.group()

    def _line(self) -> int:
        return bisect_right(self._ends, self._at - 1) + 1


def _string_pattern(quote: str) -> re.Pattern[str]:
    return _BASIC if quote == '"' else _LITERAL
