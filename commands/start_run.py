"""Start a run of an expert: pin what its requests depend on, then ask for the first reply."""

from pydantic import ValidationError

from commands.desk import Desk
from commands.runs import Decision
from domain.commands import PinnedContext, RecordDelegation, StartRun
from domain.content import TextPart
from domain.context import build_context
from domain.definition import Definition
from domain.errors import IntegrityViolated, Rejected
from domain.ids import RunRef
from domain.record import canonical, digest_of


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
        if command.parent is not None:
            await _tell_refusal(desk, ref, command, error)
        raise
    if not decision.events and decision.after.at_rest:
        await desk.finish(decision.after)
    return decision


async def _pin(desk: Desk, ref: RunRef, command: StartRun) -> PinnedContext:
    """Store what stays the same in all requests of the run, before the event that names it."""
    try:
        data = await desk.backbone.blobs.get(ref.tenant, command.definition)
    except IntegrityViolated as error:
        msg = f"the definition {command.definition!r} is not stored: {error}"
        raise Rejected("no_definition", msg) from error
    try:
        definition = Definition.model_validate_json(data)
    except ValidationError as error:
        msg = f"the blob {command.definition!r} is no definition: {error}"
        raise Rejected("no_definition", msg) from error
    context, tools = build_context(
        definition,
        command.expert,
        extra_tools=desk.local_tools,
        child=command.parent is not None,
    )
    stored = canonical(context)
    await desk.backbone.blobs.put(ref.tenant, stored)
    return PinnedContext(
        renderer=context.renderer,
        digest=digest_of(stored),
        size=len(stored),
        model=context.model,
        tools=tools,
        limits=definition.limits,
    )


async def _tell_refusal(desk: Desk, ref: RunRef, command: StartRun, error: Rejected) -> None:
    """A child that cannot start ends its parent's call: nobody waits for it for ever."""
    if command.parent is None:
        return
    await desk.backbone.open_runs.remove(ref)
    told = RecordDelegation(
        call=command.parent.call,
        child=ref.run,
        status="failed",
        content=(TextPart(text=f"The delegate could not start: {error.message}"),),
        steps=0,
        tokens=0,
    )
    await desk.send(RunRef(ref.tenant, ref.job, command.parent.run), told)
