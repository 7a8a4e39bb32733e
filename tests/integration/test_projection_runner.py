"""The view file against the log: batches, crashes, rebuilds, other writers. Not the folding."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import events as e
from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone, Cursor, Stored
from projections.queries import Filters
from projections.queries.reader import Reader
from projections.rows import CheckpointRow, RunRow
from projections.runner import catch_up, open_projection, rebuild, run_projection
from projections.seeing import see
from projections.store import Moved, open_store
from projections.views import ALL
from tests.support.pen import Pen, completed, continued, replied, requested, started

pytestmark = pytest.mark.anyio

BOUND_S = 10.0
RUNS = ("alpha", "beta", "gamma", "delta")
Rows = tuple[list[RunRow], list[CheckpointRow]]


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer(now_ms=lambda: 0)


@pytest.fixture
def backbone(server: MemoryServer) -> Backbone:
    return server.backbone()


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "views.sqlite"


def history(ref: RunRef) -> Sequence[tuple[e.Event, ...]]:
    unknown = e.OpaqueEvent(type="mood.changed.v7", body={"to": ref.run})
    middle = (replied(1), e.StepEnded(step=1), requested(2))
    return (started(), middle, (unknown,), completed(2), continued(step=3), completed(3, ref.run))


async def write_runs(backbone: Backbone) -> None:
    """Four runs of two tenants, interleaved."""
    pens = [Pen(RunRef("umbrella" if run == "delta" else "acme", "job1", run)) for run in RUNS]
    for batches in zip(*(history(pen.ref) for pen in pens), strict=True):
        for pen, batch in zip(pens, batches, strict=True):
            await pen.write(backbone.log, *batch)


async def everything(db_path: Path) -> Rows:
    reader = Reader(db_path)
    rows = [row for tenant in ("acme", "umbrella") for row in (await reader.runs(tenant)).runs]
    return rows, [point for row in rows for point in await reader.checkpoints(row)]


def remove(path: Path) -> None:
    path.unlink()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)


async def expected(backbone: Backbone, folder: Path) -> Rows:
    await catch_up(backbone.log, folder / "expected.sqlite")
    return await everything(folder / "expected.sqlite")


async def test_a_caught_up_view_shows_every_run_and_its_position(
    backbone: Backbone, db_path: Path
) -> None:
    await write_runs(backbone)
    position = await catch_up(backbone.log, db_path)
    reader = Reader(db_path)
    assert position == await reader.position() == Cursor("a0", 24)
    rows = (await reader.runs("acme")).runs
    assert [row.run for row in rows] == ["gamma", "beta", "alpha"]
    assert [row.result for row in rows] == ["gamma", "beta", "alpha"]
    assert [point.step for point in await reader.checkpoints(rows[0])] == [1, 2, 3]


async def test_the_view_follows_what_is_written_until_it_is_stopped(
    backbone: Backbone, db_path: Path
) -> None:
    reader, pen = Reader(db_path), Pen(RunRef("acme", "job1", "alpha"))
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_projection(backbone.log, db_path))
        for batch in history(pen.ref):
            seq = await pen.write(backbone.log, *batch)
            assert await reader.wait_for(Cursor("a0", seq), BOUND_S)
            row = await reader.run("acme", "alpha")
            assert row is not None
            assert row.version == pen.version - 1
        running.cancel()


async def test_an_absent_file_is_an_empty_view(db_path: Path) -> None:
    reader = Reader(db_path)
    assert await reader.position() is None
    assert (await reader.runs("acme")).runs == ()
    assert await reader.run("acme", "alpha") is None
    assert not await reader.wait_for(Cursor("a0", 1), 0.05)


async def test_dropping_the_file_and_replaying_gives_identical_rows(
    backbone: Backbone, db_path: Path
) -> None:
    await write_runs(backbone)
    await catch_up(backbone.log, db_path)
    before = await everything(db_path)
    remove(db_path)
    await catch_up(backbone.log, db_path)
    assert await everything(db_path) == before
    assert await rebuild(backbone.log, db_path) == Cursor("a0", 24)
    assert await everything(db_path) == before


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=8))
def test_any_batches_repeated_or_overlapping_give_the_same_rows(
    cuts: list[tuple[int, int]],
) -> None:
    async def scenario(folder: Path) -> None:
        backbone = MemoryServer(now_ms=lambda: 0).backbone()
        await write_runs(backbone)
        stored = [s for run in RUNS for s in await load(backbone, run)]
        stored.sort()
        path = folder / "views.sqlite"
        for start, length in cuts:  # each batch is another life of the writer
            async with open_store(path, ALL) as store:
                standing = await store.begin("a0")
                from_seq = min(
                    start, standing.live[0].seq
                )  # it may begin before its place, never after
                batch = [see(one) for one in stored[from_seq : from_seq + length]]
                await store.apply(standing, batch)
        await catch_up(backbone.log, path)
        assert await everything(path) == await expected(backbone, folder)

    with TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


async def load(backbone: Backbone, run: str) -> list[Stored]:
    tenant = "umbrella" if run == "delta" else "acme"
    return await backbone.log.load(RunRef(tenant, "job1", run))


async def test_a_writer_that_dies_between_two_batches_goes_on_where_it_was(
    backbone: Backbone, db_path: Path, tmp_path: Path
) -> None:
    class Died(Exception):
        pass

    def die_after(seq: int) -> Callable[[Cursor], None]:
        def on_position(position: Cursor) -> None:
            if position.seq > seq:
                raise Died

        return on_position

    await write_runs(backbone)
    for lived in range(0, 24, 3):
        async with open_projection(
            backbone.log, db_path, on_position=die_after(lived), batch_max=2
        ) as projection:
            with pytest.raises((Died, ExceptionGroup)):
                await projection.catch_up(24)
    position = await Reader(db_path).position()
    assert position is not None
    assert 0 < position.seq < 25
    await catch_up(backbone.log, db_path)
    assert await everything(db_path) == await expected(backbone, tmp_path)


async def test_a_batch_that_fails_leaves_neither_rows_nor_cursor(
    backbone: Backbone, db_path: Path
) -> None:
    await write_runs(backbone)
    stored = await load(backbone, "alpha")
    async with open_store(db_path, ALL) as store:
        standing = await store.begin("a0")
        broken = see(stored[1])._replace(ref=None)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await store.apply(standing, [see(stored[0]), broken])
    assert await Reader(db_path).position() == Cursor("a0", 0)
    assert await everything(db_path) == ([], [])


async def test_two_writers_of_one_file_apply_nothing_twice(
    backbone: Backbone, db_path: Path, tmp_path: Path
) -> None:
    await write_runs(backbone)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        for _ in range(6):
            tasks.create_task(catch_up(backbone.log, db_path))
    assert await everything(db_path) == await expected(backbone, tmp_path)


async def test_a_writer_notices_that_another_threw_the_view_away(
    backbone: Backbone, db_path: Path, tmp_path: Path
) -> None:
    await write_runs(backbone)
    stored = await load(backbone, "alpha")
    async with open_store(db_path, ALL) as old, open_store(db_path, ALL) as new:
        standing = await old.begin("a0")
        await old.apply(standing, [see(one) for one in stored[:2]])
        await new.begin("b1")
        with pytest.raises(Moved):
            await old.apply(standing, [see(one) for one in stored[2:]])
    await catch_up(backbone.log, db_path)
    assert await everything(db_path) == await expected(backbone, tmp_path)


async def test_another_incarnation_of_the_log_empties_the_view(
    server: MemoryServer, backbone: Backbone, db_path: Path
) -> None:
    await write_runs(backbone)
    await catch_up(backbone.log, db_path)
    server.log.remake("b1")
    await Pen(RunRef("acme", "job1", "newborn")).write(backbone.log, *started())
    assert await catch_up(backbone.log, db_path) == Cursor("b1", 1)
    assert [row.run for row in (await Reader(db_path).runs("acme")).runs] == ["newborn"]


async def test_a_running_projection_survives_the_log_being_made_anew(
    server: MemoryServer, backbone: Backbone, db_path: Path
) -> None:
    await write_runs(backbone)
    reader = Reader(db_path)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_projection(backbone.log, db_path))
        assert await reader.wait_for(Cursor("a0", 24), BOUND_S)
        server.log.remake("b1")
        await Pen(RunRef("acme", "job1", "newborn")).write(backbone.log, *started())
        assert await reader.wait_for(Cursor("b1", 1), BOUND_S)
        running.cancel()
    assert [row.run for row in (await reader.runs("acme")).runs] == ["newborn"]


async def test_a_file_of_another_schema_is_made_anew(
    backbone: Backbone, db_path: Path, tmp_path: Path
) -> None:
    await write_runs(backbone)
    db_path.parent.mkdir()
    with sqlite3.connect(db_path) as db:
        db.execute("CREATE TABLE place (schema, incarnation, seq)")
        db.execute("INSERT INTO place VALUES (0, 'a0', 99)")
        db.execute("CREATE TABLE runs (old)")
    db.close()
    assert await Reader(db_path).position() is None
    assert (await Reader(db_path).runs("acme")).runs == ()
    await catch_up(backbone.log, db_path)
    assert await everything(db_path) == await expected(backbone, tmp_path)


async def test_a_file_that_is_no_database_is_made_anew(
    backbone: Backbone, db_path: Path, tmp_path: Path
) -> None:
    await write_runs(backbone)
    write(db_path, b"all is lost" * 1_000)
    await catch_up(backbone.log, db_path)
    assert await everything(db_path) == await expected(backbone, tmp_path)


async def test_a_log_that_is_away_is_said_to_be_unavailable(
    server: MemoryServer, backbone: Backbone, db_path: Path
) -> None:
    await write_runs(backbone)
    server.stop()
    with pytest.raises(Unavailable):
        await catch_up(backbone.log, db_path)


async def test_a_gap_raises_the_alarm_and_the_other_runs_go_on(
    backbone: Backbone, db_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alpha, beta = Pen(RunRef("acme", "job1", "alpha")), Pen(RunRef("acme", "job1", "beta"))
    for pen in (alpha, beta):
        await pen.write(backbone.log, *started())
    beta.next(e.StepEnded(step=1))  # lost: never stored
    for pen in (alpha, beta):
        await pen.write(backbone.log, *completed(1))
    with caplog.at_level(logging.ERROR):
        await catch_up(backbone.log, db_path)
    assert [record.message.split(":")[0] for record in caplog.records] == ["RunIntegrityViolated"]
    rows = (await Reader(db_path).runs("acme")).runs
    assert {row.run: row.integrity is None for row in rows} == {
        "alpha": True,
        "beta": False,
    }
    assert {row.status for row in rows} == {"completed"}


async def test_bytes_nobody_can_read_never_stop_the_projection(
    backbone: Backbone, db_path: Path
) -> None:
    bad = RunRef("acme", "job1", "bad")
    await backbone.log.append(bad, b"\xff\xfe", expected_seq=0)
    await write_runs(backbone)
    await catch_up(backbone.log, db_path)
    row = await Reader(db_path).run("acme", "bad")
    assert row is not None
    assert row.integrity is not None
    assert len((await Reader(db_path).runs("acme")).runs) == 4


async def test_runs_are_filtered_and_paged_newest_first(backbone: Backbone, db_path: Path) -> None:
    for n in range(7):
        pen = Pen(RunRef("acme", f"job{n % 2}", f"run{n}"))
        await pen.write(backbone.log, *started("even" if n % 2 == 0 else "odd"))
        if n < 3:
            await pen.write(backbone.log, *completed(1))
    await catch_up(backbone.log, db_path)
    reader = Reader(db_path)

    async def names(filters: Filters) -> list[str]:
        return [row.run for row in (await reader.runs("acme", filters)).runs]

    assert await names(Filters(status="completed")) == ["run2", "run1", "run0"]
    assert await names(Filters(expert="odd")) == ["run5", "run3", "run1"]
    assert await names(Filters(job="job0", status="running")) == ["run6", "run4"]
    seen: list[str] = []
    before: int | None = None
    for _ in range(4):
        page = await reader.runs("acme", limit=2, before=before)
        seen += [row.run for row in page.runs]
        before = page.before
    assert seen == [f"run{n}" for n in range(6, -1, -1)]
    assert before is None


async def test_a_run_is_found_by_its_id_or_the_only_beginning_of_it(
    backbone: Backbone, db_path: Path
) -> None:
    for name in ("abc", "abcd", "abx"):
        await Pen(RunRef("acme", "job1", name)).write(backbone.log, *started())
    await Pen(RunRef("umbrella", "job1", "zed")).write(backbone.log, *started())
    await catch_up(backbone.log, db_path)
    reader = Reader(db_path)

    async def found(name: str) -> str | None:
        row = await reader.run("acme", name)
        return row.run if row else None

    assert await found("abc") == "abc"
    assert await found("abx") == "abx"
    assert await found("abcd") == "abcd"
    assert await found("nope") is None
    assert await found("") is None
    assert await found("zed") is None
    with pytest.raises(Rejected) as rejected:
        await found("ab")
    assert rejected.value.code == "ambiguous_run"
