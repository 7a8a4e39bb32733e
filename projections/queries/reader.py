"""Looks at the views, as one reader or many at once. Not a writer, and not the log."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import MetaData, Row, Select, Table, select
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import Rejected, Unavailable
from eventlog.port import Cursor
from projections.engine import open_engine, speaking
from projections.places import Place, read_places, suffix_of
from projections.queries import HELD, LIMIT_DEFAULT, LIMIT_MAX, Filters, Page
from projections.rows import CheckpointRow, RunRow
from projections.view import AnyView
from projections.views import ALL
from projections.where import Where

POLL_S = 0.02
"""How often a waiting query looks at the position, in seconds."""

TRIES_MAX = 5
"""How often a view may be switched while a reader opens it."""

RUNS = "runs"


class Unbuilt(Unavailable):
    """There are views, and none of this name that this release reads."""


class Look:
    """One consistent look at one view. Where there is nothing yet, there are no rows."""

    def __init__(
        self, tables: Mapping[str, Table], place: Place | None, db: AsyncConnection | None
    ) -> None:
        self.tables = tables
        self.position = None if place is None else place.cursor
        self._db = db

    async def all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """The rows of a query."""
        return [] if self._db is None else (await self._db.execute(query)).all()

    async def first(self, query: Select[Any]) -> Row[Any] | None:
        """The first row of a query."""
        return None if self._db is None else (await self._db.execute(query)).first()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return "sqlite" if self._db is None else self._db.dialect.name


class Reader:
    """Reads views; each query opens what it needs. An absent store is empty views."""

    def __init__(self, where: Where, views: Iterable[AnyView] = ALL) -> None:
        self._where = where
        self._views = {view.name: view for view in views}
        self._engine: AsyncEngine | None = None
        self._tables: dict[tuple[str, int], Mapping[str, Table]] = {}

    async def __aenter__(self) -> Self:
        self._open()  # a driver that is missing is told of now, not to the first who asks
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of connections that are kept for the next query, if any are."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    async def position(self, view: str = RUNS) -> Cursor | None:
        """How far the view that is read has come; None while there is none.

        Raises:
            Unavailable: it cannot be read.
        """
        try:
            async with self.look(view) as look:
                return look.position
        except Unbuilt:
            return None

    async def places(self) -> list[Place]:
        """How far all views are, those that are being built too.

        Raises:
            Unavailable: they cannot be read.
        """
        async with self._read() as db:
            return [] if db is None else await _places(db)

    async def wait_for(
        self, position: Cursor, timeout_s: float, *, views: Sequence[str] = (RUNS,)
    ) -> bool:
        """Wait until views have come to a position of the same log; False if they did not.

        Raises:
            Unavailable: they cannot be read.
        """
        try:
            async with asyncio.timeout(timeout_s):
                # Whoever writes may be another process, so there is no event to wait for.
                while not await self._includes(position, views):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def look(self, view: str) -> AsyncGenerator[Look]:
        """One view as it is now, for as long as the context is open.

        Raises:
            Unavailable: it cannot be read, or is being built.
        """
        for _ in range(TRIES_MAX):
            async with self._read() as db:
                places = [] if db is None else await _places(db)
                place = _readable(self._views[view], places)
                if db is None or place is None:
                    yield Look(self._tables_of(view, 0), None, None)
                    return
                tables = self._tables_of(view, place.generation)
                if await _hold(db, tables.values()):
                    yield Look(tables, place, db)
                    return
        msg = f"the view {view!r} is built anew again and again"
        raise Unavailable(msg)

    async def runs(
        self,
        tenant: str,
        filters: Filters | None = None,
        *,
        limit: int = LIMIT_DEFAULT,
        before: int | None = None,
    ) -> Page:
        """The newest runs that match, at most `limit`, older than `before` if given.

        Raises:
            Unavailable: the view cannot be read.
        """
        filters, limit = filters or Filters(), max(1, min(limit, LIMIT_MAX))
        async with self.look(RUNS) as look:
            table = look.tables["runs"]
            query = _matching(table, tenant, filters)
            if before is not None:
                query = query.where(table.c.first_seq < before)
            found = await look.all(query.order_by(table.c.first_seq.desc()).limit(limit + 1))
            rows = tuple(_run(row) for row in found[:limit])
            more = rows[-1].first_seq if len(found) > limit else None
            return Page(rows, more, look.position)

    async def run(self, tenant: str, name: str) -> RunRow | None:
        """The run of that id, or the only one whose id begins so.

        Raises:
            Rejected: several runs begin so.
            Unavailable: the view cannot be read.
        """
        if not name:
            return None
        async with self.look(RUNS) as look:
            table = look.tables["runs"]
            mine = select(table).where(table.c.tenant == tenant)
            # A whole id is found at once; the beginning of one is looked for in all that follow it.
            whole = mine.where(table.c.run == name).order_by(table.c.first_seq.desc())
            found = await look.all(whole.limit(1))
            if not found:
                begins = table.c.run.startswith(name, autoescape=True)
                query = mine.where(table.c.run >= name, begins).order_by(table.c.run)
                found = await look.all(query.limit(2))
        if len(found) > 1:
            raise Rejected("ambiguous_run", f"several runs begin with {name!r}; give more of it")
        return _run(found[0]) if found else None

    async def checkpoints(self, row: RunRow) -> tuple[CheckpointRow, ...]:
        """The ends of a run's steps, oldest first.

        Raises:
            Unavailable: the view cannot be read.
        """
        async with self.look(RUNS) as look:
            table = look.tables["checkpoints"]
            mine = (table.c.tenant == row.tenant, table.c.job == row.job, table.c.run == row.run)
            found = await look.all(select(table).where(*mine).order_by(table.c.version))
        return tuple(_point(point) for point in found)

    def _tables_of(self, view: str, generation: int) -> Mapping[str, Table]:
        known = self._tables.get((view, generation))
        if known is None:
            known = self._views[view].tables(MetaData(), suffix_of(generation))
            self._tables[view, generation] = known
        return known

    async def _includes(self, position: Cursor, views: Sequence[str]) -> bool:
        places = await self.places()
        found = [_readable(self._views[name], places) for name in views]
        return all(
            place is not None
            and place.incarnation == position.incarnation
            and place.seq >= position.seq
            for place in found
        )

    @asynccontextmanager
    async def _read(self) -> AsyncGenerator[AsyncConnection | None]:
        """One consistent look at the store; None while there is none."""
        if isinstance(self._where, Path) and not self._where.exists():
            yield None
            return
        async with speaking("the views cannot be read"), self._open().connect() as db:
            yield db

    def _open(self) -> AsyncEngine:
        if self._engine is None:
            self._engine = open_engine(self._where, "read")
        return self._engine


def _run(row: Row[Any]) -> RunRow:
    values: tuple[Any, ...] = tuple(row)
    return RunRow(*values)


def _point(row: Row[Any]) -> CheckpointRow:
    values: tuple[Any, ...] = tuple(row)
    return CheckpointRow(*values)


async def _places(db: AsyncConnection) -> list[Place]:
    try:
        return await read_places(db)
    except (OperationalError, ProgrammingError) as error:
        if _is_absence(error):
            return []
        raise


async def _hold(db: AsyncConnection, tables: Iterable[Table]) -> bool:
    """Keep tables from being dropped under the reader; False if they are gone already.

    A reader of SQLite has its look at the file as it was. In one order, as they are dropped.
    """
    if db.dialect.name == "sqlite":
        return True
    quote = db.dialect.identifier_preparer.quote
    names = ", ".join(sorted(quote(table.name) for table in tables))
    try:
        await db.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
    except ProgrammingError as error:
        if _is_absence(error):
            return False
        raise
    return True


def _is_absence(error: DBAPIError) -> bool:
    """Whether there is no table of that name, or one of another release without such columns."""
    said = str(error.orig)
    return "no such" in said or "does not exist" in said


def _readable(view: AnyView, places: Iterable[Place]) -> Place | None:
    """The generation that this release reads; None while there is none at all of any view.

    Raises:
        Unbuilt: it is being built, or is to be, or is of a newer release.
    """
    places = list(places)
    mine = [place for place in places if place.view == view.name]
    for place in mine:
        if place.role == "live" and place.version == view.version:
            return place
    if any(place.version > view.version for place in mine):
        msg = f"the view {view.name!r} is of a newer release"
        raise Unbuilt(msg)
    for place in mine:
        if place.role == "building":
            msg = f"the view {view.name!r} is being built ({place.percent} %)"
            raise Unbuilt(msg)
    if places:
        msg = f"the view {view.name!r} is yet to be built: `peritus serve projections` does it"
        raise Unbuilt(msg)
    return None


def _matching(table: Table, tenant: str, filters: Filters) -> Select[Any]:
    held = HELD.get(filters.status or "")
    wanted = {
        "status": filters.status if held is None else "running",
        "expert": filters.expert,
        "job": filters.job,
        "source_job": filters.source_job,
    }
    query = select(table).where(table.c.tenant == tenant)
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    if held == "waiting":
        return query.where(table.c.waiting != "")
    return query if held is None else query.where(table.c[held].is_not(None))
