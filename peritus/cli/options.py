"""Options and arguments that several commands have. Not what they lead to."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The definition file; by default the nearest `perstack.toml`.",
        metavar="FILE",
    ),
]

Json = Annotated[
    bool | None,
    typer.Option(
        "--json/--no-json",
        help="One JSON value a line; the default when standard output is no terminal.",
    ),
]

EnvPath = Annotated[
    list[Path] | None,
    typer.Option(help="File with keys; may be given more than once.", metavar="FILE"),
]

Reasoning = Annotated[
    str | None, typer.Option(help="none, minimal, low, medium, high or a number of tokens.")
]

Workspace = Annotated[
    Path | None,
    typer.Option(help="Folder the expert works in; by default `workspace` in the project."),
]

Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--var",
        help="Value of a variable of the definition; may be given more than once.",
        metavar="NAME=VALUE",
    ),
]

Lenient = Annotated[
    bool, typer.Option("--lenient", help="Unknown keys in the definition are notices.")
]

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="The id of a run, or the beginning of only one.")
]


def wants_json(asked: bool | None) -> bool:  # noqa: FBT001 - the value of an option
    """Whether to print JSON: as asked, else when no person reads."""
    return not sys.stdout.isatty() if asked is None else asked
