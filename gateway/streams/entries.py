"""One envelope as all viewers get it: decoded and encoded once. Not who gets it: `hub` knows."""

from dataclasses import dataclass

from domain.envelope import Envelope, decode, event_json
from domain.errors import IntegrityViolated
from domain.events import TERMINAL_TYPES
from domain.ids import RunRef
from eventlog.owners import Owners, Whose
from eventlog.port import Cursor, Stored
from gateway.streams.frames import frame

MOVING_TYPES = frozenset({"run.started.v2", "run.forked.v1", "run.continued.v2"})
"""The events after which a run is not at rest; late facts after its end change nothing of that."""

MOVING = ""

Rest = str | None
"""How an envelope leaves its run: at rest with this status, moving, or None: as it was."""


@dataclass(frozen=True, slots=True)
class Told:
    """The frames of an envelope, one behind the other, and what a viewer has to know of them."""

    frames: bytes
    starts: tuple[int, ...]  # where each frame begins
    types: tuple[str, ...]
    rest: Rest
    last: Cursor  # of its last event

    def after(self, index: int) -> bytes:
        """The frames from that one on."""
        if index >= len(self.starts):
            return b""
        return self.frames[self.starts[index] :] if index else self.frames

    def one(self, index: int) -> bytes:
        """One frame."""
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.frames)
        return self.frames[self.starts[index] : end]


class Entry:
    """An envelope where it lies in the log. `told` is made when the first viewer wants it."""

    __slots__ = ("broken", "data", "ref", "seq", "size", "told")

    def __init__(self, stored: Stored) -> None:
        self.seq, self.ref, self.data = stored
        self.size = len(self.data)
        self.told: Told | None = None
        self.broken: IntegrityViolated | None = None


class Encoder:
    """Makes frames of envelopes, and says in them of whom a run is."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def told(self, entry: Entry, incarnation: str) -> Told:
        """The frames of an envelope.

        Raises:
            IntegrityViolated: the envelope cannot be read.
            Unavailable: of whom its run is has to be read, and the log is away.
        """
        if entry.broken is not None:
            raise entry.broken
        if entry.told is None:
            try:
                envelope = decode(entry.data)._replace(ref=entry.ref)
                whose = self._owners.known(envelope) or await self._owners.of(envelope)
            except IntegrityViolated as error:
                entry.broken = IntegrityViolated(f"the envelope at {entry.seq} cannot be read")
                raise entry.broken from error
            entry.told = told_of(envelope, entry.ref, Cursor(incarnation, entry.seq), whose)
            entry.data = b""  # the frames say it all
        return entry.told


def told_of(envelope: Envelope, ref: RunRef, cursor: Cursor, whose: Whose) -> Told:
    """An envelope as frames."""
    frames: list[bytes] = []
    starts: list[int] = []
    rest: Rest = None
    at = 0
    for index, event in enumerate(envelope.events):
        data = {
            "run": ref.run,
            "job": ref.job,
            "expert": whose.expert,
            "parent": whose.parent,
            "version": envelope.version + index,
            "at_ms": envelope.at_ms,
            "event": event_json(event),
        }
        frames.append(frame(event.type, data, cursor._replace(event=index)))
        starts.append(at)
        at += len(frames[-1])
        rest = rest_after(event.type, rest)
    types = tuple(event.type for event in envelope.events)
    last = cursor._replace(event=max(0, len(types) - 1))
    return Told(b"".join(frames), tuple(starts), types, rest, last)


def rest_after(kind: str, rest: Rest) -> Rest:
    """How a run is left by an event of that type."""
    if kind in TERMINAL_TYPES:
        return kind.split(".")[1]
    return MOVING if kind in MOVING_TYPES else rest
