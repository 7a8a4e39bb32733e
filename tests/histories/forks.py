"""Golden logs of a fork and of the run it was taken from. Not a test."""

from domain import commands as c
from domain.content import BlobRef
from domain.events import ResultEdit, SnapshotTaken, Source
from domain.ids import RunRef
from domain.record import digest_of
from tests.support.office import office
from tests.support.runs import call, claim, goes_on, replies, result, says

SOURCE = RunRef("acme", "forked", "forked")
FORK = RunRef("acme", "fork", "fork")


async def forked() -> dict[str, list[bytes]]:
    """A run that is forked at work, at a checkpoint with files, another result and another query.

    Of what was open there, the fork makes nothing again; it goes on to its own end, and beyond.
    """
    desk = office()
    desk.bench.room = False
    await desk.start(SOURCE, text="See what there is, then pay.")
    write = call("writeTextFile", '{"path": "seen"}')
    placing = c.PlaceSandbox(
        place="disk-1",
        epoch="e1",
        backend="bubblewrap",
        report="{}",
        workspace="own",
        snapshots=True,
    )
    await desk.tell(SOURCE, replies("I look.", call("look"), write), placing)
    await desk.tell(SOURCE, result("c1-0", "It costs 4."))
    state = await desk.tell(SOURCE, result("c1-1", "written", holder="e1"))
    due = state.snapshot_due
    if due is None:
        raise AssertionError
    manifest = BlobRef(digest=digest_of(b"one"), size=3)
    taken = SnapshotTaken(
        run=SOURCE.run, step=due.step, version=due.version, manifest=manifest, files=1
    )
    await desk.tell(SOURCE, replies(call("pay"), call("look")), claim("c2-0", "e2"))
    await desk.tell(SOURCE, c.RecordSnapshot(taken=taken))
    state = await desk.state(SOURCE)
    source = Source(job=SOURCE.job, run=SOURCE.run, version=state.version, hash="")
    fork = c.ForkRun(
        id="fork",
        source=source,
        parts=says("Do not pay more than 3."),
        results=(ResultEdit(call="c1-0", content=says("It costs 5.")),),
        steps_max=9,
    )
    await desk.tell(FORK, fork, replies("Then I look again.", write))
    await desk.tell(FORK, placing, result("c3-0", "written again", holder="e1"))
    await desk.tell(SOURCE, result("c2-0", "paid", holder="e2"), result("c2-1", "seen"))
    await desk.tell(FORK, replies("It is too much."), goes_on("Thank you."), replies("Good."))
    return {"forked": desk.lines(FORK), "forked-source": desk.lines(SOURCE)}
