"""Fork a run: read its past, pin what is to be other, find its files, then decide (rule 14)."""

from commands.desk import Desk
from commands.offload import offload
from commands.past import Past, read_past
from commands.pinning import operator_layer, pin, read_definition
from commands.runs import Decision
from commands.snapshots_of import files_at
from domain.commands import ForkRun, Origin, PinnedContext
from domain.decide import decide
from domain.errors import IntegrityViolated, Rejected
from domain.ids import RunRef, check_token
from domain.policy import PolicyLayer
from domain.redaction import redact_command
from domain.state import RunState


async def fork_run(desk: Desk, ref: RunRef, command: ForkRun) -> Decision:
    """Begin a run with another one's past, once; the source may be at work meanwhile.

    Raises:
        Rejected: the source is not there or not what was meant, or an edit does not fit.
        Unavailable: not now.
    """
    # The past is folded with the edits as they will be stored: without secrets, large ones by name.
    command, blobs = offload(redact_command(desk.redactor(), command))
    for data in blobs.values():
        await desk.backbone.blobs.put(ref.tenant, data)
    origin = None
    if (await desk.runs.known(ref)).state.status == "new":
        origin = await _origin(desk, ref, command)
        source = RunRef(ref.tenant, command.source.job, command.source.run)
        decide(RunState(ref=ref), command, desk.situation(origin=origin))  # or refused, before that
        await desk.backbone.open_runs.add(ref)
        # Who deletes the source leaves its tombstone, and then looks for forks that begin.
        await desk.runs.refuse_deleted(source)
    return await desk.execute(ref, command, origin=origin)


async def _origin(desk: Desk, ref: RunRef, command: ForkRun) -> Origin:
    log, source = desk.backbone.log, command.source
    check_token("job", source.job)
    check_token("run", source.run)
    await desk.runs.refuse_deleted(RunRef(ref.tenant, source.job, source.run))
    try:
        past = await read_past(log, ref.tenant, source, command.results)
    except IntegrityViolated as error:
        raise Rejected("no_such_version", str(error)) from error
    files = await files_at(log, RunRef(ref.tenant, source.job, source.run), past)
    context = await _context(desk, ref, command, past)
    return Origin(
        past=past.state,
        hash=past.hash,
        weight=past.weight,
        files=files.taken if command.with_files else None,
        files_differ=files.differ or (past.state.sandbox is not None and not command.with_files),
        context=context,
        layers=_layers(desk, past.state, context),
    )


async def _context(desk: Desk, ref: RunRef, command: ForkRun, past: Past) -> PinnedContext | None:
    """What is pinned anew, if the definition is another."""
    if command.definition is None or command.definition == past.state.definition:
        return None
    definition = await read_definition(desk, ref.tenant, command.definition)
    return await pin(desk, ref.tenant, definition, past.state.expert, child=False)


def _layers(desk: Desk, past: RunState, context: PinnedContext | None) -> tuple[PolicyLayer, ...]:
    """The rules: the operator's of now, and those that came with the definition."""
    if context is not None:
        return context.layers
    others = tuple(layer for layer in past.layers if layer.name != "operator")
    return (*operator_layer(desk), *others)
