"""Questions about jobs. Not about the runs of one: `Reader.runs` with `Filters(job=...)`."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Select, Table, literal_column, select

from projections.queries.paging import FIRST, Asked, Listing, page, rows_as
from projections.queries.reader import Reader
from projections.views.jobs import JobsView


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as people list it: its root run, and the sums over all its runs."""

    tenant: str
    job: str
    first_seq: int  # stream sequence of the root's first envelope: the order jobs are listed in
    run: str  # the root
    expert: str
    definition: str
    status: str  # the root's
    query: str  # the beginning of what it was asked first
    started_at_ms: int
    updated_at_ms: int  # when the newest event of any of its runs was
    ended_at_ms: int | None
    runs: int
    running: int
    waiting: int  # runs that wait for a person
    steps: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    cache_written_tokens: int
    tokens_charged: int
    money_charged: int  # micro-USD
    forked_from: str | None  # the job of the run that its root was forked from


@dataclass(frozen=True, slots=True)
class JobFilters:
    """Which jobs are meant; None is any. The status `waiting`: a run of it waits for a person."""

    status: str | None = None
    expert: str | None = None
    forked_from: str | None = None
    among: Collection[str] | None = None  # only these jobs


NAMES = tuple(field.name for field in fields(JobRow))


async def jobs(
    reader: Reader, tenant: str, filters: JobFilters | None = None, asked: Asked = FIRST
) -> Listing[JobRow]:
    """The newest jobs that match.

    Raises:
        Rejected: `bad_cursor`.
        Unavailable: the view cannot be read.
    """
    async with reader.look(JobsView.name) as look:
        table = look.tables["jobs"]
        query = _matching(table, tenant, filters or JobFilters())
        return await page(
            look, query, [table.c.first_seq], asked, made=rows_as(JobRow), newest_first=True
        )


async def job(reader: Reader, tenant: str, name: str) -> JobRow | None:
    """The job of that name.

    Raises:
        Unavailable: the view cannot be read.
    """
    async with reader.look(JobsView.name) as look:
        table = look.tables["jobs"]
        query = _columns(table).where(table.c.tenant == tenant, table.c.job == name)
        found = await look.first(query)
    return None if found is None else rows_as(JobRow)(found)


def _matching(table: Table, tenant: str, filters: JobFilters) -> Select[Any]:
    query = _columns(table).where(table.c.tenant == tenant)
    if filters.status == "waiting":  # as the index of those that do says it
        query = query.where(literal_column("waiting") > literal_column("0"))
    elif filters.status is not None:
        query = query.where(table.c.status == filters.status)
    if filters.expert is not None:
        query = query.where(table.c.expert == filters.expert)
    if filters.forked_from is not None:
        query = query.where(table.c.forked_from == filters.forked_from)
    if filters.among is not None:
        query = query.where(table.c.job.in_(sorted(filters.among)))
    return query


def _columns(table: Table) -> Select[Any]:
    return select(*(table.c[name] for name in NAMES))
