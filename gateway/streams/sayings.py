"""Replies in the making and output of running calls, as far as they were heard. Not the record.

A viewer that comes in the middle gets what was said so far, so that the next pieces go on from it.
What is over is in the log, and is forgotten here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from domain.ids import RunRef
from gateway.streams.bounds import Bounds
from gateway.streams.frames import frame

ATTEMPT_ENDS = (
    "generation.completed.",
    "generation.failed.",
    "generation.abandoned.",
    "generation.superseded.",
)
CALL_ENDS = ("tool_call.ended.",)
RUN_ENDS = ("run.completed.", "run.stopped.", "run.failed.", "run.cancelled.", "run.deleted.")

ENDED_CALLS_MAX = 256
"""How many calls of a run are remembered as ended, whose last pieces may still come."""

Attempt = tuple[int, int]
"""Step and attempt."""


@dataclass(slots=True)
class Part:
    """One part of a reply, whole from its first character."""

    kind: str
    part: int
    tool: str
    pieces: list[str]
    length: int

    def text(self) -> str:
        """All that was said of it."""
        if len(self.pieces) > 1:
            self.pieces[:] = ["".join(self.pieces)]
        return self.pieces[0]


@dataclass(slots=True)
class Output:
    """The end of a running call's output, and where it begins."""

    offset: int
    text: str


@dataclass(slots=True)
class Saying:
    """What is being said in one run."""

    at_s: float = 0.0
    size: int = 0
    attempt: Attempt = (0, 0)
    ended: Attempt = (0, 0)
    parts: dict[tuple[str, int], Part] = field(default_factory=dict[tuple[str, int], Part])
    outputs: dict[str, Output] = field(default_factory=dict[str, Output])
    ended_calls: dict[str, None] = field(default_factory=dict[str, None])
    checked: bool = True


class Sayings:
    """All that is being said, bounded in number, size and time."""

    def __init__(self, bounds: Bounds, now_s: Callable[[], float]) -> None:
        self._bounds = bounds
        self._now_s = now_s
        self._runs: dict[RunRef, Saying] = {}  # the one that said something last comes last
        self._size = 0

    def hear(self, ref: RunRef, piece: Mapping[str, Any], *, checked: bool = True) -> None:
        """Take a piece. `checked` False: what it belongs to may be over already."""
        kind = piece.get("type")
        if kind not in ("delta.v1", "tool_output.v1"):
            return
        saying = self._runs.pop(ref, None) or Saying(checked=checked)
        self._runs[ref] = saying
        saying.at_s = self._now_s()
        before = saying.size
        try:
            if kind == "delta.v1":
                self._delta(saying, piece)
            else:
                self._output(saying, piece)
        except (KeyError, TypeError, ValueError):
            pass  # a piece of another release: it is handed on, and not remembered
        self._size += saying.size - before
        self._drop()

    def pass_by(self, ref: RunRef, data: bytes) -> None:
        """An envelope was stored: forget what it ends, of which some may be heard only after it."""
        saying = self._runs.get(ref)
        if saying is None:
            if b'"generation.' not in data:
                return
            saying = self._runs[ref] = Saying(at_s=self._now_s())
            self._drop()
        before = saying.size
        for event in events_of(data):
            _end(saying, event)
        self._size += saying.size - before

    def unchecked(self, wanted: Callable[[RunRef], bool]) -> list[RunRef]:
        """The runs of which it is not known yet whether what they said is over."""
        return [ref for ref, one in self._runs.items() if not one.checked and wanted(ref)]

    def check(self, ref: RunRef) -> None:
        """All that was stored of this run has passed by."""
        if ref in self._runs:
            self._runs[ref].checked = True

    def frames(self, wanted: Callable[[RunRef], bool]) -> list[bytes]:
        """What is being said in the runs that are wanted, a frame each part."""
        return [
            made
            for ref, saying in self._runs.items()
            if wanted(ref)
            for made in _frames(ref, saying)
        ]

    def clear(self) -> None:
        """Forget everything: the log was made anew."""
        self._runs.clear()
        self._size = 0

    def _delta(self, saying: Saying, piece: Mapping[str, Any]) -> None:
        attempt = (int(piece["step"]), int(piece["attempt"]))
        if attempt <= saying.ended or attempt < saying.attempt:
            return
        if attempt != saying.attempt:
            _drop_parts(saying)
            saying.attempt = attempt
        place, offset, text = (piece["kind"], piece["part"]), int(piece["offset"]), piece["text"]
        part = saying.parts.get(place)
        if part is None and offset == 0:
            part = Part(place[0], place[1], piece.get("tool", ""), [], 0)
            saying.parts[place] = part
        elif part is None or offset < part.length:
            return  # it began before us, or was heard already
        elif offset > part.length:
            saying.size -= part.length  # a piece is missing: what is not whole is not told
            del saying.parts[place]
            return
        part.pieces.append(text)
        part.length += len(text)
        saying.size += len(text)

    def _output(self, saying: Saying, piece: Mapping[str, Any]) -> None:
        call, offset, text = piece["call"], int(piece["offset"]), piece["text"]
        if call in saying.ended_calls:
            return
        output = saying.outputs.setdefault(call, Output(offset, ""))
        end = output.offset + len(output.text)
        if offset < end:
            return  # heard already
        if offset > end:
            saying.size -= len(output.text)
            output.offset, output.text = offset, ""
        grown = output.text + text
        kept = grown[-self._bounds.output_chars :]
        saying.size += len(kept) - len(output.text)
        output.offset += len(grown) - len(kept)
        output.text = kept

    def _drop(self) -> None:
        """Forget the quietest until everything is within the bounds."""
        bounds, oldest_s = self._bounds, self._now_s() - self._bounds.replies_s
        while self._runs:
            ref, quietest = next(iter(self._runs.items()))
            too_much = len(self._runs) > bounds.replies or self._size > bounds.replies_bytes
            if not too_much and quietest.at_s >= oldest_s:
                return
            self._size -= quietest.size
            del self._runs[ref]


