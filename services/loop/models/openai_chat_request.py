"""A request in the form of Chat Completions, as many servers speak it. Not the call itself.

Sources: the type definitions of the `openai` SDK (`types/chat/completion_create_params.py` and
those beside it); for dialects, the pages of the providers on their OpenAI-compatible endpoints
(DeepSeek: `guides/thinking_mode`; Gemini: `openai` compatibility and `thought-signatures`; Ollama:
`openai` compatibility).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

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
from domain.limits import ModelChoice, Sampling
from domain.prompt import ModelRequest
from services.loop.models.effort import effort_of
from services.loop.models.openai_client import BASE_URL
from services.loop.models.openai_responses_request import reasons
from services.loop.models.origin import made_by, origin_of
from services.loop.models.rendering import (
    NOTHING,
    CallIds,
    arguments_text,
    block_of,
    data_url,
    is_image,
    named,
    readable,
    result_text,
)
from services.loop.models.thought import thought_of

if TYPE_CHECKING:
    from openai.types.chat import (
        ChatCompletionAssistantMessageParam,
        ChatCompletionContentPartParam,
        ChatCompletionFunctionToolParam,
        ChatCompletionMessageFunctionToolCallParam,
        ChatCompletionMessageParam,
    )
    from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

FORMAT = "openai-chat"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a provider's chat format differs from what all understand."""

    takes_effort: bool = False
    completion_limit: bool = False  # `max_completion_tokens` instead of `max_tokens`
    thinking_back: bool = False  # replies that call tools come back with their thinking
    signatures: bool = False  # calls come back with the signature they came with
    prefix: str = ""  # of a model's name, if it has none


PLAIN = Dialect()
OPENAI = Dialect(takes_effort=True, completion_limit=True)

DIALECTS: Mapping[str, Dialect] = {
    "azure-openai": OPENAI,
    "google": Dialect(takes_effort=True, signatures=True),
    "google-vertex": Dialect(takes_effort=True, signatures=True, prefix="google/"),
    "deepseek": Dialect(takes_effort=True, thinking_back=True),
}

EXTRA = "extra_content"
"""The field of a call in which Gemini gives, and wants back, what no other server has."""

NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""What Google's page on signatures names for calls that another model made."""


def dialect_of(provider: str, base_url: str) -> Dialect:
    """The dialect of a provider; a server of one's own gets what all understand."""
    if provider == "openai-chat" and base_url == BASE_URL:
        return OPENAI
    return DIALECTS.get(provider, PLAIN)


def render(request: ModelRequest, dialect: Dialect) -> "CompletionCreateParamsStreaming":
    """The body of the request: a pure function of the request and the dialect."""
    choice = request.context.model
    params: CompletionCreateParamsStreaming = {
        "model": choice.model if "/" in choice.model else dialect.prefix + choice.model,
        "messages": _messages(request, dialect),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if dialect.completion_limit:
        params["max_completion_tokens"] = choice.output_tokens_max
    else:
        params["max_tokens"] = choice.output_tokens_max
    tools: list[ChatCompletionFunctionToolParam] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": cast("dict[str, object]", tool.parameters),
            },
        }
        for tool in request.context.tools
    ]
    if tools:
        params["tools"] = tools
    effort = effort_of(choice.reasoning)
    if dialect.takes_effort and effort is not None and reasons(choice.model):
        params["reasoning_effort"] = effort
    _sample(params, choice.sampling)
    return params


def extra_body(choice: ModelChoice) -> Mapping[str, object] | None:
    """What servers of one's own take beside what the SDK knows."""
    top_k = choice.sampling.top_k
    return None if top_k is None else {"top_k": top_k}


