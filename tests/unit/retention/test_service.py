"""Which jobs retention deletes, and that it goes on with what was begun. Not what deleting is."""

import pytest

from commands.importing import IMPORT, IMPORTED, Brought
from commands.survey import Survey
from domain import commands as c
from domain.errors import Unavailable
from domain.events import Source
from domain.ids import RunRef
from domain.record import canonical
from eventlog.memory import CrashAt, Crashed, FaultPoint
from services.retention.service import RetentionService
from tests.support.office import Office, office
from tests.support.runs import goes_on, replies, says
from tests.unit.commands.test_delete_job import deleter_of
from tests.unit.retention.test_archive import JOB, ROOT, remover

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000
FORK = RunRef("acme", "f1", "f1")


def service(desk: Office, days: float | None, *, later_ms: int = 0) -> RetentionService:
    return RetentionService(remover(desk), lambda: desk.now + later_ms, days)


async def ended(desk: Office, ref: RunRef = ROOT) -> None:
    await desk.start(ref)
    await desk.tell(ref, replies("done"))


async def living(desk: Office) -> set[str]:
    survey = Survey(desk.backbone.log)
    await survey.catch_up()
    return {name.job for name, seen in survey.jobs.items() if not seen.deleted}


async def test_only_jobs_at_rest_for_so_long_are_deleted() -> None:
    desk = office()
    await ended(desk)
    await desk.start(RunRef("acme", "at-work", "at-work"))
    desk.now += 2 * DAY_MS
    await ended(desk, RunRef("acme", "young", "young"))
    assert await service(desk, 3).round() == []
    assert await service(desk, None).round() == []
    (deleted,) = await service(desk, 1).round()
    assert deleted.job == "j1"
    assert await living(desk) == {"at-work", "young"}


async def test_a_job_that_went_on_is_as_old_as_its_last_event() -> None:
    desk = office()
    await ended(desk)
    desk.now += 2 * DAY_MS
    await desk.tell(ROOT, goes_on(), replies("more"))
    assert await service(desk, 1).round() == []


async def test_forks_go_before_what_they_need_and_a_young_one_keeps_it() -> None:
    desk = office()
    await ended(desk)
    source = Source(job="j1", run="j1", version=(await desk.state(ROOT)).version, hash="")
    desk.now += 2 * DAY_MS
    await desk.tell(FORK, c.ForkRun(id="fork", source=source, parts=says("on")), replies("done"))
    assert await service(desk, 1).round() == []
    gone = await service(desk, 1, later_ms=2 * DAY_MS).round()
    assert [one.job for one in gone] == ["f1", "j1"]


async def test_an_imported_job_is_as_old_as_its_import() -> None:
    desk = office()
    await ended(desk)
    desk.now += 2 * DAY_MS
    brought = canonical(Brought(digest="d" * 64, at_ms=desk.now))
    await desk.backbone.registry.put(IMPORTED, "acme", "j1", brought, expected=0)
    assert await service(desk, 1).round() == []
    assert [one.job for one in await service(desk, 1, later_ms=2 * DAY_MS).round()] == ["j1"]


async def test_a_job_that_is_not_all_here_yet_is_left_to_who_brings_it() -> None:
    desk = office()
    await ended(desk)
    desk.now += 2 * DAY_MS
    await desk.backbone.registry.put(IMPORT, "acme", "j1", b"{}", expected=0)
    assert await service(desk, 1).round() == []
    await desk.backbone.registry.remove(IMPORT, "acme", "j1")
    assert [one.job for one in await service(desk, 1).round()] == ["j1"]


@pytest.mark.parametrize("occurrence", [1, 2])
async def test_what_was_begun_is_finished_also_when_nothing_is_deleted_by_age(
    occurrence: int,
) -> None:
    desk = office()
    await ended(desk)
    hook = CrashAt(FaultPoint.RETENTION_REMOVE, occurrence=occurrence, after=True)
    ports = desk.server.ports(desk.server.client(hook=hook))
    with pytest.raises(Crashed):
        await deleter_of(ports, desk).delete(JOB)
    await service(desk, None).round()
    assert await desk.backbone.retention.runs(*JOB) == {ROOT: 1}
    assert await remover(desk).unfinished() == []


async def test_a_tombstone_whose_entry_was_lost_is_enough() -> None:
    desk = office()
    await ended(desk)
    await remover(desk).delete(JOB)
    await desk.backbone.registry.remove("gone", *JOB)
    (again,) = await service(desk, 1).round()
    assert again.job == "j1"
    assert await service(desk, 1).round() == []


async def test_collecting_says_how_much(caplog: pytest.LogCaptureFixture) -> None:
    desk = office()
    await ended(desk)
    await desk.backbone.blobs.put("acme", b"unwanted")
    caplog.set_level("INFO")
    assert await service(desk, 1).collect() == 0
    assert await service(desk, 1, later_ms=2 * DAY_MS).collect() == len(b"unwanted")
    assert "8 bytes" in caplog.text
    desk.server.stop()
    with pytest.raises(Unavailable):
        await service(desk, 1).round()
