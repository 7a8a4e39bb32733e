"""Puts the files that a definition includes together into one table. Not what the table means."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from peritus.definitions.lines import Loc, line_of
from peritus.definitions.problems import DefinitionError
from peritus.definitions.report import Place, Report, did_you_mean, place
from peritus.definitions.schema import FileTable
from peritus.definitions.shipped import shipped_file
from peritus.definitions.sources import Source, read_source, shown_path

DEPTH_MAX = 8
FILES_MAX = 64
BYTES_MAX = 32 * 1024 * 1024  # of all files together

BY_NAME = ("experts", "prices", "variables")
"""Tables whose entries may come from any file; a name may be defined once."""

INCLUDED = frozenset({"include", "policy", *BY_NAME})
"""What an included file may hold. Providers, limits and defaults are the first file's alone: they
decide where prompts and keys go and what may be spent."""


@dataclass(slots=True)
class Whole:
    """A definition with all it includes."""

    content: dict[str, Any] = field(default_factory=dict[str, Any])
    folders: dict[str, Path] = field(default_factory=dict[str, Path])  # by expert
    files: list[Path] = field(default_factory=list[Path])


def read_whole(
    report: Report, first: Source, folders: Sequence[Path] = (), wanted: str | None = None
) -> Whole:
    """The first file and what it includes, from its folder and below, or from `folders`.

    Where each part was written is noted in the report, and so is what is wrong with an include. An
    expert that is `wanted`, that none of them defines and that is shipped, is added with its team.
    """
    reader = _Reader(report, first, tuple(folder.resolve() for folder in folders))
    reader.add(first, Place(first.shown, 0), ())
    shipped = None if wanted is None else shipped_file(wanted)
    defined: object = reader.whole.content.get("experts")
    if shipped is not None and not (isinstance(defined, dict) and wanted in defined):
        reader.add(read_source(shipped), Place(first.shown, 0), (first.path,))
    return reader.whole


class _Reader:
    """Adds one file after the other; what is wrong with one does not keep out the others."""

    def __init__(self, report: Report, first: Source, folders: Sequence[Path]) -> None:
        self.whole = Whole()
        self._report = report
        self._first = first
        self._folders = (first.path.parent, *folders)
        self._included: dict[Path, Place] = {}
        self._room = BYTES_MAX
        self._groups: Mapping[Loc, Sequence[Loc]] = {}  # of the file that is being merged

    def add(self, source: Source, by: Place, above: tuple[Path, ...]) -> None:
        """Add a file that was named at `by`, below the files `above`."""
        self._included[source.path] = by
        self._room -= source.size
        self.whole.files.append(source.path)
        self._merge(source, first=not above)
        inside = (*above, source.path)
        for where, entry in self._entries(source):
            target = self._target(source, where, entry, inside)
            if target is None:
                continue
            try:
                found = read_source(target)
            except DefinitionError as error:
                self._report.add(*error.problems)
                self._included[target] = where
                continue
            if found.size > self._room:
                message = f"{entry!r} is too much: all files together may have {BYTES_MAX} bytes"
                self._report.error_at(where, message)
                continue
            self.add(found, where, inside)

    def _entries(self, source: Source) -> Iterator[tuple[Place, str]]:
        raw = source.content.get("include", [])
        entries = cast("list[object]", raw) if isinstance(raw, list) else [raw]
        for index, entry in enumerate(entries):
            where = Place(source.shown, line_of(source.lines, ("include", index)))
            if isinstance(entry, str) and entry and "\0" not in entry:
                yield where, entry
            else:
                self._report.error_at(where, "include must be a list of paths of files")

    def _target(
        self, source: Source, where: Place, entry: str, inside: tuple[Path, ...]
    ) -> Path | None:
        """The file that is meant; None if it must not be included and that is reported."""
        try:
            target = (source.path.parent / entry).resolve()
            problem = self._forbidden(entry, target, inside)
        except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle
            self._report.error_at(where, f"{entry!r} cannot be read: {error}")
            return None
        if problem is not None:
            self._report.error_at(where, problem)
        return target if problem is None else None

    def _forbidden(self, entry: str, target: Path, inside: tuple[Path, ...]) -> str | None:
        if not any(target.is_relative_to(folder) for folder in self._folders):
            return (
                f"{entry!r} is outside of {str(self._first.path.parent)!r}, the folder of the "
                f"first file: only an operator can open another folder, with PERITUS_INCLUDE_DIRS"
            )
        if target in inside:
            return f"{entry!r} includes itself: {self._circle(target, inside)}"
        if target in self._included:
            return f"{entry!r} is included twice: here and at {self._included[target]}"
        if len(inside) > DEPTH_MAX:
            return f"{entry!r} is below {DEPTH_MAX} other includes, and may be below no more"
        if len(self._included) >= FILES_MAX:
            return f"{entry!r} is one too many: a definition may have {FILES_MAX} files"
        if not target.is_file():
            what = "is not a file" if target.exists() else "is not there"
            return f"{shown_path(target)!r} {what}"
        return None

    def _circle(self, target: Path, inside: tuple[Path, ...]) -> str:
        """The places that lead from a file back to it; the last one is where it is reported."""
        first = inside.index(target)
        names = [str(self._included[path]) for path in inside[first + 1 :]]
        return " and ".join([*names, "here"]) if names else "here"

    def _merge(self, source: Source, *, first: bool) -> None:
        self._groups = _by_beginning(source.lines)
        for key, value in source.content.items():
            if not first and key not in INCLUDED:
                self._misplaced(source, key)
            elif key in BY_NAME and isinstance(value, dict):
                self._merge_names(source, key, cast("dict[str, Any]", value))
            elif key == "policy" and isinstance(value, list):
                self._merge_policy(source, cast("list[object]", value))
            elif first:
                self.whole.content[key] = value
                self._note(source, (key,), (key,))
            elif key != "include":
                where = Place(source.shown, line_of(source.lines, (key,)))
                self._report.error_at(
                    where, f"{key} must be a {'table' if key in BY_NAME else 'list'}"
                )

    def _misplaced(self, source: Source, key: str) -> None:
        where = Place(source.shown, line_of(source.lines, (key,)))
        if key in {str(known.alias) for known in FileTable.model_fields.values()}:
            may = ", ".join(sorted(INCLUDED))
            message = (
                f"{key!r} has no place in an included file, which may hold {may}: "
                f"write it in {self._first.shown}"
            )
            self._report.error_at(where, message)
        else:
            hint = did_you_mean(key, INCLUDED)
            self._report.unknown(where, f"unknown key {key!r} at the top of the file{hint}")

    def _merge_names(self, source: Source, key: str, table: Mapping[str, Any]) -> None:
        merged = self.whole.content.setdefault(key, {})
        self._note_alone(source, (key,))
        if not isinstance(merged, dict):
            return  # the first file has something else there, which is reported
        entries = cast("dict[str, Any]", merged)
        for name, value in table.items():
            loc: Loc = (key, name)
            if name in entries:
                where = Place(source.shown, line_of(source.lines, loc))
                other = self._report.places[loc]
                message = f"{place(loc)} is defined twice: here and at {other}"
                self._report.error_at(where, message)
                continue
            entries[name] = value
            self._note(source, loc, loc)
            if key == "experts":
                self.whole.folders[name] = source.path.parent

    def _merge_policy(self, source: Source, rules: Sequence[object]) -> None:
        merged = self.whole.content.setdefault("policy", [])
        self._note_alone(source, ("policy",))
        if not isinstance(merged, list):
            return
        entries = cast("list[object]", merged)
        for index, rule in enumerate(rules):
            self._note(source, ("policy", index), ("policy", len(entries)))
            entries.append(rule)

    def _note(self, source: Source, loc: Loc, to: Loc) -> None:
        """Note where everything at and below a place was written, under its place in the whole."""
        for found in self._groups.get(loc, ()):
            where = Place(source.shown, source.lines[found])
            self._report.places.setdefault((*to, *found[len(loc) :]), where)

    def _note_alone(self, source: Source, loc: Loc) -> None:
        if loc in source.lines:
            self._report.places.setdefault(loc, Place(source.shown, source.lines[loc]))


def _by_beginning(lines: Mapping[Loc, int]) -> dict[Loc, list[Loc]]:
    """All places by their first part, and by their first two."""
    groups: dict[Loc, list[Loc]] = {}
    for loc in lines:
        groups.setdefault(loc[:1], []).append(loc)
        if len(loc) > 1:
            groups.setdefault(loc[:2], []).append(loc)
    return groups
