"""Jobs are deleted whole, once they are at rest, and never come back half (rule 15)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count

import orjson
import pytest

from commands import fork_run as forking
from commands.delete_job import GONE, Deleter, read_gone, with_forks
from commands.runs import RunStore
from commands.survey import JobName, JobSeen, Survey
from domain import commands as c
from domain.envelope import decode, tombstone_in
from domain.errors import Rejected, Unavailable
from domain.events import Parent, Principal, RunDeleted, Source
from domain.ids import RunRef, child_run_id
from eventlog.memory import Crashed, FaultPoint, Hook
from eventlog.memory.registry import MemoryRegistry
from eventlog.memory.retention import MemoryRetention
from eventlog.port import Backbone, Stored
from tests.support.office import Office, office
from tests.support.runs import cancel, delegate, goes_on, replies, says

pytestmark = pytest.mark.anyio

ROOT = RunRef("acme", "j1", "j1")
JOB = JobName("acme", "j1")
CHILD = RunRef("acme", "j1", child_run_id("j1", "c1-0"))
FORK = RunRef("acme", "f1", "f1")
FORK_JOB = JobName("acme", "f1")
BY = Principal(name="ada", via="cli")
BOUND_S = 10


async def worked(desk: Office | None = None, ref: RunRef = ROOT) -> Office:
    """A job of two runs at rest, with something of it in everything that is kept."""
    desk = desk or office()
    await desk.start(ref)
    await desk.tell(ref, replies(delegate()))
    await desk.handle_queued()
    child = RunRef(ref.tenant, ref.job, child_run_id(ref.run, "c1-0"))
    await desk.tell(child, replies("done"))
    await desk.handle_queued()
    await desk.tell(ref, replies("all done"))
    for one in (ref, child):
        await desk.backbone.snapshots.put(one, b"folded")
        await desk.backbone.commands.put(one, b"{}")
        await desk.backbone.dead.put(one, b"secret", "why")
        await desk.backbone.work.put("step", one, b"secret")
    return desk


def deleter(desk: Office) -> Deleter:
    return deleter_of(desk.backbone, desk)


def deleter_of(backbone: Backbone, desk: Office) -> Deleter:
    ids = count(1)
    runs = RunStore(
        backbone, epoch="retention", now_ms=desk.now_ms, new_id=lambda: f"retention-{next(ids)}"
    )
    return Deleter(backbone, runs, Survey(backbone.log), lambda: f"d{next(ids)}")


def forks(version: int) -> c.ForkRun:
    source = Source(job=ROOT.job, run=ROOT.run, version=version, hash="")
    return c.ForkRun(id="fork", source=source, parts=says("go on"))


async def refused(what: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(Rejected) as caught:
        await what()
    return caught.value.code


async def assert_nothing_left(desk: Office) -> None:
    """Only the tombstone is left of the job, and the registry says who deleted it."""
    (stored,) = await desk.backbone.log.load(ROOT)
    (event,) = decode(stored.data).events
    assert isinstance(event, RunDeleted)
    assert await desk.backbone.retention.runs("acme", "j1") == {ROOT: 1}
    assert await desk.backbone.log.load(CHILD) == []
    for ref in (ROOT, CHILD):
        assert await desk.backbone.snapshots.get(ref) is None
    assert [ref for ref in await desk.backbone.open_runs.list() if ref.job == "j1"] == []
    assert [one for one in await desk.backbone.dead.list(99) if one.ref.job == "j1"] == []
    assert [one async for one in desk.backbone.retention.waiting()] == []
    assert [one.ref for queue in desk.server.work.values() for one in queue.messages.values()] == []
    entry = await desk.backbone.registry.get(GONE, "acme", "j1")
    assert entry is not None
    gone = read_gone(entry.data)
    assert gone is not None
    assert gone.removed_at_ms is not None
    assert (gone.runs, gone.by) == (2, BY)


async def test_a_job_at_rest_is_deleted_and_only_its_tombstone_stays() -> None:
    desk = await worked()
    before = sum((await desk.backbone.retention.runs(*JOB)).values())
    deleted = await deleter(desk).delete(JOB, BY)
    assert (deleted.runs, deleted.envelopes, deleted.kept_by) == (2, before, ())
    await assert_nothing_left(desk)
    again = await deleter(desk).delete(JOB, BY)
    assert (again.runs, again.envelopes) == (2, before)
    await assert_nothing_left(desk)


async def test_a_job_at_work_is_not_deleted() -> None:
    desk = office()
    await desk.start(ROOT)
    assert await refused(lambda: deleter(desk).delete(JOB, BY)) == "not_at_rest"
    assert await refused(lambda: deleter(desk).delete(JobName("acme", "no"), BY)) == "no_such_job"
    assert await desk.backbone.registry.list(GONE) == []
    await desk.tell(ROOT, replies(delegate()))
    await desk.handle_queued()
    await desk.tell(ROOT, cancel())  # its child has to end first
    assert await refused(lambda: deleter(desk).delete(JOB, BY)) == "not_at_rest"
    assert (await desk.state(ROOT)).status == "running"


async def test_a_job_that_goes_on_meanwhile_is_not_deleted() -> None:
    desk = await worked()

    class Slow(MemoryRegistry):
        """A registry during whose answer the job goes on."""

        async def put(
            self, kind: str, tenant: str, name: str, data: bytes, *, expected: int
        ) -> int:
            kept = await super().put(kind, tenant, name, data, expected=expected)
            await desk.tell(ROOT, goes_on())
            return kept

    registry = Slow(desk.client, desk.server.registry)
    remover = deleter_of(replace(desk.backbone, registry=registry), desk)
    assert await refused(lambda: remover.delete(JOB, BY)) == "not_at_rest"
    assert (await desk.state(ROOT)).status == "running"
    assert desk.server.registry.entries == {}
    assert len(await desk.backbone.log.load(CHILD)) > 0


async def test_nothing_brings_a_deleted_job_back() -> None:
    desk = await worked()
    elsewhere = office("e2", desk)
    version = (await elsewhere.state(ROOT)).version
    await elsewhere.state(CHILD)  # this process has both runs in its cache, and never looks again
    await deleter(desk).delete(JOB, BY)
    parent = Parent(run=ROOT.run, call="c1-0")
    child = desk.start_command("helper").model_copy(update={"parent": parent})
    assert (await elsewhere.ask(CHILD, child)).status == "accepted"  # it was: nothing to be done
    assert (await office("e2", desk).ask(CHILD, child)).code == "gone"
    for there in (elsewhere, office("e3", desk)):
        for ref, asked in (
            (ROOT, desk.start_command()),
            (ROOT, goes_on()),
            (ROOT, cancel()),
            (CHILD._replace(run="never-was"), child),
            (CHILD._replace(run="never-was"), cancel()),
            (FORK, forks(version)),
        ):
            answer = await there.ask(ref, asked)
            assert (answer.status, answer.code) == ("rejected", "gone"), (ref, asked)
    await desk.handle_queued()
    assert await desk.backbone.retention.runs(*JOB) == {ROOT: 1}
    assert await desk.backbone.log.load(FORK) == []


async def test_what_is_asked_of_the_wire_never_deletes() -> None:
    desk = await worked()
    asked = c.DeleteRun(id="x", version=(await desk.state(ROOT)).version, runs=1, envelopes=1)
    answer = await desk.ask(ROOT, asked)
    assert (answer.status, answer.code) == ("rejected", "not_for_the_wire")


async def test_a_job_with_a_living_fork_is_kept_and_the_fork_is_named() -> None:
    desk = await worked()
    await desk.tell(FORK, forks((await desk.state(ROOT)).version))
    with pytest.raises(Rejected, match="f1") as caught:
        await deleter(desk).delete(JOB, BY)
    assert caught.value.code == "has_forks"
    await desk.tell(FORK, replies("done"))
    remover = deleter(desk)
    await remover.survey.catch_up()
    assert with_forks(remover.survey, JOB) == [FORK_JOB, JOB]
    for name in with_forks(remover.survey, JOB):
        await remover.delete(name, BY)
    await assert_nothing_left(desk)
    assert await desk.backbone.retention.runs(*FORK_JOB) == {FORK: 1}


async def test_a_fork_that_begins_while_its_source_is_deleted_keeps_the_history() -> None:
    """It has looked for a tombstone and not yet begun: its source waits for it."""
    desk = await worked()
    command = forks((await desk.state(ROOT)).version)
    await desk.backbone.open_runs.add(FORK)
    origin = await forking._origin(desk.desk, FORK, command)  # pyright: ignore[reportPrivateUsage]
    remover = deleter(desk)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        deleting = tasks.create_task(remover.delete(JOB, BY))
        async with desk.backbone.log.follow(after_seq=0, job="j1") as stored:
            async for item in stored:
                if tombstone_in(item.data):
                    break
        await desk.desk.execute(FORK, command, origin=origin)
    assert (await deleting).kept_by == ("f1",)
    assert (await office("e9", desk).state(FORK)).conversation.messages  # read cold
    assert await remover.unfinished() == [JOB]
    await desk.tell(FORK, replies("done"))
    await remover.delete(FORK_JOB, BY)
    assert (await remover.delete(JOB, BY)).kept_by == ()
    await assert_nothing_left(desk)


async def test_a_deleted_fork_that_is_kept_for_a_fork_of_its_own_needs_its_source_too() -> None:
    """Its history begins in that of the source, so that one goes last."""
    survey = Survey(office().backbone.log)
    first, middle, last = (JobName("acme", name) for name in ("a", "b", "c"))
    survey.jobs = {
        first: JobSeen(),
        middle: JobSeen(source="a"),
        last: JobSeen(source="b"),
    }
    event = {"type": "run.deleted.v1"}
    said = orjson.dumps({"at_ms": 1, "events": [event]})
    survey.see(Stored(9, middle.root, said))
    assert (survey.forks_of(middle), survey.forks_of(first)) == ([last], [middle])
    survey.see(Stored(10, last.root, said))
    assert (survey.forks_of(middle), survey.forks_of(first)) == ([], [])


async def test_a_run_that_never_begins_is_waited_for_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("commands.delete_job.BEGINNING_S", 0.05)
    desk = await worked()
    await desk.backbone.open_runs.add(FORK)
    with pytest.raises(Unavailable, match="f1"):
        await deleter(desk).delete(JOB, BY)
    assert (await desk.ask(ROOT, goes_on())).code == "gone"
    await desk.backbone.open_runs.remove(FORK)
    await deleter(desk).delete(JOB, BY)
    await assert_nothing_left(desk)


async def test_what_comes_between_the_tombstone_and_the_purge_goes_too() -> None:
    desk = await worked()
    late = (await desk.backbone.log.load(CHILD))[-1]
    seen: list[RunRef] = []

    class Late(MemoryRetention):
        """Something is appended to the job before it is purged."""

        async def purge(self, pattern: RunRef, *, before_seq: int) -> None:
            if not seen:
                await desk.backbone.log.append(CHILD, late.data, expected_seq=late.seq)
            seen.append(pattern)
            await super().purge(pattern, before_seq=before_seq)

    retention = Late(desk.client, desk.server.stores)
    await deleter_of(replace(desk.backbone, retention=retention), desk).delete(JOB, BY)
    assert seen == [ROOT._replace(run="*")] * 2
    tombstones = [one for one in desk.server.log.all if tombstone_in(one.data)]
    assert len(tombstones) == 2  # so whoever has read what came too late hears of its end
    await assert_nothing_left(desk)


class DieAt(Hook):
    """Dies at the n-th moment that a process has at all, before or after any call."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def before(self, point: FaultPoint) -> None:
        self._pass(point)

    def after(self, point: FaultPoint) -> None:
        self._pass(point)

    def _pass(self, point: FaultPoint) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crashed(point)


