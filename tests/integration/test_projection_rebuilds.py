"""Views that are built anew while services follow the log. Not what a store does in one step."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from domain import events as e
from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone, Cursor
from projections.places import Place
from projections.queries.reader import Reader
from projections.runner import catch_up, open_projection, rebuild, run_projection
from projections.store import open_store
from projections.view import AnyView
from projections.views import ALL, RUNS
from tests.support.pen import Pen, completed, started
from tests.support.tally import Tally
from tests.support.views import opened

pytestmark = pytest.mark.anyio

BOUND_S = 20.0


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "views.sqlite"


async def write(backbone: Backbone, *names: str) -> int:
    """Runs of two envelopes each; the log's last sequence."""
    for name in names:
        pen = Pen(RunRef("acme", "job1", name))
        await pen.write(backbone.log, *started())
        await pen.write(backbone.log, *completed(1))
    return (await backbone.log.bounds())[1]


async def until(reader: Reader, there: Callable[[list[Place]], bool]) -> list[Place]:
    """The places, once they are so."""
    async with asyncio.timeout(BOUND_S):
        while not there(places := await reader.places()):
            pass
    return places


@asynccontextmanager
async def following(
    backbone: Backbone, path: Path, views: Sequence[AnyView] = ALL, services: int = 1
) -> AsyncGenerator[None]:
    """Services `projections` while the context is open."""

    async def serve() -> None:
        opened = open_projection(backbone.log, path, views=views, batch_max=7, look_s=0.01)
        async with opened as projection:
            await projection.run()

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(serve()) for _ in range(services)]
        try:
            yield
        finally:
            for one in running:
                one.cancel()


async def test_a_rebuild_is_done_by_the_services_that_follow_and_they_go_on(
    backbone: Backbone, path: Path
) -> None:
    last = await write(backbone, *(f"run{n}" for n in range(40)))
    async with following(backbone, path, services=2), Reader(path) as reader:
        assert await reader.wait_for(Cursor("a0", last), BOUND_S)
        async with open_store(path, ALL) as store:
            await store.rebuild("a0", ["runs", "search"], goal=last)
        anew = {"runs", "search"}

        def switched(places: list[Place]) -> bool:
            numbers = [one.generation for one in places if one.view in anew]
            return len(places) == len(ALL) and min(numbers) > len(ALL)

        places = await until(reader, switched)
        assert {place.role for place in places} == {"live"}
        last = await write(backbone, "later")
        views = [view.name for view in ALL]
        assert await reader.wait_for(Cursor("a0", last), BOUND_S, views=views)
        assert len((await reader.runs("acme")).runs) == 41


async def test_whoever_looks_something_up_builds_what_this_release_reads(
    backbone: Backbone, path: Path
) -> None:
    last = await write(backbone, "alpha")
    await catch_up(backbone.log, path, views=[Tally()])
    newer = Tally(version=2)
    async with Reader(path, [newer]) as reader:
        with pytest.raises(Unavailable, match="yet to be built"):
            await opened(reader, "tally")
        await catch_up(backbone.log, path, views=[newer])
        assert await reader.position("tally") == Cursor("a0", last)


async def test_a_service_of_an_older_release_leaves_a_newer_view_alone(
    backbone: Backbone, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = await write(backbone, "alpha")
    await catch_up(backbone.log, path, views=[Tally(version=2)])
    more = Tally(name="more")
    with caplog.at_level(logging.WARNING):
        async with following(backbone, path, [Tally(), more]), Reader(path, [more]) as reader:
            places = await until(
                reader, lambda places: [(p.view, p.role) for p in places][:1] == [("more", "live")]
            )
    assert [(one.view, one.version, one.seq) for one in places] == [
        ("more", 1, last),
        ("tally", 2, last),
    ]
    assert "the view tally is of a newer release" in caplog.text


async def test_only_the_views_that_are_named_are_built_anew(backbone: Backbone, path: Path) -> None:
    last = await write(backbone, "alpha")
    await catch_up(backbone.log, path)
    async with Reader(path) as reader:
        before = {place.view: place.generation for place in await reader.places()}
        assert await rebuild(backbone.log, path, names=["jobs"]) == Cursor("a0", last)
        after = {place.view: place.generation for place in await reader.places()}
    assert {name for name in after if after[name] != before[name]} == {"jobs"}


async def test_what_is_wrong_with_a_history_is_told_once_for_all_views(
    backbone: Backbone, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pen = Pen(RunRef("acme", "job1", "alpha"))
    await pen.write(backbone.log, *started())
    pen.next(e.StepEnded(step=1))  # lost: never stored
    await pen.write(backbone.log, *completed(1))
    with caplog.at_level(logging.ERROR):
        await catch_up(backbone.log, path)
    assert len(caplog.records) == 1


async def test_a_view_alone_can_be_followed_and_the_others_are_made_later(
    backbone: Backbone, path: Path
) -> None:
    last = await write(backbone, "alpha", "beta")
    await catch_up(backbone.log, path, views=[RUNS])
    async with Reader(path) as reader:
        assert len((await reader.runs("acme")).runs) == 2
        with pytest.raises(Unavailable, match="'jobs' is yet to be built"):
            await opened(reader, "jobs")
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(run_projection(backbone.log, path))
            await until(
                reader, lambda places: len([p for p in places if p.role == "live"]) == len(ALL)
            )
            running.cancel()
        assert await reader.position("jobs") == Cursor("a0", last)


async def test_a_service_that_is_stopped_in_the_moment_of_a_switch_stops(tmp_path: Path) -> None:
    """A task group that is cancelled while one of its tasks fails tells of the failure alone."""
    for number in range(12):
        path, backbone = tmp_path / f"{number}.sqlite", MemoryServer(now_ms=lambda: 0).backbone()
        await write(backbone, "alpha")
        await catch_up(backbone.log, path, views=[Tally()])
        views = [Tally(), Tally(name="more")]
        async with asyncio.timeout(BOUND_S), following(backbone, path, views):
            async with Reader(path, views) as reader:
                await until(
                    reader, lambda places: len([p for p in places if p.role == "live"]) == 2
                )
            for _ in range(number % 6):
                await asyncio.sleep(0)
