"""A request in the form of Anthropic's Messages API. Not the call itself; needs no SDK at run time.

Sources: the type definitions of the `anthropic` SDK (`types/message_create_params.py` and the
`*_param.py` beside it) and the pages they cite.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from domain.content import (
    AssistantMessage,
    ContentPart,
    FilePart,
    Message,
    ResultPart,
    ThinkingPart,
    UserMessage,
)
from domain.prompt import ModelRequest
from services.loop.models.anthropic_blocks import CONTAINER, FORMAT
from services.loop.models.anthropic_said import said_blocks
from services.loop.models.anthropic_thinking import can_think, think
from services.loop.models.origin import made_by, origin_of
from services.loop.models.rendering import (
    NOTHING,
    CallIds,
    base64_of,
    block_of,
    is_image,
    named,
)
from services.loop.models.server_tools import skill_bodies, tool_bodies

if TYPE_CHECKING:
    from anthropic.types import (
        CacheControlEphemeralParam,
        ContainerParams,
        DocumentBlockParam,
        ImageBlockParam,
        MessageParam,
        SkillParams,
        TextBlockParam,
        ToolResultBlockParam,
        ToolUnionParam,
    )
    from anthropic.types.message_create_params import MessageCreateParamsStreaming

    ImageType = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    ContentBlock = TextBlockParam | ImageBlockParam | DocumentBlockParam
    UserBlock = ContentBlock | ToolResultBlockParam


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
    tools = _tools(request)
    if tools:
        breakpoint_here: CacheControlEphemeralParam = {"type": "ephemeral"}
        tools[-1]["cache_control"] = breakpoint_here
        params["tools"] = tools
    if choice.sampling.stop:
        params["stop_sequences"] = list(choice.sampling.stop)
    if can_think(params["messages"], choice):
        think(params, choice)
    container = _container(request)
    if container:
        params["container"] = container
    return params


def _tools(request: ModelRequest) -> "list[ToolUnionParam]":
    context = request.context
    tools: list[ToolUnionParam] = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        for tool in context.tools
    ]
    bodies = tool_bodies(context.model, context.provider_tools, context.provider_skills)
    return [*tools, *cast("list[ToolUnionParam]", bodies)]


def _container(request: ModelRequest) -> "ContainerParams":
    """The skills to load, and the container that the last reply of this model worked in."""
    container: ContainerParams = {}
    origin = origin_of(FORMAT, request.context.model)
    used = [
        block["id"]
        for message in request.messages
        if isinstance(message, AssistantMessage)
        for part in message.parts
        if isinstance(part, ThinkingPart) and made_by(part, origin)
        if (block := block_of(request.text(part.block))).get("type") == CONTAINER
    ]
    if used and isinstance(used[-1], str):
        container["id"] = used[-1]
    skills = skill_bodies(request.context.model, request.context.provider_skills)
    if skills:
        container["skills"] = cast("list[SkillParams]", skills)
    return container


def _messages(request: ModelRequest) -> "list[MessageParam]":
    ids = CallIds()
    breakpoint_here: CacheControlEphemeralParam = {"type": "ephemeral"}
    marked = _breakpoints(request.messages)
    last = len(request.messages) - 1
    messages: list[MessageParam] = []
    for place, message in enumerate(request.messages):
        if isinstance(message, AssistantMessage):
            ids.next_reply()
            said = said_blocks(request, message, ids, goes_on=place == last)
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
