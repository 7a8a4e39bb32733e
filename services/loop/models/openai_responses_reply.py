"""A reply put together from the events of OpenAI's Responses API. Not the reading of the stream.

Sources: the `types/responses/response_*_event.py` definitions of the `openai` SDK.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from domain.limits import Usage
from domain.record import canonical
from services.loop.models.failures import stream_failure
from services.loop.models.openai_client import usage_of
from services.loop.models.openai_responses_request import SERVER_CALLS
from services.loop.models.parts import PartsInProgress
from services.loop.models.port import Delta, ModelFailure, ModelReply, StopReason

if TYPE_CHECKING:
    from openai.types.responses import (
        Response,
        ResponseError,
        ResponseErrorEvent,
        ResponseOutputItem,
        ResponseStreamEvent,
    )


PARAGRAPH = "\n\n"


class OpenAIResponsesReply:
    """Takes the events of one reply. A part's key is its item, and for texts its place there."""

    def __init__(self, origin: str, secrets: Sequence[str] = ()) -> None:
        self._secrets = secrets  # to keep out of messages
        self._parts = PartsInProgress(origin)
        self._response: Response | None = None
        self._refused = False

    @property
    def usage(self) -> Usage | None:
        """Known with the last event only."""
        said = self._response.usage if self._response else None
        return usage_of(said.to_dict(mode="json"), "input", "output") if said else None

    def add(self, event: "ResponseStreamEvent") -> list[Delta]:
        """Take the next event; one of a kind we do not know says nothing.

        Raises:
            ModelFailure: the provider gives up.
        """
        parts = self._parts
        match event.type:
            case "response.output_text.delta" | "response.refusal.delta":
                return parts.add((event.output_index, event.content_index), "text", event.delta)
            case "response.reasoning_summary_text.delta":
                return self._summary((event.output_index,), event.summary_index, event.delta)
            case "response.reasoning_text.delta":
                return parts.add((event.output_index,), "thinking", event.delta)
            case "response.function_call_arguments.delta":
                return parts.add((event.output_index,), "arguments", event.delta)
            case "response.output_item.added":
                self._open(event.output_index, event.item)
            case "response.output_item.done":
                return self._done(event.output_index, event.item)
            case "response.completed" | "response.incomplete":
                self._response = event.response
            case "response.failed":
                self._response = event.response
                raise self._broken(event.response.error)
            case "error":
                raise self._broken(event)
            case _:
                pass
        return []

    def finish(self) -> ModelReply:
        """The whole reply.

        Raises:
            ModelFailure: `network` when the stream ended too early, `empty` when nothing was said.
        """
        response = self._response
        if response is None:
            message = "the stream ended before the reply did"
            raise ModelFailure(kind="network", message=message)
        stop = self._stop(response)
        if stop != "refusal" and not self._parts.has("text", "arguments"):
            message = f"neither text nor calls in a reply that is {response.status}"
            raise ModelFailure(kind="empty", message=message)
        parts = self._parts.parts(whole=stop != "max_tokens")
        return ModelReply(parts, stop, self.usage, response.id or "", response.model or "")

    def _broken(self, said: "ResponseError | ResponseErrorEvent | None") -> ModelFailure:
        code, message = (said.code, said.message) if said is not None else ("", "")
        return stream_failure("OpenAI", code or "", message or "", self._secrets)

    def _stop(self, response: "Response") -> StopReason:
        if response.status == "incomplete":
            details = response.incomplete_details
            filtered = details is not None and details.reason == "content_filter"
            return "refusal" if filtered else "max_tokens"
        if self._parts.has("arguments"):
            return "tool_calls"
        return "refusal" if self._refused else "end"

    def _open(self, index: int, item: "ResponseOutputItem") -> None:
        if item.type == "function_call":
            key = (index,)
            self._parts.open(key, "arguments", provider_id=item.call_id, tool=item.name)
        elif item.type == "reasoning" or item.type in SERVER_CALLS:
            self._parts.open((index,), "thinking")

    def _summary(self, key: tuple[int], place: int, piece: str) -> list[Delta]:
        """A piece of a summary; its paragraphs come one by one and are kept apart."""
        before = self._parts.text_of(key)
        opens = place > 0 and before.count(PARAGRAPH) < place
        return self._parts.add(key, "thinking", f"{PARAGRAPH}{piece}" if opens else piece)

    def _done(self, index: int, item: "ResponseOutputItem") -> list[Delta]:
        """The whole item: what of it did not come in pieces comes now."""
        self._open(index, item)
        key = (index,)
        match item.type:
            case "reasoning":
                # Only this event has the encrypted content in full.
                self._parts.keep(key, canonical(item.to_dict(mode="json")).decode())
            case "function_call":
                if not self._parts.text_of(key):
                    return self._parts.add(key, "arguments", item.arguments)
            case "message":
                deltas: list[Delta] = []
                for place, content in enumerate(item.content):
                    refused = content.type == "refusal"
                    self._refused = self._refused or refused
                    if not self._parts.text_of((index, place)):
                        text = content.refusal if content.type == "refusal" else content.text
                        deltas.extend(self._parts.add((index, place), "text", text))
                cited = any(c.type == "output_text" and c.annotations for c in item.content)
                if item.content and (cited or item.phase is not None):
                    # Behind its texts: the item they go back as.
                    block = canonical(item.to_dict(mode="json")).decode()
                    self._parts.attach((index, len(item.content) - 1), block)
                return deltas
            case kind if kind in SERVER_CALLS:
                self._parts.keep(key, canonical(item.to_dict(mode="json")).decode())
            case _:
                pass  # of a kind that could not be sent back
        return []
