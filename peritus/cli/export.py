"""`peritus export`: a job as one file. Not how it is read back: `import_job`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from commands.survey import JobName
from domain.errors import Rejected
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.retention import origin
from services.retention.exporting import export_job


def command(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The name of a job.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Where to; by default JOB.peritus.zip.", metavar="FILE"
        ),
    ] = None,
    config: options.Config = None,
) -> None:
    """Write a job into one file: its runs, what they were forked from, and all they refer to."""
    path = output or Path(f"{job}.peritus.zip")
    raise typer.Exit(run_async(_export(here(config), job, path)))


async def _export(place: Place, job: str, path: Path) -> Exit:
    name = JobName(place.settings.tenant, job)
    beside = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise Rejected("no_such_file", f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            async with observing(place) as observer:
                manifest = await export_job(observer.backbone, name, file, origin())
            size = file.tell()
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    counts = f"{len(manifest.runs)} runs, {manifest.envelopes} envelopes"
    notice(f"{path}: {counts}, {len(manifest.blobs)} blobs, {size:,} bytes")
    if len(manifest.jobs) > 1:
        notice(f"with what it was forked from: {', '.join(manifest.jobs[1:])}")
    if manifest.missing:
        notice(f"missing: {len(manifest.missing)} contents are gone or damaged")
    if not manifest.at_rest:
        notice("it was not at rest, so it can be read and not be imported")
    return Exit.COMPLETED
