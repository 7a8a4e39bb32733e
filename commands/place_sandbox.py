"""Place a job's workspace at a worker, and record its snapshots. Not the workspace itself."""

from commands.desk import Desk
from domain.commands import PlaceSandbox, RecordSnapshot
from domain.content import BlobRef
from domain.ids import RunRef
from domain.record import Record


class Placed(Record):
    """Who holds the workspace of a run, as its log says after the question."""

    place: str
    epoch: str
    number: int
    restored: BlobRef | None  # what the files are to be brought back from, if from anything
    moved: int  # the number with which the job came to this place: `restored` is of then
    earlier: tuple[str, ...]  # lives of this place whose journals may speak of calls open now


async def place_sandbox(desk: Desk, ref: RunRef, command: PlaceSandbox) -> Placed:
    """Who holds the workspace now: whoever asked, or another worker that may still be at it.

    Raises:
        Rejected: there is no such run.
        Unavailable: not now; nothing may be executed.
    """
    held = (await desk.runs.known(ref)).state.sandbox
    gone = frozenset((held.epoch,)) if held and desk.gone(held.epoch) else frozenset[str]()
    decision = await desk.execute(ref, command, gone=gone)
    placed = decision.after.sandbox
    if placed is None:
        raise AssertionError
    return Placed(
        place=placed.place,
        epoch=placed.epoch,
        number=placed.number,
        restored=placed.restored,
        moved=placed.moved,
        earlier=placed.earlier,
    )


async def record_snapshot(desk: Desk, ref: RunRef, command: RecordSnapshot) -> None:
    """Record a snapshot, or why there is none.

    Raises:
        Rejected: there is no such run.
        Unavailable: not now; send it again.
    """
    await desk.execute(ref, command)
