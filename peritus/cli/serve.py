"""`peritus serve`: services in this process until SIGTERM. Not what they do."""

from pathlib import Path
from typing import Annotated

import typer

from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.interrupts import stopped_by_signal
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import here
from peritus.keys import env_files, project_keys
from peritus.serve import SERVICES, Serving, check_services


def command(
    services: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SERVICE]...", help=f"Of {', '.join(SERVICES)}; by default all."),
    ] = None,
    config: options.Config = None,
    env_path: Annotated[
        list[Path] | None,
        typer.Option(help="File with keys; may be given more than once.", metavar="FILE"),
    ] = None,
) -> None:
    """Run services until told to stop by Ctrl-C or SIGTERM; work in flight is finished first.

    Without PERITUS_NATS_URL they share the project's embedded server with whoever else uses it.
    """
    place = here(config)
    names = check_services(tuple(services or ()), place.settings)
    paths = tuple(env_path) if env_path else env_files(place.project, notice)
    keys = project_keys(place.settings, place.project, paths)
    run_async(_serve(Serving(place.settings, place.project, keys, names, notice)))
    raise typer.Exit(Exit.COMPLETED)


async def _serve(serving: Serving) -> None:
    with stopped_by_signal() as stop:
        await serving.run(stop)