async def test_a_deletion_that_dies_at_any_moment_is_finished_by_the_next() -> None:
    moment, died = 0, True
    while died:
        moment += 1
        desk = await worked()
        client = desk.server.client(hook=DieAt(moment))
        died = False
        try:
            await deleter_of(desk.server.ports(client), desk).delete(JOB, BY)
        except Crashed:
            died = True
        stored = await desk.backbone.log.load(ROOT)
        gone = tombstone_in(stored[-1].data)
        assert gone or len(await desk.backbone.log.load(CHILD)) > 0, moment  # all, or a tombstone
        if gone:
            answer = await office("e5", desk).ask(ROOT, goes_on())
            assert answer.code == "gone"
        later = deleter(desk)
        await later.survey.catch_up()
        announced = await later.known(JOB) is not None
        assert announced or not gone  # whoever looks for what is unfinished finds it
        await later.delete(JOB, BY)
        assert await later.unfinished() == []
        await assert_nothing_left(desk)
    assert moment > 20


async def test_two_who_delete_at_once_do_it_once() -> None:
    desk = await worked()
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        both = [tasks.create_task(deleter(desk).delete(JOB, BY)) for _ in range(3)]
    assert {one.result().runs for one in both} == {2}
    await assert_nothing_left(desk)


async def test_a_survey_reads_on_where_it_was() -> None:
    desk = await worked()
    survey = Survey(desk.backbone.log)
    await survey.catch_up()
    assert survey.jobs[JOB].at_work == set()
    assert survey.jobs[JOB].runs == {ROOT.run, CHILD.run}
    assert survey.jobs[JOB].at_ms == (await desk.state(ROOT)).at_ms
    await desk.tell(ROOT, goes_on())
    assert survey.jobs[JOB].at_work == set()
    await survey.catch_up()
    assert survey.jobs[JOB].at_work == {ROOT.run}
    desk.server.log.remake("b1")
    await survey.catch_up()
    assert survey.jobs == {}
