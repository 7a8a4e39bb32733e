"""One set of tables of a view, and the heads of its runs. Not how far it is: `places` says that."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import MetaData, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import is_tombstone
from domain.ids import RunRef
from projections.columns import key, text
from projections.merging import Merged, forget_sql, upsert_sql
from projections.places import suffix_of
from projections.view import AnyView, Seen

HEADS_MAX = 2_000
"""Heads kept in memory, the latest."""

ASKED_MAX = 200
"""Heads asked for in one query."""


class Violation(NamedTuple):
    """A run whose stored history is not what was written."""

    ref: RunRef
    seq: int
    detail: str


class Work(NamedTuple):
    """What a batch does to a generation; `gone`: tenant and name of each job that it deletes."""

    heads: dict[RunRef, Any]
    tables: dict[str, Merged]
    violations: list[Violation]
    gone: frozenset[tuple[str, str]] = frozenset()


class Generation:
    """One writer's hold on it. `seq` is where this writer last left it, and what its heads say."""

    def __init__(self, view: AnyView, number: int, seq: int = 0) -> None:
        self.view = view
        self.number = number
        self.seq = seq
        self.metadata = MetaData()
        self.tables = view.tables(self.metadata, suffix_of(number))
        self._heads_table = heads_table(view, self.metadata, number)
        self._heads: dict[RunRef, Any] = {}

    async def create(self, db: AsyncConnection) -> None:
        """Make its tables."""
        await db.run_sync(self.metadata.create_all)

    async def heads(
        self, db: AsyncConnection, refs: Iterable[RunRef], seq: int
    ) -> dict[RunRef, Any]:
        """The heads of some runs, of those that have one; `seq` is where the place says it is."""
        if seq != self.seq:  # somebody else was here: what is remembered is old
            self._heads.clear()
        wanted = set(refs)
        found = {ref: self._heads[ref] for ref in wanted & self._heads.keys()}
        unknown = sorted(wanted - found.keys())
        if seq == 0:
            return found
        table = self._heads_table
        columns = tuple_(table.c.tenant, table.c.job, table.c.run)
        for start in range(0, len(unknown), ASKED_MAX):
            asked = unknown[start : start + ASKED_MAX]
            query = select(table).where(columns.in_([tuple(ref) for ref in asked]))
            for tenant, job, run, head in await db.execute(query):
                found[RunRef(tenant, job, run)] = self.view.load(head)
        return found

    def fold(self, batch: Sequence[Seen], heads: dict[RunRef, Any]) -> Work:
        """What a batch does, from these heads on. Pure."""
        view = self.view
        tables = {name: Merged(table) for name, table in self.tables.items()}
        work = Work({}, tables, [], gone_in(batch))
        for seen in batch:
            if seen.ref[:2] in work.gone and not (view.hears_deletions and buries(seen)):
                continue  # what is read before a tombstone is not there for whoever begins anew
            head = work.heads.get(seen.ref)
            if head is None:
                head = heads.get(seen.ref)
            if head is None:
                head = view.fresh(seen.ref, seen.seq)
            folded = view.fold(head, seen)
            work.heads[seen.ref] = folded.head
            for change in folded.changes:
                work.tables[change.table].hear(change)
            if folded.violation is not None:
                work.violations.append(Violation(seen.ref, seen.seq, folded.violation))
        return work

    async def write(self, db: AsyncConnection, work: Work) -> None:
        """Do it, within a transaction."""
        if work.gone:
            for table in (*self.tables.values(), self._heads_table):
                statement = forget_sql(table, db.dialect)
                await db.exec_driver_sql(statement, sorted(work.gone))
        for merged in work.tables.values():
            await merged.write(db)
        rows = [(*ref, self.view.dump(head)) for ref, head in work.heads.items()]
        if rows:
            statement = upsert_sql(self._heads_table, (("head",), ()), db.dialect)
            await db.exec_driver_sql(statement, rows)

    def done(self, work: Work | None, seq: int) -> None:
        """The transaction is over: from now on this is what it holds. None: others did it."""
        if work is None:
            if seq != self.seq:
                self._heads.clear()
            self.seq = seq
            return
        self.seq = seq
        for ref in [ref for ref in self._heads if ref[:2] in work.gone]:
            del self._heads[ref]
        for ref, head in work.heads.items():
            self._heads.pop(ref, None)  # the latest last
            self._heads[ref] = head
        for ref in list(self._heads)[: max(0, len(self._heads) - HEADS_MAX)]:
            del self._heads[ref]


def gone_in(batch: Sequence[Seen]) -> frozenset[tuple[str, str]]:
    """The jobs whose tombstones are among these; a view has nothing of a job that was deleted."""
    return frozenset((seen.ref.tenant, seen.ref.job) for seen in batch if buries(seen))


def buries(seen: Seen) -> bool:
    """Whether it is the tombstone of its job."""
    return seen.envelope is not None and is_tombstone(seen.envelope)


def heads_table(view: AnyView, metadata: MetaData, number: int) -> Table:
    """The table of a view's heads."""
    name = f"{view.name}_heads{suffix_of(number)}"
    columns = (key("tenant"), key("job"), key("run"), text("head"))
    return Table(name, metadata, *columns, sqlite_with_rowid=False)
