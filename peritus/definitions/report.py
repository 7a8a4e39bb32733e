"""Reads tables one by one and collects everything wrong with them. Not what the tables mean."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from peritus.definitions.lines import Loc, line_of
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


class Report:
    """What was found in one file: problems that forbid its use, and notices that do not."""

    def __init__(self, path: str, lines: Mapping[Loc, int], *, lenient: bool) -> None:
        self._path = path
        self._lines = lines
        self._lenient = lenient
        self._problems: list[Problem] = []
        self._notices: list[Problem] = []

    @property
    def notices(self) -> tuple[str, ...]:
        """All notices as `path:line: message`, sorted by line, each once."""
        return tuple(notice.at(self._path) for notice in sorted(set(self._notices)))

    def error(self, loc: Loc, message: str) -> None:
        """Note a violation."""
        self._problems.append(Problem(line_of(self._lines, loc), message))

    def notice(self, loc: Loc, message: str) -> None:
        """Note something that has no effect, or another one than the writer may think."""
        self._notices.append(Problem(line_of(self._lines, loc), message))

    def check(self) -> None:
        """Stop here if anything is wrong.

        Raises:
            DefinitionError: there are problems; it holds all of them.
        """
        if self._problems:
            raise DefinitionError(self._path, self._problems)

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
                where = (*loc, *detail["loc"])
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
        if self._lenient:
            self.notice((*loc, key), f"{message} (ignored)")
        else:
            self.error((*loc, key), message)


def _sentence(detail: ErrorDetails, where: Loc) -> str:
    if detail["type"] == "missing":
        return f"{where[-1]!r} is missing in {place(where[:-1])}"
    if detail["type"] in _KINDS:
        return f"{place(where)} must be {_KINDS[detail['type']]}"
    text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{place(where)}: {text[:1].lower()}{text[1:]}"


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
