"""Who runs a base-tool call, by the real desk over memory and real journals (rule 6, C16)."""

import asyncio

import pytest

from domain.commands import AbandonHolder, PlaceSandbox, RecordSnapshot, RecordToolResult
from domain.content import AssistantPart, BlobRef
from domain.decisions.sandbox import PLACE_RETURN_MS
from domain.errors import Rejected
from domain.events import SandboxPlaced, SnapshotTaken
from domain.ids import RunRef
from domain.state import Call
from domain.tools import Lane, Safety
from domain.work import CallToolWork, SnapshotWork
from services.sandbox.journal import Journal
from services.sandbox.keeper import JobKeeper
from services.sandbox.placement import Held, Here, Placements
from services.worker.keeper import Begin, Elsewhere, Known, Later
from services.worker.reporter import LocalReporter
from tests.support.office import Office, office
from tests.support.runs import call, cancel, delegate, replies, result

pytestmark = pytest.mark.anyio

JOB = RunRef("acme", "job", "job")
EXEC = call("exec", '{"command": "true"}')
WRITE = call("writeTextFile", '{"path": "a", "text": "b"}')
READ = call("readTextFile", '{"path": "a"}')


class Disk:
    """A place: journals that outlive the workers."""

    def __init__(self, name: str = "p1") -> None:
        self.name = name
        self.files: dict[str, bytes] = {}
        self.fenced: dict[str, bytes] = {}
        self.reached = asyncio.Event()
        self.stopped = ""  # the epoch whose process is stopped at its next line
        self.goes_on = asyncio.Event()

    async def append(self, epoch: str, data: bytes) -> None:
        if epoch == self.stopped:
            self.reached.set()
            await self.goes_on.wait()
        self.files[epoch] = self.files.get(epoch, b"") + data

    async def read(self, epoch: str) -> bytes | None:
        return self.files.get(epoch)

    async def fence(self, ref: RunRef, data: bytes) -> None:
        self.fenced[ref.job] = self.fenced.get(ref.job, b"") + data

    async def fences(self, ref: RunRef) -> bytes:
        return self.fenced.get(ref.job, b"")


class Worker:
    """One life of a sandbox worker, whose desk is in the same process."""

    def __init__(self, desk: Office, disk: Disk, epoch: str) -> None:
        self.epoch = epoch
        self.journal = Journal(disk, disk.name, epoch)
        reporter = LocalReporter(desk.desk)

        async def here() -> Here:
            return Here(disk.name, epoch, "bubblewrap", "{}", snapshots=True)

        self.storing = asyncio.Event()
        self.stored = asyncio.Event()
        self.stored.set()

        async def take(ref: RunRef, work: SnapshotWork) -> SnapshotTaken | None:
            self.storing.set()
            await self.stored.wait()
            manifest = BlobRef(digest=f"files-of-{epoch}", size=1)
            return SnapshotTaken(
                run=ref.run, step=work.step, version=work.version, manifest=manifest
            )

        self.here = here
        self.take = take
        self.placements = Placements(here, reporter, self.journal, lambda _: "own")
        self.keeper = JobKeeper(self.placements, self.journal, reporter, take)

    def done(self, name: str, text: str = "done") -> RecordToolResult:
        return result(name, text, holder=self.epoch)


def work_of(one: Call) -> CallToolWork:
    return CallToolWork(
        call=one.id,
        attempt=one.attempt,
        lane=one.lane,
        tool=one.tool,
        skill=one.skill,
        safety=one.safety,
        arguments=one.arguments,
        key=one.key,
        timeout_ms=1_000,
    )


async def asks_for(desk: Office, *calls: AssistantPart, ref: RunRef = JOB) -> list[CallToolWork]:
    """A run that asked for some base tools; the work of each."""
    desk.bench.room = False
    await desk.start(ref)
    state = await desk.tell(ref, replies(*calls))
    return [work_of(one) for one in state.open_calls if one.lane is Lane.SANDBOX]


async def lose(desk: Office, epoch: str, ref: RunRef = JOB) -> None:
    await desk.tell(ref, AbandonHolder(holder=epoch))


async def test_first_copy_begins_and_is_in_the_journal_and_every_other_is_known() -> None:
    desk, disk = office(), Disk()
    (work,) = await asks_for(desk, EXEC)
    worker = Worker(desk, disk, "e1")
    assert await worker.keeper.admit(JOB, work) == Begin()
    assert b'"begin"' in disk.files["e1"]
    assert await worker.keeper.admit(JOB, work) == Known(None)
    await worker.keeper.ended(JOB, worker.done(work.call))
    assert await worker.keeper.admit(JOB, work) == Known(worker.done(work.call))
    await worker.keeper.recorded(JOB, work.call)
    assert await worker.keeper.admit(JOB, work) == Known(None)


