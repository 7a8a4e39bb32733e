"""Reads a `perstack.toml` and resolves it into the definition a job is pinned to. Not a cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack, cast

from domain.definition import Definition
from domain.limits import Limits, Reasoning
from peritus.definitions.experts import Around, read_expert
from peritus.definitions.include import Whole, read_whole
from peritus.definitions.limits import LimitOverrides, check_overrides, read_limits
from peritus.definitions.lock import Lock
from peritus.definitions.models import Defaults, Flags, check_flags, defaults_of
from peritus.definitions.pinning import lock_beside, pin_experts, tell_unlocked
from peritus.definitions.policy import Known, check_policy, read_policy
from peritus.definitions.prices import PriceList, Prices, read_price_file, read_prices
from peritus.definitions.problems import Problem
from peritus.definitions.profiles import Profiles, read_profiles
from peritus.definitions.report import Report
from peritus.definitions.schema import FileTable
from peritus.definitions.shipped import shipped_file
from peritus.definitions.sources import Source, empty_source, read_source
from peritus.definitions.topology import tell_cycles
from peritus.definitions.variables import read_variables

ENV_PATHS = (".env", ".env.local")


@dataclass(frozen=True, slots=True)
class Operator:
    """What whoever runs this process says about every definition."""

    prices_file: Path | None = None
    include_folders: Sequence[Path] = ()  # from which files may be included beside the first's own
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables that stand for settings and addresses of providers that no file says."""


@dataclass(frozen=True, slots=True)
class LoadedDefinition:
    """A definition and what was said on the way to it. The files in `env_paths` need not exist."""

    definition: Definition
    notes: tuple[Problem, ...]
    env_paths: tuple[Path, ...]
    files: tuple[Path, ...]  # that it was read from, the first one first
    lock: Lock | None = None  # beside the first file

    @property
    def notices(self) -> tuple[str, ...]:
        """The notes as `path:line: message`."""
        return tuple(str(note) for note in self.notes)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the caller asks for, above the file."""

    flags: Flags
    limits: Mapping[str, int]
    variables: Mapping[str, str]
    prices: PriceList
    environment: Mapping[str, str]
    variables_open: bool
    locked: bool


def load_definition(  # noqa: PLR0913 - one parameter an option
    path: Path,
    *,
    provider: str | None = None,
    model: str | None = None,
    reasoning: Reasoning | None = None,
    lenient: bool = False,
    variables: Mapping[str, str] | None = None,
    variables_open: bool = False,
    operator: Operator | None = None,
    wanted: str | None = None,
    locked: bool = True,
    **limits: Unpack[LimitOverrides],
) -> LoadedDefinition:
    """Read and resolve a definition file; what a caller gives goes above the file.

    The same files and arguments give the same digest wherever they are read, except for scripts of
    the provider `scripted`: their paths become absolute. With `lenient`, unknown keys are notices;
    with `variables_open`, so are required variables without a value, which stay in the texts.

    `wanted` is the expert that is to run: it may be one that is shipped, even without any file.
    The lockfile beside the file says what its MCP servers offer, unless `locked` is false.

    Raises:
        DefinitionError: a file cannot be read or is wrong; every violation has its line.
        Rejected: an argument is wrong by itself.
    """
    by = operator or Operator()
    prices: PriceList = {} if by.prices_file is None else read_price_file(by.prices_file)
    asked = _Asked(
        flags=Flags(provider, model, reasoning),
        limits=check_overrides(limits),
        variables=variables or {},
        prices=prices,
        environment=by.environment,
        variables_open=variables_open,
        locked=locked,
    )
    first = _first(path, wanted)
    report = Report(first.shown, lenient=lenient)
    whole = read_whole(report, first, by.include_folders, wanted)
    lock = lock_beside(report, first.path) if locked else None
    definition, env = _resolve(report, whole, first.path.parent, asked, lock)
    files = tuple(file for file in whole.files if file.is_file())
    return LoadedDefinition(definition, report.notes, env, files, lock)


def _first(path: Path, wanted: str | None) -> Source:
    """The first file; an empty one where none is there and none is needed."""
    needless = wanted is not None and shipped_file(wanted) is not None
    return empty_source(path) if needless and not path.exists() else read_source(path)


def read_env_paths(path: Path) -> tuple[Path, ...]:
    """The files with keys that a definition names, whatever else is wrong with it.

    Raises:
        DefinitionError: the file cannot be read.
    """
    source = read_source(path)
    named: object = source.content.get("envPath")
    items = cast("list[object]", named) if isinstance(named, list) else list(ENV_PATHS)
    return tuple(source.path.parent / name for name in items if isinstance(name, str))


def _resolve(
    report: Report, whole: Whole, folder: Path, asked: _Asked, lock: Lock | None
) -> tuple[Definition, tuple[Path, ...]]:
    """Go on after a wrong table wherever the rest can still be judged, then stop with all of it."""
    content = whole.content
    file = report.read(FileTable, content, ())
    top = _tables(content) if file is None else file
    limits = read_limits(report, top, asked.limits)
    defaults = _defaults(report, top, folder, asked, limits)
    variables = read_variables(
        report, top.variables, asked.variables, open_allowed=asked.variables_open
    )
    around = Around(
        experts=_experts(report, content),
        folders=whole.folders,
        defaults=None if file is None else defaults,
        variables=variables,
        flags=asked.flags,
    )
    read = {key: read_expert(report, key, around) for key in sorted(around.experts)}
    experts = pin_experts(report, read, lock)
    if asked.locked and lock is None:
        tell_unlocked(report, experts)
    policy = read_policy(report, content.get("policy"), ("policy",))
    known = Known(experts)
    check_policy(report, content.get("policy"), ("policy",), known)
    for key, raw in around.experts.items():
        own = cast("dict[str, object]", raw).get("policy") if isinstance(raw, dict) else None
        check_policy(report, own, ("experts", key, "policy"), known, key)
    tell_cycles(report, around.experts)
    variables.check_used()
    report.check()
    definition = Definition(
        experts={key: expert for key, expert in experts.items() if expert is not None},
        limits=limits or Limits(),
        policy=policy,
        variables=variables.values,
    )
    env = ENV_PATHS if top.env_path is None else top.env_path
    return definition, tuple(folder / name for name in env)


def _experts(report: Report, content: Mapping[str, object]) -> Mapping[str, object]:
    raw = content.get("experts")
    if raw is None or raw == {}:
        report.error(("experts",), "no expert is defined: add a table [experts.NAME]")
    return cast("dict[str, object]", raw) if isinstance(raw, dict) else {}


def _defaults(
    report: Report, file: FileTable, folder: Path, asked: _Asked, limits: Limits | None
) -> Defaults | None:
    """What the top of the file says; None if its providers are wrong and reported."""
    profiles = read_profiles(report, file, asked.environment)
    own = read_prices(report, file.prices, profiles)
    check_flags(asked.flags, profiles or Profiles())
    if profiles is None:
        return None
    needed = limits is not None and (limits.money_max, limits.money_soft) != (None, None)
    return defaults_of(file, folder, profiles, Prices(asked.prices, own, needed=needed))


def _tables(content: Mapping[str, object]) -> FileTable:
    """The top of a file as if it held only the tables that have to be read one by one."""
    names = ("provider", "providers", "limits", "prices", "variables")
    return FileTable.model_validate(
        {name: content[name] for name in names if isinstance(content.get(name), dict)}
    )
