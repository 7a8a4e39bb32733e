"""`peritus runs`: the runs of a project as a table. Not one of them."""

from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, run_async
from peritus.cli.observing import Place, here, observing
from peritus.cli.wording import columns, duration, short
from peritus.ids import now_ms
from projections.queries import LIMIT_DEFAULT, LIMIT_MAX, Filters
from projections.rows import RunRow

QUERY_CHARS = 50


def command(
    *,
    status: Annotated[
        str | None, typer.Option(help="Only runs of that status, or `waiting` or `paused`.")
    ] = None,
    expert: Annotated[str | None, typer.Option(help="Only runs of that expert.")] = None,
    job: Annotated[str | None, typer.Option(help="Only runs of that job.")] = None,
    limit: Annotated[
        int, typer.Option(help="How many at most.", min=1, max=LIMIT_MAX)
    ] = LIMIT_DEFAULT,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """List runs, newest first."""
    filters = Filters(status=status, expert=expert, job=job)
    as_json = options.wants_json(as_json)
    raise typer.Exit(run_async(_runs(here(config), filters, limit, as_json=as_json)))


async def _runs(place: Place, filters: Filters, limit: int, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        page = await observer.runs.page(filters, limit=limit)
    out = Out()
    if as_json:
        lines = [orjson.dumps(asdict(row), option=orjson.OPT_APPEND_NEWLINE) for row in page.runs]
        await out.write(b"".join(lines))
    elif page.runs:
        await out.write(table(page.runs, now_ms()))
    else:
        await out.write("no runs yet; start one with: peritus run EXPERT QUERY\n")
    return Exit.COMPLETED


def table(rows: tuple[RunRow, ...], at_ms: int) -> str:
    """The runs in columns."""
    cells = [("RUN", "STATUS", "EXPERT", "STEPS", "TOKENS", "AGE", "QUERY")]
    cells.extend(
        (
            row.run,
            _status(row),
            row.expert,
            str(row.step),
            f"{row.usage.tokens:,}",
            duration(max(0, at_ms - row.started_at_ms)),
            _mark(row) + short(row.query, QUERY_CHARS),
        )
        for row in rows
    )
    return columns(cells)


def _mark(row: RunRow) -> str:
    if row.source_run is not None:
        return f"⑂ {row.source_run}@{row.source_step} "
    return "↳ " if row.parent_run else ""


def _status(row: RunRow) -> str:
    if row.integrity:
        return "damaged"
    if row.status != "running":
        return row.status
    return "paused" if row.paused_at_ms is not None else "waiting" if row.waiting else "running"