async def test_another_worker_is_told_who_keeps_the_job() -> None:
    desk = office()
    first, second = await asks_for(desk, EXEC, WRITE)
    await Worker(desk, Disk(), "e1").keeper.admit(JOB, first)
    assert await Worker(desk, Disk("p2"), "e2").keeper.admit(JOB, second) == Elsewhere("e1")


@pytest.mark.parametrize(
    ("asked", "ended", "admission"),
    [
        (EXEC, False, "outcome_unknown"),
        (EXEC, True, "succeeded"),
        (WRITE, False, "begin"),
        (WRITE, True, "succeeded"),
        (READ, False, "begin"),
    ],
)
async def test_next_life_of_a_place_settles_what_the_one_before_began(
    asked: AssistantPart,
    ended: bool,  # noqa: FBT001 - a column
    admission: str,
) -> None:
    desk, disk = office(), Disk()
    (work,) = await asks_for(desk, asked)
    dead = Worker(desk, disk, "e1")
    assert await dead.keeper.admit(JOB, work) == Begin()
    if ended:
        await dead.keeper.ended(JOB, dead.done(work.call))
    await lose(desk, "e1")
    work = work_of((await desk.state(JOB)).calls[work.call])
    answer = await Worker(desk, disk, "e2").keeper.admit(JOB, work)
    if admission == "begin":
        assert answer == Begin()
        return
    assert isinstance(answer, Known)
    assert answer.result is not None
    assert (answer.result.outcome, answer.result.holder) == (admission, "e2")


async def test_what_the_journal_of_the_life_before_does_not_name_runs() -> None:
    """C16: absence proves "not run" only within an unbroken epoch of the same place."""
    desk, disk = office(), Disk()
    first, second = await asks_for(desk, EXEC, EXEC)
    await Worker(desk, disk, "e1").keeper.admit(JOB, first)
    await lose(desk, "e1")
    assert await Worker(desk, disk, "e2").keeper.admit(JOB, second) == Begin()


async def test_what_is_in_a_journal_that_is_gone_is_unknown() -> None:
    desk, disk = office(), Disk()
    first, second = await asks_for(desk, EXEC, EXEC)
    await Worker(desk, disk, "e1").keeper.admit(JOB, first)
    await lose(desk, "e1")
    disk.files.clear()
    answer = await Worker(desk, disk, "e2").keeper.admit(JOB, second)
    assert isinstance(answer, Known)
    assert answer.result is not None
    assert answer.result.outcome == "outcome_unknown"


async def test_copy_of_a_call_that_its_change_of_place_made_unknown_does_not_run() -> None:
    """The worker that takes over was woken by a copy of that very call."""
    desk = office()
    (work,) = await asks_for(desk, EXEC, call("nope"))
    await Worker(desk, Disk(), "e1").keeper.admit(JOB, work)
    await lose(desk, "e1")
    desk.now += PLACE_RETURN_MS
    assert await Worker(desk, Disk("p2"), "e2").keeper.admit(JOB, work) == Known(None)
    state = await desk.state(JOB)
    assert state.sandbox is not None
    assert state.sandbox.epoch == "e2"
    assert state.past_calls[work.call].outcome == "outcome_unknown"


async def test_worker_that_was_taken_for_lost_asks_again_before_it_begins_anything() -> None:
    """It is cut off, not dead: what was asked for since may be in other hands."""
    desk = office()
    first, second = await asks_for(desk, EXEC, EXEC)
    alive = Worker(desk, Disk(), "e1")
    await alive.keeper.admit(JOB, first)
    await lose(desk, "e1")
    desk.now += PLACE_RETURN_MS
    await Worker(desk, Disk("p2"), "e2").keeper.admit(JOB, second)
    assert await alive.keeper.admit(JOB, second) == Elsewhere("e2")


async def test_worker_that_was_taken_for_lost_and_is_not_is_placed_again() -> None:
    desk = office()
    first, second = await asks_for(desk, EXEC, EXEC)
    alive = Worker(desk, Disk(), "e1")
    await alive.keeper.admit(JOB, first)
    await lose(desk, "e1")
    assert await alive.keeper.admit(JOB, second) == Begin()
    sandbox = (await desk.state(JOB)).sandbox
    assert sandbox is not None
    assert (sandbox.number, sandbox.lost_ms) == (2, None)


