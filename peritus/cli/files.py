"""`peritus files`: look at a run's workspace, take files out, compare checkpoints. No changes."""

import stat
import sys
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer

from domain.errors import Rejected
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.files import Files, Version
from peritus.project import Workspaces, workspaces_of
from services.sandbox.snapshots.diff import diff, text_diff
from services.sandbox.snapshots.tree import Entry, shown

Action = Literal["ls", "cat", "get", "diff"]

SIGNS = {"added": "A", "removed": "D", "changed": "M", "mode": "m"}


def command(
    run: options.Run,
    action: Annotated[Action, typer.Argument(metavar="[ls|cat|get|diff]")] = "ls",
    path: Annotated[str, typer.Argument(help="File or folder in the workspace.")] = "",
    to: Annotated[
        Path | None, typer.Argument(help="Where `get` puts it; by default the working directory.")
    ] = None,
    *,
    step: Annotated[
        int | None, typer.Option(help="As of the end of that step.", min=1, metavar="N")
    ] = None,
    since: Annotated[
        int | None, typer.Option(help="`diff` from the end of that step.", min=1, metavar="N")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Look at the files of a run: as they are on this machine, or as of the end of a step.

    `diff` tells what changed between two steps, or since a step; with a file, line by line.
    """
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


async def _ls(place: Place, run: str, path: str, step: int | None, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        files = Files(observer.backbone, _workspaces(place), await observer.runs.find(run))
        async with files.version(step) as version:
            if not as_json:
                notice(version.label)
            lines = [_line(entry, as_json=as_json) for entry in version.below(path)]
            await Out().write("".join(lines))
    return Exit.COMPLETED


async def _cat(place: Place, run: str, path: str, step: int | None) -> Exit:
    async with observing(place) as observer:
        files = Files(observer.backbone, _workspaces(place), await observer.runs.find(run))
        async with files.version(step) as version:
            data = await version.read(path)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return Exit.COMPLETED


async def _get(place: Place, run: str, path: str, step: int | None, to: Path) -> Exit:
    async with observing(place) as observer:
        files = Files(observer.backbone, _workspaces(place), await observer.runs.find(run))
        async with files.version(step) as version:
            entries = version.below(path)
            for entry in entries:
                await _take(version, entry, to, path)
    notice(f"{len(entries)} entries of {version.label} are in {to}")
    return Exit.COMPLETED


async def _take(version: Version, entry: Entry, to: Path, path: str) -> None:
    """Put one entry below a folder; nothing that is there is overwritten, no link is followed."""
    name = shown(entry.path)
    top = "/".join([part for part in path.split("/") if part not in {"", "."}][:-1])
    place = to / (name.removeprefix(f"{top}/") if top else name)
    if place.is_symlink() or place.exists():
        if entry.kind == "folder" and place.is_dir() and not place.is_symlink():
            return
        raise Rejected("exists", f"{str(place)!r} is there already; give another folder")
    if entry.kind == "folder":
        place.mkdir(parents=True)
    elif entry.kind == "link":
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(entry.target.decode("utf-8", "surrogateescape"))
    elif entry.missing:
        notice(f"{name} is left out: {entry.missing}")
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(await version.read(name))
        place.chmod(entry.mode & 0o777)


async def _diff(
    place: Place, run: str, path: str, steps: tuple[int | None, int | None], *, as_json: bool
) -> Exit:
    since, until = steps
    if since is None:
        raise Rejected("bad_option", "say from where: `peritus files RUN diff --since N`")
    async with observing(place) as observer:
        files = Files(observer.backbone, _workspaces(place), await observer.runs.find(run))
        async with files.version(since) as before, files.version(until) as after:
            if path:
                await Out().write(await _text(before, after, path))
                return Exit.COMPLETED
            changes = diff(before.tree, after.tree)
            for change in changes:
                what = {"path": shown(change.path), "what": change.what}
                line = f"{SIGNS[change.what]} {shown(change.path)}\n"
                await Out().write(orjson.dumps(what).decode() + "\n" if as_json else line)
    if not changes:
        notice(f"nothing changed between {before.label} and {after.label}")
    return Exit.COMPLETED


async def _text(before: Version, after: Version, path: str) -> str:
    def there(version: Version) -> bool:
        return any(shown(entry.path) == path for entry in version.tree.values())

    old = await before.read(path) if there(before) else None
    new = await after.read(path) if there(after) else None
    return text_diff(path.encode(), old, new)


def _line(entry: Entry, *, as_json: bool) -> str:
    if as_json:
        facts = {
            "path": shown(entry.path),
            "kind": entry.kind,
            "size": entry.size,
            "mode": f"{entry.mode:o}",
            **({"target": shown(entry.target)} if entry.kind == "link" else {}),
            **({"missing": entry.missing} if entry.missing else {}),
        }
        return orjson.dumps(facts).decode() + "\n"
    kind = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK}[entry.kind]
    mode = stat.filemode(kind | (entry.mode or (0o777 if entry.kind == "link" else 0)))
    tail = f" -> {shown(entry.target)}" if entry.kind == "link" else ""
    missing = f"  ({entry.missing})" if entry.missing else ""
    return f"{mode} {entry.size:>12} {shown(entry.path)}{tail}{missing}\n"


def _workspaces(place: Place) -> Workspaces:
    return workspaces_of(place.project, place.settings)
