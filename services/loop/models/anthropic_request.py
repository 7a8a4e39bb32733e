"""A request in the form of Anthropic's Messages API. Not the call itself; needs no SDK at run time.

Sources: the type definitions of the `anthropic` SDK (`types/message_create_params.py` and the
`*_param.py` beside it) and the pages they cite.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from pydantic import JsonValue

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
from services.loop.models.anthropic_blocks import (
    CITED,
    CONTAINER,
    RESULT_SUFFIX,
    SERVER_USE,
    THINKING,
    is_own,
)
from services.loop.models.effort import effort_of, thinking_tokens
from services.loop.models.origin import made_by, origin_of
from services.loop.models.rendering import (
    NOTHING,
    CallIds,
    arguments_object,
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
        ContentBlockParam,
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
    tools = _tools(request)
    if tools:
        breakpoint_here: CacheControlEphemeralParam = {"type": "ephemeral"}
        tools[-1]["cache_control"] = breakpoint_here
        params["tools"] = tools
    if choice.sampling.stop:
        params["stop_sequences"] = list(choice.sampling.stop)
    if can_think(params["messages"], choice):
        _think(params, choice)
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


def can_think(messages: "Iterable[MessageParam]", choice: ModelChoice) -> bool:
    """Whether thinking may be asked for in the middle of what was said.

    With a budget of tokens, the turn that goes on has to begin with thinking. One that another
    model began has none that could be sent, so this model goes on without until the turn ends.
    """
    if adaptive(choice.model):
        return True
    turn: list[MessageParam] = []  # the replies since a person spoke last
    answering = False  # the API joins messages of people that follow each other
    for message in messages:
        blocks = cast("list[ContentBlockParam]", message["content"])
        if message["role"] == "assistant":
            turn.append(message)
            answering = False
            continue
        answering = answering or any(block["type"] == "tool_result" for block in blocks)
        if not answering:
            turn = []
    if not turn:
        return True
    first = cast("list[ContentBlockParam]", turn[0]["content"])[0]
    return first["type"] in THINKING


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
    last = len(request.messages) - 1
    messages: list[MessageParam] = []
    for place, message in enumerate(request.messages):
        if isinstance(message, AssistantMessage):
            ids.next_reply()
            said = _said(request, message, ids, goes_on=place == last)
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


def _said(
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
    asked = [block.get("id") for block in blocks if block["type"] == SERVER_USE]
    given = [block.get("tool_use_id") for block in blocks if _is_result(block)]
    return [
        block
        for block in blocks
        if not (block["type"] == SERVER_USE and not goes_on and block.get("id") not in given)
        and not (_is_result(block) and block.get("tool_use_id") not in asked)
    ]


def _is_result(block: Mapping[str, JsonValue]) -> bool:
    return str(block["type"]).endswith(RESULT_SUFFIX)


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
