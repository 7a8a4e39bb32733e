"""Pages of rows, and the cursors between them. Not the cursors of the log."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Row, Select, literal, tuple_

from domain.errors import Rejected
from eventlog.port import Cursor
from projections.queries import LIMIT_DEFAULT, LIMIT_MAX
from projections.queries.reader import Look

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page: at most `limit` rows after the one that the cursor names."""

    limit: int = LIMIT_DEFAULT
    cursor: str | None = None


FIRST = Asked()


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """Some rows. `cursor` asks for the next page, whatever has come since; None: there is none."""

    items: tuple[Item, ...] = ()
    cursor: str | None = None
    position: Cursor | None = None  # how far the view had come


async def page(
    look: Look,
    query: Select[Any],
    order: Sequence[ColumnElement[Any]],
    asked: Asked,
    *,
    made: Callable[[Row[Any]], Item],
    newest_first: bool = False,
) -> Listing[Item]:
    """One page of a query, ordered by whole numbers that no two rows share.

    Raises:
        Rejected: `bad_cursor`.
        Unavailable: the view cannot be read.
    """
    limit = max(1, min(asked.limit, LIMIT_MAX))
    if asked.cursor is not None:
        query = query.where(_beyond(order, asked.cursor, newest_first=newest_first))
    sorting = [column.desc() if newest_first else column.asc() for column in order]
    found = await look.all(query.order_by(*sorting).limit(limit + 1))
    rows = found[:limit]
    more = None
    if len(found) > limit:
        more = "-".join(str(getattr(rows[-1], column.key or "")) for column in order)
    return Listing(tuple(map(made, rows)), more, look.position)


def _beyond(
    order: Sequence[ColumnElement[Any]], cursor: str, *, newest_first: bool
) -> ColumnElement[bool]:
    place = _read(cursor, len(order))
    if len(order) == 1:
        (only,), (number,) = order, place
        return only < number if newest_first else only > number
    here, there = tuple_(*order), tuple_(*map(literal, place))
    return here < there if newest_first else here > there


def _read(cursor: str, count: int) -> list[int]:
    parts = cursor.split("-")
    if len(parts) != count or not all(part.isascii() and part.isdecimal() for part in parts):
        raise Rejected("bad_cursor", f"{cursor[:40]!r} is no cursor of this list; leave it out")
    numbers = [int(part[:20]) for part in parts]
    if max(numbers) >= 1 << 63:
        raise Rejected("bad_cursor", f"{cursor[:40]!r} is no cursor of this list; leave it out")
    return numbers


def rows_as(kind: Callable[..., Item]) -> Callable[[Row[Any]], Item]:
    """What makes a row of a query, with the columns in the order of its fields, one of ours."""
    return lambda row: kind(*row)
