"""The first runs of some jobs, in one question. Not the sums over their jobs: `jobs` has those."""

from collections.abc import Collection

from sqlalchemy import select

from projections.queries.paging import rows_as
from projections.queries.reader import RUNS, Reader
from projections.rows import RunRow


async def roots_of(reader: Reader, tenant: str, jobs: Collection[str]) -> dict[str, RunRow]:
    """The first run of each of these jobs that has one, by the job's name.

    Raises:
        Unavailable: the view cannot be read.
    """
    if not jobs:
        return {}
    async with reader.look(RUNS) as look:
        table = look.tables["runs"]
        first = (table.c.run.in_(sorted(jobs)), table.c.parent_run.is_(None))
        found = await look.all(select(table).where(table.c.tenant == tenant, *first))
    rows = map(rows_as(RunRow), found)
    return {row.job: row for row in rows if row.job == row.run}


async def paused_jobs(reader: Reader, tenant: str) -> frozenset[str]:
    """The jobs whose first run is paused.

    Raises:
        Unavailable: the view cannot be read.
    """
    async with reader.look(RUNS) as look:
        table = look.tables["runs"]
        terms = (
            table.c.tenant == tenant,
            table.c.status == "running",
            table.c.paused_at_ms.is_not(None),
            table.c.parent_run.is_(None),
        )
        found = await look.all(select(table.c.job).where(*terms))
    return frozenset(str(row[0]) for row in found)
