"""The last words of a command that watched a run, and its exit code. Not the watching."""

from domain.errors import Unavailable
from domain.events import TERMINAL_TYPES
from domain.state import RunState
from peritus.cli.asks import money, tokens
from peritus.cli.attend import Attendance, Left
from peritus.cli.exits import OF_STATUS, Exit
from peritus.cli.loop import notice
from peritus.feed import Heard, stored_events
from peritus.jobs import load_state, text_at

LARGER = {
    "steps": "--max-steps N ",
    "tokens": "--max-tokens N ",
    "money": "--budget USD ",
    "tool_calls": "--max-tool-calls N ",
    "wall_time": "--max-time TIME ",
}
"""The option that gives a run more of what it ran out of."""


async def finish(attendance: Attendance, end: Heard | Left) -> Exit:
    """Say how the run ended, or how to take it up again.

    Raises:
        Unavailable: the log is away.
    """
    ref = attendance.ref
    if end == "left":
        notice(f"left run {ref.run}; take it up again with: peritus resume {ref.run}")
        return Exit.DETACHED
    if end == "waiting":
        notice(f"run {ref.run} waits; afterwards go on with: peritus resume {ref.run}")
        return Exit.WAITING
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
            more = LARGER.get(state.stopped_by, "")
            notice(
                f"stopped at its limit of {state.stopped_by.replace('_', ' ')} in step "
                f"{state.step}{_spent(state)}; go on with: "
                f"peritus run {state.expert} --continue --job {state.ref.job} {more}QUERY"
            )
        case "failed":
            notice(f"failed: {state.failure_kind}: {state.failure_message}")
        case "cancelled":
            notice(f"run {state.ref.run} was cancelled in step {state.step}")
        case _:
            msg = f"run {state.ref.run!r} goes on"
            raise Unavailable(msg)


def _spent(state: RunState) -> str:
    """What it has used of a budget that ended it, and what there was."""
    match state.stopped_by:
        case "money":
            used, most = state.money_charged - state.money_base, state.limits.money_max
            return f", with {money(used)} of {money(most or 0)} spent"
        case "tokens":
            used, most = state.tokens_charged - state.tokens_base, state.limits.tokens_max
            return f", with {used:,} of {tokens(most or 0)} used"
        case _:
            return ""
