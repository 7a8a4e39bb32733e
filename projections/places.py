"""The table that says how far each view has come, and in which tables it lies. Not those tables."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, delete, select, update
from sqlalchemy import inspect as inspector_of
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from eventlog.port import Cursor

Role = Literal["live", "building"]

METADATA = MetaData()
PLACES = Table(
    "places",
    METADATA,
    Column("view", Text, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("incarnation", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("goal", BigInteger, nullable=False),
)

GENERATION = re.compile(r"_g(\d+)$")
"""How the name of each table of a generation ends."""


@dataclass(frozen=True, slots=True)
class Place:
    """One generation of a view. `goal` is where the log ended when it was last taken up."""

    view: str
    generation: int
    version: int
    incarnation: str
    seq: int
    role: Role
    goal: int = 0

    @property
    def cursor(self) -> Cursor:
        """How far it has come."""
        return Cursor(self.incarnation, self.seq)

    @property
    def percent(self) -> int:
        """How much of what there was when it was taken up is in it."""
        return 100 if self.seq >= self.goal else self.seq * 100 // self.goal


def suffix_of(generation: int) -> str:
    """How the name of each table of a generation ends."""
    return f"_g{generation}"


async def read_places(db: AsyncConnection, *, lock: Iterable[int] | None = ()) -> list[Place]:
    """All places, those of some generations locked; None locks all.

    Locked in one order by everybody. SQLite needs none of it: its writers are one after another.
    """
    query = select(PLACES).order_by(PLACES.c.view, PLACES.c.generation)
    if lock is None:
        query = query.with_for_update()
    elif numbers := tuple(lock):
        await db.execute(query.where(PLACES.c.generation.in_(numbers)).with_for_update())
    return [Place(**row) for row in (await db.execute(query)).mappings()]


async def add_place(db: AsyncConnection, place: Place) -> None:
    """A generation that was not there."""
    names = (column.name for column in PLACES.columns)
    await db.execute(PLACES.insert().values({name: getattr(place, name) for name in names}))


async def change_places(db: AsyncConnection, generations: Iterable[int], **values: Any) -> None:  # noqa: ANN401
    """Set columns of some places."""
    where = PLACES.c.generation.in_(tuple(generations))
    await db.execute(update(PLACES).where(where).values(values))


async def make_places(db: AsyncConnection) -> None:
    """Make the table; all that another release left behind goes if that has another one."""
    if await db.run_sync(_is_ours):
        return
    for name in await db.run_sync(_left_behind):
        await drop_table(db, name)
    await db.run_sync(METADATA.create_all)


async def drop_generation(db: AsyncConnection, generation: int) -> None:
    """Drop the tables of a generation, whichever release made them, and its place."""
    names: list[str] = await db.run_sync(lambda one: inspector_of(one).get_table_names())
    for name in names:
        if name.endswith(suffix_of(generation)):
            await drop_table(db, name)
    await db.execute(delete(PLACES).where(PLACES.c.generation == generation))


async def drop_table(db: AsyncConnection, name: str) -> None:
    """Drop a table with all that belongs to it."""
    quoted = db.dialect.identifier_preparer.quote(name)
    await db.exec_driver_sql(f"DROP TABLE IF EXISTS {quoted}")


def _is_ours(db: Connection) -> bool:
    inspector = inspector_of(db)
    if not inspector.has_table(PLACES.name):
        return False
    found = {column["name"] for column in inspector.get_columns(PLACES.name)}
    return found == {column.name for column in PLACES.columns}


def _left_behind(db: Connection) -> list[str]:
    """A file holds views and nothing else; a database may hold tables of others."""
    names = inspector_of(db).get_table_names()
    if db.dialect.name == "sqlite":
        return names
    return [name for name in names if name == PLACES.name or GENERATION.search(name)]
