"""Stored bytes: what is refused, what is carried, what is upcast. Not the log that keeps them."""

import re
from pathlib import Path

import orjson
import pytest

from commands.history import Loaded, fold_stored
from domain.commands import COMMAND
from domain.envelope import (
    FIRST_HASH,
    UPCASTERS,
    Cause,
    Envelope,
    decode,
    decode_event,
    encode,
    hash_of,
)
from domain.errors import IntegrityViolated
from domain.events import EVENT_TYPES, TERMINAL_TYPES, InputReceived, OpaqueEvent, StepEnded
from domain.ids import RunRef
from domain.state import RunState
from eventlog.port import Stored
from tests.support.runs import REF, says

NAMES = Path(__file__).parents[2] / "histories" / "event_types.txt"
SAID = InputReceived(input="i1", speaker="user", parts=says("hello"))


def stored(seq: int = 1, *, ref: RunRef = REF, version: int = 1, prev: str = FIRST_HASH) -> Stored:
    envelope = Envelope(
        id=f"e{seq}",
        ref=ref,
        version=version,
        at_ms=1,
        cause=Cause(type="continue_run.v1", id="k1"),
        by="e1",
        prev=prev,
        events=(SAID, StepEnded(step=1)),
    )
    return Stored(seq, ref, encode(envelope))


NEW = Loaded(RunState(ref=REF))


def test_envelopes_in_order_fold_and_are_counted_in_events() -> None:
    one = fold_stored(NEW, stored())
    two = fold_stored(one, stored(2, version=3, prev=one.hash))
    assert (two.state.version, two.seq) == (4, 2)
    assert two.hash == hash_of(stored(2, version=3, prev=one.hash).data)


@pytest.mark.parametrize(
    ("next_one", "says_why"),
    [
        (stored(2, version=4, prev=fold_stored(NEW, stored()).hash), "version 4 follows 2"),
        (stored(2, version=1, prev=fold_stored(NEW, stored()).hash), "version 1 follows 2"),
        (stored(2, version=3), "does not follow what is stored"),
        (stored(2, ref=RunRef("acme", "job1", "run2"), version=3), "an envelope of run 'run2'"),
        (stored(2, ref=RunRef("other", "job1", "run1"), version=3), "an envelope of run"),
    ],
    ids=["gap", "again", "hash chain", "foreign run", "foreign tenant"],
)
def test_history_that_is_not_what_was_written_stops_the_run(
    next_one: Stored, says_why: str
) -> None:
    """C21: a gap makes a run read-only, never silently shorter."""
    with pytest.raises(IntegrityViolated, match=re.escape(says_why)):
        fold_stored(fold_stored(NEW, stored()), next_one)


def changed(**fields: object) -> bytes:
    return orjson.dumps({**orjson.loads(stored().data), **fields})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"null",
        b"[]",
        b"{}",
        changed(format=2),
        changed(version="1"),
        changed(at_ms=None),
        changed(cause=7),
        changed(events=None),
        changed(events=[7]),
        changed(events=[{"no": "type"}]),
        changed(events=[{"type": 7}]),
        changed(events=[{"type": "step.ended.v1"}]),
        changed(events=[{"type": "step.ended.v1", "step": 1, "more": 2}]),
        changed(events=[{"type": "step.ended.v1", "step": "many"}]),
    ],
)
def test_bytes_that_are_no_envelope_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityViolated):
        fold_stored(NEW, Stored(1, REF, data))


def test_event_of_a_newer_release_is_carried_and_written_again_byte_for_byte() -> None:
    """C17."""
    newer = b'{"type":"run.dreamt.v1","why":{"z":1,"a":[1.5,null,"\xc3\xa9"]},"at":3}'
    data = changed(events=[]).replace(b'"events":[]', b'"events":[' + newer + b"]")
    envelope = decode(data)
    assert envelope.events == (
        OpaqueEvent(type="run.dreamt.v1", body={"why": {"z": 1, "a": [1.5, None, "é"]}, "at": 3}),
    )
    assert newer in encode(envelope)
    assert decode(encode(envelope)) == envelope
    assert fold_stored(NEW, Stored(1, REF, data)).state.unknown_events == ("run.dreamt.v1",)


def test_known_event_with_a_part_of_a_newer_kind_is_carried_too() -> None:
    """C17: an older release refuses to decide such a run, but does not call it broken."""
    event = {**SAID.model_dump(mode="json"), "parts": [{"kind": "audio", "blob": "b"}]}
    carried = decode_event(event)
    assert isinstance(carried, OpaqueEvent)
    assert carried.type == "input.received.v2"


def test_upcasters_apply_in_a_chain_until_the_shape_is_of_today() -> None:
    """Rule 12: new shape, new version and an upcaster."""
    old = {"type": "step.finished.v1", "number": 4}

    def renamed(raw: dict[str, object]) -> dict[str, object]:
        return {"type": "step.ended.v0", "step": raw["number"]}

    def completed(raw: dict[str, object]) -> dict[str, object]:
        return {**raw, "type": "step.ended.v1"}

    upcasters = {"step.finished.v1": renamed, "step.ended.v0": completed}
    assert decode_event(old, upcasters) == StepEnded(step=4)
    assert isinstance(decode_event(old), OpaqueEvent)


def test_no_wire_name_changes_or_goes() -> None:
    """Rule 12: `event_types.txt` may only grow; a name in it stays readable for ever."""
    assert sorted({*EVENT_TYPES, *UPCASTERS}) == NAMES.read_text().split()


def test_wire_names_are_unique_and_say_noun_verb_version() -> None:
    assert len(set(EVENT_TYPES)) == len(EVENT_TYPES)
    assert all(re.fullmatch(r"[a-z_]+\.[a-z_]+\.v[1-9]\d*", name) for name in EVENT_TYPES)
    assert set(EVENT_TYPES) >= TERMINAL_TYPES


def test_trace_travels_with_the_envelope() -> None:
    traced = decode(stored().data)._replace(trace="00-abc-def-01")
    assert decode(encode(traced)) == traced
    assert traced.next_version == 3


def test_unknown_commands_are_refused_where_they_come_in() -> None:
    with pytest.raises(ValueError, match="union_tag_invalid"):
        COMMAND.validate_json(b'{"type":"explode.v1"}')
