"""All views over all golden logs: batches, writers in turn, deaths. One pass says what is right."""

import asyncio
import functools
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from domain.envelope import FIRST_HASH, decode, encode, hash_of
from domain.ids import RunRef
from eventlog.port import Stored
from projections.queries.reader import Reader
from projections.seeing import see
from projections.store import Moved, Standing, Store, open_store
from projections.view import Seen
from projections.views import ALL

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


async def everything(path: Path) -> Rows:
    """All rows of all views, in the order of their keys."""
    found: Rows = {}
    async with Reader(path) as reader:
        for view in ALL:
            async with reader.look(view.name) as look:
                assert look.position is not None
                assert look.position.seq == len(LOG)
                for name, table in look.tables.items():
                    rows = await look.all(select(table).order_by(*table.primary_key.columns))
                    found[f"{view.name}.{name}"] = [tuple(row) for row in rows]
    return found


@functools.cache
def expected() -> Rows:
    """The rows after one pass by one writer."""

    async def one_pass(path: Path) -> Rows:
        async with open_store(path, ALL) as store:
            await store.apply(await store.begin("a0"), LOG)
        return await everything(path)

    with TemporaryDirectory() as folder:
        return asyncio.run(one_pass(Path(folder, "views.sqlite")))


def after(standing: Standing) -> int:
    """Where a writer believes the views to be."""
    return min(one.seq for one in standing.live)


def test_one_pass_leaves_rows_of_every_view() -> None:
    empty = {name for name, rows in expected().items() if not rows}
    assert len(LOG) > 200
    assert empty == set()


@settings(max_examples=12, deadline=None)
@given(
    turns=st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 90), st.booleans()), min_size=3, max_size=12
    )
)
def test_any_batches_of_two_writers_and_any_deaths_give_the_rows_of_one_pass(
    turns: list[tuple[int, int, bool]],
) -> None:
    """Rule 11. One that dies forgets what it remembered; the other one goes on with its own."""

    rows = expected()

    async def scenario(path: Path) -> None:
        async with open_store(path, ALL) as one, open_store(path, ALL) as other:
            stores: list[Store] = [one, other]
            held = [await store.begin("a0") for store in stores]
            for who, length, dies in turns:
                if dies:
                    held[who] = await stores[who].begin("a0")
                begun = after(held[who])
                await stores[who].apply(held[who], LOG[begun : begun + length])
            await one.apply(held[0], LOG[after(held[0]) :])
        assert await everything(path) == rows

    with TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder, "views.sqlite")))


@settings(max_examples=8, deadline=None)
@given(
    lived=st.integers(0, 60), built=st.lists(st.tuples(st.integers(1, 120), st.booleans())),
    names=st.sets(st.sampled_from([view.name for view in ALL]), min_size=1),
)  # fmt: skip
def test_views_that_are_built_anew_while_the_log_goes_on_have_the_same_rows(
    lived: int, built: list[tuple[int, bool]], names: set[str]
) -> None:
    rows = expected()

    async def scenario(path: Path) -> None:
        async with open_store(path, ALL) as store:
            await store.apply(await store.begin("a0"), LOG[: lived + 1])
            await store.rebuild("a0", names, goal=lived)
            standing = await store.begin("a0", goal=lived)
            for length, dies in built:
                if dies:
                    standing = await store.begin("a0", goal=lived)
                live = after(standing)
                await store.apply(standing, LOG[live : live + length // 4])
                if not standing.building:
                    break
                begun = min(one.seq for one in standing.building)
                _, switched = await store.build(standing, LOG[begun : begun + length])
                if switched:
                    standing = await store.begin("a0", goal=lived)
            while standing.building:
                begun = min(one.seq for one in standing.building)
                await store.build(standing, LOG[begun:])
                standing = await store.begin("a0", goal=lived)
            await store.apply(standing, LOG[after(standing) :])
        assert await everything(path) == rows

    with TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder, "views.sqlite")))


def test_a_writer_whose_views_were_built_anew_is_told() -> None:
    rows = expected()

    async def scenario(path: Path) -> None:
        async with open_store(path, ALL) as one, open_store(path, ALL) as other:
            held = await one.begin("a0")
            await one.apply(held, LOG[:100])
            await other.rebuild("a0", ["jobs"], goal=100)
            theirs = await other.begin("a0", goal=100)
            await other.build(theirs, LOG[:100])
            try:
                await one.apply(held, LOG[100:])
            except Moved:
                await one.apply(await one.begin("a0"), LOG[100:])
            else:
                raise AssertionError
        assert await everything(path) == rows

    with TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder, "views.sqlite")))
