"""`peritus import`: a job that was exported, here. Not how it is written: `export`."""

from pathlib import Path
from typing import Annotated

import typer

from domain.errors import Rejected
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.ids import now_ms
from services.retention.importing import import_job


def command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What `peritus export` wrote.")],
    config: options.Config = None,
) -> None:
    """Bring an exported job here, under the name and the tenant it had; nothing of it runs.

    What was cut off goes on when the same is done again. A job that is here is never changed.
    """
    raise typer.Exit(run_async(_import(here(config), path)))


async def _import(place: Place, path: Path) -> Exit:
    try:
        file = path.open("rb")
    except OSError as error:
        raise Rejected("no_such_file", f"{path} cannot be read: {error.strerror}") from error
    with file:
        async with observing(place) as observer:
            found = await import_job(observer.backbone, place.settings.tenant, file, now_ms())
    for job in found.here:
        notice(f"job {job} is here already")
    if found.jobs:
        counts = f"{found.runs} runs, {found.envelopes} envelopes, {found.blobs} blobs"
        notice(f"imported {', '.join(found.jobs)}: {counts}")
    if found.missing:
        notice(f"missing: {len(found.missing)} contents were gone when it was exported")
    return Exit.COMPLETED
