"""Forks a run for a person or a program: where from, with what edits. Not the decision."""

from dataclasses import dataclass, field
from typing import NamedTuple

from domain.commands import ForkRun
from domain.content import TextPart
from domain.definition import Definition
from domain.errors import IntegrityViolated, Rejected
from domain.events import ResultEdit, Source
from domain.folds.forks import merged
from domain.ids import RunRef
from domain.state import RunState
from eventlog.port import Backbone, Blobs
from peritus.checkpoints import START, at_step, checkpoints_of, edits_of
from peritus.ids import new_id
from peritus.jobs import Raised, Send


@dataclass(frozen=True, slots=True)
class Edits:
    """What is to be other in a fork; nothing: it only goes on.

    `results`: by call, what it came to. `definition`: what the fork is pinned to instead.
    """

    query: str = ""
    results: dict[str, str] = field(default_factory=dict[str, str])
    definition: Definition | None = None
    with_files: bool = True
    limits: Raised = field(default_factory=Raised)


class Origin(NamedTuple):
    """Where a fork goes on from, and what the run that was asked for had edited there already."""

    source: Source
    results: tuple[ResultEdit, ...]


async def find_point(backbone: Backbone, ref: RunRef, step: int, edits: Edits) -> Origin:
    """The place in the log that a fork from a step goes on from.

    From the beginning with a query of its own, that is before anything was said.

    Raises:
        NoSuchRun: the log knows nothing of the run.
        Rejected: that step has not ended.
        Unavailable: the log is away.
        IntegrityViolated: what is stored is not what was written.
    """
    point = at_step(await checkpoints_of(backbone.log, ref), step, ref.run)
    source = point.source
    if step == START and edits.query:
        source = source.model_copy(update={"version": point.version - 1})
    return Origin(source, await edits_of(backbone.log, ref, point))


async def fork(send: Send, blobs: Blobs, ref: RunRef, origin: Origin, edits: Edits) -> None:
    """Make a fork under that name and let it go on.

    Raises:
        Rejected: it cannot be forked so.
        Unavailable: not now.
    """
    digest = None
    if edits.definition is not None:
        digest = await blobs.put(ref.tenant, edits.definition.to_bytes())
    results = tuple(
        ResultEdit(call=call, content=(TextPart(text=text),))
        for call, text in edits.results.items()
    )
    command = ForkRun(
        id=new_id(),
        source=origin.source,
        parts=(TextPart(text=edits.query),) if edits.query else (),
        results=merged(origin.results, results),
        definition=digest,
        with_files=edits.with_files,
        **edits.limits,
    )
    await send(ref, command)


async def pinned_definition(blobs: Blobs, state: RunState) -> Definition:
    """The definition that a run was pinned to.

    Raises:
        Rejected: it is not there any more.
        Unavailable: the store is away.
    """
    try:
        return Definition.model_validate_json(await blobs.get(state.ref.tenant, state.definition))
    except (IntegrityViolated, ValueError) as error:
        message = f"the definition {state.definition[:12]} of the run cannot be read: {error}"
        raise Rejected("no_definition", message) from error


def with_models(pinned: Definition, loaded: Definition, expert: str) -> Definition:
    """A definition with the models of another one, and all else as it is."""
    experts = {
        key: one.model_copy(
            update={
                "model": loaded.experts.get(key, loaded.expert(expert)).model,
                "fallbacks": loaded.experts.get(key, loaded.expert(expert)).fallbacks,
            }
        )
        for key, one in pinned.experts.items()
    }
    return pinned.model_copy(update={"experts": experts})
