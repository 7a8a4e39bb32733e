"""A request in the form of OpenAI's Responses API. Not the call itself; needs no SDK at run time.

Sources: the type definitions of the `openai` SDK (`types/responses/response_create_params.py`,
`response_input_param.py` and those beside them) and the pages they cite.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

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
from domain.limits import ModelChoice
from domain.prompt import ModelRequest
from domain.record import canonical, digest_of
from services.loop.models.effort import effort_of
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

if TYPE_CHECKING:
    from openai.types.responses import (
        FunctionToolParam,
        ResponseInputFileContentParam,
        ResponseInputImageContentParam,
        ResponseInputItemParam,
        ResponseInputMessageContentListParam,
        ResponseInputTextContentParam,
        ResponseReasoningItemParam,
    )
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

    Content = (
        ResponseInputTextContentParam
        | ResponseInputImageContentParam
        | ResponseInputFileContentParam
    )

FORMAT = "openai-responses"

NOT_REASONING = ("chatgpt-4", "gpt-3", "gpt-4")
"""Names of models begin with one of these when they refuse to be asked for reasoning."""


def reasons(model: str) -> bool:
    """Whether a model of OpenAI takes a reasoning effort."""
    return not model.startswith(NOT_REASONING)


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
    tools: list[FunctionToolParam] = [
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
    if tools:
        params["tools"] = tools
    _reason(params, choice)
    return params


def _reason(params: "ResponseCreateParamsStreaming", choice: ModelChoice) -> None:
    effort = effort_of(choice.reasoning)
    if effort is None or not reasons(choice.model):
        return
    params["reasoning"] = {"effort": effort, "summary": "auto"}
    params["include"] = ["reasoning.encrypted_content"]


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
    items: list[ResponseInputItemParam] = []
    for part in message.parts:
        match part:
            case TextPart():
                text = request.text(part.text)
                if text:
                    items.append({"type": "message", "role": "assistant", "content": text})
            case ThinkingPart():
                item = _reasoning(request, part)
                if item is not None:
                    items.append(item)
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
    return items


def _reasoning(request: ModelRequest, part: ThinkingPart) -> "ResponseReasoningItemParam | None":
    """The item as it came; None for another format's, and for one only the provider could know."""
    if part.provider != FORMAT:
        return None
    item = block_of(request.text(part.block))
    return cast("ResponseReasoningItemParam", item) if item.get("encrypted_content") else None


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
