"""A reply put together from the events of Anthropic's Messages API. Not the reading of the stream.

Sources: the `raw_*_event.py` type definitions of the `anthropic` SDK.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from domain.content import TextPart
from domain.limits import Usage
from domain.record import canonical
from services.loop.models.anthropic_blocks import CONTAINER, OwnBlocks, is_own
from services.loop.models.parts import PartsInProgress
from services.loop.models.port import Delta, ModelFailure, ModelReply, StopReason

if TYPE_CHECKING:
    from anthropic.types import (
        Container,
        RawContentBlockDeltaEvent,
        RawContentBlockStartEvent,
        RawMessageDeltaEvent,
        RawMessageStreamEvent,
    )
    from anthropic.types import Usage as StartUsage
    from anthropic.types.message_delta_usage import MessageDeltaUsage

PAUSED = "pause_turn"

_STOPS: Mapping[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "end",
    PAUSED: "end",
    "tool_use": "tool_calls",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "refusal": "refusal",
}


class AnthropicReply:
    """Takes the events of one answer. A part's key is the index of its block."""

    def __init__(self, origin: str) -> None:
        self._parts = PartsInProgress(origin)
        self._own = OwnBlocks()
        self._id = ""
        self._model = ""
        self._stop = ""
        self._explanation = ""
        self._container = ""
        self._usage: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        """The input from the first event, the output as far as it was told."""
        return self._usage

    @property
    def paused(self) -> bool:
        """Whether the provider stopped its own tools in the middle, and waits to be asked on."""
        return self._stop == PAUSED

    def add(self, event: "RawMessageStreamEvent") -> list[Delta]:
        """Take the next event; one of a kind we do not know says nothing."""
        match event.type:
            case "message_start":
                self._id, self._model = event.message.id or "", event.message.model or ""
                self._lives_in(event.message.container)
                self._spend(event.message.usage)
            case "content_block_start":
                return self._start(event)
            case "content_block_delta":
                return self._piece(event)
            case "message_delta":
                self._end(event)
            case _:
                pass
        return []

    def finish(self) -> ModelReply:
        """The whole reply, or the whole of what came before a pause.

        Raises:
            ModelFailure: `network` when the stream ended too early, `empty` when nothing was said.
        """
        if not self._stop:
            message = "the stream ended before the reply did"
            raise ModelFailure(kind="network", message=message)
        for index, block in self._own.kept().items():
            if self._own.is_text(index):
                self._parts.attach(index, block)
            else:
                self._parts.keep(index, block)
        if self._container:
            block = canonical({"type": CONTAINER, "id": self._container}).decode()
            self._parts.keep(CONTAINER, block)
        stop = _STOPS.get(self._stop, "end")
        if stop == "end" and self._parts.has("arguments"):
            stop = "tool_calls"
        parts = self._parts.parts(whole=stop != "max_tokens")
        if stop == "refusal":
            if not self._parts.has("text") and self._explanation:
                parts = (*parts, TextPart(text=self._explanation))
        elif not self.paused and not self._parts.has("text", "arguments"):
            message = f"neither text nor calls in a reply that ended with {self._stop}"
            raise ModelFailure(kind="empty", message=message)
        return ModelReply(parts, stop, self._usage, self._id, self._model)

    def _start(self, event: "RawContentBlockStartEvent") -> list[Delta]:
        block, index = event.content_block, event.index
        match block.type:
            case "text":
                self._own.start(event)
                return self._parts.add(index, "text", block.text)
            case "thinking":
                self._own.start(event)
                self._parts.open(index, "thinking")
                return self._parts.add(index, "thinking", block.thinking)
            case "tool_use":
                self._parts.open(index, "arguments", provider_id=block.id, tool=block.name)
                if block.input:  # a server behind this format that does not stream arguments
                    return self._parts.add(index, "arguments", canonical(block.input).decode())
            case kind if is_own(kind):
                self._own.start(event)
                self._parts.open(index, "thinking")
            case _:
                pass  # of a kind that could not be sent back
        return []

    def _piece(self, event: "RawContentBlockDeltaEvent") -> list[Delta]:
        piece, index = event.delta, event.index
        match piece.type:
            case "text_delta":
                self._own.add(index, piece)
                return self._parts.add(index, "text", piece.text)
            case "input_json_delta":
                if self._own.has(index):
                    self._own.add(index, piece)
                    return []
                return self._parts.add(index, "arguments", piece.partial_json)
            case "thinking_delta":
                self._own.add(index, piece)
                return self._parts.add(index, "thinking", piece.thinking)
            case _:
                self._own.add(index, piece)
        return []

    def _end(self, event: "RawMessageDeltaEvent") -> None:
        self._stop = event.delta.stop_reason or self._stop
        self._lives_in(event.delta.container)
        details = event.delta.stop_details
        if details is not None:
            self._explanation = details.explanation or ""
        self._spend(event.usage)

    def _lives_in(self, container: "Container | None") -> None:
        if container is not None:
            self._container = container.id or self._container

    def _spend(self, said: "StartUsage | MessageDeltaUsage | None") -> None:
        """Take the newest counts; what a later event leaves out stays as it was."""
        if said is None or (said.input_tokens is None and self._usage is None):
            return
        before = self._usage or Usage()
        cached = _newest(said.cache_read_input_tokens, before.cached)
        written = _newest(said.cache_creation_input_tokens, before.cache_written)
        fresh = _newest(said.input_tokens, before.input - before.cached - before.cache_written)
        details = said.output_tokens_details
        self._usage = Usage(
            input=fresh + cached + written,
            output=_newest(said.output_tokens, before.output),
            reasoning=_newest(details.thinking_tokens if details else None, before.reasoning),
            cached=cached,
            cache_written=written,
        )


def _newest(said: int | None, before: int) -> int:
    return before if said is None else said
