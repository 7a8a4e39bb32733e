"""`peritus resume`: let a paused run go on, and work on an open one until it is at rest.

Not a continue: nothing is said.
"""

from typing import Annotated

import typer

from peritus.cli import fork, options
from peritus.cli.deciding import deciding
from peritus.cli.ending import finish, show_end
from peritus.cli.exits import OF_STATUS, Exit, epilog
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.cli.running import attending
from peritus.cli.screens import Form
from peritus.cli.serving import at_work, leave
from peritus.forking import Edits
from peritus.jobs import at_desk, load_state
from peritus.keys import Keys, env_files, project_keys
from peritus.lookup import Runs, views_at
from peritus.people import resume, signed, this_user
from peritus.runtime import open_backbone, open_models

EPILOG = epilog()


def command(
    run: options.Run,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Only let a paused run go on; work on nothing here.")
    ] = False,
    step: Annotated[
        int | None,
        typer.Option(
            "--from",
            help="Go on after that step instead, as a fork: the run stays as it is.",
            min=0,
            metavar="STEP",
        ),
    ] = None,
    no_wait: options.NoWait = False,
    config: options.Config = None,
    env_path: options.EnvPath = None,
    as_json: options.Json = None,
) -> None:
    """Take an open run up again, let it go on if it is paused, and show it until it is at rest.

    A run that is at rest prints its end. Ctrl-C works as in `peritus run`.
    """
    place = here(config)
    if step is not None:
        asked = fork.Asked(run, step, None, None, copy=False, edits=Edits(), wish=fork.Wish())
        code = fork.begin(place, asked, env_path, as_json=as_json, detach=detach, leaves=no_wait)
        raise typer.Exit(code)
    if detach:
        raise typer.Exit(run_async(_let_go_on(place, run)))
    paths = tuple(env_path) if env_path else env_files(place.project, notice)
    keys = project_keys(place.settings, place.project, paths)
    form = Form(options.wants_json(as_json))
    raise typer.Exit(run_async(_resume(place, keys, run, form, leaves=no_wait)))


async def _resume(place: Place, keys: Keys, name: str, form: Form, *, leaves: bool) -> Exit:
    settings, project = place.settings, place.project
    async with open_backbone(settings, project.state) as link, open_models(keys) as models:
        log = link.backbone.log
        ref = await Runs(log, settings.tenant, views_at(settings, project)).find(name)
        async with at_work(settings, project, link, models, keys) as (desk, door):
            send = signed(at_desk(desk), this_user("cli"))
            attendance = attending(link, send, ref, form, leaves=leaves)
            state = await attendance.recall()
            if state.at_rest:
                await show_end(attendance, state)
                return OF_STATUS.get(state.status, Exit.FAILED)
            if state.paused:
                await resume(send, ref)
            end = await attendance.watch()
            code = await finish(attendance, end)
            if end != "left":
                await leave(door, settings)
            return code


async def _let_go_on(place: Place, name: str) -> Exit:
    """Resume a paused run for whoever works on it."""
    async with deciding(place, name) as at:
        state, _ = await load_state(at.link.backbone.log, at.ref)
        if not state.paused:
            notice(f"run {at.ref.run} is not paused")
            return Exit.COMPLETED
        await resume(at.send, at.ref)
        notice(f"run {at.ref.run} goes on")
        await at.tell_rest()
    return Exit.COMPLETED
