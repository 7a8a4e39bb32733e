"""`peritus sandbox`: what holds here, what is kept here, what can go, and a shell. No settings."""

import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import typer

from eventlog.port import Backbone
from peritus import places
from peritus.backends import backends
from peritus.cli import options
from peritus.cli.ages import age_of
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, anywhere, here
from peritus.cli.wording import clean, duration
from peritus.guest import Guest, Host
from peritus.ids import now_ms
from peritus.keys import env_files, project_keys
from peritus.lookup import Runs, views_at
from peritus.places import Alive, Kept
from peritus.project import Workspaces, workspaces_of
from peritus.removal import Removal, Wish
from peritus.runtime import open_backbone
from services.sandbox.port import CapabilityReport
from services.sandbox.select import AUTO, survey

app = typer.Typer(
    no_args_is_help=True, help="See what sandboxes hold here and keep here, and clear up."
)

MARKS = {True: "✓", False: "✗"}
AGE_DEFAULT = "7d"
Line = dict[str, object]
"""One thing in a list, as a JSON object."""


@app.command("doctor", epilog="Exit codes: 0 when there is a sandbox to use, 1 when not.")
def doctor(
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value a line.")] = False,  # noqa: FBT002
) -> None:
    """Attack every kind of sandbox that can be made here, and say what held."""
    raise typer.Exit(run_async(_doctor(anywhere(config), as_json=as_json)))


@app.command("ls")
def ls(config: options.Config = None, as_json: options.Json = None) -> None:
    """List what this machine keeps for runs: workspaces, sandboxes, journals, snapshots."""
    raise typer.Exit(run_async(_ls(here(config), as_json=options.wants_json(as_json))))


@app.command("gc")
def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    older_than: Annotated[
        str, typer.Option(help="How long a run must be at rest: 90m, 12h, 7d.", metavar="AGE")
    ] = AGE_DEFAULT,
    unsaved: Annotated[
        bool, typer.Option("--unsaved", help="Workspaces that no snapshot holds, too.")
    ] = False,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Remove what dead workers left here, and what belongs to runs that are long over.

    A folder that was given with --workspace is never touched, nor anything of an open job.
    """
    wish = Wish(now_ms() / 1000, age_of(older_than), dry_run, unsaved)
    raise typer.Exit(run_async(_gc(here(config), wish, as_json=options.wants_json(as_json))))


@app.command("shell")
def shell(
    run: options.Run,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="A program to run instead of a shell."),
    ] = None,
    *,
    egress: Annotated[
        bool, typer.Option("--egress", help="With the way out that the expert has.")
    ] = False,
    config: options.Config = None,
) -> None:
    """Open a shell in a sandbox like the one a run's expert gets, over its files on this machine.

    What is changed there is changed outside of any run. The exit code is that of the program.
    """
    raise typer.Exit(run_async(_shell(here(config), run, tuple(words or ()), egress=egress)))


async def _doctor(place: Place, *, as_json: bool) -> int:
    workspaces = workspaces_of(place.project, place.settings)
    with tempfile.TemporaryDirectory() as made:
        state = workspaces.place if workspaces.place.is_dir() else Path(made)
        found = await survey(backends(place.settings, state))
    wanted = place.settings.sandbox
    order = AUTO if wanted == "auto" else (wanted,)
    used = next((name for name in order if isinstance(found[name], CapabilityReport)), None)
    out = Out()
    for name, one in found.items():
        facts = _facts(name, one, used=name == used)
        await out.write(_json(facts) if as_json else _told(name, one))
    if not as_json:
        await out.write(_verdict(wanted, used, found))
    return Exit.COMPLETED if used is not None else Exit.WRONG


def _facts(name: str, one: CapabilityReport | str, *, used: bool) -> dict[str, object]:
    if isinstance(one, str):
        return {"backend": name, "holds": False, "used": used, "reason": one}
    return {**one.model_dump(mode="json"), "holds": True, "used": used}


def _told(name: str, one: CapabilityReport | str) -> str:
    if isinstance(one, str):
        return f"{name}: cannot be used\n  {clean(one)}\n"
    lines = [f"{name} {one.version}: holds"]
    lines += [f"  {MARKS[held]} {check}" for check, held in one.checks.items()]
    lines += [f"  {MARKS[kept]} promises {what}" for what, kept in one.promises.items()]
    lines += [f"  · {clean(note)}" for note in one.notes]
    return "".join(f"{line}\n" for line in lines)


def _verdict(wanted: str, used: str | None, found: Mapping[str, CapabilityReport | str]) -> str:
    setting = f"PERITUS_SANDBOX={wanted}"
    if used is None:
        return f"{setting}: there is no sandbox to use, and nothing is run without one\n"
    lines = [f"{setting}: {used} is used"]
    for name in found:
        if name == used:
            continue
        if wanted != "auto":
            why = "another one is set"
        elif name not in AUTO:
            why = "auto never takes it; it has to be set"
        elif isinstance(found[name], str):
            why = "it cannot be used"
        else:
            why = f"auto takes {used} first"
        lines.append(f"  not {name}: {why}")
    return "".join(f"{line}\n" for line in lines)


class Here(NamedTuple):
    """This machine's part of a project, with the store of its runs."""

    place: Place
    backbone: Backbone
    workspaces: Workspaces
    alive: Alive