def _sample(params: "CompletionCreateParamsStreaming", sampling: Sampling) -> None:
    if sampling.temperature is not None:
        params["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        params["top_p"] = sampling.top_p
    if sampling.seed is not None:
        params["seed"] = sampling.seed
    if sampling.stop:
        params["stop"] = list(sampling.stop)


def _messages(request: ModelRequest, dialect: Dialect) -> "list[ChatCompletionMessageParam]":
    ids = CallIds()
    messages: list[ChatCompletionMessageParam] = []
    system = "\n\n".join(block.text for block in request.context.system if block.text)
    if system:
        messages.append({"role": "system", "content": system})
    for message in request.messages:
        if isinstance(message, AssistantMessage):
            ids.next_reply()
            said = _said(request, message, ids, dialect)
            if said.get("content") or said.get("tool_calls"):
                messages.append(said)
        else:
            messages.extend(_told(request, message, ids))
    return messages


@dataclass(slots=True)
class _Pieces:
    """A reply taken apart."""

    texts: list[str] = field(default_factory=list[str])
    thoughts: list[str] = field(default_factory=list[str])
    calls: "list[ChatCompletionMessageFunctionToolCallParam]" = field(default_factory=list[Any])
    extras: dict[int, object] = field(default_factory=dict[int, object])
    """What a call came with, by its place."""


def _pieces(request: ModelRequest, message: AssistantMessage, ids: CallIds) -> _Pieces:
    origin = origin_of(FORMAT, request.context.model)
    found = _Pieces()
    for part in message.parts:
        match part:
            case TextPart():
                found.texts.append(request.text(part.text))
            case ThinkingPart():
                if made_by(part, origin):
                    block = request.text(part.block)
                    found.thoughts.append(thought_of(block))
                    if (extra := block_of(block).get(EXTRA)) is not None and found.calls:
                        found.extras[len(found.calls) - 1] = extra
            case CallPart():
                arguments = arguments_text(request.text(part.arguments))
                found.calls.append(
                    {
                        "id": ids.call(part),
                        "type": "function",
                        "function": {"name": part.tool, "arguments": arguments},
                    }
                )
    return found


def _said(
    request: ModelRequest, message: AssistantMessage, ids: CallIds, dialect: Dialect
) -> "ChatCompletionAssistantMessageParam":
    found = _pieces(request, message, ids)
    said: ChatCompletionAssistantMessageParam = {
        "role": "assistant",
        "content": "".join(found.texts) or None,
    }
    if not found.calls:
        return said
    said["tool_calls"] = found.calls
    if dialect.signatures:
        signed = any("signature" in str(extra) for extra in found.extras.values())
        if not signed and _checks_signatures(request.context.model.model):
            found.extras[0] = NO_SIGNATURE
        said["tool_calls"] = [
            _with_extra(call, found.extras.get(place)) for place, call in enumerate(found.calls)
        ]
    if dialect.thinking_back:
        # Wanted even when there was none: a missing field is refused, an empty one is not.
        thought = {"reasoning_content": "".join(found.thoughts)}
        return cast("ChatCompletionAssistantMessageParam", {**said, **thought})
    return said


def _with_extra(
    call: "ChatCompletionMessageFunctionToolCallParam", extra: object
) -> "ChatCompletionMessageFunctionToolCallParam":
    if extra is None:
        return call
    return cast("ChatCompletionMessageFunctionToolCallParam", {**call, EXTRA: extra})


def _checks_signatures(model: str) -> bool:
    """Whether a model refuses a reply whose calls have no signature: Gemini from version 3 on."""
    version = re.search(r"gemini-(\d+)?", model)
    return version is not None and int(version[1] or 3) >= 3  # noqa: PLR2004


def _told(
    request: ModelRequest, message: UserMessage, ids: CallIds
) -> "list[ChatCompletionMessageParam]":
    """The results, a message each, then what people say with the images of the results.

    A message with a result can hold text only, so its images follow in the user's message.
    """
    messages: list[ChatCompletionMessageParam] = []
    images: list[ContentPart] = []
    said: list[ContentPart] = []
    for part in message.parts:
        if not isinstance(part, ResultPart):
            said.append(part)
            continue
        wire_id = ids.result(part)
        if wire_id is None:
            # A result without its call is refused; what it says may still matter.
            said.extend(part.content)
            continue
        text = result_text(request, part)
        messages.append({"role": "tool", "tool_call_id": wire_id, "content": text})
        images.extend(item for item in part.content if is_image(item))
    shown = [*images, *said]
    if shown or not messages:
        messages.append({"role": "user", "content": _content(request, shown)})
    return messages


def _content(
    request: ModelRequest, parts: list[ContentPart]
) -> "str | list[ChatCompletionContentPartParam]":
    """One text when that is all there is, as the smallest servers know nothing else."""
    if not any(is_image(part) for part in parts):
        return "\n".join(filter(None, (readable(request, part) for part in parts))) or NOTHING
    content: list[ChatCompletionContentPartParam] = []
    for part in parts:
        if isinstance(part, FilePart) and is_image(part):
            content.append({"type": "image_url", "image_url": {"url": data_url(request, part)}})
        elif isinstance(part, FilePart):
            content.append({"type": "text", "text": named(part)})
        elif text := request.text(part.text):
            content.append({"type": "text", "text": text})
    return content
