"""`peritus validate`: what is right and wrong with a definition, all at once. Not a run of it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer

from domain.definition import Definition
from domain.limits import ModelChoice, Price
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.observing import Place, anywhere
from peritus.cli.wording import clean
from peritus.definitions import (
    DefinitionError,
    LoadedDefinition,
    Problem,
    load_definition,
    parse_variables,
)
from peritus.definitions.amounts import usd
from peritus.definitions.lock import mcp_skills
from peritus.definitions.sources import shown_path
from peritus.project import need_config, operator_of

EPILOG = "Exit codes: 0 when the definition can be used, 2 when it cannot."


def command(
    *,
    config: options.Config = None,
    variables: options.Variables = None,
    lenient: options.Lenient = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value.")] = False,
) -> None:
    """Check a definition and all it includes; every problem is told at once, with its line.

    Nothing is started, and no key is needed. Variables without a value are notices.
    """
    place = anywhere(config)
    path = need_config(place.project)
    try:
        found: LoadedDefinition | DefinitionError = _load(place, path, variables, lenient=lenient)
    except DefinitionError as error:
        found = error
    if as_json:
        typer.echo(orjson.dumps(_as_json(path, found), option=orjson.OPT_INDENT_2))
    else:
        for line in _as_text(path, found):
            typer.echo(clean(line))
    raise typer.Exit(Exit.USAGE if isinstance(found, DefinitionError) else Exit.COMPLETED)


def _load(
    place: Place, path: Path, variables: list[str] | None, *, lenient: bool
) -> LoadedDefinition:
    return load_definition(
        path,
        lenient=lenient,
        variables=parse_variables(variables),
        variables_open=True,
        operator=operator_of(place.settings),
    )


def _as_json(path: Path, found: LoadedDefinition | DefinitionError) -> dict[str, object]:
    said: dict[str, object] = {
        "file": str(path),
        "valid": isinstance(found, LoadedDefinition),
        "problems": [] if isinstance(found, LoadedDefinition) else _entries(found.problems),
        "notices": _entries(found.notes),
    }
    if isinstance(found, LoadedDefinition):
        said["files"] = [str(file) for file in found.files]
        said["experts"] = list(found.definition.experts)
        said["digest"] = found.definition.digest()
        said["lock"] = None if found.lock is None else found.lock.shown
        said["servers"] = [
            {"expert": key, "skill": name, "known": skill.catalogue is not None}
            for key, name, skill in mcp_skills(found.definition)
        ]
    return said


def _entries(problems: Iterable[Problem]) -> list[dict[str, object]]:
    return [
        {"file": one.path, "line": one.line, "column": one.column, "message": one.message}
        for one in problems
    ]


def _as_text(path: Path, found: LoadedDefinition | DefinitionError) -> Iterator[str]:
    yield from (f"· {note}" for note in found.notes)
    if isinstance(found, DefinitionError):
        yield from (f"✗ {problem}" for problem in found.problems)
        count = len(found.problems)
        yield f"✗ {shown_path(path)} cannot be used: {_number(count, 'problem')}"
        return
    definition = found.definition
    parts = [
        _number(len(definition.experts), "expert"),
        _number(len(found.files), "file"),
        *([_number(len(definition.policy), "rule")] if definition.policy else []),
    ]
    yield f"✓ {shown_path(path)}: {', '.join(parts)}"
    yield from (f"✓ {line}" for line in _models(definition))
    yield from (f"✓ {line}" for line in _servers(found))


def _models(definition: Definition) -> Iterator[str]:
    """Each model once, with what it costs and who is answered by it."""
    used: dict[tuple[str, str], tuple[ModelChoice, list[str]]] = {}
    for key, expert in definition.experts.items():
        for choice in (expert.model, *expert.fallbacks):
            who = used.setdefault((choice.provider, choice.model), (choice, []))[1]
            if key not in who:
                who.append(key)
    for (provider, model), (choice, keys) in sorted(used.items()):
        yield f"{provider} {model}, {_cost(choice.price)}: {_some(keys)}"


def _servers(found: LoadedDefinition) -> Iterator[str]:
    """Each MCP server, with what is known of it."""
    for key, name, skill in mcp_skills(found.definition):
        catalogue = skill.catalogue
        if catalogue is None:
            yield f"{key}, {name}: asked for its tools at each start"
            continue
        server = f"{catalogue.server} {catalogue.version}".strip() or "its server"
        lock = "" if found.lock is None else f", as {found.lock.shown} says"
        yield f"{key}, {name}: {server}, {_number(len(catalogue.tools), 'tool')}{lock}"


def _cost(price: Price | None) -> str:
    if price is None:
        return "price not known"
    if not price.worst(1_000_000, 1_000_000):
        return "free of charge"
    day = f" ({price.as_of})" if price.as_of else ""
    return f"{usd(price.input)} USD in, {usd(price.output)} out per million tokens{day}"


def _some(keys: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return f"{', '.join(keys[:shown])}{more}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
