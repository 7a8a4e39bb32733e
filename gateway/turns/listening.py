"""What a viewer is told of one job, as items: envelopes, pieces of replies. Not their meaning.

It is a viewer as those of the event streams are: one upstream feeds them all.
"""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, NamedTuple

import orjson

from domain.envelope import decode_event
from domain.errors import Unavailable
from domain.events import Event
from domain.ids import RunRef
from eventlog.port import Cursor
from gateway.streams.feed import ANY, Feed
from gateway.streams.hub import Hub
from gateway.streams.places import start_of
from gateway.streams.viewer import Viewer


@dataclass(frozen=True, slots=True)
class Enveloped:
    """All events of one decision. `version` is that of the first."""

    seq: int
    ref: RunRef
    version: int
    at_ms: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a reply in the making: (step, attempt, kind, part, offset) places it."""

    run: str
    step: int
    attempt: int
    kind: str
    part: int
    offset: int
    text: str


Sign = Literal["now", "beat"]
"""`now`: what was stored when the turn was asked for is told. `beat`: it was silent for a while."""

Item = Enveloped | Piece | Sign


class _Frame(NamedTuple):
    event: str
    id: str
    data: dict[str, Any]


def viewer_of(hub: Hub, ref: RunRef, incarnation: str) -> Viewer:
    """A viewer of a whole job from its first event, live."""
    feed = Feed(ref._replace(run=ANY), live=True, follow=True)
    return Viewer(hub, feed, start_of(incarnation))


async def items_of(viewer: Viewer, tenant: str, past_seq: int) -> AsyncGenerator[Item]:
    """What the viewer is told; ends when the gateway closes.

    Raises:
        Unavailable: it is cut off.
    """
    told_now = past_seq == 0
    if told_now:
        yield "now"
    while chunk := await viewer.take():
        for item in _items(chunk, tenant):
            yield item
            if not told_now and isinstance(item, Enveloped) and item.seq >= past_seq:
                told_now = True
                yield "now"


def _items(chunk: bytes, tenant: str) -> Iterator[Item]:
    """The items of some whole frames; those of an envelope are never in two chunks."""
    for place, frames in groupby(_frames(chunk), key=_place):
        if place is not None:
            yield _enveloped(list(frames), tenant, place)
            continue
        for frame in frames:
            item = _other(frame)
            if item is not None:
                yield item


def _frames(chunk: bytes) -> Iterator[_Frame]:
    for block in chunk.split(b"\n\n"):
        parts = (line.partition(b": ") for line in block.split(b"\n"))
        fields = {name: value for name, _, value in parts}
        if b"data" in fields:
            name, place = fields.get(b"event", b"").decode(), fields.get(b"id", b"").decode()
            yield _Frame(name, place, orjson.loads(fields[b"data"]))


def _place(frame: _Frame) -> int | None:
    """The sequence of the envelope that a frame is of; None for any other frame."""
    cursor = Cursor.parse(frame.id) if "event" in frame.data else None
    return None if cursor is None else cursor.seq


def _enveloped(frames: list[_Frame], tenant: str, seq: int) -> Enveloped:
    first = frames[0].data
    return Enveloped(
        seq=seq,
        ref=RunRef(tenant, first["job"], first["run"]),
        version=first["version"],
        at_ms=first["at_ms"],
        events=tuple(decode_event(frame.data["event"]) for frame in frames),
    )


def _other(frame: _Frame) -> Item | None:
    data = frame.data
    match frame.event:
        case "live" if data.get("type") == "delta.v1":
            return _piece(data, data["offset"])
        case "so_far" if "step" in data:
            return _piece(data, 0)
        case "heartbeat":
            return "beat"
        case "reset":
            msg = "the log was made anew"
            raise Unavailable(msg)
        case "goodbye" if data.get("reason") != "closing":
            msg = "the client takes too long"
            raise Unavailable(msg)
        case "problem":
            raise Unavailable(str(data.get("detail")))
        case _:
            return None


def _piece(data: dict[str, Any], offset: int) -> Piece:
    return Piece(
        run=data["run"],
        step=data["step"],
        attempt=data["attempt"],
        kind=data["kind"],
        part=data["part"],
        offset=offset,
        text=data["text"],
    )
