"""`peritus blobs`: contents that nothing refers to are collected. Not which jobs go."""

from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from domain.errors import Rejected
from peritus.cli import options
from peritus.cli.ages import age_of
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.cli.wording import duration
from peritus.ids import now_ms
from services.retention.sweep import GRACE_S_MIN, sweep

AGE_DEFAULT = "1d"

app = typer.Typer(no_args_is_help=True, help="Collect contents that nothing refers to.")


@app.callback()
def _group() -> None:
    """Collect contents that nothing refers to."""


@app.command("sweep")
def sweep_blobs(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    older_than: Annotated[
        str, typer.Option(help="Only what was not put for so long: 12h, 7d.", metavar="AGE")
    ] = AGE_DEFAULT,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Remove contents that no event, command or snapshot of any job refers to any more.

    The whole log is read first. What was put in the last 12 hours is always kept.
    """
    grace_s = age_of(older_than)
    if grace_s < GRACE_S_MIN:
        hours = GRACE_S_MIN / 3600
        raise Rejected("bad_limit", f"--older-than {older_than!r} is less than {hours:g}h")
    shown = options.wants_json(as_json)
    raise typer.Exit(run_async(_sweep(here(config), grace_s, dry_run=dry_run, as_json=shown)))


async def _sweep(place: Place, grace_s: float, *, dry_run: bool, as_json: bool) -> Exit:
    out, count, size = Out(), 0, 0
    async with observing(place) as observer:
        swept = sweep(observer.backbone, now_ms(), grace_s=grace_s, dry_run=dry_run)
        async for one in swept:
            count, size = count + 1, size + one.bytes
            if as_json:
                await out.write(orjson.dumps(asdict(one), option=orjson.OPT_APPEND_NEWLINE))
            else:
                age = duration(int(one.age_s * 1000))
                await out.write(f"{one.tenant}  {one.digest}  {one.bytes:,} bytes  {age} old\n")
    verb = "would be removed" if dry_run else "removed"
    notice(f"{count} blobs {verb}, {size:,} bytes")
    return Exit.COMPLETED
