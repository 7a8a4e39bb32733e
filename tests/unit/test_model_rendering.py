"""Every conversation becomes a request that a provider accepts. Not what a provider replies."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.content import (
    AssistantMessage,
    AssistantPart,
    BlobRef,
    CallPart,
    ContentPart,
    FilePart,
    Message,
    ResultPart,
    TextPart,
    ThinkingPart,
    UserMessage,
    UserPart,
)
from domain.limits import ModelChoice, Reasoning
from domain.prompt import ModelContext, ModelRequest, SystemBlock
from domain.tools import ToolSpec
from services.loop.models import anthropic_request, openai_chat_request, openai_responses_request
from services.loop.models.anthropic_thinking import adaptive
from services.loop.models.effort import effort_of, thinking_tokens
from services.loop.models.failures import hide
from services.loop.models.rates import retry_after_ms
from services.loop.models.rendering import arguments_object, arguments_text
from tests.wire.anthropic import AnthropicFormat
from tests.wire.chat import ChatFormat
from tests.wire.http import KEY
from tests.wire.responses import ResponsesFormat

HEADERS = {"authorization": f"Bearer {KEY}", "anthropic-version": "2026-10-21"}
SIGNED = {"type": "thinking", "thinking": "t", "signature": "s"}
REASONED: dict[str, Any] = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "encrypted_content": "e",
}

USED: dict[str, Any] = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "q"},
}
FOUND: dict[str, Any] = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [],
}
CITED: dict[str, Any] = {
    "type": "text",
    "text": "cited",
    "citations": [{"type": "web_search_result_location", "encrypted_index": "i"}],
}
SEARCHED: dict[str, Any] = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "q"},
}
PHASED: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "cited", "annotations": []}],
    "phase": "commentary",
}

texts = (st.text(max_size=5) | st.just("cited")).map(lambda text: TextPart(text=text))
files = st.sampled_from(["image/png", "application/pdf", "text/csv"]).map(
    lambda kind: FilePart(blob=BlobRef(digest="b", size=1, media_type=kind))
)
content: st.SearchStrategy[ContentPart] = texts | files
thoughts = st.sampled_from(
    [
        ThinkingPart(provider="anthropic", block=json.dumps(SIGNED)),
        ThinkingPart(provider="anthropic", block='{"type":"thinking","thinking":"cut"}'),
        ThinkingPart(provider="openai-responses", block=json.dumps(REASONED)),
        ThinkingPart(provider="openai-responses", block='{"type":"reasoning","id":"rs_2"}'),
        ThinkingPart(provider="openai-chat", block='{"reasoning_content":"hm"}'),
        ThinkingPart(provider="anthropic", block=json.dumps(USED)),
        ThinkingPart(provider="anthropic", block=json.dumps(FOUND)),
        ThinkingPart(provider="anthropic", block=json.dumps(CITED)),
        ThinkingPart(provider="anthropic:any/another-model", block=json.dumps(USED)),
        ThinkingPart(provider="anthropic", block='{"type":"container","id":"container_1"}'),
        ThinkingPart(provider="openai-responses", block=json.dumps(SEARCHED)),
        ThinkingPart(provider="openai-responses", block=json.dumps(PHASED)),
        ThinkingPart(provider="openai-responses:any/another-model", block=json.dumps(SEARCHED)),
        ThinkingPart(provider="openai-chat", block='{"extra_content":{"google":{}}}'),
        ThinkingPart(provider="scripted", block="not json"),
    ]
)
calls = st.builds(
    CallPart,
    provider_id=st.sampled_from(["call_0", "call_1", "call_n1", "a:b", "", "x" * 70]),
    tool=st.just("exec"),
    arguments=st.sampled_from(
        ["", "{}", '{"a": 1}', '{"a', "[]", '"\\ud800"', '{"a": NaN}', "null"]
    ),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Turns that begin with a person; each call is answered, some results have no call."""
    said: list[UserPart] = [*draw(st.lists(content, max_size=2))]
    messages: list[Message] = [UserMessage(parts=tuple(said))]
    for _ in range(draw(st.integers(0, 4))):
        parts: list[AssistantPart] = draw(st.lists(texts | thoughts | calls, max_size=5))
        messages.append(AssistantMessage(parts=tuple(parts)))
        answers: list[UserPart] = [
            ResultPart(
                provider_id=part.provider_id,
                tool=part.tool,
                content=tuple(draw(st.lists(content, max_size=2))),
                is_error=draw(st.booleans()),
            )
            for part in parts
            if isinstance(part, CallPart)
        ]
        answers += draw(st.lists(content, max_size=2))
        if draw(st.booleans()):
            answers.append(ResultPart(provider_id="gone", tool="exec", content=()))
        messages.append(UserMessage(parts=tuple(answers)))
    return messages


def request_of(messages: list[Message], model: str) -> ModelRequest:
    tool = ToolSpec(name="exec", description="", parameters={"type": "object"})
    context = ModelContext(
        renderer="test",
        model=ModelChoice(provider="any", model=model),
        system=(SystemBlock(name="base", text="x"), SystemBlock(name="none", text="")),
        tools=(tool,),
    )
    return ModelRequest(context, messages, "d", {"b": b"!"})


def plain(body: object) -> Any:
    return json.loads(json.dumps(body, ensure_ascii=False).encode())


