"""Reads the text of one definition file as TOML, with the line of each key. Not what it means."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peritus.definitions.lines import Loc, index_lines
from peritus.definitions.problems import DefinitionError, Problem

FILE_BYTES_MAX = 8 * 1024 * 1024

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Source:
    """One file: where it is, how messages name it, and what it holds."""

    path: Path  # resolved
    shown: str
    content: Mapping[str, Any]
    lines: Mapping[Loc, int]
    size: int


def read_source(path: Path) -> Source:
    """Read and parse a file.

    Raises:
        DefinitionError: it cannot be read, is too large, or is not TOML in UTF-8.
    """
    shown = shown_path(path)
    data = _data(path, shown)
    try:
        text = data.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DefinitionError([Problem(shown, line, "not UTF-8")]) from None
    content, lines = _parse(shown, text)
    return Source(path.resolve(), shown, content, lines, len(data))


def empty_source(path: Path) -> Source:
    """What a file would be that is not there: its place, and nothing in it."""
    return Source(path.resolve(), shown_path(path), {}, {}, 0)


def shown_path(path: Path) -> str:
    """The path as messages name it: short where the reader stands, whole elsewhere."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _data(path: Path, shown: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DefinitionError([Problem(shown, 0, f"cannot be read: {reason}")]) from None
    if len(data) > FILE_BYTES_MAX:
        raise DefinitionError([Problem(shown, 0, f"larger than {FILE_BYTES_MAX} bytes")])
    return data


def _parse(shown: str, text: str) -> tuple[Mapping[str, Any], Mapping[Loc, int]]:
    try:
        return tomllib.loads(text), index_lines(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _TOML_PLACE.search(message)
        line, column = text.rstrip("\n").count("\n") + 1, 0
        if place is not None:
            message = message[: place.start()]
            if place.group(1) is not None:
                line, column = int(place.group(1)), int(place.group(2))
        raise DefinitionError([Problem(shown, line, f"not TOML: {message}", column)]) from None
    except RecursionError:
        raise DefinitionError([Problem(shown, 0, "nested too deep")]) from None
    except ValueError as error:  # a whole number of thousands of digits
        raise DefinitionError([Problem(shown, 0, f"not TOML: {error}")]) from None
