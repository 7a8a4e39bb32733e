"""Continue a run: say something to a root run, which goes on if it was at rest."""

from commands.desk import Desk
from commands.runs import Decision
from domain.commands import ContinueRun
from domain.ids import RunRef


async def continue_run(desk: Desk, ref: RunRef, command: ContinueRun) -> Decision:
    """Let a run hear a person; once for each command id.

    Raises:
        Rejected: there is no such run, or it cannot be continued.
        Unavailable: not now.
    """
    if (await desk.runs.fresh(ref)).state.at_rest:
        await desk.backbone.open_runs.add(ref)
    decision = await desk.execute(ref, command)
    if decision.before.at_rest and decision.events:
        # Whoever saw the run at rest may have taken it out of the index just now.
        await desk.backbone.open_runs.add(ref)
    if decision.after.at_rest:
        await desk.close(decision.after)
    return decision
