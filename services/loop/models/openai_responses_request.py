"""A request in the form of OpenAI's Responses API. Not the call itself; needs no SDK at run time.

Sources: the type definitions of the `openai` SDK (`types/responses/response_create_params.py`,
`response_input_param.py` and those beside them) and the pages they cite.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from domain.content import (
    AssistantMessage,
    CallPart,
    ContentPart,
    FilePart,
    ResultPart,
    TextPart,
    ThinkingPart,
    UserMessage,
)
from domain.prompt import ModelRequest
from domain.record import canonical, digest_of
from domain.redaction import THOUGHT_WITHHELD
from services.loop.models.effort import effort_of
from services.loop.models.origin import made_by, origin_of
from services.loop.models.rendering import (
    NOTHING,
    CallIds,
    arguments_text,
    block_of,
    data_url,
    is_image,
    named,
    result_text,
)
from services.loop.models.server_tools import includes, tool_bodies

if TYPE_CHECKING:
    from openai.types.responses import (
        ResponseIncludable,
        ResponseInputFileContentParam,
        ResponseInputImageContentParam,
        ResponseInputItemParam,
        ResponseInputMessageContentListParam,
        ResponseInputTextContentParam,
        ToolParam,
    )
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

    Content = (
        ResponseInputTextContentParam
        | ResponseInputImageContentParam
        | ResponseInputFileContentParam
    )

FORMAT = "openai-responses"

SERVER_CALLS = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"}
)
"""The types of items of tools that run at the provider, and that go back as they came."""

NOT_REASONING = ("chatgpt-4", "gpt-3", "gpt-4")
"""Names of models begin with one of these when they refuse to be asked for reasoning."""


def reasons(model: str) -> bool:
    """Whether a model of OpenAI takes a reasoning effort."""
    return not model.startswith(NOT_REASONING) and not model.endswith("-chat-latest")


def render(request: ModelRequest) -> "ResponseCreateParamsStreaming":
    """The body of the request: a pure function of the request.

    Nothing is stored at the provider (`store=False`), so reasoning comes encrypted and goes back
    whole, and no item is sent by its id alone.
    """
    choice = request.context.model
    params: ResponseCreateParamsStreaming = {
        "model": choice.model,
        "input": _input(request),
        "max_output_tokens": choice.output_tokens_max,
        "store": False,
        "stream": True,
        # Runs with the same context share its prefix: this brings them to the same cache.
        "prompt_cache_key": digest_of(canonical(request.context))[:32],
    }
    instructions = "\n\n".join(block.text for block in request.context.system if block.text)
    if instructions:
        params["instructions"] = instructions
    tools: list[ToolParam] = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": cast("dict[str, object]", tool.parameters),
            # Strict schemas are a subset of JSON schema, which tools of others do not keep to.
            "strict": False,
        }
        for tool in request.context.tools
    ]
    bodies = tool_bodies(choice, request.context.provider_tools)
    tools.extend(cast("list[ToolParam]", bodies))
    if tools:
        params["tools"] = tools
    if choice.sampling.temperature is not None:
        params["temperature"] = choice.sampling.temperature
    if choice.sampling.top_p is not None:
        params["top_p"] = choice.sampling.top_p
    include = cast("list[ResponseIncludable]", includes(choice, request.context.provider_tools))
    if reasons(choice.model):
        # Also when none is asked for: what follows reasoning is refused without it.
        include.append("reasoning.encrypted_content")
    if include:
        params["include"] = include
    effort = effort_of(choice.reasoning)
    if effort is not None and reasons(choice.model):
        params["reasoning"] = {"effort": effort, "summary": "auto"}
    return params


def _input(request: ModelRequest) -> "list[ResponseInputItemParam]":
    ids = CallIds()
    items: list[ResponseInputItemParam] = []
    for message in request.messages:
        if isinstance(message, AssistantMessage):
            ids.next_reply()
            items.extend(_said(request, message, ids))
        else:
            items.extend(_told(request, message, ids))
    return items


def _said(
    request: ModelRequest, message: AssistantMessage, ids: CallIds
) -> "list[ResponseInputItemParam]":
    origin = origin_of(FORMAT, request.context.model)
    own = [part for part in message.parts if isinstance(part, ThinkingPart)]
    whole = _whole(request, message, [part for part in own if made_by(part, origin)])
    items: list[Mapping[str, JsonValue]] = []
    for part in message.parts:
        match part:
            case TextPart():
                text = request.text(part.text)
                if text:
                    items.append({"type": "message", "role": "assistant", "content": text})
            case ThinkingPart():
                if whole and made_by(part, origin):
                    _own(items, block_of(request.text(part.block)))
            case CallPart():
                items.append(
                    {
                        "type": "function_call",
                        "call_id": ids.call(part),
                        "name": part.tool,
                        "arguments": arguments_text(request.text(part.arguments)),
                    }
                )
    # The API refuses reasoning that nothing follows.
    while items and items[-1].get("type") == "reasoning":
        items.pop()
    return cast("list[ResponseInputItemParam]", items)


def _whole(request: ModelRequest, message: AssistantMessage, own: Sequence[ThinkingPart]) -> bool:
    """Whether the items of a reply may go back as items: with all of its reasoning.

    An item that followed reasoning is refused without it. Reasoning is missing when the provider
    gave it unencrypted, so that only the provider could know it, and when it held a secret.
    """
    blocks = [block_of(request.text(part.block)) for part in own]
    known = all(
        block.get("encrypted_content") for block in blocks if block.get("type") == "reasoning"
    )
    return known and TextPart(text=THOUGHT_WITHHELD) not in message.parts


def _own(items: list[Mapping[str, JsonValue]], item: Mapping[str, JsonValue]) -> None:
    """Add an item of the provider as it came; a message takes the place of its texts."""
    kind = item.get("type")
    if kind == "message":
        content = item.get("content")
        texts = [_said_text(inner) for inner in content] if isinstance(content, list) else []
        expected = [text for text in texts if text]
        if expected and [entry.get("content") for entry in items[-len(expected) :]] == expected:
            items[-len(expected) :] = [item]
    elif kind == "reasoning" or kind in SERVER_CALLS:
        items.append(item)


def _said_text(content: JsonValue) -> JsonValue:
    if not isinstance(content, dict):
        return None
    return content.get("refusal") or content.get("text")


def _told(
    request: ModelRequest, message: UserMessage, ids: CallIds
) -> "list[ResponseInputItemParam]":
    outputs: list[ResponseInputItemParam] = []
    said: list[Content] = []
    for part in message.parts:
        if not isinstance(part, ResultPart):
            said.extend(_content(request, (part,)))
            continue
        wire_id = ids.result(part)
        if wire_id is None:
            # A result without its call is refused; what it says may still matter.
            said.extend(_content(request, part.content))
            continue
        files = any(isinstance(item, FilePart) for item in part.content)
        output = _content(request, part.content) if files else result_text(request, part)
        outputs.append({"type": "function_call_output", "call_id": wire_id, "output": output})
    if said or not outputs:
        content = cast("ResponseInputMessageContentListParam", said or [_text(NOTHING)])
        outputs.append({"type": "message", "role": "user", "content": content})
    return outputs


def _content(request: ModelRequest, parts: Sequence[ContentPart]) -> "list[Content]":
    content: list[Content] = []
    for part in parts:
        if isinstance(part, TextPart):
            text = request.text(part.text)
            if text:
                content.append(_text(text))
        elif is_image(part):
            url = data_url(request, part)
            content.append({"type": "input_image", "image_url": url, "detail": "auto"})
        elif part.blob.media_type == "application/pdf":
            name = part.name or "document.pdf"
            url = data_url(request, part)
            content.append({"type": "input_file", "filename": name, "file_data": url})
        else:
            content.append(_text(named(part)))
    return content


def _text(text: str) -> "ResponseInputTextContentParam":
    return {"type": "input_text", "text": text}
