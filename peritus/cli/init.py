"""`peritus init`: an example to start from, written into a folder. Not a run of it."""

from pathlib import Path
from typing import Annotated

import typer

from domain.errors import Rejected, Unavailable
from peritus.definitions.report import did_you_mean

EPILOG = "Exit codes: 0 when the example is written, 2 when a file of it is there already."

TEMPLATES = Path(__file__).with_name("templates")
FILES = ("perstack.toml", "script.toml", "README.md")
FIRST = {"hello": 'hello "Greet Ada"', "team": 'editor "Two sentences about tea"'}
"""The templates, and what to ask of each first."""


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to; by default the working directory.")
    ] = Path(),
    *,
    template: Annotated[
        str,
        typer.Option(
            help="hello: one expert. team: a coordinator and two delegates.", metavar="NAME"
        ),
    ] = "hello",
) -> None:
    """Write a definition, a script that plays its model, and a README.

    The script makes it run without a key. Nothing that is there is written over.
    """
    if template not in FIRST:
        hint = did_you_mean(template, FIRST) or f"; there are {', '.join(FIRST)}"
        raise Rejected("unknown_template", f"no template {template!r}{hint}")
    _write(folder, TEMPLATES / template)
    shown = "" if folder == Path() else f"cd {folder} && "
    typer.echo(f"{', '.join(FILES)} are in {folder.resolve()}. It runs without a key:")
    typer.echo(f"    {shown}peritus run {FIRST[template]} --provider scripted --model script.toml")


def _write(folder: Path, source: Path) -> None:
    """All files or none."""
    there = [name for name in FILES if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        message = f"{', '.join(there)} in {folder.resolve()}: nothing is written over"
        raise Rejected("exists", f"there is {message}; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write((source / name).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"{error.filename or folder} cannot be written: {reason}"
        raise Unavailable(message) from None
