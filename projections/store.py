"""Where views are kept, for one writer: rows, heads and places in one transaction. Not the folding.

Several processes may keep one store: a batch is folded onto what the store holds when its
transaction begins, so whatever somebody else has done since is seen, and nothing is applied twice.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import PeritusError
from domain.ids import RunRef
from eventlog.port import Cursor
from projections.engine import open_engine, prepare, speaking
from projections.generation import Generation, Violation, Work
from projections.places import (
    Place,
    Role,
    add_place,
    change_places,
    drop_generation,
    make_places,
    read_places,
)
from projections.view import AnyView, Seen
from projections.where import Postgres, Where

logger = logging.getLogger(__name__)

MAKING_LOCK = 7_370_715
"""PostgreSQL's name for our lock while tables are made."""


class Moved(PeritusError):
    """The store is no longer what this writer took it for: begin again from its places."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The generations that a writer keeps up, of one life of the log that ended at `goal`."""

    incarnation: str
    goal: int
    live: tuple[Generation, ...]
    building: tuple[Generation, ...]


class Store:
    """One writer's connections, for some views."""

    def __init__(self, engine: AsyncEngine, views: Sequence[AnyView], schema: str | None) -> None:
        self._engine = engine
        self._views = {view.name: view for view in views}
        self._schema = schema

    async def begin(self, incarnation: str, *, goal: int = 0) -> Standing:
        """Take the store up as it is; whatever is of another log or another schema goes.

        Raises:
            Unavailable: it is locked, or cannot be written.
        """
        async with self._transaction() as db:
            found = await self._begin(db, incarnation, goal)
        live = tuple(one for one, role in found if role == "live")
        building = tuple(one for one, role in found if role == "building")
        return Standing(incarnation, goal, live, building)

    async def apply(self, standing: Standing, batch: Sequence[Seen]) -> list[Violation]:
        """Fold a batch into the live generations and keep the new place: all of it, or nothing.

        It begins at or before where the generations are; what they have already is left out.

        Raises:
            Moved: the store is of another log, or before where this writer left it, or there is
                more to be built.
            Unavailable: the store is locked, or cannot be written.
        """
        async with self._transaction() as db:
            places = await read_places(db, lock=[one.number for one in standing.live])
            self._check_building(standing, places)
            held = [(one, _place(one, places, standing, "live")) for one in standing.live]
            done = await _fold(db, held, batch) if batch else []
        return _settled(done)

    async def build(
        self, standing: Standing, batch: Sequence[Seen]
    ) -> tuple[list[Violation], list[str]]:
        """Fold a batch into what is being built; views that have all are read from now on.

        Raises:
            Moved: as `apply`, or somebody else has switched to one of them.
            Unavailable: the store is locked, or cannot be written.
        """
        building = standing.building
        near = max(seen.seq for seen in batch) if batch else max(one.seq for one in building)
        async with self._transaction() as db:
            some = [one.number for one in building]
            places = await read_places(db, lock=None if near >= standing.goal else some)
            held = [(one, _place(one, places, standing, "building")) for one in building]
            done = await _fold(db, held, batch)
            switched = [
                folded.one.view.name
                for folded in done
                if near >= standing.goal and await _switch(db, folded, places, standing.goal)
            ]
        return _settled(done), switched

    async def rebuild(self, incarnation: str, names: Iterable[str], *, goal: int = 0) -> None:
        """Begin to build views anew beside the ones that are read.

        Raises:
            Unavailable: the store is locked, or cannot be written.
        """
        wanted = set(names)
        async with self._transaction() as db:
            await self._begin(db, incarnation, goal)
            places = await read_places(db)
            numbers = _Numbers(places)
            for view in self._views.values():
                roles = {place.role for place in places if place.view == view.name}
                if view.name in wanted and roles == {"live"}:
                    cursor = Cursor(incarnation, goal)
                    await _make(db, view, numbers.next_one(), cursor, "building")

    async def _begin(
        self, db: AsyncConnection, incarnation: str, goal: int
    ) -> list[tuple[Generation, Role]]:
        await self._make_places(db)
        places = await read_places(db, lock=None)
        numbers = _Numbers(places)
        for place in places:
            if place.incarnation != incarnation:
                await drop_generation(db, place.generation)
        places = [place for place in places if place.incarnation == incarnation]
        end = Cursor(incarnation, goal)
        found = [await _take(db, view, places, numbers, end) for view in self._views.values()]
        return [one for some in found for one in some]

    async def _make_places(self, db: AsyncConnection) -> None:
        if self._schema is not None:
            # Two that make the same tables at once would trip over each other.
            await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING_LOCK})
            await db.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
        await make_places(db)

    def _check_building(self, standing: Standing, places: Sequence[Place]) -> None:
        known = {one.number for one in standing.building}
        for place in places:
            view = self._views.get(place.view)
            if (
                view is not None
                and (place.role, place.version) == ("building", view.version)
                and place.generation not in known
            ):
                msg = f"the view {place.view} is to be built anew"
                raise Moved(msg)

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncConnection]:
        async with speaking("the views cannot be written"), self._engine.begin() as db:
            yield db