async def test_second_worker_of_one_process_does_not_repeat_what_the_first_began() -> None:
    desk, disk = office(), Disk()
    (work,) = await asks_for(desk, EXEC)
    assert await Worker(desk, disk, "e1").keeper.admit(JOB, work) == Begin()
    answer = await Worker(desk, disk, "e1").keeper.admit(JOB, work)
    assert isinstance(answer, Known)
    assert answer.result is not None
    assert answer.result.outcome == "outcome_unknown"


@pytest.mark.parametrize("asked", [EXEC, WRITE], ids=["exec", "write"])
async def test_copy_that_is_older_than_the_outcome_does_not_run(asked: AssistantPart) -> None:
    """A write that is done again after another would undo it."""
    desk, disk = office(), Disk()
    work, _ = await asks_for(desk, asked, EXEC)
    worker = Worker(desk, disk, "e1")
    await worker.keeper.admit(JOB, work)
    await desk.tell(JOB, worker.done(work.call))
    await lose(desk, "e1")
    assert isinstance(await Worker(desk, disk, "e2").keeper.admit(JOB, work), Known)


async def test_nothing_begins_in_a_run_that_is_being_cancelled_or_at_rest() -> None:
    desk, disk = office(), Disk()
    (work,) = await asks_for(desk, EXEC)
    await Worker(desk, disk, "e1").placements.hold(JOB)
    await desk.tell(JOB, cancel())
    worker = Worker(desk, disk, "e1")
    assert await worker.keeper.admit(JOB, work) == Known(None)
    await desk.fire(JOB)
    assert (await desk.state(JOB)).status == "cancelled"
    assert await Worker(desk, disk, "e1").keeper.admit(JOB, work) == Known(None)


async def test_delegate_is_placed_by_the_number_of_its_root() -> None:
    desk = office()
    desk.bench.room = False
    await desk.start(JOB)
    state = await desk.tell(JOB, replies(delegate(), EXEC))
    child = RunRef(
        JOB.tenant, JOB.job, next(d.delegation.child for d in state.open_calls if d.delegation)
    )
    await desk.handle_queued()
    await desk.tell(child, replies(EXEC))
    worker = Worker(desk, Disk(), "e1")
    held = await worker.placements.hold(child)
    assert isinstance(held, Held)
    told = [(await desk.state(ref)).sandbox for ref in (JOB, child)]
    assert [(one.epoch, one.number) for one in told if one] == [("e1", 1), ("e1", 1)]


async def test_root_with_a_name_of_its_own_is_placed_by_itself() -> None:
    desk, ref = office(), RunRef("acme", "job", "mine")
    (work,) = await asks_for(desk, EXEC, ref=ref)
    assert await Worker(desk, Disk(), "e1").keeper.admit(ref, work) == Begin()


async def test_nobody_who_could_say_means_later() -> None:
    class Away(LocalReporter):
        async def place(self, ref: RunRef, command: PlaceSandbox) -> None:
            del ref, command

    desk = office()
    (work,) = await asks_for(desk, EXEC)
    worker = Worker(desk, Disk(), "e1")
    away = Placements(worker.here, Away(desk.desk), worker.journal, lambda _: "own")
    assert isinstance(await away.admit(JOB, work), Later)


async def test_call_of_a_run_nobody_knows_is_dropped() -> None:
    worker = Worker(office(), Disk(), "e1")
    work = CallToolWork(
        call="c1-0",
        attempt=1,
        lane=Lane.SANDBOX,
        tool="exec",
        skill="",
        safety=Safety.UNSAFE,
        arguments="{}",
        key="k",
        timeout_ms=1,
    )
    assert await worker.keeper.admit(JOB, work) == Known(None)
    with pytest.raises(Rejected):
        await worker.placements.hold(JOB)
    assert await worker.keeper.snapshot(JOB, SnapshotWork(step=1, version=3)) is None


async def test_snapshot_of_a_checkpoint_is_recorded_where_it_is_due() -> None:
    desk = office()
    (work,) = await asks_for(desk, WRITE)
    worker = Worker(desk, Disk(), "e1")
    await worker.keeper.admit(JOB, work)
    state = await desk.tell(JOB, worker.done(work.call))
    due = state.snapshot_due
    assert due is not None
    asked = SnapshotWork(step=due.step, version=due.version)
    assert await Worker(desk, Disk("p2"), "e2").keeper.snapshot(JOB, asked) == Elsewhere("e1")
    assert await worker.keeper.snapshot(JOB, asked) is None
    assert (await desk.state(JOB)).snapshot_due is None


