"""All views over all golden logs: batches, writers in turn, deaths. One pass says what is right."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.store import Moved, Store, open_store
from projections.views import ALL
from tests.support.golden_log import LOG, after, everything, expected


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
