"""One decision as one message: events, place in the run, hash of the one before."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import orjson
from pydantic import ValidationError

from domain.errors import IntegrityViolated
from domain.events import KNOWN_EVENT, Event, OpaqueEvent, RunDeleted
from domain.ids import RunRef
from domain.record import Record, canonical, digest_of

FIRST_HASH = "0" * 64
"""What the first envelope of a run names as the hash of the one before."""

FORMAT = 1

TOMBSTONE = b'"type":"run.deleted.v'
"""Found in an envelope's bytes only as an event: inside a text the quotes would be escaped."""


class Cause(Record):
    """The command that led to a decision."""

    type: str
    id: str


class Envelope(NamedTuple):
    """All events of one decision. `version` is that of the first; contiguous from 1."""

    id: str
    ref: RunRef
    version: int
    at_ms: int  # milliseconds since the epoch, never before the run's last event
    cause: Cause
    by: str  # the epoch that decided
    prev: str  # digest of the bytes of the run's previous envelope
    events: tuple[Event, ...]
    trace: str | None = None  # W3C traceparent

    @property
    def next_version(self) -> int:
        """The version the next envelope of this run starts with."""
        return self.version + len(self.events)


def is_tombstone(envelope: Envelope) -> bool:
    """Whether it says that the job was deleted: then nothing need be there before it."""
    return bool(envelope.events) and isinstance(envelope.events[0], RunDeleted)


def tombstone_in(data: bytes) -> bool:
    """The same of stored bytes; what cannot be read is none."""
    if TOMBSTONE not in data:
        return False
    try:
        return is_tombstone(decode(data))
    except IntegrityViolated:
        return False


def event_json(event: Event) -> dict[str, Any]:
    """An event as plain JSON, opaque ones exactly as they came."""
    if isinstance(event, OpaqueEvent):
        return {"type": event.type, **event.body}
    return event.model_dump(mode="json", exclude_defaults=False)


def encode(envelope: Envelope) -> bytes:
    """The bytes that are stored, and hashed by the next envelope."""
    return canonical(
        {
            "format": FORMAT,
            "id": envelope.id,
            "tenant": envelope.ref.tenant,
            "job": envelope.ref.job,
            "run": envelope.ref.run,
            "version": envelope.version,
            "at_ms": envelope.at_ms,
            "cause": envelope.cause,
            "by": envelope.by,
            "prev": envelope.prev,
            "trace": envelope.trace,
            "events": [
                {"type": e.type, **e.body} if isinstance(e, OpaqueEvent) else e
                for e in envelope.events
            ],
        }
    )


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def _grown(name: str) -> Upcaster:
    """An upcaster to a shape that only has fields more: what they default to is what was meant."""
    return lambda raw: {**raw, "type": name}


GROWN_IN_0_2 = (
    "run.started",
    "context.pinned",
    "input.received",
    "run.continued",
    "run.cancel_requested",
    "generation.requested",
    "generation.completed",
    "generation.failed",
    "generation.abandoned",
    "generation.superseded",
    "tool_call.requested",
    "delegation.requested",
    "delegation.settled",
    "timer.armed",
    "run.completed",
    "run.stopped",
)
"""Money, principals, people and teams came with 0.2."""

UPCASTERS: Mapping[str, Upcaster] = {f"{name}.v1": _grown(f"{name}.v2") for name in GROWN_IN_0_2}
"""Old wire name -> the same fact in the next shape; applied until none matches (rule 12)."""


def decode_event(value: object, upcasters: Mapping[str, Upcaster] = UPCASTERS) -> Event:
    """One event from its JSON: upcast, known, or carried opaque.

    Raises:
        IntegrityViolated: a known event does not have the shape it was released with.
    """
    if not isinstance(value, dict):
        msg = f"an event that is no object: {value!r}"
        raise IntegrityViolated(msg)
    raw = cast("dict[str, Any]", value)
    while (upcast := upcasters.get(str(raw.get("type")))) is not None:
        raw = upcast(raw)
    name = raw.get("type")
    if not isinstance(name, str):
        msg = f"an event without a type: {sorted(raw)!r}"
        raise IntegrityViolated(msg)
    try:
        return KNOWN_EVENT.validate_python(raw, strict=False)
    except ValidationError as error:
        if error.errors()[0]["type"] == "union_tag_invalid":
            return OpaqueEvent(type=name, body={k: v for k, v in raw.items() if k != "type"})
        msg = f"event {name!r} is malformed: {error.errors(include_url=False)!r}"
        raise IntegrityViolated(msg) from error


def decode(data: bytes) -> Envelope:
    """An envelope from its stored bytes.

    Raises:
        IntegrityViolated: the bytes are not an envelope this release or an older one wrote.
    """
    try:
        raw = orjson.loads(data)
        if raw["format"] != FORMAT:
            msg = f"envelope format {raw['format']!r} is not {FORMAT}: written by a newer release"
            raise IntegrityViolated(msg)
        if not all(isinstance(raw[name], int) for name in ("version", "at_ms")):
            msg = f"version {raw['version']!r} and at_ms {raw['at_ms']!r} are not both integers"
            raise IntegrityViolated(msg)
        return Envelope(
            id=raw["id"],
            ref=RunRef(raw["tenant"], raw["job"], raw["run"]),
            version=raw["version"],
            at_ms=raw["at_ms"],
            cause=Cause.model_validate(raw["cause"]),
            by=raw["by"],
            prev=raw["prev"],
            events=tuple(decode_event(event) for event in raw["events"]),
            trace=raw["trace"],
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
        msg = f"these {len(data)} bytes are not an envelope: {error}"
        raise IntegrityViolated(msg) from error


def hash_of(data: bytes) -> str:
    """The digest the next envelope of the run names as `prev`."""
    return digest_of(data)
