"""Conversations and failures that the tests of all wire formats share. Not tests."""

import asyncio
from collections.abc import Sequence

import pytest

from domain.content import (
    AssistantMessage,
    CallPart,
    ContentPart,
    Message,
    ResultPart,
    TextPart,
    UserMessage,
)
from domain.limits import ModelChoice, Reasoning
from domain.prompt import ModelContext, ModelRequest, SystemBlock
from domain.record import canonical, digest_of
from domain.tools import ToolSpec
from services.loop.models.port import Delta, FailureKind, Model, ModelFailure, ModelReply
from tests.wire.script import Refusal

TOOLS = (
    ToolSpec(name="exec", description="Run a command.", parameters={"type": "object"}),
    ToolSpec(name="readTextFile", description="Read.", parameters={"type": "object"}),
)
SYSTEM = (SystemBlock(name="base", text="You are careful."), SystemBlock(name="expert", text="Go."))


def request_of(
    *messages: Message,
    model: str,
    provider: str = "any",
    reasoning: Reasoning = "none",
    output_tokens_max: int = 16_384,
    system: tuple[SystemBlock, ...] = SYSTEM,
    tools: tuple[ToolSpec, ...] = TOOLS,
    blobs: dict[str, bytes] | None = None,
) -> ModelRequest:
    choice = ModelChoice(
        provider=provider, model=model, reasoning=reasoning, output_tokens_max=output_tokens_max
    )
    context = ModelContext(renderer="test", model=choice, system=system, tools=tools)
    digest = digest_of(canonical([message.model_dump() for message in messages]))
    return ModelRequest(context=context, messages=messages, digest=digest, blobs=blobs or {})


def told(text: str) -> UserMessage:
    return UserMessage(parts=(TextPart(text=text),))


def result(call: CallPart, *content: ContentPart | str, is_error: bool = False) -> ResultPart:
    parts = tuple(TextPart(text=part) if isinstance(part, str) else part for part in content)
    return ResultPart(
        provider_id=call.provider_id, tool=call.tool, content=parts, is_error=is_error
    )


def calls_of(reply: ModelReply) -> list[CallPart]:
    return [part for part in reply.parts if isinstance(part, CallPart)]


def after(request: ModelRequest, reply: ModelReply, *parts: ResultPart | TextPart) -> ModelRequest:
    """The request of the next step: the reply, and what it is answered."""
    messages = (*request.messages, AssistantMessage(parts=reply.parts), UserMessage(parts=parts))
    return ModelRequest(request.context, messages, digest_of(canonical(len(messages))), {})


def answered(request: ModelRequest, reply: ModelReply) -> ModelRequest:
    """The request of the next step, every call answered with `ok`."""
    return after(request, reply, *(result(call, "ok") for call in calls_of(reply)))


async def generate(model: Model, request: ModelRequest) -> tuple[ModelReply, list[Delta]]:
    deltas: list[Delta] = []

    async def on_delta(delta: Delta) -> None:
        deltas.append(delta)

    async with asyncio.timeout(10):
        return await model.generate(request, on_delta), deltas


async def failure(model: Model, request: ModelRequest) -> ModelFailure:
    with pytest.raises(ModelFailure) as caught:
        await generate(model, request)
    return caught.value


def joined(deltas: Sequence[Delta], part: int) -> str:
    """All pieces of a part; each has to begin where the one before it ended."""
    text = ""
    for delta in deltas:
        if delta.part == part:
            assert delta.offset == len(text)
            text += delta.text
    return text


FAILURES: list[tuple[Refusal, FailureKind, int | None]] = [
    (Refusal(400, "invalid_request_error"), "rejected", None),
    (Refusal(401, "authentication_error"), "auth", None),
    (Refusal(403, "permission_error"), "auth", None),
    (Refusal(404, "not_found_error"), "not_found", None),
    (Refusal(413, "request_too_large"), "rejected", None),
    (Refusal(422), "rejected", None),
    (Refusal(429, "rate_limit_error", headers={"retry-after": "3"}), "rate_limited", 3_000),
    (Refusal(429, "rate_limit_error", headers={"retry-after": "0.5"}), "rate_limited", 500),
    (Refusal(429, "rate_limit_error", headers={"retry-after-ms": "77"}), "rate_limited", 77),
    (Refusal(429, "rate_limit_error", headers={"retry-after": "soon"}), "rate_limited", None),
    (
        Refusal(
            429,
            "rate_limit_error",
            headers={
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
                "retry-after": "Wed, 21 Oct 2026 07:28:05 GMT",
            },
        ),
        "rate_limited",
        5_000,
    ),
    (Refusal(500), "server", None),
    (Refusal(502), "server", None),
    (Refusal(503), "overloaded", None),
    (Refusal(504), "server", None),
    (Refusal(529, "overloaded_error"), "overloaded", None),
]
"""An error answer, what it means, and how long it asks to wait in milliseconds."""
