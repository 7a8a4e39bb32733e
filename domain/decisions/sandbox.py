"""Where a job's workspace is, what is lost with its worker, and its snapshots. Not the files."""

from domain import commands as c
from domain import events as e
from domain.content import TextPart
from domain.decisions.advance import advance
from domain.decisions.lifecycle import UNKNOWN_BODY
from domain.draft import Draft
from domain.errors import Rejected
from domain.ids import derive_id
from domain.state import Placement
from domain.tools import Lane, Safety

PLACE_RETURN_MS = 15_000
"""How long a place may take to come back before another takes its jobs over, in milliseconds."""


def place_sandbox(draft: Draft, command: c.PlaceSandbox) -> None:
    """Let a worker hold the workspace, if nobody else may still be at it.

    The root run decides. In another run of the job the root's number is what counts: a later
    placement replaces an earlier one, never the other way round. A worker that was taken for lost
    and is not has to be placed again before it may begin what was asked for since.
    """
    state = draft.state
    if not state.expert:
        raise Rejected("no_such_run", f"no run {state.ref.run!r}")
    held = state.sandbox
    if state.at_rest and (command.take_over or held is None):
        raise Rejected("at_rest", f"run {state.ref.run!r} is at rest: none of its calls is open")
    if held is not None and not _replaces(draft, held, command):
        return
    _place(draft, held, command, command.number or (held.number + 1 if held else 1))


def _replaces(draft: Draft, held: Placement, command: c.PlaceSandbox) -> bool:
    same = held.epoch == command.epoch
    if held.place != command.place and not command.take_over:
        return False
    if command.number is not None and command.number != held.number:
        return command.number > held.number
    if same or command.number is not None:
        return same and held.lost_ms is not None
    return _may_take_over(draft, held, command)


def _may_take_over(draft: Draft, held: Placement, command: c.PlaceSandbox) -> bool:
    """The place itself as soon as its worker is gone; another place after a while."""
    if command.place == held.place:
        return held.lost_ms is not None or held.epoch in draft.situation.gone
    waited_ms = draft.now_ms - (draft.now_ms if held.lost_ms is None else held.lost_ms)
    return held.lost_ms is not None and waited_ms >= PLACE_RETURN_MS


def _place(draft: Draft, held: Placement | None, command: c.PlaceSandbox, number: int) -> None:
    elsewhere = held is not None and held.place != command.place
    begins = held is None and draft.state.forks and command.workspace == "own"
    wanted = (elsewhere or begins) and command.number is None
    snapshot = draft.state.snapshot if wanted else None
    restored = snapshot.manifest if snapshot else None  # a fork begins with what its source had
    if held is not None and not elsewhere:
        restored = held.restored  # the life before this one may not have got round to it
    lost = _lost(draft, told=command.number is not None) if elsewhere else ""
    may_have_begun = [
        call for call in draft.state.open_calls if call.lane is Lane.SANDBOX and call.may_have_begun
    ]
    draft.emit(
        e.SandboxPlaced(
            place=command.place,
            epoch=command.epoch,
            number=number,
            backend=command.backend,
            report=command.report,
            workspace=command.workspace,
            snapshots=command.snapshots,
            restored=restored,
            lost=lost,
        )
    )
    if not elsewhere:
        return
    due = draft.state.snapshot_due
    if due is not None:  # those files are not here
        draft.emit(
            e.SnapshotTaken(
                run=draft.state.ref.run,
                step=due.step,
                version=due.version,
                manifest=None,
                problem="The workspace was lost before its files were stored.",
            )
        )
    for call in may_have_begun:
        if call.safety is Safety.UNSAFE:
            draft.end_call(call, "outcome_unknown", UNKNOWN_BODY, is_error=True)
    if not draft.state.at_rest:
        note = derive_id("placed", draft.state.ref.run, str(number))
        draft.emit(e.InputReceived(input=note, speaker="runtime", parts=(TextPart(text=lost),)))
        advance(draft)


def _lost(draft: Draft, *, told: bool) -> str:
    """What the model, and whoever reads the history, is to know of a change of place.

    Only the root knows of all snapshots; another run is `told` that there was a change.
    """
    snapshot = draft.state.snapshot
    first = (
        "The machine that held the workspace was lost, and with it every process in the sandbox."
    )
    if told:
        return (
            f"{first} The files were brought back from the newest snapshot of the job, if there "
            "was one; what was changed later is gone. Look at them before you go on."
        )
    if snapshot is None:
        return f"{first} There was no snapshot of the files: the workspace is empty now."
    whose = "" if snapshot.run == draft.state.ref.run else f" of run {snapshot.run}"
    return (
        f"{first} The files are again as they were after step {snapshot.step}{whose}; what was "
        "changed later is gone. Look at them before you go on."
    )


def lose_sandbox(draft: Draft, epoch: str) -> None:
    """The worker that holds the workspace is gone: nothing more is sent to it."""
    held = draft.state.sandbox
    if held is None or draft.state.at_rest:  # at rest, nothing is sent
        return
    if held.epoch == epoch and held.lost_ms is None:
        draft.emit(e.SandboxLost(place=held.place, epoch=epoch))


def record_snapshot(draft: Draft, command: c.RecordSnapshot) -> None:
    """A snapshot is stored: in the run whose checkpoint it is, and in its root."""
    state, taken = draft.state, command.taken
    if not state.expert:
        raise Rejected("no_such_run", f"no run {state.ref.run!r}")
    if taken.manifest is None and taken.run != state.ref.run:
        return  # nothing to bring files back from
    known = state.snapshot
    if known is not None and known.run == taken.run and known.version >= taken.version:
        return
    if taken.run == state.ref.run:
        due = state.snapshot_due
        if due is None or taken.version > due.version:
            return
        if taken.manifest is None and taken.version < due.version:
            return
    draft.emit(taken)
