"""Reads a `perstack.toml` and resolves it into the definition a job is pinned to. Not a cache."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

from domain.definition import Definition, Expert
from domain.limits import Limits, ModelChoice, Reasoning
from peritus.definitions.limits import LimitOverrides, check_overrides, read_limits
from peritus.definitions.lines import Loc, index_lines
from peritus.definitions.models import Defaults, Flags, check_flags, choose, read_defaults
from peritus.definitions.problems import DefinitionError, Problem
from peritus.definitions.report import Report
from peritus.definitions.sandbox import read_sandbox
from peritus.definitions.schema import ExpertTable, FileTable
from peritus.definitions.skills import read_skills
from peritus.definitions.topology import check_delegates, check_key, check_tools

FILE_BYTES_MAX = 8 * 1024 * 1024
ENV_PATHS = (".env", ".env.local")

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class LoadedDefinition:
    """A definition and what was said on the way to it. The files in `env_paths` need not exist."""

    definition: Definition
    notices: tuple[str, ...]
    env_paths: tuple[Path, ...]


def load_definition(
    path: Path,
    *,
    provider: str | None = None,
    model: str | None = None,
    reasoning: Reasoning | None = None,
    lenient: bool = False,
    **limits: Unpack[LimitOverrides],
) -> LoadedDefinition:
    """Read and resolve a definition file; provider, model, reasoning and limits go above the file.

    The same file and arguments give the same digest wherever they are read, except for scripts of
    the provider `scripted`: their paths become absolute. With `lenient`, unknown keys are notices.

    Raises:
        DefinitionError: the file cannot be read or is wrong; every violation has its line.
        Rejected: an argument is wrong by itself.
    """
    flags = Flags(provider, model, reasoning)
    check_flags(flags)
    overrides = check_overrides(limits)
    shown = _shown(path)
    content, lines = _parse(shown, _text(path, shown))
    report = Report(shown, lines, lenient=lenient)
    definition, env_paths = _resolve(report, content, path.resolve().parent, flags, overrides)
    return LoadedDefinition(definition, report.notices, env_paths)


def _resolve(
    report: Report,
    content: Mapping[str, object],
    folder: Path,
    flags: Flags,
    overrides: Mapping[str, int],
) -> tuple[Definition, tuple[Path, ...]]:
    """Go on after a wrong table wherever the rest can still be judged, then stop with all of it."""
    file = report.read(FileTable, content, ())
    if file is None:
        nested = _tables(content)
        read_defaults(report, nested, folder)
        read_limits(report, nested, overrides)
        defaults, limits = None, None
    else:
        defaults = read_defaults(report, file, folder)
        limits = read_limits(report, file, overrides)
    raw = content.get("experts")
    raw_experts = cast("dict[str, object]", raw) if isinstance(raw, dict) else {}
    if raw is None or raw == {}:
        report.error(("experts",), "no expert is defined: add a table [experts.NAME]")
    experts = {
        key: _expert(report, key, raw_experts, defaults, flags) for key in sorted(raw_experts)
    }
    report.check()
    definition = Definition(
        experts={key: expert for key, expert in experts.items() if expert is not None},
        limits=limits or Limits(),
    )
    env = ENV_PATHS if file is None or file.env_path is None else file.env_path
    return definition, tuple(folder / name for name in env)


def _tables(content: Mapping[str, object]) -> FileTable:
    """The top of a file as if it held only the tables that have to be read one by one."""
    names = ("provider", "limits")
    return FileTable.model_validate(
        {name: content[name] for name in names if isinstance(content.get(name), dict)}
    )


def _expert(
    report: Report,
    key: str,
    raw_experts: Mapping[str, object],
    defaults: Defaults | None,
    flags: Flags,
) -> Expert | None:
    loc: Loc = ("experts", key)
    check_key(report, key)
    raw = raw_experts[key]
    table = report.read(ExpertTable, raw, loc)
    skills, sandbox = None, None
    if isinstance(raw, dict):
        content = cast("dict[str, object]", raw)
        skills = read_skills(report, content.get("skills"), (*loc, "skills"))
        sandbox = read_sandbox(report, content, skills, loc)
    check_delegates(report, key, raw_experts, skills or {})
    check_tools(report, key, skills or {})
    choice: ModelChoice | None = None
    if table is not None and defaults is not None:
        choice = choose(report, key, table, defaults, flags)
    if table is None or skills is None or sandbox is None or choice is None:
        return None
    return Expert(
        key=key,
        version=table.version,
        description=table.description,
        instruction=table.instruction,
        delegates=tuple(table.delegates),
        tags=tuple(table.tags),
        skills=skills,
        model=choice,
        sandbox=sandbox,
    )


def _text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DefinitionError(shown, [Problem(0, f"cannot be read: {reason}")]) from None
    if len(data) > FILE_BYTES_MAX:
        raise DefinitionError(shown, [Problem(0, f"larger than {FILE_BYTES_MAX} bytes")])
    try:
        return data.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DefinitionError(shown, [Problem(line, "not UTF-8")]) from None


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
        problem = Problem(line, f"not TOML: {message}", column)
        raise DefinitionError(shown, [problem]) from None
    except RecursionError:
        raise DefinitionError(shown, [Problem(0, "nested too deep")]) from None


def _shown(path: Path) -> str:
    """The path as messages name it: short where the reader stands, whole elsewhere."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
