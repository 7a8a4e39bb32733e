"""The last words of a command that watched a run, and its exit code. Not the watching."""

from domain.errors import Unavailable
from domain.events import TERMINAL_TYPES
from domain.state import RunState
from peritus.cli.attend import Attendance
from peritus.cli.exits import OF_STATUS, Exit
from peritus.cli.loop import notice
from peritus.feed import Heard, stored_events
from peritus.jobs import load_state, text_at


async def finish(attendance: Attendance, end: Heard | None) -> Exit:
    """Say how the run ended, or how to take it up again.

    Raises:
        Unavailable: the log is away.
    """
    ref = attendance.ref
    if end is None:
        notice(f"left run {ref.run}; take it up again with: peritus resume {ref.run}")
        return Exit.DETACHED
    state, _ = await load_state(attendance.backbone.log, ref)
    await say_end(attendance, state)
    return OF_STATUS.get(state.status, Exit.FAILED)


async def show_end(attendance: Attendance, state: RunState) -> None:
    """Show the end of a run that is at rest already, as the last that happened to it.

    Raises:
        Unavailable: the log is away.
    """
    if not attendance.screen.live:
        stored = await stored_events(attendance.backbone.log, [attendance.ref])
        ends = [heard for heard in stored if heard.event.type in TERMINAL_TYPES]
        await attendance.out.write(attendance.screen.heard(ends[-1]))
    await say_end(attendance, state)


async def say_end(attendance: Attendance, state: RunState) -> None:
    """Write a run's result, or say why there is none."""
    match state.status:
        case "completed":
            result = await text_at(attendance.backbone.blobs, state.ref.tenant, state.result)
            await attendance.out.write(attendance.screen.result(result))
        case "stopped":
            notice(
                f"stopped at its limit of {state.stopped_by} in step {state.step}; go on with: "
                f"peritus run {state.expert} --continue --job {state.ref.job} QUERY"
            )
        case "failed":
            notice(f"failed: {state.failure_kind}: {state.failure_message}")
        case "cancelled":
            notice(f"run {state.ref.run} was cancelled in step {state.step}")
        case _:
            msg = f"run {state.ref.run!r} goes on"
            raise Unavailable(msg)