def unmarked(value: Any) -> Any:
    """A body without its cache breakpoints."""
    if isinstance(value, list):
        return [unmarked(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {
            key: unmarked(item)
            for key, item in value.items()  # pyright: ignore[reportUnknownVariableType]
            if key != "cache_control"
        }
    return value


def check_prefixes(bodies: list[Any], field: str) -> None:
    """Each request of a run begins with the one before it (C20)."""
    for shorter, longer in pairwise(bodies):
        before = unmarked(shorter[field])
        assert unmarked(longer[field])[: len(before)] == before


def steps(messages: list[Message]) -> list[list[Message]]:
    return [messages[: end + 1] for end in range(0, len(messages), 2)]


@settings(max_examples=150, deadline=None)
@given(conversations(), st.sampled_from(["claude-haiku-4-5", "claude-opus-4-8"]))
def test_every_conversation_is_a_request_anthropic_accepts(
    messages: list[Message], model: str
) -> None:
    rules = AnthropicFormat()
    rules.signed["s"] = SIGNED
    rules.given = {"srvtoolu_1": USED, "web_search_tool_result srvtoolu_1": FOUND}
    rules.cited["i"] = CITED
    rules.containers.add("container_1")
    bodies = [plain(anthropic_request.render(request_of(step, model))) for step in steps(messages)]
    for body in bodies:
        rules.check(HEADERS, body)
    check_prefixes(bodies, "messages")


@settings(max_examples=150, deadline=None)
@given(conversations())
def test_every_conversation_is_a_request_the_responses_api_accepts(
    messages: list[Message],
) -> None:
    rules = ResponsesFormat()
    rules.reasoning["rs_1"] = REASONED
    rules.given = {"ws_1": SEARCHED, "msg_1": PHASED}
    bodies = [
        plain(openai_responses_request.render(request_of(step, "gpt-5")))
        for step in steps(messages)
    ]
    for body in bodies:
        rules.check(HEADERS, body)
    check_prefixes(bodies, "input")


@settings(max_examples=150, deadline=None)
@given(conversations(), st.sampled_from(["ollama", "deepseek", "google"]))
def test_every_conversation_is_a_request_chat_servers_accept(
    messages: list[Message], provider: str
) -> None:
    dialect = openai_chat_request.dialect_of(provider, "http://localhost")
    model = {"google": "gemini-3-flash"}.get(provider, f"{provider}-model")
    bodies = [
        plain(openai_chat_request.render(request_of(step, model), dialect))
        for step in steps(messages)
    ]
    for body in bodies:
        ChatFormat().check(HEADERS, body)
    check_prefixes(bodies, "messages")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-2.5-pro", False),
        ("gemini-3-flash", True),
        ("google/gemini-3.1-pro-preview", True),
        ("gemini-flash-latest", True),
        ("gemma-3-27b", False),
    ],
)
def test_version_in_the_name_tells_whether_calls_need_a_signature(
    model: str,
    expected: bool,  # noqa: FBT001
) -> None:
    call = AssistantMessage(parts=(CallPart(provider_id="c", tool="exec", arguments="{}"),))
    request = request_of([UserMessage(parts=()), call], model)
    dialect = openai_chat_request.dialect_of("google", "http://localhost")
    body = plain(openai_chat_request.render(request, dialect))
    assert ("extra_content" in body["messages"][-1]["tool_calls"][0]) is expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-haiku-4-5-20251001", False),
        ("claude-opus-4-20250514", False),
        ("claude-3-7-sonnet-20250219", False),
        ("claude-sonnet-4-6", True),
        ("claude-opus-4-8", True),
        ("claude-sonnet-5", True),
        ("claude-haiku-5-5", True),
        ("claude-mythos-preview", True),
        ("some-other-model", False),
    ],
)
def test_version_in_the_name_tells_how_a_model_thinks(model: str, expected: bool) -> None:  # noqa: FBT001
    assert adaptive(model) is expected


@pytest.mark.parametrize(
    ("reasoning", "tokens", "effort"),
    [
        ("none", None, None),
        (0, None, None),
        (-1, None, None),
        ("minimal", 1_024, "low"),
        (1, 1_024, "low"),
        ("high", 10_000, "high"),
    ],
)
def test_reasoning_has_a_size_in_tokens_and_as_an_effort(
    reasoning: Reasoning, tokens: int | None, effort: str | None
) -> None:
    assert (thinking_tokens(reasoning), effort_of(reasoning)) == (tokens, effort)


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2_000),
        ({"retry-after-ms": "5", "retry-after": "2"}, 5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:05 GMT"}, None),  # nothing to measure it by
        ({"retry-after": "Wed, 21 Oct 2026 07:28:05 GMT", "date": "yesterday"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT",
                "date": "Wed, 21 Oct 2026 07:29:00 GMT",
            },
            0,
        ),
    ],
)
def test_wait_is_taken_only_when_it_makes_sense(
    headers: dict[str, str], wait_ms: int | None
) -> None:
    assert retry_after_ms(headers) == wait_ms


def test_arguments_nested_beyond_reason_are_wrapped() -> None:
    deep = "[" * 100_000
    assert arguments_object(deep) == {"_malformed": deep}
    assert json.loads(arguments_text(deep)) == {"_malformed": deep}


def test_hidden_text_has_neither_the_key_nor_more_than_it_may() -> None:
    assert hide("key=abc;", ("abc",)) == "key=[key];"
    assert hide("as it is", ("",)) == "as it is"
    assert len(hide("x" * 10_000, ())) == 2_000
