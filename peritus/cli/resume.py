"""`peritus resume`: work on an open run until it is at rest. Not a continue: nothing is said."""

from pathlib import Path
from typing import Annotated

import typer

from peritus.cli import options
from peritus.cli.attend import Attendance
from peritus.cli.ending import finish, show_end
from peritus.cli.exits import OF_STATUS, Exit, epilog
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here
from peritus.cli.screens import screen_for
from peritus.cli.serving import at_work, leave
from peritus.jobs import at_desk, load_state
from peritus.keys import Keys, env_files, project_keys
from peritus.lookup import Runs, views_path
from peritus.runtime import open_backbone, open_models

EPILOG = epilog()


def command(
    run: options.Run,
    config: options.Config = None,
    env_path: Annotated[
        list[Path] | None,
        typer.Option(help="File with keys; may be given more than once.", metavar="FILE"),
    ] = None,
    as_json: options.Json = None,
) -> None:
    """Take an open run up again and show it until it is at rest.

    A run that is at rest prints its end. Ctrl-C works as in `peritus run`.
    """
    place = here(config)
    paths = tuple(env_path) if env_path else env_files(place.project, notice)
    keys = project_keys(place.settings, place.project, paths)
    raise typer.Exit(run_async(_resume(place, keys, run, as_json=options.wants_json(as_json))))


async def _resume(place: Place, keys: Keys, name: str, *, as_json: bool) -> Exit:
    settings, project = place.settings, place.project
    async with open_backbone(settings, project.state) as link, open_models(keys) as models:
        log = link.backbone.log
        ref = await Runs(log, settings.tenant, views_path(settings, project)).find(name)
        state, seq = await load_state(log, ref)
        async with at_work(settings, project, link, models, keys) as (desk, door):
            attendance = Attendance(
                backbone=link.backbone,
                send=at_desk(desk),
                ref=ref,
                screen=screen_for(ref, as_json=as_json),
                out=Out(),
                after_seq=seq,
                after_version=state.version,
            )
            if state.at_rest:
                await show_end(attendance, state)
                return OF_STATUS.get(state.status, Exit.FAILED)
            await attendance.recall()
            end = await attendance.watch()
            code = await finish(attendance, end)
            if end is not None:
                await leave(door, settings)
            return code
