"""What is said on LIVE while work is done: deltas and partial output, never the record (C22)."""

from dataclasses import dataclass
from typing import Literal

from domain.ids import RunRef
from domain.record import Record, canonical
from eventlog.port import LiveChannel


class LiveDelta(Record):
    """A piece of a reply in the making; (step, attempt, kind, part, offset) places it."""

    type: Literal["delta.v1"] = "delta.v1"
    step: int
    attempt: int
    kind: Literal["text", "thinking", "arguments"]
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

    async def __call__(self, text: str) -> None:
        """Pass one piece on."""
        piece = LiveToolOutput(call=self.call, offset=self.offset, text=text)
        self.offset += len(text)
        await self.channel.publish(self.ref, canonical(piece))
