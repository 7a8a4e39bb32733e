"""What a tool asks a model for, as each provider's wire format has it. Not the reply."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from domain.asks import SampleMessage, SampleRequest
from domain.limits import ModelChoice, Reasoning
from domain.prompt import RENDERER, ModelRequest
from domain.sampling import sample_context, sample_conversation
from services.loop.models import anthropic_request, openai_chat_request, openai_responses_request
from tests.wire.anthropic import AnthropicFormat
from tests.wire.chat import ChatFormat
from tests.wire.http import KEY
from tests.wire.responses import ResponsesFormat

HEADERS = {"authorization": f"Bearer {KEY}", "anthropic-version": "2026-10-21"}
SAID = (("user", "Rhyme."), ("assistant", "It is late."), ("user", "Go on."), ("user", "Please."))
LEVELS: tuple[Reasoning, ...] = ("none", "low", "high", 30_000)


def asked(model: str, reasoning: Reasoning, system: str) -> ModelRequest:
    messages = [SampleMessage.model_validate({"speaker": who, "text": text}) for who, text in SAID]
    about = SampleRequest(messages=tuple(messages), system=system, output_tokens_max=40)
    choice = ModelChoice(provider="p", model=model, reasoning=reasoning)
    context = sample_context(RENDERER, choice, about)
    return ModelRequest(context, sample_conversation(about).messages, "d", {})


@pytest.mark.parametrize("system", ["", "You rhyme."])
@pytest.mark.parametrize("reasoning", LEVELS)
def test_anthropic_is_asked_for_no_more_than_was_reserved(
    reasoning: Reasoning, system: str
) -> None:
    """C12: thinking, which would be on top of the limit, is not asked for."""
    for model in ("claude-sonnet-4-5", "claude-opus-4-7"):
        body = dict(anthropic_request.render(asked(model, reasoning, system)))
        AnthropicFormat().check(HEADERS, {**body, "stream": True})
        assert body["max_tokens"] == 40
        assert not {"thinking", "tools", "output_config"} & body.keys()
        assert ("system" in body) is bool(system)


@pytest.mark.parametrize("reasoning", LEVELS)
def test_openai_is_asked_for_no_more_than_was_reserved(reasoning: Reasoning) -> None:
    """C12."""
    request = asked("gpt-5.1", reasoning, "You rhyme.")
    chat: Mapping[str, Any] = cast(
        "Mapping[str, Any]", openai_chat_request.render(request, openai_chat_request.OPENAI)
    )
    responses: Mapping[str, Any] = cast(
        "Mapping[str, Any]", openai_responses_request.render(request)
    )
    ChatFormat().check(HEADERS, {**chat, "stream": True})
    ResponsesFormat().check(HEADERS, {**responses, "stream": True})
    assert chat["max_completion_tokens"] == responses["max_output_tokens"] == 40
    assert not {"tools", "reasoning_effort"} & chat.keys()
    assert not {"tools", "reasoning"} & responses.keys()
