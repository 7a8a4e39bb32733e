"""Questions about what was spent. Not what a job or a run has: `jobs` and `runs` say that."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import BigInteger, Select, Table, cast, func, null, select

from domain.errors import Rejected
from eventlog.port import Cursor
from projections.queries.paging import rows_as
from projections.queries.reader import Reader
from projections.views.spending import SPENDING_COLUMNS
from projections.views.usage import UsageView

GROUPS = ("day", "expert", "provider", "model")
"""What usage can be told apart by."""

SUMS = ("runs", "generations", "failures", "tool_calls", *SPENDING_COLUMNS)

ROWS_MAX = 10_000
"""How many rows an answer may have."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was spent; None where it is not told apart."""

    day: str | None  # in UTC, as YYYY-MM-DD
    expert: str | None
    provider: str | None
    model: str | None
    runs: int  # that began
    generations: int  # calls of the model that are over, also those for tools
    failures: int  # those of them that brought no reply
    tool_calls: int  # that are over and were not refused
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    cache_written_tokens: int
    tokens_charged: int
    money_charged: int  # micro-USD


@dataclass(frozen=True, slots=True)
class Usage:
    """The rows, in the order of what they are told apart by."""

    rows: tuple[UsageRow, ...] = ()
    position: Cursor | None = None


async def usage(
    reader: Reader,
    tenant: str,
    from_day: str | None = None,
    to_day: str | None = None,
    *,
    by: Collection[str] = GROUPS,
) -> Usage:
    """What was spent from one day to another, both included; without `by`, one row of sums.

    Raises:
        Rejected: `bad_day`, `bad_grouping`, or `too_many_rows`.
        Unavailable: the view cannot be read.
    """
    unknown = sorted(set(by) - set(GROUPS))
    if unknown:
        raise Rejected("bad_grouping", f"usage is told apart by {', '.join(GROUPS)}; not {unknown}")
    first, last = _day(from_day), _day(to_day)
    async with reader.look(UsageView.name) as look:
        query = _grouped(look.tables["usage"], tenant, by)
        days = look.tables["usage"].c.day
        if first is not None:
            query = query.where(days >= first)
        if last is not None:
            query = query.where(days <= last)
        found = await look.all(query.limit(ROWS_MAX + 1))
        position = look.position
    if len(found) > ROWS_MAX:
        message = f"more than {ROWS_MAX} rows: ask for fewer days, or tell less apart"
        raise Rejected("too_many_rows", message)
    return Usage(tuple(map(rows_as(UsageRow), found)), position)


def _grouped(table: Table, tenant: str, by: Collection[str]) -> Select[Any]:
    groups = [table.c[name] for name in GROUPS if name in by]
    shown = [table.c[name] if name in by else null().label(name) for name in GROUPS]
    sums = [cast(func.sum(table.c[name]), BigInteger).label(name) for name in SUMS]
    query = select(*shown, *sums).where(table.c.tenant == tenant)
    if not groups:  # of no rows at all there is no sum
        return query.having(func.count() > 0)
    return query.group_by(*groups).order_by(*groups)


def _day(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise Rejected("bad_day", f"{value[:40]!r} is no day; write YYYY-MM-DD") from None
