"""Forks a run for a person or a program: where from, with what edits. Not the decision."""

from dataclasses import dataclass, field

from commands.checkpoints import Beginning
from domain.commands import ForkRun
from domain.content import TextPart
from domain.definition import Definition
from domain.events import ResultEdit
from domain.folds.forks import merged
from domain.ids import RunRef
from eventlog.port import Blobs
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


async def fork(send: Send, blobs: Blobs, ref: RunRef, at: Beginning, edits: Edits) -> None:
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
        source=at.source,
        parts=(TextPart(text=edits.query),) if edits.query else (),
        results=merged(at.results, results),
        definition=digest,
        with_files=edits.with_files,
        **edits.limits,
    )
    await send(ref, command)
