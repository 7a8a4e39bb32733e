"""Questions about the steps of a run, and about its calls. Not about all they say."""

from dataclasses import dataclass, fields

from sqlalchemy import select

from projections.queries.paging import FIRST, Asked, Listing, page, rows_as
from projections.queries.reader import Reader
from projections.views.calls import CallsView
from projections.views.steps import StepsView


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step of a run: one reply, the attempts it took, and what that cost where it was made."""

    tenant: str
    job: str
    run: str
    step: int
    attempts: int
    provider: str  # of the newest attempt, as the next
    model: str
    started_at_ms: int | None
    generated_at_ms: int | None  # when the reply was there
    ended_at_ms: int | None  # when its calls were over, or the run
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    cache_written_tokens: int
    tokens_charged: int
    money_charged: int  # micro-USD
    stop_reason: str | None
    calls: int
    failures: int  # calls of the model, also those for tools, that brought no reply


@dataclass(frozen=True, slots=True)
class CallRow:
    """A tool call: what was asked for, who is at it, what came of it."""

    tenant: str
    job: str
    run: str
    call: str
    seq: int  # where it was asked for: the order calls are listed in
    version: int
    step: int
    tool: str
    skill: str
    lane: str
    safety: str
    status: str  # requested, waiting, claimed, or the outcome
    requested_at_ms: int | None
    claimed_at_ms: int | None
    ended_at_ms: int | None
    duration_ms: int | None  # as whoever ran it measured
    arguments: str  # the beginning, of those that run
    result: str | None  # the beginning
    is_error: bool
    child: str | None  # the run that answers it
    attempts: int


@dataclass(frozen=True, slots=True)
class CallFilters:
    """Which calls are meant; None is any."""

    status: str | None = None
    tool: str | None = None


STEP_NAMES = tuple(field.name for field in fields(StepRow))
CALL_NAMES = tuple(field.name for field in fields(CallRow))


async def steps_of(
    reader: Reader, tenant: str, job: str, run: str, asked: Asked = FIRST
) -> Listing[StepRow]:
    """The steps of a run that are its own, in order; those before a fork are its source's.

    Raises:
        Rejected: `bad_cursor`.
        Unavailable: the view cannot be read.
    """
    async with reader.look(StepsView.name) as look:
        table = look.tables["steps"]
        mine = (table.c.tenant == tenant, table.c.job == job, table.c.run == run)
        query = select(*(table.c[name] for name in STEP_NAMES)).where(*mine)
        return await page(look, query, [table.c.step], asked, made=rows_as(StepRow))


async def calls_of(
    reader: Reader,
    tenant: str,
    job: str,
    run: str | None = None,
    *,
    filters: CallFilters | None = None,
    asked: Asked = FIRST,
) -> Listing[CallRow]:
    """The calls of a job, or of one run of it, in the order they were asked for.

    Raises:
        Rejected: `bad_cursor`.
        Unavailable: the view cannot be read.
    """
    filters = filters or CallFilters()
    async with reader.look(CallsView.name) as look:
        table = look.tables["calls"]
        wanted = {"tenant": tenant, "job": job, "run": run}
        wanted |= {"status": filters.status, "tool": filters.tool}
        terms = [table.c[name] == value for name, value in wanted.items() if value is not None]
        query = select(*(table.c[name] for name in CALL_NAMES)).where(*terms)
        return await page(look, query, [table.c.seq, table.c.version], asked, made=rows_as(CallRow))
