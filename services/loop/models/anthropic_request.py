"""A request in the form of Anthropic's Messages API. Not the call itself; needs no SDK at run time.

Sources: the type definitions of the `anthropic` SDK (`types/message_create_params.py` and the
`*_param.py` beside it) and the pages they cite.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from domain.content import (
    AssistantMessage,
    CallPart,
    ContentPart,
    FilePart,
    Message,
    ResultPart,
    TextPart,
    ThinkingPart,
    UserMessage,
)
from domain.limits import ModelChoice
from domain.prompt import ModelRequest
from services.loop.models.effort import effort_of, thinking_tokens
from services.loop.models.rendering import (
    NOTHING,
    CallIds,
    arguments_object,
    base64_of,
    block_of,
    is_image,
    named,
)

if TYPE_CHECKING:
    from anthropic.types import (
        CacheControlEphemeralParam,
        DocumentBlockParam,
        ImageBlockParam,
        MessageParam,
        TextBlockParam,
        ThinkingBlockParam,
        ToolParam,
        ToolResultBlockParam,
        ToolUseBlockParam,
    )
    from anthropic.types.message_create_params import MessageCreateParamsStreaming

    ImageType = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    AssistantBlock = TextBlockParam | ThinkingBlockParam | ToolUseBlockParam
    ContentBlock = TextBlockParam | ImageBlockParam | DocumentBlockParam
    UserBlock = ContentBlock | ToolResultBlockParam

FORMAT = "anthropic"

ADAPTIVE_SINCE = (4, 6)
"""From this version on, models decide themselves how long to think and take an effort; older ones
take a budget of tokens. Newer ones refuse a budget, so the name has to tell."""


def render(request: ModelRequest) -> "MessageCreateParamsStreaming":
    """The body of the request: a pure function of the request.

    Cache breakpoints, of which four are allowed: the last tool, the last system block, and the last
    blocks of the newest two messages that ended a request. The older of those two is where the
    request before this one wrote its cache; marking it again finds that entry however many blocks
    the step added (a provider looks back twenty blocks only).
    """
    choice = request.context.model
    params: MessageCreateParamsStreaming = {
        "model": choice.model,
        "max_tokens": choice.output_tokens_max,
        "messages": _messages(request),
        "stream": True,
    }
    system: list[TextBlockParam] = [
        {"type": "text", "text": block.text}
        for block in request.context.system
        if block.text.strip()
    ]
    if system:
        system[-1]["cache_control"] = {"type": "ephemeral"}
        params["system"] = system
    tools: list[ToolParam] = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        for tool in request.context.tools
    ]
    if tools:
        tools[-1]["cache_control"] = {"type": "ephemeral"}
        params["tools"] = tools
    _think(params, choice)
    return params


def _think(params: "MessageCreateParamsStreaming", choice: ModelChoice) -> None:
    """Ask for as much thinking as the choice allows; `none` leaves it to the model's default."""
    effort = effort_of(choice.reasoning)
    budget = thinking_tokens(choice.reasoning)
    if effort is None or budget is None:
        return
    if adaptive(choice.model):
        # `summarized`: some models would otherwise send signed blocks with nothing to read.
        params["thinking"] = {"type": "adaptive", "display": "summarized"}
        params["output_config"] = {"effort": effort}
        return
    params["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if budget >= choice.output_tokens_max:
        # The budget is part of the limit; on top of it, the answer keeps the room it was given.
        params["max_tokens"] = budget + choice.output_tokens_max


def adaptive(model: str) -> bool:
    """Whether a model thinks adaptively, by the version in its name.

    A Claude name without a version is newer than the rule; any other name is somebody else's
    server behind this format, and those know the older form.
    """
    numbers = re.findall(r"(?<!\d)\d{1,2}(?!\d)", model)
    if not numbers:
        return "claude" in model
    version = (int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0)
    return version >= ADAPTIVE_SINCE


def _messages(request: ModelRequest) -> "list[MessageParam]":
    ids = CallIds()
    breakpoint_here: CacheControlEphemeralParam = {"type": "ephemeral"}
    marked = _breakpoints(request.messages)
    messages: list[MessageParam] = []
    for place, message in enumerate(request.messages):
        if isinstance(message, AssistantMessage):
            ids.next_reply()
            said = _assistant_blocks(request, message, ids)
            # A reply of which nothing may be sent is left out; the API joins its neighbours.
            if said:
                messages.append({"role": "assistant", "content": said})
        else:
            told = _user_blocks(request, message, ids)
            if place in marked:
                told[-1]["cache_control"] = breakpoint_here
            messages.append({"role": "user", "content": told})
    return messages


def _breakpoints(messages: Sequence[Message]) -> set[int]:
    """The places of the last message of this request and of the one before it."""
    users = [place for place, message in enumerate(messages) if isinstance(message, UserMessage)]
    replies = [
        place for place, message in enumerate(messages) if isinstance(message, AssistantMessage)
    ]
    before = [place for place in users if replies and place < replies[-1]]
    return {*users[-1:], *before[-1:]}


def _assistant_blocks(
    request: ModelRequest, message: AssistantMessage, ids: CallIds
) -> "list[AssistantBlock]":
    blocks: list[AssistantBlock] = []
    for part in message.parts:
        match part:
            case TextPart():
                text = request.text(part.text)
                if text.strip():
                    blocks.append({"type": "text", "text": text})
            case ThinkingPart():
                block = _thinking(request, part)
                if block is not None:
                    blocks.append(block)
            case CallPart():
                blocks.append(
                    {
                        "type": "tool_use",
                        "id": ids.call(part),
                        "name": part.tool,
                        "input": cast(
                            "dict[str, object]", arguments_object(request.text(part.arguments))
                        ),
                    }
                )
    # The API refuses a reply that ends in thinking.
    while blocks and blocks[-1]["type"] not in ("text", "tool_use"):
        blocks.pop()
    return blocks


def _thinking(request: ModelRequest, part: ThinkingPart) -> "ThinkingBlockParam | None":
    """The block as it came; None for another format's, and for one cut before its signature."""
    if part.provider != FORMAT:
        return None
    block = block_of(request.text(part.block))
    if block.get("type") == "redacted_thinking" or block.get("signature"):
        return cast("ThinkingBlockParam", block)
    return None


def _user_blocks(request: ModelRequest, message: UserMessage, ids: CallIds) -> "list[UserBlock]":
    results: list[UserBlock] = []
    said: list[UserBlock] = []
    for part in message.parts:
        if not isinstance(part, ResultPart):
            said.extend(_content(request, (part,)))
            continue
        content = _content(request, part.content) or [_text(NOTHING)]
        wire_id = ids.result(part)
        if wire_id is None:
            # A result without its call is refused; what it says may still matter.
            said.extend(content)
            continue
        results.append(
            {
                "type": "tool_result",
                "tool_use_id": wire_id,
                "content": content,
                "is_error": part.is_error,
            }
        )
    return [*results, *said] or [_text(NOTHING)]


def _content(request: ModelRequest, parts: Sequence[ContentPart]) -> "list[ContentBlock]":
    blocks: list[ContentBlock] = []
    for part in parts:
        if isinstance(part, FilePart):
            blocks.append(_file(request, part))
            continue
        text = request.text(part.text)
        if text.strip():  # the API refuses a text of nothing but white space
            blocks.append(_text(text))
    return blocks


def _text(text: str) -> "TextBlockParam":
    return {"type": "text", "text": text}


def _file(request: ModelRequest, part: FilePart) -> "ContentBlock":
    if is_image(part):
        media_type = cast("ImageType", part.blob.media_type)
        data = base64_of(request, part)
        return {
            "type": "image",
            "source": {"type": "base64", "media_type": media_type, "data": data},
        }
    if part.blob.media_type == "application/pdf":
        data = base64_of(request, part)
        return {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": data},
        }
    return _text(named(part))
