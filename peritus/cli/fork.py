"""`peritus fork`: go on from a checkpoint of a run in a run of its own, with edits."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from commands.checkpoints import find_beginning, source_of
from commands.redefine import pinned_definition, with_models
from domain.definition import Definition
from domain.ids import RunRef
from peritus.cli import limits, options
from peritus.cli.deciding import deciding
from peritus.cli.ending import finish
from peritus.cli.exits import Exit, epilog
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.cli.running import attending
from peritus.cli.screens import Form
from peritus.cli.serving import at_work, leave, tell_others
from peritus.definitions import (
    LimitOverrides,
    load_definition,
    parse_duration,
    parse_usd,
    parse_variables,
)
from peritus.forking import Edits, fork
from peritus.jobs import Send, at_desk, load_state, new_root
from peritus.keys import Keys, env_files, project_keys
from peritus.lookup import Runs, views_at
from peritus.people import signed, this_user
from peritus.project import need_config, operator_of, workspaces_of
from peritus.runtime import Link, open_backbone, open_models

EPILOG = epilog()

From = Annotated[
    int,
    typer.Option(
        "--from", help="The step to go on after; 0 is the beginning.", min=0, metavar="STEP"
    ),
]


def command(  # noqa: PLR0913 - one parameter an option
    run: options.Run,
    *,
    step: From,
    query: Annotated[
        str, typer.Option(help="What to say next; `-` reads standard input.", metavar="TEXT")
    ] = "",
    result: Annotated[
        list[str] | None,
        typer.Option(
            help="Another result of a call: text, or @FILE; may be given more than once.",
            metavar="CALL=TEXT",
        ),
    ] = None,
    model: options.Model = None,
    provider: options.Provider = None,
    definition: Annotated[
        bool, typer.Option("--definition", help="Use the definition file as it is now.")
    ] = False,
    variables: options.Variables = None,
    job: options.Job = None,
    workspace: Annotated[
        Path | None,
        typer.Option(help="Folder to work in, in place of the files of then.", metavar="FOLDER"),
    ] = None,
    copy: options.Copy = False,
    max_steps: limits.Steps = None,
    max_tokens: limits.Tokens = None,
    budget: limits.Budget = None,
    max_tool_calls: limits.ToolCalls = None,
    wall_time: limits.WallTime = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Only make the fork; work on nothing here.")
    ] = False,
    no_wait: options.NoWait = False,
    config: options.Config = None,
    env_path: options.EnvPath = None,
    as_json: options.Json = None,
) -> None:
    """Go on from a checkpoint of a run, as another run: the first one stays as it is.

    The fork has the history up to there, and a workspace with the files of then if they were
    stored. Nothing that was open is made again. Change what is said next, what a call came to, the
    model, or the definition; without any of it, the fork only goes on. The run may be at work.
    """
    if copy and workspace is None:
        options.refuse("--copy copies the folder that --workspace names")
    given = LimitOverrides(
        steps_max=max_steps,
        tokens_max=max_tokens,
        money_max=parse_usd(budget),
        tool_calls_max=max_tool_calls,
        wall_ms_max=parse_duration(wall_time),
    )
    edits = Edits(
        query=options.text_of(query),
        results=dict(_result(text) for text in result or ()),
        with_files=workspace is None,
        limits=limits.raised_of(given),
    )
    wish = Wish(provider, model, definition, variables)
    asked = Asked(run, step, job, workspace, copy, edits, wish)
    raise typer.Exit(
        begin(here(config), asked, env_path, as_json=as_json, detach=detach, leaves=no_wait)
    )


class Wish(NamedTuple):
    """What is asked of the definition."""

    provider: str | None = None
    model: str | None = None
    whole: bool = False
    variables: list[str] | None = None


class Asked(NamedTuple):
    """What the command line asks for."""

    run: str
    step: int
    job: str | None
    workspace: Path | None
    copy: bool
    edits: Edits
    wish: Wish


def begin(
    place: Place,
    asked: Asked,
    env_path: list[Path] | None,
    *,
    as_json: bool | None,
    detach: bool,
    leaves: bool,
) -> Exit:
    """Make the fork, and attend it unless it is to be left to others: the exit code."""
    if detach:
        return run_async(_detached(place, asked))
    paths = tuple(env_path) if env_path else env_files(place.project, notice)
    keys = project_keys(place.settings, place.project, paths)
    form = Form(options.wants_json(as_json))
    return run_async(_attended(place, keys, asked, form, leaves=leaves))


def _result(text: str) -> tuple[str, str]:
    call, equals, value = text.partition("=")
    if not equals or not call:
        options.refuse(f"--result {text!r}: say CALL=TEXT or CALL=@FILE, as in c3-0=none")
    return call, options.text_of(value[1:], file=True) if value.startswith("@") else value


async def _attended(place: Place, keys: Keys, asked: Asked, form: Form, *, leaves: bool) -> Exit:
    settings, project = place.settings, place.project
    async with open_backbone(settings, project.state) as link, open_models(keys) as models:
        ref = await Runs(link.backbone.log, settings.tenant, views_at(settings, project)).find(
            asked.run
        )
        async with at_work(settings, project, link, models, keys) as (desk, door):
            send = signed(at_desk(desk), this_user("cli"))
            made = await _fork(place, link, send, ref, asked)
            attendance = attending(link, send, made, form, leaves=leaves)
            await tell_others(link, made)
            end = await attendance.watch()
            code = await finish(attendance, end)
            if end != "left":
                await leave(door, settings)
            return code


async def _detached(place: Place, asked: Asked) -> Exit:
    async with deciding(place, asked.run) as at:
        made = await _fork(place, at.link, at.send, at.ref, asked)
        if not at.attended:
            notice(f"nobody works on it now; go on with: peritus resume {made.run}")
    return Exit.COMPLETED


async def _fork(place: Place, link: Link, send: Send, ref: RunRef, asked: Asked) -> RunRef:
    """Make the fork, and say what came of it."""
    backbone = link.backbone
    edits = replace(asked.edits, definition=await _definition(place, link, ref, asked.wish))
    at = await find_beginning(backbone.log, ref, asked.step, says=bool(edits.query))
    made = new_root(place.settings.tenant, asked.job)
    _settle_workspace(place, made, asked)
    await fork(send, backbone.blobs, made, at, edits)
    found = await source_of(backbone.log, made)
    if found is None:
        notice(f"run {made.run} will be forked as soon as a worker is there")
        return made
    files = "" if asked.workspace is not None else f"; {found.files_line}"
    notice(f"run {made.run} is a fork {found.line}{files}")
    return made


def _settle_workspace(place: Place, ref: RunRef, asked: Asked) -> None:
    if asked.workspace is None:
        return
    workspaces = workspaces_of(place.project, place.settings)
    if asked.copy:
        workspaces.copy(ref, asked.workspace)
    else:
        workspaces.assign(ref, asked.workspace)


async def _definition(place: Place, link: Link, ref: RunRef, wish: Wish) -> Definition | None:
    """The definition that the fork is pinned to, if it is another one."""
    if not wish.whole and wish.model is None and wish.provider is None:
        return None
    state, _ = await load_state(link.backbone.log, ref)
    loaded = load_definition(
        need_config(place.project, state.expert),
        wanted=state.expert,
        provider=wish.provider,
        model=wish.model,
        variables=parse_variables(wish.variables),
        operator=operator_of(place.settings),
    )
    for text in loaded.notices:
        notice(text)
    if wish.whole:
        return loaded.definition
    pinned = await pinned_definition(link.backbone.blobs, state)
    return with_models(pinned, loaded.definition, state.expert)