@asynccontextmanager
async def open_store(where: Where, views: Sequence[AnyView]) -> AsyncGenerator[Store]:
    """A store for as long as the context is open.

    Raises:
        Unavailable: the file can be neither opened nor made.
        Rejected: there is no driver for it.
    """
    await asyncio.to_thread(prepare, where)
    engine = open_engine(where, "write")
    try:
        yield Store(engine, views, where.schema if isinstance(where, Postgres) else None)
    finally:
        await engine.dispose()


class _Numbers:
    """Numbers of generations: no two of a store are alike."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._last = max((place.generation for place in places), default=0)

    def next_one(self) -> int:
        self._last += 1
        return self._last


class _Folded(NamedTuple):
    """A generation after a batch, before the transaction is over."""

    one: Generation
    work: Work | None  # None: it had all of it already
    seq: int


async def _take(
    db: AsyncConnection,
    view: AnyView,
    places: Sequence[Place],
    numbers: _Numbers,
    end: Cursor,
) -> list[tuple[Generation, Role]]:
    """The generations of a view that this release keeps up; made if there is none."""
    mine = [place for place in places if place.view == view.name]
    newer = [place for place in mine if place.version > view.version]
    if newer:
        logger.warning(
            "the view %s is of a newer release (version %d, this one has %d); it is left alone",
            view.name,
            newer[0].version,
            view.version,
        )
        return []
    for place in mine:
        if place.role == "building" and place.version < view.version:
            await drop_generation(db, place.generation)
    kept = [place for place in mine if place.version == view.version]
    if not kept:
        role: Role = "building" if places else "live"  # the first start shows at once what it has
        return [(await _make(db, view, numbers.next_one(), end, role), role)]
    building = [place.generation for place in kept if place.role == "building"]
    await change_places(db, building, goal=end.seq)
    return [(Generation(view, place.generation, place.seq), place.role) for place in kept]


async def _make(
    db: AsyncConnection, view: AnyView, number: int, end: Cursor, role: Role
) -> Generation:
    one = Generation(view, number)
    await one.create(db)
    await add_place(db, Place(view.name, number, view.version, end.incarnation, 0, role, end.seq))
    return one


def _place(one: Generation, places: Sequence[Place], standing: Standing, role: Role) -> Place:
    """Where it is.

    Raises:
        Moved: it is no longer what this writer takes it for.
    """
    place = next((place for place in places if place.generation == one.number), None)
    if (
        place is None
        or (place.view, place.role) != (one.view.name, role)
        or place.incarnation != standing.incarnation
        or place.seq < one.seq
    ):
        msg = f"the view {one.view.name} is at {place}, not at {standing.incarnation}-{one.seq}"
        raise Moved(msg)
    return place


async def _fold(
    db: AsyncConnection, held: Sequence[tuple[Generation, Place]], batch: Sequence[Seen]
) -> list[_Folded]:
    """Fold what is fresh to each view, and write it: one view is folded as the last is written."""
    loop = asyncio.get_running_loop()
    done: list[_Folded] = []
    last: tuple[Generation, asyncio.Future[Work]] | None = None
    for one, place in held:
        fresh = [seen for seen in batch if seen.seq > place.seq]
        if not fresh:
            done.append(_Folded(one, None, place.seq))
            continue
        heads = await one.heads(db, (seen.ref for seen in fresh), place.seq)
        folding = loop.run_in_executor(None, one.fold, fresh, heads)
        await _write(db, last, batch[-1].seq, done)
        last = one, folding
    await _write(db, last, batch[-1].seq if batch else 0, done)
    moved = [folded.one.number for folded in done if folded.work is not None]
    if moved:
        await change_places(db, moved, seq=batch[-1].seq)
    return done


async def _write(
    db: AsyncConnection,
    last: tuple[Generation, asyncio.Future[Work]] | None,
    seq: int,
    done: list[_Folded],
) -> None:
    if last is not None:
        one, folding = last
        work = await folding
        await one.write(db, work)
        done.append(_Folded(one, work, seq))


async def _switch(db: AsyncConnection, folded: _Folded, places: Sequence[Place], goal: int) -> bool:
    """Let it be the one that is read if it has all that the one now has."""
    one = folded.one
    old = [place for place in places if (place.view, place.role) == (one.view.name, "live")]
    same = [place.seq for place in old if place.version == one.view.version]
    if folded.seq < max(goal, *same, 0):
        return False
    for place in old:
        await drop_generation(db, place.generation)
    await change_places(db, [one.number], role="live")
    return True


def _settled(done: Sequence[_Folded]) -> list[Violation]:
    """The transaction is over: what it did is remembered, and what was wrong is told once."""
    told: dict[tuple[RunRef, int], Violation] = {}
    for one, work, seq in done:
        one.done(work, seq)
        for violation in () if work is None else work.violations:
            told.setdefault((violation.ref, violation.seq), violation)
    return list(told.values())
