"""The table of commands, and the one place where errors become a line and an exit code."""

import gc
import importlib
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import typer

NAME = "peritus"


class Entry(NamedTuple):
    """A command: the module that defines a function `command`, and its line in the overview."""

    module: str
    summary: str


COMMANDS: Mapping[str, Entry] = {
    "init": Entry("init", "Write an example to start from, which runs without a key."),
    "validate": Entry("validate", "Check a definition: all that is wrong, with its lines."),
    "experts": Entry("experts", "Show which expert may call which, with models and skills."),
    "lock": Entry("lock", "Ask MCP servers what they offer, and keep it; or compare."),
    "tools": Entry("tools", "Show the tools of an expert, or try one by hand."),
    "run": Entry("run", "Run an expert, or go on with its newest run; show it live."),
    "start": Entry("start", "Choose an expert and say what to do, then see it run."),
    "runs": Entry("runs", "List runs, newest first."),
    "show": Entry("show", "Show a run: where it is, what it used, what it answered."),
    "events": Entry("events", "Print the events of a run."),
    "log": Entry("log", "Look through the log of a job, or see it summed up."),
    "resume": Entry("resume", "Take an open run up again, or let a paused one go on."),
    "checkpoints": Entry("checkpoints", "List the ends of a run's steps; show one, compare two."),
    "fork": Entry("fork", "Go on from a checkpoint in a run of its own, with edits."),
    "waiting": Entry("waiting", "Show what waits for a person: questions, approvals, budgets."),
    "answer": Entry("answer", "Answer a question that an expert has asked."),
    "approve": Entry("approve", "Let a call that waits run, as it is or edited."),
    "deny": Entry("deny", "Keep a call that waits from running; the expert reads why."),
    "steer": Entry("steer", "Say something to a run that is at work."),
    "pause": Entry("pause", "Let a run begin nothing new until it is resumed."),
    "policy": Entry("policy", "Show a run's rules about calls, add one, or take them back."),
    "tree": Entry("tree", "Show all runs of a job as a tree, and what each is at."),
    "cancel": Entry("cancel", "Ask a run, and everything under it, to stop."),
    "replay": Entry("replay", "Check that every request of a run follows from the log."),
    "files": Entry("files", "Look at a run's workspace, take files out, compare steps."),
    "sandbox": Entry("sandbox", "See what sandboxes hold and keep here; clear up; a shell."),
    "serve": Entry("serve", "Run services until told to stop."),
    "projections": Entry("projections", "See how far the views are; make them anew."),
    "mcp": Entry("mcp", "Offer experts as tools to MCP clients."),
    "doctor": Entry("doctor", "Check what Peritus needs on this machine."),
    "secrets": Entry("secrets", "Keep, list, remove and check secrets; never show one."),
    "keys": Entry("keys", "Make, list and take back API keys of the gateway."),
    "delete": Entry("delete", "Delete jobs that are at rest, for good."),
    "export": Entry("export", "Write a job into one file, with all it refers to."),
    "import": Entry("import_job", "Bring an exported job here."),
    "webhooks": Entry("webhooks", "Have events sent to other programs."),
    "blobs": Entry("blobs", "Collect contents that nothing refers to any more."),
    "dead": Entry("dead", "List commands that were given up on, and send them again."),
}


def build(names: Sequence[str] = tuple(COMMANDS)) -> typer.Typer:
    """The application, with those commands in full and the others by name and summary only."""
    app = typer.Typer(
        name=NAME,
        help="A durable agent harness: experts from a `perstack.toml`, runs that are not lost.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_everywhere)
    for name, (module, summary) in COMMANDS.items():
        if name not in names:
            app.command(name, help=summary)(_not_loaded)
            continue
        found = importlib.import_module(f"peritus.cli.{module}")
        if isinstance(sub := getattr(found, "app", None), typer.Typer):
            app.add_typer(sub, name=name, help=summary)
        else:
            app.command(name, epilog=getattr(found, "EPILOG", None))(found.command)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    ours = argv[: argv.index("--")] if "--" in argv else argv
    debug = "--debug" in ours  # wherever it is written: it is about errors of any part
    argv = [word for word in ours if word != "--debug"] + argv[len(ours) :]
    asked = next((word for word in argv if not word.startswith("-")), "")
    try:
        with _quick_imports():
            app = build((asked,))
        app(argv, prog_name=NAME)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # noqa: BLE001 - the one boundary to people
        from peritus.cli.errors import report  # noqa: PLC0415 - help texts need none of it

        return report(error, debug=debug)
    return 0


@contextmanager
def _quick_imports() -> Generator[None]:
    """Import faster: imports are most of a start, and of taking a run up after a crash.

    There is no garbage to look for meanwhile, and what was imported stays for good, so later
    collections leave it out, too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _version(wanted: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if wanted:
        typer.echo(importlib.import_module("importlib.metadata").version(NAME))
        raise typer.Exit


def _everywhere(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors."),  # noqa: FBT001, FBT003
    version: bool = typer.Option(  # noqa: FBT001
        False,  # noqa: FBT003
        "--version",
        callback=_version,
        is_eager=True,
        help="Print the version.",
    ),
) -> None:
    del debug, version  # read where they act


def _not_loaded() -> None:
    """Stand in for a command in the overview."""
