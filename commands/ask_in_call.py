"""Ask a person, or the run's model, in the middle of a call. Not how a model is called."""

from commands.desk import Desk
from commands.pinning import read_definition
from commands.runs import Decision
from domain.asks import SampleRequest
from domain.commands import AskInCall, ClaimSampling, EndSampling
from domain.errors import Rejected, TooLarge
from domain.events import Failure
from domain.ids import RunRef
from domain.mcp import ServerUse
from domain.state import RunState


async def ask_in_call(desk: Desk, ref: RunRef, command: AskInCall) -> Decision:
    """Have it asked, once for each ask id.

    Raises:
        Rejected: the call is over or at somebody else's, or this cannot be asked.
        Unavailable: not now; the same question may be sent again.
    """
    if isinstance(command.about, SampleRequest):
        await _may_sample(desk, (await desk.runs.known(ref)).state, command.call)
    return await desk.execute(ref, command)


async def _may_sample(desk: Desk, state: RunState, name: str) -> None:
    """Refuse what the definition does not allow: whoever asks has been told so before."""
    call = state.calls.get(name)
    if call is None:
        return  # not heard of yet, or over: that is decided with the run as it is
    definition = await read_definition(desk, state.ref.tenant, state.definition)
    skill = definition.expert(state.expert).skills.get(call.skill)
    if isinstance(skill, ServerUse) and skill.sampling == "deny":
        message = f"skill {call.skill!r} may not use the run's model: sampling is not allowed"
        raise Rejected("sampling_denied", message)


async def claim_sampling(desk: Desk, ref: RunRef, command: ClaimSampling) -> bool:
    """Whether this epoch may ask the model.

    Raises:
        Unavailable: not now.
    """
    # No dispatch: whoever claims does the work itself.
    decision = await desk.runs.execute(ref, command, desk.situation())
    ask = decision.after.asks.get(command.ask)
    call = ask.model_call if ask else None
    return call is not None and call.is_open and call.holder == command.holder


async def end_sampling(desk: Desk, ref: RunRef, command: EndSampling) -> Decision:
    """Record what the model said, or why it did not.

    Raises:
        Unavailable: not now.
    """
    try:
        return await desk.execute(ref, command)
    except TooLarge as error:
        failure = Failure(kind="too_large", message=f"what the model said: {error}")
        failed = EndSampling(ask=command.ask, failure=failure, usage=command.usage)
        return await desk.execute(ref, failed)
