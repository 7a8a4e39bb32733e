"""The state after a workspace was placed, lost or stored, and after a step. Not the files."""

from dataclasses import replace
from typing import assert_never

from domain import events as e
from domain.state import Call, Checkpoint, Placement, RunState, changed
from domain.tools import Lane


def evolve_sandbox(
    state: RunState, event: e.SandboxPlaced | e.SandboxLost | e.SnapshotTaken | e.StepEnded
) -> RunState:
    """The state after the event."""
    match event:
        case e.StepEnded():
            state = changed(state, step_over=True)
            if not state.wrote and state.snapshot_due is None:
                return state
            due = Checkpoint(step=event.step, version=state.version + 1)
            return changed(state, wrote=False, snapshot_due=due)
        case e.SandboxPlaced():
            before = state.sandbox
            stays = before is not None and before.place == event.place
            placed = Placement(
                place=event.place,
                epoch=event.epoch,
                number=event.number,
                snapshots=event.snapshots,
                isolated=event.workspace == "isolated",
                moved=before.moved if before is not None and stays else event.number,
                restored=event.restored,
                earlier=_earlier(state, event),
            )
            calls = {
                name: replace(call, exposed=True) if _waits_for_sandbox(state, call) else call
                for name, call in state.calls.items()
            }
            return changed(state, sandbox=placed, calls=calls)
        case e.SandboxLost():
            lost = state.sandbox and replace(state.sandbox, lost_ms=state.at_ms)
            return changed(state, sandbox=lost)
        case e.SnapshotTaken():
            newest = state.snapshot if event.manifest is None else event
            return changed(state, snapshot_due=_still_due(state, event), snapshot=newest)
        case _:
            assert_never(event)


def _earlier(state: RunState, placed: e.SandboxPlaced) -> tuple[str, ...]:
    held = state.sandbox
    open_before = any(call.exposed for call in state.open_calls)
    if held is None or held.place != placed.place or not open_before:
        return ()
    return (held.epoch, *held.earlier)


def _still_due(state: RunState, taken: e.SnapshotTaken) -> Checkpoint | None:
    due = state.snapshot_due
    ours = due is not None and taken.run == state.ref.run and taken.version >= due.version
    return None if ours else due


def _waits_for_sandbox(state: RunState, call: Call) -> bool:
    """Whether the worker that holds the workspace may begin a call: not one that is kept back."""
    kept = call.id in state.approvals or (state.paused and not call.may_have_begun)
    return call.lane is Lane.SANDBOX and call.ended is None and not kept
