"""A run's state as bytes, to fold less: a cache that can be deleted (C1). Never the record."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from domain.ids import RunRef
from domain.record import Record, canonical
from domain.state import RunState, changed

FOLD = "5"
"""The version of the fold: raise it when `evolve` changes, and older snapshots are not used."""


@cache
def _state() -> TypeAdapter[RunState]:
    """Built when first needed: building takes longer than a short run is to take."""
    return TypeAdapter(RunState)


class Head(Record):
    """Where in the log a snapshot stands: stream sequence and hash of the run's envelope there."""

    fold: str
    seq: int
    hash: str


class Snapshot(NamedTuple):
    """A state, and where it stands."""

    state: RunState
    seq: int
    hash: str


def take(state: RunState, seq: int, hash_: str) -> bytes:
    """The bytes of a snapshot: all but the messages of the conversation, whose digest stays."""
    head = canonical(Head(fold=FOLD, seq=seq, hash=hash_))
    return head + b"\n" + _state().dump_json(state)


def restore(ref: RunRef, data: bytes) -> Snapshot | None:
    """The state that was taken; None when another release took it, or another run's it is."""
    head_bytes, _, state_bytes = data.partition(b"\n")
    try:
        head = Head.model_validate_json(head_bytes)
        if head.fold != FOLD:
            return None
        state = _state().validate_json(state_bytes)
    except ValidationError:
        return None
    if state.ref != ref:
        return None
    conversation = replace(state.conversation, whole=len(state.conversation.messages) == 0)
    return Snapshot(changed(state, conversation=conversation), head.seq, head.hash)
