"""What every store of views promises, whatever the view: one suite for SQLite and PostgreSQL."""

from collections.abc import Sequence

import pytest
from sqlalchemy import MetaData, Table, inspect, select
from sqlalchemy.exc import DBAPIError

from domain import events as e
from domain.content import TextPart
from domain.errors import Unavailable
from domain.events import Event
from eventlog.port import Cursor
from projections.columns import key, maybe_text, number, text
from projections.engine import open_engine
from projections.merging import Merged
from projections.places import Place
from projections.queries.reader import Reader
from projections.seeing import see
from projections.store import Moved, open_store
from projections.view import Add, Change, Drop, Put
from projections.where import Where
from tests.support.pen import completed, replied, requested, started
from tests.support.tally import Tally
from tests.support.views import Desk, open_desk, opened, pen_of

pytestmark = pytest.mark.anyio

UNKNOWN = e.OpaqueEvent(type="mood.changed.v7", body={"to": "sunny"})
TABLES = ("runs", "kinds", "steps")


async def everything(desk: Desk) -> list[object]:
    return [await desk.rows("tally", table) for table in TABLES]


def history(result: str = "done") -> Sequence[tuple[Event, ...]]:
    return (started(), (replied(1), e.StepEnded(step=1), requested(2)), completed(2, result))


async def test_rows_are_put_grown_and_dropped(where: Where) -> None:
    async with open_desk(where, [Tally()]) as desk:
        await desk.tell(pen_of(), *history()[:2])
        (run,) = await desk.rows("tally", "runs")
        assert (run["run"], run["events"], run["ended"]) == ("alpha", 7, None)
        assert run["said"] == "go on then"
        assert [row["step"] for row in await desk.rows("tally", "steps")] == [2]
        counts = {row["kind"]: row["count"] for row in await desk.rows("tally", "kinds")}
        assert counts[requested(1).type] == 2


async def test_the_place_moves_with_the_rows_or_not_at_all(where: Where) -> None:
    """Rule 11, C9: what a crash leaves is a place and the rows up to it, never one without both."""
    tally = Tally(breaks=lambda seq: seq == 3)
    async with open_desk(where, [tally]) as desk:
        pen = pen_of()
        first, second, third = (desk.stored(pen, *events) for events in history())
        await desk.feed(first)
        before = await everything(desk)
        with pytest.raises(RuntimeError, match="broken at 3"):
            await desk.feed(second, third)
        assert await desk.reader.position("tally") == Cursor("a0", 1)
        assert await everything(desk) == before
        await desk.feed(second)  # what was remembered of the broken batch is not taken for done
        assert await desk.reader.position("tally") == Cursor("a0", 2)
        (run,) = await desk.rows("tally", "runs")
        assert run["events"] == 7


async def test_what_was_applied_is_not_applied_again(where: Where) -> None:
    async with open_desk(where, [Tally()]) as desk:
        pen = pen_of()
        stored = [desk.stored(pen, *events) for events in history()]
        await desk.feed(*stored[:2])
        before = await everything(desk)
        await desk.feed(*stored[:2])
        assert await everything(desk) == before
        await desk.feed(*stored)
        (run,) = await desk.rows("tally", "runs")
        assert (run["events"], run["ended"]) == (10, "run.completed.v2")


async def test_two_writers_in_turn_apply_each_envelope_once(where: Where) -> None:
    async with open_desk(where, [Tally()]) as desk, open_store(where, [Tally()]) as other:
        theirs = await other.begin("a0")
        pen = pen_of()
        stored = [desk.stored(pen, *events) for events in (*history(), (UNKNOWN,), (UNKNOWN,))]
        seen = [see(one) for one in stored]
        await desk.feed(stored[0])
        assert await other.apply(theirs, seen[:2]) == []
        assert await desk.store.apply(desk.standing, seen[1:3]) == []
        assert await other.apply(theirs, seen[1:4]) == []
        assert await desk.store.apply(desk.standing, seen[2:5]) == []
        (run,) = await desk.rows("tally", "runs")
        assert run["events"] == 12
        assert await desk.reader.position("tally") == Cursor("a0", 5)


