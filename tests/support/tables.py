"""The rows of one view in memory, fed by its fold alone. Not a store, and not the tests.

After each envelope the head goes through its JSON, as it does between two batches of a store.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.sql.elements import False_

from domain.envelope import is_tombstone
from domain.events import Event
from domain.ids import RunRef
from eventlog.port import Stored
from projections.seeing import see
from projections.view import Add, AnyView, Drop, Put, Seen
from tests.support.pen import Pen

Row = dict[str, Any]


@dataclass
class Rows:
    """What the changes of a view come to."""

    view: AnyView
    heads: dict[RunRef, Any] = field(default_factory=dict[RunRef, Any])
    seq: int = 0

    def __post_init__(self) -> None:
        self.tables = self.view.tables(MetaData(), "_g1")
        self._rows: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in self.tables}

    def tell(self, pen: Pen, *batches: Iterable[Event]) -> "Rows":
        """Envelopes of a run, one a batch of events."""
        for events in batches:
            self.seq += 1
            self.hear(see(Stored(self.seq, pen.ref, pen.next(*events))))
        return self

    def tell_all(self, stored: Iterable[Stored]) -> "Rows":
        """A log."""
        for one in stored:
            self.seq = one.seq
            self.hear(see(one))
        return self

    def hear(self, seen: Seen) -> None:
        if seen.envelope is not None and is_tombstone(seen.envelope):
            self._forget(seen.ref)
            return
        head = self.heads.get(seen.ref) or self.view.fresh(seen.ref, seen.seq)
        folded = self.view.fold(head, seen)
        kept = self.view.load(self.view.dump(folded.head))
        assert kept == folded.head, "a head is another one after it was stored"
        self.heads[seen.ref] = kept
        for change in folded.changes:
            self._change(change)

    def of(self, table: str, **wanted: Any) -> list[Row]:
        """The rows with these values, in the order of their keys."""
        found = sorted(self._rows[table].items())
        return [row for _, row in found if all(row[name] == wanted[name] for name in wanted)]

    def one(self, table: str, **wanted: Any) -> Row:
        (row,) = self.of(table, **wanted)
        return row

    def _forget(self, ref: RunRef) -> None:
        """Nothing is left of a job that was deleted, as in a store."""
        for one in [one for one in self.heads if one[:2] == ref[:2]]:
            del self.heads[one]
        for rows in self._rows.values():
            for key in [key for key, row in rows.items() if (row["tenant"], row["job"]) == ref[:2]]:
                del rows[key]

    def _change(self, change: Put | Add | Drop) -> None:
        table, rows = self.tables[change.table], self._rows[change.table]
        keys = [column.name for column in table.primary_key.columns]
        assert set(change.key) == set(keys), f"{change.key} is not a key of {change.table}"
        key = tuple(change.key[name] for name in keys)
        if isinstance(change, Drop):
            rows.pop(key, None)
            return
        row = rows.setdefault(key, {**_blank(table), **change.key})
        unknown = change.values.keys() - row.keys()
        assert not unknown, f"{change.table} has no columns {unknown}"
        assert not change.values.keys() & set(keys), "a key does not change"
        if isinstance(change, Put):
            row |= change.values
        else:
            row |= {name: row[name] + more for name, more in change.values.items()}
        _check(table, row)


def _blank(table: Table) -> Row:
    """A row as it is where nothing was put."""
    row: Row = {}
    for column in table.columns:
        default: Any = getattr(column.server_default, "arg", None)
        if isinstance(default, False_):
            default = False
        row[column.name] = int(default) if column.type.python_type is int and default else default
    return row


def _check(table: Table, row: Mapping[str, Any]) -> None:
    for column in table.columns:
        value = row[column.name]
        if value is None:
            assert column.nullable or column.primary_key, f"{column.name} is empty"
        else:
            assert type(value) is column.type.python_type, f"{column.name} is {value!r}"
