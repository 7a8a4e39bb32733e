"""Reads tables one by one and collects everything wrong with them. Not what the tables mean."""

import difflib
import json
import re
from collections.abc import Iterable
from typing import NamedTuple, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from peritus.definitions.lines import Loc, nearest
from peritus.definitions.problems import DefinitionError, Problem
from peritus.definitions.schema import FileTable, NotActedOn, Table

T = TypeVar("T", bound=Table)

_KINDS = {
    "dict_type": "a table",
    "list_type": "a list",
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "float_type": "a number",
}
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def place(loc: Loc) -> str:
    """A place as TOML spells it: `experts."@a/b".tags[2]`."""
    spelled = ""
    for part in loc:
        if isinstance(part, int):
            spelled += f"[{part}]"
        else:
            key = part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            spelled += f".{key}" if spelled else key
    return spelled


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` if a known word is near, else an empty text."""
    by_plain = {_plain(name): name for name in sorted(known)}
    near = difflib.get_close_matches(_plain(word), by_plain, n=1, cutoff=0.7)
    return f"; did you mean {by_plain[near[0]]!r}?" if near else ""


class Place(NamedTuple):
    """A line of a file, as messages name it; line 0 is the file as a whole."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


class Report:
    """What was found in one definition: problems that forbid its use, and notices that do not."""

    def __init__(self, path: str, *, lenient: bool = False) -> None:
        """Of a definition that begins in the file `path`; its places are added as it is read."""
        self.places: dict[Loc, Place] = {}
        self._paths = [path]  # in the order they were read
        self._lenient = lenient
        self._problems: dict[Problem, None] = {}
        self._notes: dict[Problem, None] = {}

    @property
    def notes(self) -> tuple[Problem, ...]:
        """All notices by file and line, each once."""
        return tuple(sorted(self._notes, key=self._order))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All violations by file and line, each once."""
        return tuple(sorted(self._problems, key=self._order))

    def error(self, loc: Loc, message: str) -> None:
        """Note a violation."""
        self.error_at(self._place(loc), message)

    def error_at(self, where: Place, message: str) -> None:
        """Note a violation at a line of a file."""
        self.add(Problem(where.path, where.line, message))

    def add(self, *problems: Problem) -> None:
        """Note violations that were found elsewhere."""
        self._problems.update(dict.fromkeys(problems))
        self._remember(problem.path for problem in problems)

    def notice(self, loc: Loc, message: str) -> None:
        """Note something that has no effect, or another one than the writer may think."""
        self.notice_at(self._place(loc), message)

    def notice_at(self, where: Place, message: str) -> None:
        """Note such a thing at a line of a file."""
        self._notes[Problem(where.path, where.line, message)] = None
        self._remember([where.path])

    def unknown(self, where: Place, message: str) -> None:
        """Note a key that nobody knows: a violation, or a notice in a lenient report."""
        if self._lenient:
            self.notice_at(where, f"{message} (ignored)")
        else:
            self.error_at(where, message)

    def check(self) -> None:
        """Stop here if anything is wrong.

        Raises:
            DefinitionError: there are problems; it holds all of them.
        """
        if self._problems:
            raise DefinitionError(self.problems, self.notes)

    def read(self, table: type[T], raw: object, loc: Loc) -> T | None:
        """The table at a place, or None if something in it is wrong and reported."""
        if not isinstance(raw, dict):
            self.error(loc, f"{place(loc)} must be a table")
            return None
        content = cast("dict[str, object]", raw)
        known = {str(field.alias): field for field in table.model_fields.values()}
        for key in content:
            field = known.get(key)
            if field is None:
                self._unknown(table, key, loc, known)
                continue
            for mark in field.metadata:
                if isinstance(mark, NotActedOn):
                    self.notice((*loc, key), f"{key!r} has no effect: {mark.instead}")
        try:
            return table.model_validate({key: content[key] for key in content if key in known})
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                # pydantic says of a wrong key of a mapping that it is the key
                where = (*loc, *(part for part in detail["loc"] if part != "[key]"))
                self.error(where, _sentence(detail, where))
            return None

    def _unknown(self, table: type[Table], key: str, loc: Loc, known: Iterable[str]) -> None:
        top = {str(field.alias) for field in FileTable.model_fields.values()}
        if key in top and table is not FileTable:
            hint = "; it belongs to the top of the file, before the first [table]"
        else:
            hint = did_you_mean(key, known)
        where = f"in {place(loc)}" if loc else "at the top of the file"
        message = f"unknown key {key!r} {where}{hint}"
        self.unknown(self._place((*loc, key)), message)

    def _place(self, loc: Loc) -> Place:
        return nearest(self.places, loc) or Place(self._paths[0], 0)

    def _remember(self, paths: Iterable[str]) -> None:
        self._paths.extend(path for path in dict.fromkeys(paths) if path not in self._paths)

    def _order(self, problem: Problem) -> tuple[int, int, str]:
        return self._paths.index(problem.path), problem.line, problem.message


def _sentence(detail: ErrorDetails, where: Loc) -> str:
    if detail["type"] == "missing":
        return f"{where[-1]!r} is missing in {place(where[:-1])}"
    if detail["type"] in _KINDS:
        return f"{place(where)} must be {_KINDS[detail['type']]}"
    text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{place(where)}: {text[:1].lower()}{text[1:]}"


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