async def test_a_head_that_is_no_longer_remembered_is_read(where: Where) -> None:
    runs = [pen_of(f"run{n}") for n in range(500)]
    async with open_desk(where, [Tally()]) as desk:
        await desk.feed(*[desk.stored(pen, *started()) for pen in runs])
    async with open_store(where, [Tally()]) as store:
        standing = await store.begin("a0")
        batch = [
            see(desk.stored(pen, replied(1), e.StepEnded(step=1), requested(2))) for pen in runs
        ]
        assert await store.apply(standing, batch) == []  # a fresh head would tell of a gap
        async with Reader(where, [Tally()]) as reader, reader.look("tally") as look:
            table = look.tables["steps"]
            assert {row.state for row in await look.all(select(table))} == {"asked 2"}


async def test_an_event_nobody_knows_counts_and_breaks_nothing(where: Where) -> None:
    """C17."""
    async with open_desk(where, [Tally()]) as desk:
        await desk.tell(pen_of(), started(), (UNKNOWN,), completed(1))
        counts = {row["kind"]: row["count"] for row in await desk.rows("tally", "kinds")}
        assert counts["mood.changed.v7"] == 1
        (run,) = await desk.rows("tally", "runs")
        assert run["ended"] == "run.completed.v2"


async def test_runs_of_two_tenants_are_two_runs(where: Where) -> None:
    """C18."""
    async with open_desk(where, [Tally()]) as desk:
        await desk.tell(pen_of(tenant="acme"), started())
        await desk.tell(pen_of(tenant="umbrella"), started(), completed(1))
        (ours,) = await desk.rows("tally", "runs", tenant="acme")
        assert (ours["events"], ours["ended"]) == (4, None)
        kinds = {row["kind"] for row in await desk.rows("tally", "kinds", tenant="acme")}
        assert "run.completed.v2" not in kinds


async def test_text_with_a_nul_and_numbers_of_53_bits_are_kept(where: Where) -> None:
    said = e.InputReceived(input="i", speaker="user", parts=(TextPart(text="a\x00b"),))
    async with open_desk(where, [Tally()]) as desk:
        pen = pen_of()
        pen.at_ms = 2**53 - 1
        await desk.tell(pen, (said,))
        (run,) = await desk.rows("tally", "runs")
        assert (run["said"], run["at_ms"]) == ("a\N{REPLACEMENT CHARACTER}b", 2**53 - 1)


async def test_a_view_of_another_log_is_emptied(where: Where) -> None:
    async with open_desk(where, [Tally()]) as desk:
        await desk.tell(pen_of(), started())
        standing = await desk.store.begin("b1")
        assert await desk.reader.position("tally") == Cursor("b1", 0)
        assert await everything(desk) == [[], [], []]
        with pytest.raises(Moved):
            await desk.feed(desk.stored(pen_of("beta"), *started()))
        await desk.store.apply(standing, [see(desk.stored(pen_of("beta"), *started()))])
        assert [row["run"] for row in await desk.rows("tally", "runs")] == ["beta"]


async def test_another_version_is_built_beside_the_old_one_and_then_switched_to(
    where: Where,
) -> None:
    pen = pen_of()
    async with open_desk(where, [Tally()]) as old:
        stored = [old.stored(pen, *events) for events in (*history(), (UNKNOWN,))]
        seen = [see(one) for one in stored]
        await old.feed(*stored[:3])
        async with open_store(where, [Tally(version=2)]) as store:
            standing = await store.begin("a0", goal=4)
            (one,) = standing.building
            assert (one.view.version, standing.live) == (2, ())
            assert await store.build(standing, seen[:2]) == ([], [])
            async with Reader(where, [Tally(version=2)]) as reader:
                assert await reader.position("tally") is None
                with pytest.raises(Unavailable, match=r"is being built \(50 %\)"):
                    await opened(reader, "tally")
            assert len(await old.rows("tally", "runs")) == 1  # the old release reads its own
            assert await store.build(standing, seen[2:4]) == ([], ["tally"])
        with pytest.raises(Unavailable, match="newer release"):
            await opened(old.reader, "tally")
        with pytest.raises(Moved):
            await old.feed(stored[3])
        assert (await old.store.begin("a0")).live == ()  # what is newer is left alone
    async with open_desk(where, [Tally(version=2)]) as new:
        assert await new.reader.position("tally") == Cursor("a0", 4)
        (run,) = await new.rows("tally", "runs")
        assert run["events"] == 11
        assert await table_names(where) == [
            "places",
            "tally_g2",
            "tally_heads_g2",
            "tally_kinds_g2",
            "tally_steps_g2",
        ]


