"""A store of views in a folder, fed by hand, and what is in it. Not the tests."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select

from domain.events import Event
from domain.ids import RunRef
from eventlog.port import Stored
from projections.queries.reader import Reader
from projections.seeing import see
from projections.store import Standing, Store, open_store
from projections.view import AnyView
from projections.views import ALL
from projections.where import Where
from tests.support.pen import Pen

INCARNATION = "a0"


@dataclass
class Desk:
    """One writer of a store and one reader; envelopes get the next sequence of the whole log."""

    store: Store
    reader: Reader
    standing: Standing
    seq: int = 0

    async def feed(self, *stored: Stored) -> None:
        """Fold stored envelopes into all views, as one batch."""
        await self.store.apply(self.standing, [see(one) for one in stored])

    def stored(self, pen: Pen, *events: Event) -> Stored:
        """The next envelope of a run, as it lies in the log."""
        self.seq += 1
        return Stored(self.seq, pen.ref, pen.next(*events))

    async def tell(self, pen: Pen, *batches: Sequence[Event]) -> None:
        """Envelopes of a run, one a batch of events, folded at once."""
        await self.feed(*[self.stored(pen, *events) for events in batches])

    async def rows(self, view: str, table: str, **wanted: Any) -> list[dict[str, Any]]:
        """The rows of a table with these values, in the order of their keys."""
        async with self.reader.look(view) as look:
            found = look.tables[table]
            query: Select[Any] = select(found).order_by(*found.primary_key.columns)
            for name, value in wanted.items():
                query = query.where(found.c[name] == value)
            names = found.columns.keys()
            return [dict(zip(names, row, strict=True)) for row in await look.all(query)]


@asynccontextmanager
async def open_desk(where: Where, views: Iterable[AnyView] = ALL) -> AsyncGenerator[Desk]:
    """A store at `where` (a file in a folder of the test, say) with these views."""
    views = tuple(views)
    async with open_store(where, views) as store, Reader(where, views) as reader:
        yield Desk(store, reader, await store.begin(INCARNATION))


async def opened(reader: Reader, view: str) -> None:
    """Look at a view, and at nothing in it."""
    async with reader.look(view):
        pass


def desk_path(folder: Path) -> Path:
    return folder / "views.sqlite"


def pen_of(run: str = "alpha", *, tenant: str = "acme", job: str = "job1") -> Pen:
    return Pen(RunRef(tenant, job, run))
