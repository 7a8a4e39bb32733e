"""`peritus files`: look at a run's workspace, take files out, compare steps. No changes."""

import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer

from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.cli.wording import clean
from peritus.files import Files, Version, key_of, text_of_change
from peritus.project import workspaces_of
from services.sandbox.snapshots.diff import Change, diff
from services.sandbox.snapshots.tree import Entry, shown

Action = Literal["ls", "cat", "get", "diff"]

SIGNS = {"added": "A", "removed": "D", "changed": "M", "mode": "m", "unknown": "?"}
TYPES = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK}
LINK_MODE = 0o777


def command(
    run: options.Run,
    action: Annotated[
        Action, typer.Argument(metavar="[ls|cat|get|diff]", help="What to do; `ls` by default.")
    ] = "ls",
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="File or folder in the workspace.")
    ] = "",
    to: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TO]", help="Where `get` puts it: a folder, or for one file also a new name."
        ),
    ] = None,
    *,
    step: Annotated[
        int | None, typer.Option(help="As of the end of that step.", min=1, metavar="N")
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(help="`diff` from the end of that step.", min=1, metavar="N"),
    ] = None,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Look at the files of a run: as they are on this machine, or as of the end of a step.

    Where the workspace is not on this machine, the newest snapshot stands for it. `diff` compares
    two steps, or a step with what is there now, or the newest snapshot with what is there now; of
    one file it shows the lines.
    """
    _check(action, path, to, step, since)
    place, as_json = here(config), options.wants_json(as_json)
    match action:
        case "ls":
            work = _ls(place, run, path, step, as_json=as_json)
        case "cat":
            work = _cat(place, run, path, step)
        case "get":
            work = _get(place, run, path, step, to or Path.cwd())
        case "diff":
            work = _diff(place, run, path, (since, step), as_json=as_json)
    raise typer.Exit(run_async(work))


def _check(action: Action, path: str, to: Path | None, step: int | None, since: int | None) -> None:
    """What does not go together is a mistake, not to be passed over."""
    wrong = ""
    if since is not None and action != "diff":
        wrong = f"--since is for diff, not for {action}"
    elif to is not None and action != "get":
        wrong = f"{action} takes one path"
    elif action == "cat" and not key_of(path):
        wrong = "say which file: peritus files RUN cat PATH"
    elif action == "diff" and step is not None and since is None:
        wrong = "say from where, too: peritus files RUN diff --since M --step N"
    if wrong:
        raise typer.BadParameter(wrong)


@asynccontextmanager
async def _files(place: Place, run: str) -> AsyncGenerator[Files]:
    async with observing(place) as observer:
        workspaces = workspaces_of(place.project, place.settings)
        yield Files(observer.backbone, workspaces, await observer.runs.find(run))


async def _ls(place: Place, run: str, path: str, step: int | None, *, as_json: bool) -> Exit:
    async with _files(place, run) as files, files.version(step) as version:
        notice(version.label)
        lines = [_line(entry, as_json=as_json) for entry in version.below(path)]
        await Out().write("".join(lines))
    return Exit.COMPLETED


async def _cat(place: Place, run: str, path: str, step: int | None) -> Exit:
    out, terminal = Out(), sys.stdout.isatty()

    async def hear(data: bytes) -> None:
        # A person's terminal is not to obey what a file says.
        await out.write(clean(data.decode("utf-8", "replace")) if terminal else data)

    async with _files(place, run) as files, files.version(step) as version:
        await version.read(path, hear)
    return Exit.COMPLETED


async def _get(place: Place, run: str, path: str, step: int | None, to: Path) -> Exit:
    async with _files(place, run) as files, files.version(step, digests_below=path) as version:
        copied = await version.copy(path, to)
    for name, why in copied.left_out:
        notice(f"{_plain(name)} is left out: {why}")
    notice(f"written to {to}: {copied.entries} entries of {version.label}")
    return Exit.COMPLETED


async def _diff(
    place: Place, run: str, path: str, steps: tuple[int | None, int | None], *, as_json: bool
) -> Exit:
    since, until = steps
    async with (
        _files(place, run) as files,
        files.version(since, stored=True) as before,
        files.version(until, digests_below=path) as after,
    ):
        notice(f"from {before.label} to {after.label}")
        top = before.find(path) or (after.find(path) if key_of(path) else None)
        if key_of(path) and top is None:
            after.entry(path)  # says that there is no such thing
        changes = [one for one in diff(before.tree, after.tree) if _within(one.path, path, top)]
        lines = [await _change(one, before, after, path, as_json=as_json) for one in changes]
        await Out().write("".join(lines))
    if not changes:
        notice("nothing changed")
    return Exit.COMPLETED


def _within(changed: bytes, path: str, top: Entry | None) -> bool:
    name = key_of(path) if top is None else top.path
    return not name or changed == name or changed.startswith(name + b"/")


async def change_lines(before: Version, after: Version) -> list[str]:
    """What is different in all of the files, a line each."""
    changes = diff(before.tree, after.tree)
    return [await _change(one, before, after, "", as_json=False) for one in changes]


async def _change(
    change: Change, before: Version, after: Version, path: str, *, as_json: bool
) -> str:
    sides = [one for one in (change.before, change.after) if one is not None]
    what = "unknown" if any(one.missing for one in sides) else change.what
    asked = change.path == key_of(path) and what != "unknown"
    is_file = all(one.kind == "file" for one in sides)
    text = (
        await text_of_change(change, before, after)
        if asked and is_file and what != "mode"
        else None
    )
    if as_json:
        facts: dict[str, object] = {"path": shown(change.path), "what": what}
        return _json(facts if text is None else {**facts, "diff": text})
    return f"{SIGNS[what]} {_plain(shown(change.path))}\n" if text is None else _safe(text)


def _line(entry: Entry, *, as_json: bool) -> str:
    if as_json:
        return _json(
            {
                "path": shown(entry.path),
                "kind": entry.kind,
                "size": entry.size,
                "mode": f"{entry.mode:o}",
                **({"target": shown(entry.target)} if entry.kind == "link" else {}),
                **({"missing": entry.missing} if entry.missing else {}),
            }
        )
    mode = stat.filemode(TYPES[entry.kind] | (LINK_MODE if entry.kind == "link" else entry.mode))
    tail = f" -> {_plain(shown(entry.target))}" if entry.kind == "link" else ""
    missing = f"  ({entry.missing})" if entry.missing else ""
    return f"{mode} {entry.size:>12,} {_plain(shown(entry.path))}{tail}{missing}\n"


def _plain(name: str) -> str:
    """A name in one line, with nothing a terminal would obey."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in name
    )


def _safe(text: str) -> str:
    return clean(text) if sys.stdout.isatty() else text


def _json(facts: dict[str, object]) -> str:
    return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE).decode()
