"""Cancel a run and everything under it: two phases, always applied again (rule 9)."""

from commands.desk import Desk
from commands.runs import Decision
from domain.commands import CancelRun
from domain.effects import effects
from domain.ids import RunRef


async def cancel_run(desk: Desk, ref: RunRef, command: CancelRun) -> Decision:
    """Ask a run to stop; asked again, what is still at work is told again.

    Raises:
        Unavailable: not now.
    """
    decision = await desk.execute(ref, command)
    if not decision.events and decision.after.cancelling:
        desk.hands.stop(ref)
        await desk.dispatch(decision.after, effects(decision.after))
    if not decision.events and decision.after.at_rest:
        await desk.finish(decision.after)
    return decision
