"""The changes of one batch, one row each, written a shape at a time. Not where they come from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from sqlalchemy import Dialect, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.view import Add, Change, Drop, Put, Value

Shape = tuple[tuple[str, ...], tuple[str, ...]]
"""The columns that are set and those that are added to."""


@dataclass(slots=True)
class _Row:
    """What a batch does to one row."""

    dropped: bool = False  # before all else
    present: bool = True
    sets: dict[str, Value] = field(default_factory=dict[str, Value])
    adds: dict[str, int] = field(default_factory=dict[str, int])

    def put(self, values: Mapping[str, Value]) -> None:
        self.present = True
        self.sets.update(values)
        if self.adds:
            for name in values:
                self.adds.pop(name, None)

    def add(self, values: Mapping[str, int]) -> None:
        self.present = True
        for name, more in values.items():
            if name in self.sets:
                self.sets[name] = _sum(self.sets[name], more)
            else:
                self.adds[name] = self.adds.get(name, 0) + more

    def drop(self) -> None:
        self.dropped, self.present = True, False
        self.sets, self.adds = {}, {}


class Merged:
    """What a batch does to one table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._keys = tuple(column.name for column in table.primary_key.columns)
        self._key_of = _getter(self._keys)
        self._rows: dict[tuple[Value, ...], _Row] = {}

    def hear(self, change: Change) -> None:
        """The next change."""
        key = self._key_of(change.key)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row()
        match change:
            case Put():
                row.put(change.values)
            case Add():
                row.add(change.values)
            case Drop():
                row.drop()

    async def write(self, db: AsyncConnection) -> None:
        """Do it: one statement for all rows of a shape."""
        dropped = [key for key, row in self._rows.items() if row.dropped]
        if dropped:
            await db.exec_driver_sql(delete_sql(self._table, db.dialect), dropped)
        shapes: dict[Shape, list[tuple[Value, ...]]] = {}
        for key, row in self._rows.items():
            if row.present:
                sets, adds = tuple(sorted(row.sets)), tuple(sorted(row.adds))
                values = (*key, *map(row.sets.__getitem__, sets), *map(row.adds.__getitem__, adds))
                shapes.setdefault((sets, adds), []).append(storable(values))
        for shape, rows in shapes.items():
            await db.exec_driver_sql(upsert_sql(self._table, shape, db.dialect), rows)


def storable(values: Iterable[Value]) -> tuple[Value, ...]:
    """The values as every database takes them: PostgreSQL has no text with a NUL in it."""
    return tuple(
        value.replace("\x00", "\N{REPLACEMENT CHARACTER}")
        if isinstance(value, str) and "\x00" in value
        else value
        for value in values
    )


def upsert_sql(table: Table, shape: Shape, dialect: Dialect) -> str:
    """Insert a row, or set and grow columns of the one that is there."""
    quote, name = dialect.identifier_preparer.quote, _name(table, dialect)
    keys = [quote(column.name) for column in table.primary_key.columns]
    sets, adds = ([quote(column) for column in columns] for columns in shape)
    columns = (*keys, *sets, *adds)
    marks = ", ".join([_mark(dialect)] * len(columns))
    changes = [f"{column} = excluded.{column}" for column in sets]
    changes += [f"{one} = COALESCE({name}.{one}, 0) + excluded.{one}" for one in adds]
    then = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our own names
        f" ON CONFLICT ({', '.join(keys)}) DO {then}"
    )


def delete_sql(table: Table, dialect: Dialect) -> str:
    """Delete the row of a key."""
    quote, mark = dialect.identifier_preparer.quote, _mark(dialect)
    terms = [f"{quote(column.name)} = {mark}" for column in table.primary_key.columns]
    return f"DELETE FROM {_name(table, dialect)} WHERE {' AND '.join(terms)}"  # noqa: S608 - our own


def forget_sql(table: Table, dialect: Dialect) -> str:
    """Delete all rows of a job: every table of every view says whose its rows are."""
    quote, mark = dialect.identifier_preparer.quote, _mark(dialect)
    terms = [f"{quote(column)} = {mark}" for column in (table.c.tenant.name, table.c.job.name)]
    return f"DELETE FROM {_name(table, dialect)} WHERE {' AND '.join(terms)}"  # noqa: S608 - our own


def _name(table: Table, dialect: Dialect) -> str:
    return dialect.identifier_preparer.quote(table.name)


def _mark(dialect: Dialect) -> str:
    return "?" if dialect.paramstyle == "qmark" else "%s"


def _sum(value: Value, more: int) -> Value:
    if value is None:
        return more
    if isinstance(value, str):
        msg = f"{value!r} is text; only numbers are added to"
        raise TypeError(msg)
    return value + more


def _getter(names: Sequence[str]) -> Callable[[Mapping[str, Value]], tuple[Value, ...]]:
    if len(names) == 1:
        (only,) = names
        return lambda key: (key[only],)
    take: Any = itemgetter(*names)
    return take  # type: ignore[no-any-return]
