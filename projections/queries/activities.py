"""Questions about what experts did. Not the log, which says all of it."""

from dataclasses import dataclass, fields

from sqlalchemy import select

from projections.queries.paging import FIRST, Asked, Listing, page, rows_as
from projections.queries.reader import Reader
from projections.views.activities import ActivitiesView


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """Something that an expert did, or that happened to its run."""

    tenant: str
    job: str
    run: str
    version: int  # of the event it came with: the activity's name in its run
    seq: int
    at_ms: int
    type: str  # a base tool's name, or one of `docs/views.md`
    expert: str
    delegated_by: str | None  # the run that asked for this one
    reasoning: str  # the beginning of what was thought, or said beside the calls
    summary: str  # one line
    call: str | None
    status: str  # what has become of it
    ended_at_ms: int | None  # since when that is so for good

    @property
    def id(self) -> str:
        """Its name in its run."""
        return str(self.version)


NAMES = tuple(field.name for field in fields(ActivityRow))


async def activities_of(
    reader: Reader, tenant: str, job: str, run: str | None = None, asked: Asked = FIRST
) -> Listing[ActivityRow]:
    """The activities of a job, or of one run of it, in order.

    Raises:
        Rejected: `bad_cursor`.
        Unavailable: the view cannot be read.
    """
    async with reader.look(ActivitiesView.name) as look:
        table = look.tables["activities"]
        query = select(*(table.c[name] for name in NAMES))
        query = query.where(table.c.tenant == tenant, table.c.job == job)
        if run is not None:
            query = query.where(table.c.run == run)
        return await page(
            look, query, [table.c.seq, table.c.version], asked, made=rows_as(ActivityRow)
        )
