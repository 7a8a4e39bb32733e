"""A deleted job decides nothing any more, and its tombstone stands alone. Not what is purged."""

import pytest

from domain import commands as c
from domain.decide import decide
from domain.effects import effects
from domain.envelope import Cause, Envelope, decode, encode, tombstone_in
from domain.errors import Rejected
from domain.events import NOBODY, RunDeleted
from domain.evolve import fold, fold_all
from domain.ids import RunRef
from domain.snapshot import restore, take
from domain.state import RunState, changed
from tests.support.runs import cancel, given, goes_on, replies, result, situation, start

ROOT = RunRef("acme", "j1", "j1")


def rested() -> RunState:
    return changed(given(start(), replies("done")), ref=ROOT)


def asked(state: RunState, **more: object) -> c.DeleteRun:
    fields = {"id": "d1", "version": state.version, "runs": 2, "envelopes": 9} | more
    return c.DeleteRun.model_validate(fields)


def code(state: RunState, command: c.Command) -> str:
    with pytest.raises(Rejected) as caught:
        decide(state, command, situation())
    return caught.value.code


def deleted() -> RunState:
    state = rested()
    (event,) = decide(state, asked(state), situation())
    return fold(state, envelope_of(state, event))


def envelope_of(state: RunState, event: object) -> Envelope:
    assert isinstance(event, RunDeleted)
    cause = Cause(type="delete_run.v1", id="d1")
    return Envelope("e", state.ref, state.version + 1, 99, cause, "w", "0" * 64, (event,))


def test_a_root_at_rest_gets_a_tombstone_and_keeps_nothing_else() -> None:
    state = rested()
    (event,) = decide(state, asked(state), situation())
    assert event == RunDeleted(command="d1", runs=2, envelopes=9, by=NOBODY)
    after = deleted()
    assert after == RunState(ref=ROOT, version=state.version + 1, at_ms=99, status="deleted")
    assert after.at_rest
    assert effects(after) == ()


def test_a_tombstone_folds_alike_with_and_without_what_was_before() -> None:
    state = rested()
    (event,) = decide(state, asked(state), situation())
    envelope = envelope_of(state, event)
    assert fold_all(ROOT, [envelope]) == fold(state, envelope) == deleted()
    assert decode(encode(envelope)) == envelope
    assert tombstone_in(encode(envelope))


def test_nothing_is_decided_about_a_deleted_job() -> None:
    state = deleted()
    for command in (start(), goes_on(), cancel(), c.FireTimer(timer="t")):
        assert code(state, command) == "gone"
    assert code(state, result("c1-0")) == "gone"
    assert decide(state, asked(state), situation()) == ()
    (again,) = decide(state, asked(state, again=True), situation())
    assert isinstance(again, RunDeleted)


def test_only_a_root_that_has_not_moved_is_deleted() -> None:
    state = rested()
    assert code(state, asked(state, version=state.version - 1)) == "not_at_rest"
    at_work = changed(given(start()), ref=ROOT)
    assert code(at_work, asked(at_work)) == "not_at_rest"
    assert decide(at_work, asked(at_work, half=True), situation())
    child = changed(state, ref=RunRef("acme", "j1", "child"))
    assert code(child, asked(child)) == "not_a_job"


def test_words_in_a_text_are_no_tombstone() -> None:
    assert not tombstone_in(b'{"text":"{\\"type\\":\\"run.deleted.v1\\"}"}')
    assert not tombstone_in(b'"type":"run.deleted.v1" and nothing that can be read')


def test_a_snapshot_of_a_deleted_run_is_that_run() -> None:
    state = deleted()
    kept = restore(ROOT, take(state, 7, "h"))
    assert kept is not None
    assert kept.state.status == "deleted"
