"""Step a run: the claim and the ends of its generations, and the timers between attempts."""

from commands.desk import Desk
from commands.runs import Decision
from domain.commands import ClaimGeneration, CompleteGeneration, FailGeneration, FireTimer
from domain.errors import TooLarge
from domain.events import Failure
from domain.ids import RunRef


async def claim_generation(desk: Desk, ref: RunRef, command: ClaimGeneration) -> bool:
    """Whether this epoch may make the call of that attempt.

    Raises:
        Unavailable: not now.
    """
    # No dispatch: whoever claims does the work itself.
    decision = await desk.runs.execute(ref, command, desk.situation())
    generation = decision.after.generation
    return (
        generation is not None
        and generation.phase == "open"
        and not decision.after.cancelling
        and (generation.step, generation.attempt) == (command.step, command.attempt)
        and generation.holder == command.holder
    )


async def end_generation(
    desk: Desk, ref: RunRef, command: CompleteGeneration | FailGeneration
) -> Decision:
    """Record a reply or a failure, and whatever it asks for.

    Raises:
        Unavailable: not now.
    """
    try:
        return await desk.execute(ref, command)
    except TooLarge as error:
        # Never again with the same bytes (C2): the run ends and says why.
        failed = FailGeneration(
            step=command.step,
            attempt=command.attempt,
            failure=Failure(kind="too_large", message=f"what the model replied: {error}"),
            retryable=False,
            usage=command.usage,
        )
        return await desk.execute(ref, failed)


async def fire_timer(desk: Desk, ref: RunRef, command: FireTimer) -> Decision:
    """Let a timer come due; one that is not pending changes nothing.

    Raises:
        Unavailable: not now.
    """
    return await desk.execute(ref, command)
