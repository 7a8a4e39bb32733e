"""Runs as the `eventsourcing` library sees them: for its applications and tools. Not the record.

Whoever keeps read models, reports or archives with that library can follow runs with it: an
envelope becomes `StoredEvent`s (one an event, in the order of versions), the library's recorders
keep them, `RunMapper` is the mapper its `EventStore` takes, and `project_run` rebuilds a run in its
functional style, as the `projector_func` of its repository. Nothing is written back: EVENTS stays
the only record, and only a decision appends to it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Cipher, Compressor, Mapper, StoredEvent, Transcoder

from domain.envelope import Envelope, decode_event, event_json
from domain.events import Event
from domain.evolve import evolve
from domain.ids import RunRef
from domain.record import canonical
from domain.state import RunState, changed

SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event with its place: satisfies the library's `DomainEventProtocol[str]`.

    `originator_id` is `<tenant>/<job>/<run>`, `originator_version` the event's version in the run.
    """

    originator_id: str
    originator_version: int
    at_ms: int
    event: Event


@dataclass(frozen=True, slots=True)
class Run:
    """A run's state: satisfies the library's `ImmutableAggregateProtocol[str]`."""

    state: RunState

    @property
    def id(self) -> str:
        """The run's full name."""
        return originator_id(self.state.ref)

    @property
    def version(self) -> int:
        """The version of its last event."""
        return self.state.version


def originator_id(ref: RunRef) -> str:
    """A run's full name as one string; its parts are subject tokens, so they hold no slash."""
    return SEPARATOR.join(ref)


def run_events(envelope: Envelope) -> list[RunEvent]:
    """The events of an envelope, each with its own version."""
    name = originator_id(envelope.ref)
    return [
        RunEvent(name, envelope.version + index, envelope.at_ms, event)
        for index, event in enumerate(envelope.events)
    ]


class JsonTranscoder(Transcoder):
    """Plain JSON, in the one byte form of the domain: nothing is revived from it (C18)."""

    def encode(self, obj: object) -> bytes:
        """The bytes of a JSON value."""
        return canonical(obj)

    def decode(self, data: bytes) -> object:
        """The JSON value of some bytes."""
        return orjson.loads(data)


class RunMapper(Mapper[str]):
    """Maps run events to stored events and back: the topic is the wire name, never a module path.

    The library's own mapper resolves a topic by importing it; this one looks it up in the closed
    union of events, upcasts old ones and carries unknown ones (rule 12).
    """

    def __init__(
        self,
        transcoder: Transcoder | None = None,
        compressor: Compressor | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        """As the library's own; `transcoder` None is plain JSON."""
        super().__init__(transcoder or JsonTranscoder(), compressor, cipher)

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """A stored event of a run's event."""
        if not isinstance(domain_event, RunEvent):
            msg = f"{type(domain_event).__name__} is no event of a run"
            raise TypeError(msg)
        state = self.transcoder.encode(
            {"at_ms": domain_event.at_ms, "event": event_json(domain_event.event)}
        )
        if self.compressor:
            state = self.compressor.compress(state)
        if self.cipher:
            state = self.cipher.encrypt(state)
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=domain_event.event.type,
            state=state,
        )

    def to_domain_event(self, stored_event: StoredEvent) -> RunEvent:
        """A run's event of a stored event.

        Raises:
            IntegrityViolated: a known event does not have the shape it was released with.
        """
        state = stored_event.state
        if self.cipher:
            state = self.cipher.decrypt(state)
        if self.compressor:
            state = self.compressor.decompress(state)
        raw = self.transcoder.decode(state)
        return RunEvent(
            originator_id=str(stored_event.originator_id),
            originator_version=stored_event.originator_version,
            at_ms=raw["at_ms"],
            event=decode_event(raw["event"]),
        )


def project_run(run: Run | None, events: Iterable[RunEvent]) -> Run | None:
    """The run after some events: a `projector_func` of the library's repository."""
    for event in events:
        if run is None:
            run = Run(RunState(ref=RunRef(*event.originator_id.split(SEPARATOR))))
        run = Run(evolve(changed(run.state, at_ms=event.at_ms), event.event))
    return run
