"""A reply as it goes back to Anthropic: texts, calls, and the provider's own blocks. Pure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from domain.content import AssistantMessage, CallPart, TextPart, ThinkingPart
from domain.prompt import ModelRequest
from services.loop.models.anthropic_blocks import (
    CITED,
    FORMAT,
    RESULT_SUFFIX,
    SERVER_USE,
    THINKING,
    is_own,
)
from services.loop.models.origin import made_by, origin_of
from services.loop.models.rendering import CallIds, arguments_object, block_of

if TYPE_CHECKING:
    from anthropic.types import ContentBlockParam


def said_blocks(
    request: ModelRequest, message: AssistantMessage, ids: CallIds, *, goes_on: bool
) -> "list[ContentBlockParam]":
    """A reply as the model gave it, as far as it may be sent; `goes_on`: it is not done yet."""
    origin = origin_of(FORMAT, request.context.model)
    blocks: list[Mapping[str, JsonValue]] = []
    for part in message.parts:
        match part:
            case TextPart():
                text = request.text(part.text)
                if text.strip():
                    blocks.append({"type": "text", "text": text})
            case ThinkingPart():
                if made_by(part, origin):
                    _own(blocks, block_of(request.text(part.block)))
            case CallPart():
                blocks.append(
                    {
                        "type": "tool_use",
                        "id": ids.call(part),
                        "name": part.tool,
                        "input": arguments_object(request.text(part.arguments)),
                    }
                )
    blocks = _in_pairs(blocks, goes_on=goes_on)
    # The API refuses a reply that ends in thinking.
    while blocks and blocks[-1]["type"] in THINKING:
        blocks.pop()
    return cast("list[ContentBlockParam]", blocks)


def _own(blocks: list[Mapping[str, JsonValue]], block: Mapping[str, JsonValue]) -> None:
    """Add a block of the provider as it came; one cut before its signature is left out."""
    kind = block.get("type")
    if kind == CITED:
        # The text before it, in the form with citations.
        if blocks and blocks[-1] == {"type": "text", "text": block.get("text")}:
            blocks[-1] = block
    elif kind == "thinking":
        if block.get("signature"):
            blocks.append(block)
    elif isinstance(kind, str) and is_own(kind):
        blocks.append(block)


def _in_pairs(
    blocks: list[Mapping[str, JsonValue]], *, goes_on: bool
) -> list[Mapping[str, JsonValue]]:
    """Without calls of the provider's tools that have no result here, and results without a call.

    One of the two may be missing because it held a secret, or because the reply was cut; the API
    refuses the other then. In a reply that is not done, the result is still to come.
    """
    waiting: dict[str, int] = {}  # id of a call: its place
    alone: set[int] = set()
    for place, block in enumerate(blocks):
        if block["type"] == SERVER_USE:
            alone.add(place)
            waiting[str(block.get("id"))] = place
        elif _is_result(block):
            call = waiting.pop(str(block.get("tool_use_id")), None)
            if call is None:
                alone.add(place)
            else:
                alone.remove(call)
    if goes_on:
        alone -= set(waiting.values())
    return [block for place, block in enumerate(blocks) if place not in alone]


def _is_result(block: Mapping[str, JsonValue]) -> bool:
    return str(block["type"]).endswith(RESULT_SUFFIX)
