"""All golden logs as one log, and the rows that one pass over it leaves in all views. Not tests."""

import asyncio
import functools
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import select

from domain.envelope import FIRST_HASH, decode, encode, hash_of
from domain.ids import RunRef
from eventlog.port import Stored
from projections.queries.reader import Reader
from projections.seeing import see
from projections.store import Standing, open_store
from projections.view import Seen
from projections.views import ALL
from projections.where import Where

HISTORIES = sorted((Path(__file__).parents[1] / "histories").glob("v*/*.jsonl"))
Rows = dict[str, list[tuple[object, ...]]]


def history(number: int, path: Path) -> Iterator[tuple[RunRef, bytes]]:
    """A golden log, as that of a job nobody else has."""
    prev = FIRST_HASH
    for line in path.read_bytes().splitlines():
        envelope = decode(line)
        ref = RunRef("umbrella" if number % 5 == 0 else "acme", f"job{number}", envelope.ref.run)
        data = encode(envelope._replace(ref=ref, prev=prev))
        prev = hash_of(data)
        yield ref, data


def whole_log() -> list[Seen]:
    """All golden logs between each other, as views see them."""
    lines = zip_longest(*(history(*one) for one in enumerate(HISTORIES)))
    found = [one for row in lines for one in row if one is not None]
    return [see(Stored(seq, ref, data)) for seq, (ref, data) in enumerate(found, start=1)]


LOG = whole_log()


async def everything(where: Where) -> Rows:
    """All rows of all views, in the order of their keys."""
    found: Rows = {}
    async with Reader(where) as reader:
        for view in ALL:
            async with reader.look(view.name) as look:
                assert look.position is not None
                assert look.position.seq == len(LOG)
                for name, table in look.tables.items():
                    rows = await look.all(select(table).order_by(*table.primary_key.columns))
                    found[f"{view.name}.{name}"] = [tuple(row) for row in rows]
    return found


async def one_pass() -> Rows:
    """The rows after one pass by one writer."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "views.sqlite")
        async with open_store(path, ALL) as store:
            await store.apply(await store.begin("a0"), LOG)
        return await everything(path)


@functools.cache
def expected() -> Rows:
    """The same, where no loop runs."""
    return asyncio.run(one_pass())


def after(standing: Standing) -> int:
    """Where a writer believes the views to be."""
    return min(one.seq for one in standing.live)
