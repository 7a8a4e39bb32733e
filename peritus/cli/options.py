"""Options and arguments that several commands have. Not what they lead to."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from domain.errors import Rejected

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


Input = Annotated[
    str | None,
    typer.Option(
        "--input", help="Data for an expert with typed input; `-` reads it.", metavar="JSON"
    ),
]

Continue = Annotated[
    bool, typer.Option("--continue", help="Go on with the expert's newest run, or --job's.")
]

ContinueJob = Annotated[
    str | None, typer.Option(help="Go on with the run of that job.", metavar="ID")
]

Answers = Annotated[
    bool,
    typer.Option(
        "--interactive-tool-call-result",
        "-i",
        help="QUERY answers the question that the run has asked.",
    ),
]

Job = Annotated[
    str | None, typer.Option("--job", "--job-id", help="The id of the job.", metavar="ID")
]

Model = Annotated[str | None, typer.Option(help="The model, above the definition.")]

Provider = Annotated[str | None, typer.Option(help="The provider, above the file.")]

Copy = Annotated[
    bool, typer.Option("--copy", help="Work in a copy of that folder: it stays as it is.")
]

Types = Annotated[
    str | None,
    typer.Option(
        "--filter", help="Print only these types of event, as JSON lines.", metavar="TYPES"
    ),
]

Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show arguments and results whole, and log more.")
]

Approval = Annotated[
    str | None,
    typer.Argument(metavar="[APPROVAL]", help="What it is about, as `peritus waiting` names it."),
]

Reason = Annotated[str, typer.Option(help="Why; kept in the log.", metavar="TEXT")]

Sure = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")]

NoWait = Annotated[
    bool, typer.Option("--no-wait", help="End when only a person can make the run go on.")
]


def refuse(message: str) -> NoReturn:
    """Say what does not go together on the command line, as bad usage."""
    raise typer.BadParameter(message)


def text_of(text: str, *, file: bool = False) -> str:
    """A text of the command line: `-` is read from standard input; with `file`, it names a file.

    Raises:
        Rejected: the file cannot be read.
    """
    if text == "-":
        return sys.stdin.read()
    if not file:
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected("no_such_file", f"{text!r} cannot be read: {error}") from None


def wants_json(asked: bool | None) -> bool:  # noqa: FBT001 - the value of an option
    """Whether to print JSON: as asked, else when no person reads."""
    return not sys.stdout.isatty() if asked is None else asked