def events_of(data: bytes) -> Iterator[Mapping[str, Any]]:
    """The events of an envelope as they are stored; none of one that cannot be read."""
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    events: object = raw.get("events") if isinstance(raw, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    for event in cast("list[object]", events) if isinstance(events, list) else ():
        if isinstance(event, dict):
            yield cast("dict[str, Any]", event)


def _end(saying: Saying, event: Mapping[str, Any]) -> None:
    kind = str(event.get("type", ""))
    if kind.startswith(ATTEMPT_ENDS):
        ended = (int(event.get("step", 0)), int(event.get("attempt", 0)))
        saying.ended = max(saying.ended, ended)
        if saying.attempt <= saying.ended:
            _drop_parts(saying)
    elif kind.startswith(CALL_ENDS):
        call = str(event.get("call", ""))
        while len(saying.ended_calls) >= ENDED_CALLS_MAX:
            del saying.ended_calls[next(iter(saying.ended_calls))]
        saying.ended_calls[call] = None
        _drop_output(saying, call)
    elif kind.startswith(RUN_ENDS):
        _drop_parts(saying)
        for call in list(saying.outputs):
            _drop_output(saying, call)


def _drop_parts(saying: Saying) -> None:
    saying.size -= sum(part.length for part in saying.parts.values())
    saying.parts.clear()


def _drop_output(saying: Saying, call: str) -> None:
    output = saying.outputs.pop(call, None)
    saying.size -= len(output.text) if output else 0


def _frames(ref: RunRef, saying: Saying) -> Iterator[bytes]:
    if not saying.checked:
        return
    names = {"run": ref.run, "job": ref.job}
    step, attempt = saying.attempt
    for part in saying.parts.values():
        what = {"step": step, "attempt": attempt, "kind": part.kind, "part": part.part}
        yield frame("so_far", {**names, **what, "text": part.text(), "tool": part.tool})
    for call, output in saying.outputs.items():
        yield frame("so_far", {**names, "call": call, "offset": output.offset, "text": output.text})
