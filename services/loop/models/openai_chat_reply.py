"""A reply put together from the chunks of Chat Completions. Not the reading of the stream.

Sources: `types/chat/chat_completion_chunk.py` of the `openai` SDK. Servers differ in small ways, so
this takes what it gets: thinking as `reasoning_content` or `reasoning`, calls without an index,
several calls under one index, `stop` as the reason although there are calls, calls with an extra
field that has to come back.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from domain.limits import Usage
from domain.record import canonical
from services.loop.models.openai_chat_request import EXTRA
from services.loop.models.openai_client import usage_of
from services.loop.models.parts import PartsInProgress
from services.loop.models.port import Delta, ModelFailure, ModelReply, StopReason

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk
    from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall

_STOPS: Mapping[str, StopReason] = {
    "stop": "end",
    "length": "max_tokens",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
}


class OpenAIChatReply:
    """Takes the chunks of one reply."""

    def __init__(self, origin: str) -> None:
        self._parts = PartsInProgress(origin)
        self._calls: dict[int, tuple[int, str]] = {}  # index on the wire: our number, id
        self._count = 0
        self._id = ""
        self._model = ""
        self._stop = ""
        self._refused = False
        self._usage: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        """Known with the last chunk, from servers that send it."""
        return self._usage

    def add(self, event: "ChatCompletionChunk") -> list[Delta]:
        """Take the next chunk."""
        self._id = self._id or event.id or ""
        self._model = self._model or event.model or ""
        if event.usage is not None:
            self._usage = usage_of(event.usage.to_dict(mode="json"), "prompt", "completion")
        deltas: list[Delta] = []
        for choice in (event.choices or [])[:1]:
            self._stop = choice.finish_reason or self._stop
            deltas.extend(self._piece(choice.delta))
        return deltas

    def finish(self) -> ModelReply:
        """The whole reply.

        Raises:
            ModelFailure: `network` when the stream ended too early, `empty` when nothing was said.
        """
        if not self._stop:
            message = "the stream ended before the reply did"
            raise ModelFailure(kind="network", message=message)
        stop = _STOPS.get(self._stop, "end")
        if stop == "end" and self._parts.has("arguments"):
            stop = "tool_calls"
        elif stop == "end" and self._refused:
            stop = "refusal"
        if stop != "refusal" and not self._parts.has("text", "arguments"):
            message = f"neither text nor calls in a reply that ended with {self._stop}"
            raise ModelFailure(kind="empty", message=message)
        thought = self._parts.text_of("thinking")
        if thought:
            self._parts.keep("thinking", canonical({"reasoning_content": thought}).decode())
        parts = self._parts.parts(whole=stop != "max_tokens")
        return ModelReply(parts, stop, self._usage, self._id, self._model)

    def _piece(self, delta: "ChoiceDelta | None") -> list[Delta]:
        if delta is None:
            return []
        extra = delta.model_extra or {}
        thought = extra.get("reasoning_content") or extra.get("reasoning")
        deltas = self._parts.add(
            "thinking", "thinking", thought if isinstance(thought, str) else ""
        )
        deltas += self._parts.add("text", "text", delta.content)
        if delta.refusal:
            self._refused = True
            deltas += self._parts.add("text", "text", delta.refusal)
        for call in delta.tool_calls or []:
            deltas += self._call(call, call.index)
        return deltas

    def _call(self, call: "ChoiceDeltaToolCall", index: int | None) -> list[Delta]:
        if index is None:
            index = max(self._calls, default=0)
        number, open_id = self._calls.get(index, (-1, ""))
        name = (call.function.name if call.function else None) or ""
        # A new id, or a name without an id of its own, begins another call under the same index.
        if number < 0 or (call.id and call.id != open_id) or (name and not call.id):
            number, self._count = self._count, self._count + 1
            provider_id = call.id or f"call_{number}"
            self._calls[index] = (number, provider_id)
            self._parts.open(("call", number), "arguments", provider_id=provider_id, tool=name)
        extra = (call.model_extra or {}).get(EXTRA)
        if extra:
            self._parts.attach(("call", number), canonical({EXTRA: extra}).decode())
        piece = call.function.arguments if call.function else None
        return self._parts.add(("call", number), "arguments", piece)
