"""What is said on LIVE while work is done: deltas and partial output, never the record (C22).

No value of a secret is in it, however it came in pieces (C15). Offsets count what was said.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from domain.ids import RunRef
from domain.record import Record, canonical
from domain.redaction import Redactor, TextStream
from eventlog.port import LiveChannel

DeltaKind = Literal["text", "thinking", "arguments"]


class LiveDelta(Record):
    """A piece of a reply in the making; (step, attempt, kind, part, offset) places it."""

    type: Literal["delta.v1"] = "delta.v1"
    step: int
    attempt: int
    kind: DeltaKind
    part: int
    offset: int  # characters of this kind and part before it
    text: str
    tool: str = ""


class LiveToolOutput(Record):
    """A piece of the output of a running call."""

    type: Literal["tool_output.v1"] = "tool_output.v1"
    call: str
    offset: int  # characters before it
    text: str


@dataclass(slots=True)
class LiveOutput:
    """Hears a call's output and passes it on; a lost piece shows as a gap in the offsets."""

    channel: LiveChannel
    ref: RunRef
    call: str
    offset: int = 0
    redactor: Callable[[], Redactor] = Redactor
    _stream: TextStream = field(init=False)

    def __post_init__(self) -> None:
        self._stream = TextStream(self.redactor)

    async def __call__(self, text: str) -> None:
        """Pass one piece on, but for an end that may become a secret."""
        await self._say(self._stream.feed(text))

    async def end(self) -> None:
        """Pass on what was held back: the call has no more to say."""
        await self._say(self._stream.end())

    async def _say(self, text: str) -> None:
        if text:
            piece = LiveToolOutput(call=self.call, offset=self.offset, text=text)
            self.offset += len(text)
            await self.channel.publish(self.ref, canonical(piece))


@dataclass(slots=True)
class _Part:
    """A part of a reply as it was said so far."""

    stream: TextStream
    tool: str
    offset: int = 0


@dataclass(slots=True)
class LiveReply:
    """Hears the pieces of one attempt's reply and passes them on."""

    channel: LiveChannel
    ref: RunRef
    step: int
    attempt: int
    redactor: Callable[[], Redactor] = Redactor
    _parts: dict[tuple[DeltaKind, int], _Part] = field(
        default_factory=dict[tuple[DeltaKind, int], _Part]
    )

    async def tell(self, kind: DeltaKind, part: int, text: str, *, tool: str = "") -> None:
        """Pass one piece on, but for an end that may become a secret; other parts end here."""
        place = (kind, part)
        known = self._parts.get(place)
        if known is None:
            await self.end()
            known = self._parts[place] = _Part(TextStream(self.redactor), tool)
        await self._say(place, known, known.stream.feed(text))

    async def end(self) -> None:
        """Pass on what was held back: the parts so far have no more to say."""
        for place, known in self._parts.items():
            await self._say(place, known, known.stream.end())

    async def _say(self, place: tuple[DeltaKind, int], known: _Part, text: str) -> None:
        if not text:
            return
        piece = LiveDelta(
            step=self.step,
            attempt=self.attempt,
            kind=place[0],
            part=place[1],
            offset=known.offset,
            text=text,
            tool=self.redactor().text(known.tool),
        )
        known.offset += len(text)
        await self.channel.publish(self.ref, canonical(piece))
