"""Runs followed with the eventsourcing library's own recorder, store and repository."""

import zlib

import pytest
from eventsourcing.application import Repository
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Cipher, Compressor, EventStore, IntegrityError
from eventsourcing.popo import POPOAggregateRecorder
from eventsourcing.utils import Environment

from domain.envelope import Cause, Envelope
from domain.errors import IntegrityViolated
from domain.events import Event, OpaqueEvent, StepEnded
from domain.state import RunState
from eventlog.library import Run, RunEvent, RunMapper, originator_id, project_run, run_events
from tests.support.runs import NOW_MS, REF, call, replies, result, start, when


def history() -> tuple[list[Envelope], RunState]:
    """A run's envelopes, and the state they lead to."""
    state, found = RunState(ref=REF), list[Envelope]()
    for asked in (start(), replies("so", call("exec")), result("c1-0"), replies("done")):
        then = when(state, asked)
        found.append(envelope(state.version + 1, *then.events))
        state = then.after
    return found, state


def envelope(version: int, *events: Event) -> Envelope:
    cause = Cause(type="test.v1", id="")
    return Envelope("e", REF, version, NOW_MS, cause, "e1", "0" * 64, events)


def kept(store: EventStore[str]) -> RunState:
    envelopes, state = history()
    for one in envelopes:
        store.put(run_events(one))
    return state


def test_library_rebuilds_a_run_from_its_own_store() -> None:
    store = EventStore(RunMapper(), POPOAggregateRecorder())
    state = kept(store)
    repository: Repository[str] = Repository(store)
    run: Run = repository.get(originator_id(REF), projector_func=project_run)
    assert run.state == state
    assert (run.id, run.version) == ("acme/job1/run1", state.version)


def test_library_rebuilds_a_run_as_it_was_at_a_version() -> None:
    store = EventStore(RunMapper(), POPOAggregateRecorder())
    kept(store)
    repository: Repository[str] = Repository(store)
    run: Run = repository.get(originator_id(REF), version=4, projector_func=project_run)
    assert (run.version, run.state.step) == (4, 1)


def test_topic_is_the_wire_name_and_no_module_path_is_stored() -> None:
    """Rule 12 and C17."""
    stored = RunMapper().to_stored_event(run_events(envelope(7, StepEnded(step=2)))[0])
    assert (stored.originator_id, stored.originator_version) == ("acme/job1/run1", 7)
    assert stored.topic == "step.ended.v1"
    assert stored.state == (b'{"at_ms":1700000000000,"event":{"type":"step.ended.v1","step":2}}')


def test_every_event_comes_back_as_the_librarys_kind_of_event() -> None:
    mapper = RunMapper()
    for one in history()[0]:
        for event in run_events(one):
            assert isinstance(event, DomainEventProtocol)
            assert mapper.to_domain_event(mapper.to_stored_event(event)) == event


def test_event_of_a_newer_release_is_carried() -> None:
    """C17."""
    newer = OpaqueEvent(type="run.dreamt.v1", body={"why": "x"})
    mapper = RunMapper()
    event = mapper.to_domain_event(mapper.to_stored_event(RunEvent("a/b/c", 1, 5, newer)))
    assert event.event == newer


class Zlib(Compressor):
    def compress(self, data: bytes) -> bytes:
        return zlib.compress(data)

    def decompress(self, data: bytes) -> bytes:
        return zlib.decompress(data)


class Turned(Cipher):
    """A cipher for tests: bytes back to front."""

    def __init__(self, environment: Environment) -> None:
        del environment

    def encrypt(self, plaintext: bytes) -> bytes:
        return plaintext[::-1]

    def decrypt(self, ciphertext: bytes) -> bytes:
        return ciphertext[::-1]


def test_library_compresses_and_encrypts_what_it_keeps() -> None:
    mapper = RunMapper(compressor=Zlib(), cipher=Turned(Environment()))
    event = run_events(envelope(1, StepEnded(step=2)))[0]
    stored = mapper.to_stored_event(event)
    assert b"step" not in stored.state
    assert mapper.to_domain_event(stored) == event


def test_library_refuses_a_version_it_has() -> None:
    store = EventStore(RunMapper(), POPOAggregateRecorder())
    kept(store)
    with pytest.raises(IntegrityError):
        store.put(run_events(history()[0][0]))


def test_malformed_known_event_is_refused() -> None:
    mapper = RunMapper()
    stored = mapper.to_stored_event(run_events(envelope(1, StepEnded(step=2)))[0])
    state = stored.state.replace(b'"step":2', b'"stop":2')
    broken = type(stored)(stored.originator_id, 1, stored.topic, state)
    with pytest.raises(IntegrityViolated):
        mapper.to_domain_event(broken)


def test_nothing_is_projected_from_nothing() -> None:
    assert project_run(None, []) is None


def test_events_of_others_are_refused() -> None:
    class Foreign:
        originator_id = "x"
        originator_version = 1

        def __init__(self, *args: object, **kwargs: object) -> None:
            """As the library's protocol has it."""

    with pytest.raises(TypeError, match="Foreign is no event of a run"):
        RunMapper().to_stored_event(Foreign())