async def test_backend_and_report_of_the_worker_are_in_the_log() -> None:
    desk = office()
    (work,) = await asks_for(desk, EXEC)
    await Worker(desk, Disk(), "e1").keeper.admit(JOB, work)
    lines = b"".join(desk.lines(JOB))
    assert SandboxPlaced.model_fields["type"].default.encode() in lines
    assert b'"backend":"bubblewrap"' in lines


async def test_worker_that_is_stopped_while_another_takes_over_begins_nothing_when_it_goes_on() -> (
    None
):
    """Both live, at one place: the call runs once, at the one that holds the job."""
    desk, disk = office(), Disk()
    first, second = await asks_for(desk, EXEC, EXEC)
    stopped, after = Worker(desk, disk, "e1"), Worker(desk, disk, "e2")
    assert await stopped.keeper.admit(JOB, first) == Begin()
    disk.stopped = "e1"
    async with asyncio.TaskGroup() as tasks:
        sent_to_it = second.model_copy(update={"number": 1})
        late = tasks.create_task(stopped.keeper.admit(JOB, sent_to_it))
        await disk.reached.wait()
        await lose(desk, "e1")
        assert await after.keeper.admit(JOB, second) == Begin()
        disk.goes_on.set()
    assert isinstance(late.result(), Later)
    assert await stopped.keeper.admit(JOB, sent_to_it) == Elsewhere("e2"), "it asks again"


async def test_worker_that_is_placed_again_after_another_begins_again() -> None:
    desk, disk = office(), Disk()
    first, second, third = await asks_for(desk, EXEC, EXEC, EXEC)
    stopped, after = Worker(desk, disk, "e1"), Worker(desk, disk, "e2")
    await stopped.keeper.admit(JOB, first)
    await lose(desk, "e1")
    assert await after.keeper.admit(JOB, second) == Begin()
    await lose(desk, "e2")
    assert await stopped.keeper.admit(JOB, third) == Begin()
    sandbox = (await desk.state(JOB)).sandbox
    assert sandbox is not None
    assert (sandbox.epoch, sandbox.number) == ("e1", 3)


async def test_snapshot_that_was_stored_while_another_took_the_job_over_is_not_recorded() -> None:
    """It is older than what the other one stores, of whichever run of the job."""
    desk, disk = office(), Disk()
    (work,) = await asks_for(desk, WRITE)
    stopped, after = Worker(desk, disk, "e1"), Worker(desk, disk, "e2")
    await stopped.keeper.admit(JOB, work)
    state = await desk.tell(JOB, stopped.done(work.call))
    due = state.snapshot_due
    assert due is not None
    asked = SnapshotWork(step=due.step, version=due.version, number=1)
    stopped.stored.clear()
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(stopped.keeper.snapshot(JOB, asked))
        await stopped.storing.wait()
        await lose(desk, "e1")
        assert isinstance(await after.placements.hold(JOB), Held)
        stopped.stored.set()
    assert isinstance(late.result(), Later)
    assert (await desk.state(JOB)).snapshot is None
    assert await stopped.keeper.snapshot(JOB, asked) == Elsewhere("e2")
    assert await after.keeper.snapshot(JOB, asked) is None
    newest = (await desk.state(JOB)).snapshot
    assert newest is not None
    assert newest.manifest == BlobRef(digest="files-of-e2", size=1)


async def test_snapshots_of_a_job_are_recorded_in_the_order_in_which_they_were_stored() -> None:
    """The record of the first one takes long: the second must not get in before it."""
    told: list[tuple[str, int]] = []
    reached, go = asyncio.Event(), asyncio.Event()

    class Slow(LocalReporter):
        async def snapshot(self, ref: RunRef, command: RecordSnapshot) -> None:
            if command.taken.version == 1:
                reached.set()
                await go.wait()
            told.append((ref.run, command.taken.version))

    desk = office()
    (work,) = await asks_for(desk, EXEC)
    worker = Worker(desk, Disk(), "e1")
    await worker.keeper.admit(JOB, work)
    keeper = JobKeeper(worker.placements, worker.journal, Slow(desk.desk), worker.take)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keeper.snapshot(JOB, SnapshotWork(step=1, version=1, number=1)))
        await reached.wait()
        tasks.create_task(keeper.snapshot(JOB, SnapshotWork(step=1, version=2, number=1)))
        for _ in range(20):  # as long as it would take to get in
            await asyncio.sleep(0)
        go.set()
    assert told == [(JOB.run, 1), (JOB.run, 2)]
