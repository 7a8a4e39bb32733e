"""Start a run of an expert: pin what its requests depend on, then ask for the first reply."""

from typing import Any

from commands.desk import Desk
from commands.pinning import pin, read_definition
from commands.runs import Decision
from domain.commands import PinnedContext, RecordDelegation, StartRun
from domain.content import TextPart, text_of
from domain.errors import Rejected, TooLarge
from domain.ids import RunRef
from domain.loop_tools import parse_json
from domain.schemas import schema_problem


async def start_run(desk: Desk, ref: RunRef, command: StartRun) -> Decision:
    """Begin a run, once; the same start again changes nothing, and tells a child's end again.

    Raises:
        Rejected: the expert or the definition is not there, or the run exists with another start.
        Unavailable: not now.
    """
    try:
        context = None
        if (await desk.runs.known(ref)).state.status == "new":
            context = await _pin(desk, ref, command)
            await desk.backbone.open_runs.add(ref)
        decision = await desk.execute(ref, command, context)
    except Rejected as error:
        await _tell_refusal(desk, ref, command, error.message)
        raise
    except TooLarge as error:
        await _tell_refusal(desk, ref, command, str(error))
        raise
    if not decision.events and decision.after.at_rest:
        await desk.finish(decision.after)
    return decision


async def _pin(desk: Desk, ref: RunRef, command: StartRun) -> PinnedContext:
    definition = await read_definition(desk, ref.tenant, command.definition)
    child = command.parent is not None
    context = await pin(desk, ref.tenant, definition, command.expert, child=child)
    expert = definition.expert(command.expert)
    if expert.input_schema is not None and not child:  # a child's call was looked at by its caller
        problem = _input_problem(expert.input_schema, text_of(command.parts))
        if problem is not None:
            raise Rejected("invalid_input", f"the task of {expert.key!r} is data: {problem}")
    return context


def _input_problem(schema: dict[str, Any], text: str) -> str | None:
    try:
        value = parse_json(text)
    except ValueError:
        return "give it as one JSON object"
    return schema_problem(schema, value)


async def _tell_refusal(desk: Desk, ref: RunRef, command: StartRun, why: str) -> None:
    """A child that cannot start ends its parent's call: nobody waits for it for ever."""
    if command.parent is None:
        return
    await desk.backbone.open_runs.remove(ref)
    told = RecordDelegation(
        call=command.parent.call,
        child=ref.run,
        status="failed",
        content=(TextPart(text=f"The delegate could not start: {why}"),),
        steps=0,
        tokens=0,
    )
    await desk.send(RunRef(ref.tenant, ref.job, command.parent.run), told)