@asynccontextmanager
async def _opened(place: Place) -> AsyncGenerator[Here]:
    async with open_backbone(place.settings, place.project.state) as link:
        alone = link.endpoint is not None and link.endpoint.alone
        alive = await places.living(link.backbone, alone=alone)
        workspaces = workspaces_of(place.project, place.settings)
        yield Here(place, link.backbone, workspaces, alive)


async def _ls(place: Place, *, as_json: bool) -> int:
    async with _opened(place) as found:
        lines = await _listed(found)
    if not as_json and not lines:
        notice("nothing is kept here")
    await Out().write("".join(_json(one) if as_json else _row(one) for one in lines))
    return Exit.COMPLETED


async def _listed(found: Here) -> list[Line]:
    state = found.workspaces.place
    kept = places.workspaces_here(found.workspaces)
    lines = [await _workspace(found, one) for one in kept]
    name = places.known_place(state)
    lines.extend(
        Line(
            what="sandbox",
            backend=one.backend,
            epoch=one.epoch,
            alive=found.alive(one.epoch),
            detail=one.what,
        )
        for one in (await places.standing(found.place.settings, state, name) if name else ())
    )
    lines.extend(
        Line(what="journal", epoch=one.name, alive=found.alive(one.name), bytes=one.bytes)
        for one in places.journals(state)
    )
    rooms = {places.store_name(one.tenant, one.room): one.room for one in kept}
    lines.extend(
        Line(what="snapshots", workspace=one.name, path=str(one.path), bytes=one.bytes)
        for one in places.snapshot_stores(state, rooms)
    )
    return lines


async def _workspace(found: Here, kept: Kept) -> Line:
    facts, usage = await places.facts_of(found.backbone.log, kept.ref), kept.usage()
    return {
        "what": "workspace",
        "kind": kept.kind,
        "tenant": kept.tenant,
        "job": kept.job,
        "run": kept.ref.run,
        "path": str(kept.path),
        "status": facts.status or "unknown",
        "at_rest": facts.at_rest,
        "saved": facts.saved,
        "epoch": facts.epoch,
        "alive": bool(facts.epoch) and found.alive(facts.epoch),
        "files": usage.files if usage else None,
        "bytes": usage.bytes if usage else None,
        "idle_ms": max(0, now_ms() - facts.at_ms) if facts.at_ms else None,
    }


def _row(one: Line) -> str:
    match one["what"]:
        case "workspace":
            idle = one["idle_ms"]
            since = f" for {duration(idle)}" if isinstance(idle, int) else ""
            rest = f"{one['status']}{since}, {'at rest' if one['at_rest'] else 'open'}"
            held = _held(one) if one["epoch"] else "held by nobody"
            size = "gone" if one["files"] is None else f"{one['files']} files, {_size(one)}"
            text = f"{one['kind']:<8}  {one['run']}  {rest}, {held}; {size}  {one['path']}"
        case "sandbox":
            text = f"{one['backend']}: {one['detail']}, {_held(one)}"
        case "journal":
            text = f"{_size(one)}, of {one['epoch']}, which {_lives(one)}"
        case _:
            text = f"{_size(one)} of {one['workspace'] or 'a workspace that is gone'}"
    return clean(f"{one['what']:<10} {text}") + "\n"


def _held(one: Line) -> str:
    return f"held by {one['epoch']}, which {_lives(one)}"


def _lives(one: Line) -> str:
    return "lives" if one["alive"] else "is gone"


def _size(one: Line) -> str:
    return f"{one['bytes']:,} bytes"


async def _gc(place: Place, wish: Wish, *, as_json: bool) -> int:
    out, count = Out(), 0
    would = "would remove" if wish.dry_run else "removed"
    async with _opened(place) as found:
        round_ = Removal(place.settings, found.workspaces, found.backbone, found.alive, wish)
        async for said in round_.run():
            count += said.removed
            verb = would if said.removed else "kept"
            facts = {**said._asdict(), "dry_run": wish.dry_run}
            line = f"{verb}: {said.what}: {said.where} ({said.why})\n"
            await out.write(_json(facts) if as_json else clean(line))
    if not count and not as_json:
        notice("nothing to remove")
    return Exit.COMPLETED


async def _shell(place: Place, run: str, words: tuple[str, ...], *, egress: bool) -> int:
    settings, project = place.settings, place.project
    keys = project_keys(settings, project, env_files(project, notice))
    async with open_backbone(settings, project.state) as link:
        views = views_at(settings, project)
        ref = await Runs(link.backbone.log, settings.tenant, views).find(run)
        host = Host(settings, workspaces_of(project, settings), link.backbone, keys.config)
        async with host.admit(ref, egress=egress) as guest:
            _warn(guest)
            from peritus.cli.terminal import run_inside  # noqa: PLC0415 - not on every platform

            return await run_inside(guest.sandbox, words)


def _warn(guest: Guest) -> None:
    state = guest.state
    if guest.allowance.read_only:
        notice(f"{guest.backend}, over {guest.path}, which is read-only for expert {state.expert}")
    else:
        notice(
            f"{guest.backend}, over {guest.path}: changes here are made outside of any run, and "
            "the model is not told of them"
        )
    if not state.at_rest:
        notice(f"run {state.ref.run} is open: its worker may be at work in the same files")


def _json(facts: Mapping[str, object]) -> str:
    return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE).decode()
