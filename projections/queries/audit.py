"""Questions about what people asked and decided. Not about what came of it."""

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Select, Table, select

from projections.queries.paging import FIRST, Asked, Listing, page, rows_as
from projections.queries.reader import Reader
from projections.views.audit import ORDER, AuditView


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An act of a person: who, when, what about."""

    tenant: str
    seq: int
    index: int  # in the envelope at `seq`
    at_ms: int
    job: str
    run: str
    action: str
    what: str  # the id of what was answered or decided; else that of the command
    name: str  # who; empty where nobody said
    via: str  # the way it came
    detail: str  # the beginning of what was said, or why


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Which acts are meant; None is any. Times in milliseconds, both included."""

    name: str | None = None
    job: str | None = None
    action: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


NAMES = tuple(field.name for field in fields(AuditRow))


async def audit(
    reader: Reader, tenant: str, filters: AuditFilters | None = None, asked: Asked = FIRST
) -> Listing[AuditRow]:
    """The newest acts that match.

    Raises:
        Rejected: `bad_cursor`.
        Unavailable: the view cannot be read.
    """
    async with reader.look(AuditView.name) as look:
        table = look.tables["audit"]
        query = _matching(table, tenant, filters or AuditFilters())
        order = [table.c[name] for name in ORDER]
        return await page(look, query, order, asked, made=rows_as(AuditRow), newest_first=True)


def _matching(table: Table, tenant: str, filters: AuditFilters) -> Select[Any]:
    wanted = {"name": filters.name, "job": filters.job, "action": filters.action}
    query = select(*(table.c[name] for name in NAMES)).where(table.c.tenant == tenant)
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    if filters.from_ms is not None:
        query = query.where(table.c.at_ms >= filters.from_ms)
    if filters.to_ms is not None:
        query = query.where(table.c.at_ms <= filters.to_ms)
    return query
