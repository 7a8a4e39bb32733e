"""`peritus lock`: what MCP servers offer, kept beside a definition, or compared. No run."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from domain.definition import Definition
from domain.mcp import Catalogue
from peritus.catalogues import catalogues_of
from peritus.cli import options
from peritus.cli.asking_servers import asking_servers
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, anywhere
from peritus.cli.wording import clean
from peritus.definitions import LoadedDefinition, load_definition
from peritus.definitions.lock import Lock, mcp_skills
from peritus.definitions.lock_file import lock_text, read_lock
from peritus.definitions.pinning import lock_path
from peritus.definitions.problems import DefinitionError, Problem
from peritus.definitions.sources import shown_path
from peritus.ids import now_ms
from peritus.lock_check import differences
from peritus.project import need_config, operator_of

EPILOG = (
    "Exit codes: 0 when the lock is written, or is what servers offer; 1 when it is not; "
    "2 when the definition cannot be used; 6 when a server cannot be; 7 when one is away."
)

Found = Mapping[tuple[str, str], Catalogue]


def command(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: tell what differs from the lock.")
    ] = False,
    config: options.Config = None,
    env_path: options.EnvPath = None,
    lenient: options.Lenient = False,
) -> None:
    """Ask every MCP server of a definition what it offers, and write that beside the definition.

    Runs then start without asking, and are pinned to it: a server that says something else later
    is not used. Keep `perstack.lock` with the definition, and look at what changes in it.
    """
    place = anywhere(config)
    path = need_config(place.project)
    loaded = _load(place, path, lenient=lenient, locked=False)
    for text in loaded.notices:
        notice(text)
    target = lock_path(path)
    if not any(True for _ in mcp_skills(loaded.definition)) and not target.exists():
        notice(f"{shown_path(path)} has no MCP skills: there is nothing to lock")
        return
    found = run_async(_found(place, loaded, env_path))
    if check:
        raise typer.Exit(_check(target, loaded.definition, found))
    _write(path, target, loaded.definition, found)
    _load(place, path, lenient=lenient, locked=True)  # what is picked has to be there


def _load(place: Place, path: Path, *, lenient: bool, locked: bool) -> LoadedDefinition:
    return load_definition(
        path,
        lenient=lenient,
        variables_open=True,
        operator=operator_of(place.settings),
        locked=locked,
    )


async def _found(place: Place, loaded: LoadedDefinition, env_path: list[Path] | None) -> Found:
    files = tuple(env_path) if env_path else loaded.env_paths
    async with asking_servers(place, loaded.definition, files) as discover:
        return await catalogues_of(loaded.definition, discover)


def _check(target: Path, definition: Definition, found: Found) -> Exit:
    """Say what differs.

    Raises:
        DefinitionError: there is no lock, or it cannot be read.
    """
    lock = read_lock(target)
    if lock is None:
        raise DefinitionError([Problem(shown_path(target), 0, "is not there: run `peritus lock`")])
    told = list(differences(lock, definition, found))
    if not told:
        typer.echo(clean(f"✓ {lock.shown} is what its servers offer"))
        return Exit.COMPLETED
    for line in told:
        typer.echo(clean(f"✗ {line}"))
    notice(f"{lock.shown} is not what its servers offer: run `peritus lock` if that is meant")
    return Exit.WRONG


def _write(path: Path, target: Path, definition: Definition, found: Found) -> None:
    """Write the lock, unless nothing but the time would change; say what it holds."""
    text = lock_text(definition, found, path.name, now_ms())
    old = _known(target)
    changed = [] if old is None else list(differences(old, definition, found))
    if old is None or _but_time(target.read_text(encoding="utf-8")) != _but_time(text):
        fresh = target.with_name(f"{target.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(target)
        done = "is written"
    else:
        done = "is as it was"
    for line in (*(f"~ {line}" for line in changed), *_summary(found)):
        typer.echo(clean(line))
    notice(f"{shown_path(target)} {done}")


def _known(target: Path) -> Lock | None:
    try:
        return read_lock(target)
    except DefinitionError:
        return None  # it is replaced


def _but_time(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("generatedAt = ")]


def _summary(found: Found) -> Iterator[str]:
    for (key, name), catalogue in sorted(found.items()):
        server = f"{catalogue.server} {catalogue.version}".strip() or "its server"
        count = len(catalogue.tools)
        of = f" of package version {catalogue.package}" if catalogue.package else ""
        yield f"✓ {key}, {name}: {server}{of}, {count} {'tool' if count == 1 else 'tools'}"
