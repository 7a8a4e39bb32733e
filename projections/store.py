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
from eventlog.port import Cursor
from projections.engine import open_engine, prepare, speaking
from projections.generation import Generation, Violation, Work
from projections.places import (
    Place,
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


class Applied(NamedTuple):
    """What came of a batch; `switched`: the generation is read from now on."""

    violations: list[Violation]
    switched: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """The generations that a writer has to keep up."""

    live: tuple[Generation, ...]
    building: tuple[Generation, ...]
    goal: int  # where the log ended when it began


class Store:
    """One writer's connections, for some views."""

    def __init__(self, engine: AsyncEngine, views: Sequence[AnyView], schema: str | None) -> None:
        self._engine = engine
        self._views = tuple(views)
        self._schema = schema

    async def begin(self, incarnation: str, *, goal: int = 0) -> Standing:
        """Take the store up as it is; whatever is of another log or another schema goes.

        Raises:
            Unavailable: it is locked, or cannot be written.
        """
        async with self._transaction() as db:
            await self._make(db)
            places = await read_places(db, lock=None)
            numbers = [place.generation for place in places]
            for place in places:
                if place.incarnation != incarnation:
                    await drop_generation(db, place.generation)
            places = [place for place in places if place.incarnation == incarnation]
            following = _Numbers(max(numbers, default=0))
            found = [
                await self._take(db, view, places, following, Cursor(incarnation, goal))
                for view in self._views
            ]
        held = [one for some in found for one in some]
        live = tuple(one for one, place in held if place.role == "live")
        building = tuple(one for one, place in held if place.role == "building")
        return Standing(live, building, goal)

    async def apply(
        self, held: Sequence[Generation], batch: Sequence[Seen], incarnation: str
    ) -> Applied:
        """Fold a batch and keep the new place: all of it, or nothing.

        It begins at or before where the generations are; what they have already is left out.

        Raises:
            Moved: the store is of another log, or before where this writer left it.
            Unavailable: the store is locked, or cannot be written.
        """
        async with self._transaction() as db:
            places = await read_places(db, lock=[one.number for one in held])
            self._check(held, places, incarnation, role="live")
            done = await self._fold(db, held, places, batch)
        return Applied(_settled(done))

    async def build(
        self, one: Generation, batch: Sequence[Seen], incarnation: str, *, goal: int
    ) -> Applied:
        """Fold a batch into what is being built; it is read from now on if it has all by then.

        Raises:
            Moved: as `apply`, or somebody else has switched to it.
            Unavailable: the store is locked, or cannot be written.
        """
        near = (batch[-1].seq if batch else one.seq) >= goal
        async with self._transaction() as db:
            places = await read_places(db, lock=None if near else [one.number])
            self._check([one], places, incarnation, role="building")
            done = await self._fold(db, [one], places, batch)
            seq = done[0][2] if done else _place(one, places).seq
            others = [place for place in places if place.view == one.view.name]
            old = [place for place in others if place.role == "live"]
            same = [place.seq for place in old if place.version == one.view.version]
            switched = near and seq >= max(goal, *same, 0)
            if switched:
                for place in old:
                    await drop_generation(db, place.generation)
                await change_places(db, [one.number], role="live")
        return Applied(_settled(done), switched)

    async def rebuild(self, incarnation: str, names: Iterable[str], *, goal: int = 0) -> None:
        """Begin to build views anew beside the ones that are read.

        Raises:
            Unavailable: the store is locked, or cannot be written.
        """
        await self.begin(incarnation, goal=goal)
        wanted = set(names)
        async with self._transaction() as db:
            places = await read_places(db, lock=None)
            following = _Numbers(max(place.generation for place in places))
            for view in self._views:
                roles = {place.role for place in places if place.view == view.name}
                if view.name in wanted and "building" not in roles:
                    place = Place(
                        view.name, following(), view.version, incarnation, 0, "building", goal
                    )
                    await _made(db, view, place)

    async def _make(self, db: AsyncConnection) -> None:
        if self._schema is not None:
            # Two that make the same tables at once would trip over each other.
            await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING_LOCK})
            await db.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
        await make_places(db)

    async def _take(
        self,
        db: AsyncConnection,
        view: AnyView,
        places: Sequence[Place],
        following: "_Numbers",
        end: Cursor,
    ) -> list[tuple[Generation, Place]]:
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
            role = "building" if places else "live"  # the first start shows what it has at once
            made = Place(view.name, following(), view.version, end.incarnation, 0, role, end.seq)
            return [(await _made(db, view, made), made)]
        found = [(_taken(view, place), place) for place in kept]
        building = [place.generation for place in kept if place.role == "building"]
        if building:
            await change_places(db, building, goal=end.seq)
        return found

    def _check(
        self, held: Sequence[Generation], places: Sequence[Place], incarnation: str, *, role: str
    ) -> None:
        for one in held:
            place = next((place for place in places if place.generation == one.number), None)
            if (
                place is None
                or (place.view, place.role) != (one.view.name, role)
                or place.incarnation != incarnation
                or place.seq < one.seq
            ):
                msg = f"the view {one.view.name} is at {place}, not at {incarnation}-{one.seq}"
                raise Moved(msg)

    async def _fold(
        self,
        db: AsyncConnection,
        held: Sequence[Generation],
        places: Sequence[Place],
        batch: Sequence[Seen],
    ) -> list[tuple[Generation, Work, int]]:
        done: list[tuple[Generation, Work, int]] = []
        if not batch:
            return done
        for one in held:
            seq = _place(one, places).seq
            fresh = [seen for seen in batch if seen.seq > seq]
            if not fresh:
                done.append((one, Work({}, {}, []), seq))
                continue
            heads = await one.heads(db, (seen.ref for seen in fresh), seq)
            work = await asyncio.to_thread(one.fold, fresh, heads)
            await one.write(db, work)
            done.append((one, work, fresh[-1].seq))
        last = batch[-1].seq
        moved = [one.number for one, work, _ in done if work.heads]
        if moved:
            await change_places(db, moved, seq=last)
        return done

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncConnection]:
        async with speaking("the views cannot be written"), self._engine.begin() as db:
            yield db


class _Numbers:
    """Numbers of generations: no two of a store are alike."""

    def __init__(self, last: int) -> None:
        self._last = last

    def __call__(self) -> int:
        self._last += 1
        return self._last


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


async def _made(db: AsyncConnection, view: AnyView, place: Place) -> Generation:
    one = Generation(view, place.generation)
    await one.create(db)
    await add_place(db, place)
    return one


def _taken(view: AnyView, place: Place) -> Generation:
    one = Generation(view, place.generation)
    one.seq = place.seq
    return one


def _place(one: Generation, places: Sequence[Place]) -> Place:
    return next(place for place in places if place.generation == one.number)


def _settled(done: Sequence[tuple[Generation, Work, int]]) -> list[Violation]:
    """The transaction is over: what it did is remembered, and what was wrong is told once."""
    told: dict[tuple[object, int], Violation] = {}
    for one, work, seq in done:
        one.done(work, seq)
        for violation in work.violations:
            told.setdefault((violation.ref, violation.seq), violation)
    return list(told.values())
