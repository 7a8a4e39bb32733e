"""How a run begins that goes on from a place in another one's history. Not that history."""

from typing import Literal

from domain.content import ContentPart
from domain.events.common import NOBODY, Principal
from domain.events.sandbox import SnapshotTaken
from domain.limits import Limits
from domain.record import Record

Edited = Literal["query", "result", "model", "definition"]
"""What is other in a fork than in the run it was taken from."""


class Source(Record):
    """A place in the history of a run of the same tenant: after the event of that version."""

    job: str
    run: str
    version: int
    hash: str  # of the envelope that holds the version


class ResultEdit(Record):
    """What a call of the past came to, as the fork has it."""

    call: str
    content: tuple[ContentPart, ...]
    is_error: bool = False


class RunForked(Record):
    """A root run exists whose past is another run's, up to `source`, with the edits.

    Nothing of that is copied: who folds this run folds the other one first (rule 14). `files` is
    what its workspace begins with, and `files_differ` whether the history may show other ones.
    """

    type: Literal["run.forked.v1"] = "run.forked.v1"
    command: str
    source: Source
    generation: int  # 1 for the fork of a run that was started, one more for each fork of a fork
    step: int  # the last step of the past
    expert: str
    definition: str
    limits: Limits
    edited: tuple[Edited, ...] = ()
    results: tuple[ResultEdit, ...] = ()
    files: SnapshotTaken | None = None
    files_differ: bool = False
    by: Principal = NOBODY