async def test_a_rebuild_leaves_the_old_rows_readable_until_it_has_caught_up(
    where: Where,
) -> None:
    pen = pen_of()
    async with open_desk(where, [Tally()]) as desk, open_store(where, [Tally()]) as other:
        stored = [desk.stored(pen, *events) for events in (*history(), (UNKNOWN,))]
        seen = [see(one) for one in stored]
        await desk.feed(*stored[:2])
        await other.rebuild("a0", ["tally"], goal=2)
        with pytest.raises(Moved):  # whoever follows is told that there is more to do
            await desk.feed(stored[2])
        mine = await desk.store.begin("a0", goal=2)
        theirs = await other.begin("a0", goal=2)
        assert await other.build(theirs, seen[:1]) == ([], [])
        assert [row["events"] for row in await desk.rows("tally", "runs")] == [7]
        assert await desk.store.apply(mine, seen[2:3]) == []
        # The goal is reached, but not what the live one has come to meanwhile.
        assert await other.build(theirs, seen[1:2]) == ([], [])
        assert [row["events"] for row in await desk.rows("tally", "runs")] == [10]
        assert await other.build(theirs, seen[2:3]) == ([], ["tally"])
        with pytest.raises(Moved):
            await desk.store.apply(mine, seen[3:4])
        desk.standing = await desk.store.begin("a0")
        await desk.feed(stored[3])
        assert [row["events"] for row in await desk.rows("tally", "runs")] == [11]


async def test_a_rebuild_that_was_broken_off_goes_on_where_it_was(where: Where) -> None:
    pen = pen_of()
    async with open_desk(where, [Tally()]) as desk:
        stored = [desk.stored(pen, *events) for events in history()]
        seen = [see(one) for one in stored]
        await desk.feed(*stored)
        await desk.store.rebuild("a0", ["tally"], goal=3)
        standing = await desk.store.begin("a0", goal=3)
        await desk.store.build(standing, seen[:2])
        before = await everything(desk)
    async with open_store(where, [Tally()]) as later:
        await later.rebuild("a0", ["tally"], goal=3)  # asked for again: it is the same one
        standing = await later.begin("a0", goal=3)
        assert [(one.number, one.seq) for one in standing.building] == [(2, 2)]
        assert await later.build(standing, seen[2:]) == ([], ["tally"])
    async with open_desk(where, [Tally()]) as desk:
        assert await everything(desk) == before


@pytest.mark.parametrize("told", [0, 3])
async def test_a_rebuild_that_has_all_is_switched_to_although_nothing_more_is_written(
    where: Where, told: int
) -> None:
    """Of an empty log, too; and where whoever built it died before it switched."""
    async with open_desk(where, [Tally()]) as desk:
        pen = pen_of()
        seen = [see(desk.stored(pen, *events)) for events in history()[:told]]
        await desk.store.apply(desk.standing, seen)
        await desk.store.rebuild("a0", ["tally"], goal=told)
        standing = await desk.store.begin("a0", goal=told + 1)
        assert await desk.store.build(standing, seen) == ([], [])
        standing = await desk.store.begin("a0", goal=told)
        assert await desk.store.build(standing, ()) == ([], ["tally"])
        assert [place.generation for place in await desk.reader.places()] == [2]


async def test_a_view_that_comes_new_is_built_beside_the_ones_there_are(where: Where) -> None:
    more = Tally(name="more")
    async with open_desk(where, [Tally()]) as desk:
        pen = pen_of()
        stored = [desk.stored(pen, *events) for events in history()]
        await desk.feed(*stored)
    async with open_store(where, [Tally(), more]) as store, Reader(where, [more]) as reader:
        with pytest.raises(Unavailable, match="yet to be built"):
            await opened(reader, "more")
        standing = await store.begin("a0", goal=3)
        assert [one.view.name for one in standing.live] == ["tally"]
        assert [one.view.name for one in standing.building] == ["more"]
        assert await store.build(standing, [see(one) for one in stored]) == ([], ["more"])
        assert await reader.position("more") == Cursor("a0", 3)


async def test_places_tell_of_all_generations(where: Where) -> None:
    async with open_desk(where, [Tally()]) as desk:
        assert await desk.reader.places() == [Place("tally", 1, 1, "a0", 0, "live", 0)]
        await desk.store.rebuild("a0", ["tally"], goal=9)
        assert await desk.reader.places() == [
            Place("tally", 1, 1, "a0", 0, "live", 0),
            Place("tally", 2, 1, "a0", 0, "building", 9),
        ]


async def test_nothing_is_read_where_nothing_was_written(where: Where) -> None:
    async with Reader(where, [Tally()]) as reader:
        assert await reader.position("tally") is None
        assert await reader.places() == []
        async with reader.look("tally") as look:
            assert await look.all(select(look.tables["runs"])) == []
            assert await look.first(select(look.tables["runs"])) is None


def scratch(metadata: MetaData) -> Table:
    return Table("scratch_g1", metadata, key("id"), number("n"), text("t"), maybe_text("m"))


PUT = Put("scratch", {"id": "a"}, {"n": 5, "t": "x"})
MARK = Put("scratch", {"id": "a"}, {"m": "m"})
GROW = Add("scratch", {"id": "a"}, {"n": 2})
DROP = Drop("scratch", {"id": "a"})


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ([PUT], (5, "x", None)),
        ([GROW], (2, "", None)),
        ([PUT, GROW, GROW], (9, "x", None)),
        ([GROW, PUT], (5, "x", None)),
        ([GROW, MARK, GROW], (4, "", "m")),
        ([PUT, DROP], None),
        ([PUT, DROP, GROW], (2, "", None)),
        ([PUT, MARK, DROP, MARK], (0, "", "m")),
        ([DROP], None),
    ],
)
async def test_changes_of_one_row_come_to_the_same_in_one_batch_or_in_many(
    where: Where, changes: list[Change], left: tuple[object, ...] | None
) -> None:
    table = scratch(metadata := MetaData())
    engine = open_engine(where, "write")
    async with open_store(where, []) as store:
        await store.begin("a0")
    for batches in ([changes], [[one] for one in changes]):
        async with engine.begin() as db:
            await db.run_sync(metadata.drop_all)
            await db.run_sync(metadata.create_all)
            for batch in batches:
                merged = Merged(table)
                for change in batch:
                    merged.hear(change)
                await merged.write(db)
            found = (await db.execute(select(table.c.n, table.c.t, table.c.m))).all()
            assert [tuple(row) for row in found] == ([] if left is None else [left])
    await engine.dispose()


async def table_names(where: Where) -> list[str]:
    engine = open_engine(where, "read")
    async with engine.connect() as db:
        names = await db.run_sync(lambda one: inspect(one).get_table_names())
    await engine.dispose()
    return sorted(names)


async def test_what_rows_hold_is_in_no_error(where: Where) -> None:
    """C15: a statement that fails is told without what people said."""
    table = Table("scratch_g1", MetaData(), key("id"), number("n"))
    merged = Merged(table)
    merged.hear(Put("scratch", {"id": "confidential"}, {"n": "confidential too", "gone": 1}))
    async with open_store(where, []) as store:
        await store.begin("a0")
    engine = open_engine(where, "write")
    async with engine.begin() as db:
        await db.run_sync(table.metadata.create_all)
    with pytest.raises(DBAPIError) as failed:
        async with engine.begin() as db:
            await merged.write(db)
    await engine.dispose()
    assert "confidential" not in str(failed.value)
