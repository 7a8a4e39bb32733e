"""Tools and skills that run at the provider: asked for, kept as they came, and sent back."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from domain.content import AssistantMessage, TextPart, ThinkingPart
from domain.limits import ModelChoice, Reasoning, Usage
from domain.prompt import ModelContext, ModelRequest
from domain.provider_tools import ProviderSkill, ProviderTool
from services.loop.models.anthropic import PAUSES_MAX
from services.loop.models.port import Delta
from services.loop.models.registry import ModelRegistry
from services.loop.models.thought import thought_of
from tests.integration.wire_conversations import (
    after,
    answered,
    failure,
    generate,
    joined,
    request_of,
    told,
)
from tests.wire.anthropic import AnthropicFormat
from tests.wire.http import KEY, Format, WireServer, serving
from tests.wire.responses import ResponsesFormat
from tests.wire.script import Call, ProviderCall, Reply

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

CLAUDE = "claude-opus-4-8"
GPT = "gpt-5-mini"
PATHS = {"anthropic": "", "openai": "/v1"}
SEARCH = ProviderTool(name="webSearch", options={"allowedDomains": ["example.com"]})


def key_of(name: str) -> str:
    del name
    return KEY


@asynccontextmanager
async def talking(rules: Format) -> AsyncGenerator[tuple[ModelRegistry, WireServer]]:
    async with serving(rules) as wire:
        registry = ModelRegistry(key_of, timeout_s=10)
        try:
            yield registry, wire
        finally:
            await registry.aclose()


def asking(
    wire: WireServer,
    provider: str,
    *tools: ProviderTool,
    skills: Sequence[ProviderSkill] = (),
    reasoning: Reasoning = "low",
) -> ModelRequest:
    request = request_of(told("go"), model=CLAUDE)
    choice = ModelChoice(
        provider=provider,
        model=CLAUDE if provider == "anthropic" else GPT,
        base_url=f"{wire.url}{PATHS[provider]}",
        reasoning=reasoning,
    )
    changes = {"model": choice, "provider_tools": tools, "provider_skills": tuple(skills)}
    return replace(request, context=request.context.model_copy(update=changes))


def own_blocks(request: ModelRequest) -> list[Json]:
    return [
        json.loads(request.text(part.block))
        for message in request.messages
        if isinstance(message, AssistantMessage)
        for part in message.parts
        if isinstance(part, ThinkingPart)
    ]


def in_order(blocks: Sequence[Json]) -> list[str]:
    return sorted(json.dumps(block, sort_keys=True) for block in blocks)


def sent_blocks(wire: WireServer) -> list[Json]:
    return [
        block
        for message in wire.last["messages"]
        if message["role"] == "assistant"
        for block in message["content"]
    ]


async def test_anthropic_is_asked_for_its_tools_and_skills() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        wire.will(Reply(text="hi"))
        tools = (
            ProviderTool(name="webSearch", options={"maxUses": 2, "allowedDomains": ["a.org"]}),
            ProviderTool(name="webFetch", options={"maxContentTokens": 900}),
        )
        skills = (
            ProviderSkill(kind="builtin", name="pdf"),
            ProviderSkill(kind="custom", name="ours", definition="skill_01AbC"),
        )
        await generate(registry, asking(wire, "anthropic", *tools, skills=skills))
    names = [tool["name"] for tool in wire.last["tools"]]
    assert names == ["exec", "readTextFile", "web_search", "web_fetch", "code_execution"]
    assert wire.last["tools"][2] == {
        "type": "web_search_20250305",
        "name": "web_search",
        "max_uses": 2,
        "allowed_domains": ["a.org"],
    }
    assert wire.last["tools"][3]["max_content_tokens"] == 900
    assert wire.last["container"]["skills"] == [
        {"type": "anthropic", "skill_id": "pdf", "version": "latest"},
        {"type": "custom", "skill_id": "skill_01AbC", "version": "latest"},
    ]
    # The breakpoint of the tools is behind the last of them.
    marked = [tool["name"] for tool in wire.last["tools"] if "cache_control" in tool]
    assert marked == ["code_execution"]


async def test_anthropic_blocks_go_back_as_they_came_over_many_steps() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        request = asking(wire, "anthropic", SEARCH, ProviderTool(name="codeExecution"))
        for step in range(3):
            wire.will(
                Reply(
                    thinking=f"I search {step}.",
                    provider=(
                        ProviderCall("search", 'a "query"', f"fünd {step}"),
                        ProviderCall("fetch"),
                        ProviderCall("code", "ls"),
                    ),
                    text=f"It says {step}.",
                    cited=True,
                    calls=(Call("exec"),),
                )
            )
            reply, deltas = await generate(registry, request)
            assert [part.text for part in reply.parts if isinstance(part, TextPart)] == [
                f"It says {step}."
            ]
            assert joined(deltas, 0) == f"I search {step}."
            request = answered(request, reply)
        wire.will(Reply(text="done"))
        await generate(registry, request)
        rules = wire.format
        assert isinstance(rules, AnthropicFormat)
    issued = [*rules.signed.values(), *rules.given.values(), *rules.cited.values()]
    sent = [block for block in sent_blocks(wire) if block["type"] != "tool_use"]
    assert in_order(sent) == in_order(issued)
    assert len(issued) == 3 * (1 + 6 + 1)


async def test_container_is_used_again_and_left_out_when_it_is_gone() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        rules = wire.format
        assert isinstance(rules, AnthropicFormat)
        skills = (ProviderSkill(kind="builtin", name="xlsx"),)
        request = asking(wire, "anthropic", skills=skills)
        wire.will(Reply(provider=(ProviderCall("code"),), text="made", calls=(Call("exec"),)))
        reply, _ = await generate(registry, request)
        (container,) = rules.containers
        request = answered(request, reply)
        wire.will(Reply(text="done"))
        await generate(registry, request)
        assert wire.last["container"]["id"] == container
        rules.containers.clear()
        await generate_again(registry, wire, request)
    assert [one.body["container"].get("id") for one in wire.received[-2:]] == [container, None]
    assert wire.last["container"]["skills"][0]["skill_id"] == "xlsx"


async def generate_again(registry: ModelRegistry, wire: WireServer, request: ModelRequest) -> None:
    wire.will(Reply(text="done"))
    reply, _ = await generate(registry, request)
    assert reply.parts == (TextPart(text="done"),)


async def test_paused_reply_is_asked_on_and_is_one_reply() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        request = asking(wire, "anthropic", SEARCH)
        wire.will(
            Reply(thinking="Long.", provider=(ProviderCall("search"),), paused=True),
            Reply(provider=(ProviderCall("search"), ProviderCall("search")), paused=True),
            Reply(text="Found it.", cited=True, calls=(Call("exec"),)),
            Reply(text="done"),
        )
        reply, deltas = await generate(registry, request)
        assert reply.stop_reason == "tool_calls"
        assert reply.usage == Usage(input=300, output=126, reasoning=21)
        text = next(n for n, part in enumerate(reply.parts) if isinstance(part, TextPart))
        assert joined(deltas, text) == "Found it."
        await generate(registry, answered(request, reply))
    assert [len(one.body["messages"]) for one in wire.received] == [1, 2, 2, 3]
    kinds = [block["type"] for block in sent_blocks(wire)]
    pair = ["server_tool_use", "web_search_tool_result"]
    assert kinds == ["thinking", *pair, *pair, *pair, "text", "tool_use"]


async def test_reply_that_is_paused_for_ever_ends_as_a_failure() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        wire.will(*[Reply(provider=(ProviderCall("search"),), paused=True)] * (PAUSES_MAX + 1))
        failed = await failure(registry, asking(wire, "anthropic", SEARCH))
    assert (failed.kind, failed.retryable) == ("server", True)
    assert failed.usage == Usage(
        input=100 * (PAUSES_MAX + 1), output=42 * (PAUSES_MAX + 1), reasoning=7 * (PAUSES_MAX + 1)
    )
    assert len(wire.received) == PAUSES_MAX + 1


async def test_failure_behind_a_pause_knows_what_was_spent_before_it() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        wire.will(
            Reply(provider=(ProviderCall("search"),), paused=True),
            Reply(text="cut", cut_after=1),
        )
        failed = await failure(registry, asking(wire, "anthropic", SEARCH))
    assert failed.kind == "network"
    assert failed.usage is not None
    assert failed.usage.output >= 42


async def test_call_whose_result_was_withheld_is_not_sent() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        request = asking(wire, "anthropic", SEARCH)
        wire.will(Reply(provider=(ProviderCall("search"),), text="so", calls=(Call("exec"),)))
        reply, _ = await generate(registry, request)
        parts = tuple(
            TextPart(text="[withheld]")
            if isinstance(part, ThinkingPart) and "tool_result" in str(part.block)
            else part
            for part in reply.parts
        )
        wire.will(Reply(text="done"))
        await generate(registry, answered(request, replace(reply, parts=parts)))
    assert [block["type"] for block in sent_blocks(wire)] == ["text", "text", "tool_use"]


async def test_responses_are_asked_for_their_tools() -> None:
    async with talking(ResponsesFormat()) as (registry, wire):
        wire.will(Reply(text="hi"))
        tools = (
            SEARCH,
            ProviderTool(
                name="fileSearch", options={"vectorStoreIds": ["vs_1"], "maxNumResults": 5}
            ),
            ProviderTool(name="codeInterpreter"),
            ProviderTool(name="imageGeneration", options={"quality": "low"}),
        )
        await generate(registry, asking(wire, "openai", *tools))
    assert wire.last["tools"][2:] == [
        {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}},
        {"type": "file_search", "vector_store_ids": ["vs_1"], "max_num_results": 5},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "image_generation", "quality": "low"},
    ]
    assert wire.last["include"] == [
        "code_interpreter_call.outputs",
        "file_search_call.results",
        "reasoning.encrypted_content",
    ]


@pytest.mark.parametrize("reasoning", ["none", "low"])
async def test_responses_items_go_back_as_they_came_over_many_steps(reasoning: Reasoning) -> None:
    tools = (SEARCH, ProviderTool(name="codeInterpreter"), ProviderTool(name="imageGeneration"))
    async with talking(ResponsesFormat()) as (registry, wire):
        request = asking(wire, "openai", *tools, reasoning=reasoning)
        for step in range(3):
            wire.will(
                Reply(
                    thinking=f"I search {step}.",
                    provider=(
                        ProviderCall("search", found=f"fünd {step}"),
                        ProviderCall("code", "1 + 1", "2"),
                        ProviderCall("image", found="aW1n"),
                    ),
                    text=f"It says {step}.",
                    cited=True,
                    phase="commentary",
                    calls=(Call("exec"),),
                )
            )
            reply, deltas = await generate(registry, request)
            assert [part.text for part in reply.parts if isinstance(part, TextPart)] == [
                f"It says {step}."
            ]
            assert joined(deltas, 0) == f"I search {step}."
            request = answered(request, reply)
        wire.will(Reply(text="done"))
        await generate(registry, request)
        rules = wire.format
        assert isinstance(rules, ResponsesFormat)
    issued = [item for item in rules.given.values() if item["type"] != "function_call"]
    # All but the last reply, which nothing was asked after.
    issued = [*rules.reasoning.values(), *issued[:-1]]
    sent = [item for item in wire.last["input"] if "id" in item]
    assert in_order(sent) == in_order(issued)
    assert len(sent) == 3 * 5
    code = next(item for item in sent if item["type"] == "code_interpreter_call")
    assert code["outputs"] == [{"type": "logs", "logs": "2"}]


async def test_items_behind_reasoning_that_was_withheld_go_back_as_plain_texts() -> None:
    async with talking(ResponsesFormat()) as (registry, wire):
        request = asking(wire, "openai", SEARCH)
        wire.will(
            Reply(
                thinking="a secret",
                provider=(ProviderCall("search"),),
                text="So it is.",
                cited=True,
                calls=(Call("exec"),),
            )
        )
        reply, _ = await generate(registry, request)
        withheld = TextPart(text="[thought withheld: it held a secret]")
        wire.will(Reply(text="done"))
        parts = (withheld, *reply.parts[1:])
        await generate(registry, answered(request, replace(reply, parts=parts)))
    sent = wire.last["input"][1:]
    assert [item.get("content") or item["type"] for item in sent] == [
        withheld.text,
        "So it is.",
        "function_call",
        "function_call_output",
    ]


async def test_plain_reply_keeps_no_form_of_its_own() -> None:
    async with talking(ResponsesFormat()) as (registry, wire):
        wire.will(Reply(text="hi"))
        reply, _ = await generate(registry, asking(wire, "openai"))
        assert reply.parts == (TextPart(text="hi"),)


async def test_blocks_of_tools_are_no_thoughts() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        request = asking(wire, "anthropic", SEARCH)
        wire.will(
            Reply(thinking="Hm.", provider=(ProviderCall("search"),), text="so", cited=True),
        )
        reply, _ = await generate(registry, request)
    blocks = own_blocks(after(request, reply))
    kinds = ["thinking", "server_tool_use", "web_search_tool_result", "text"]
    assert [block["type"] for block in blocks] == kinds
    assert [thought_of(json.dumps(block)) for block in blocks] == ["Hm.", "", "", ""]


async def test_server_refuses_a_block_that_was_edited() -> None:
    async with talking(AnthropicFormat()) as (registry, wire):
        request = asking(wire, "anthropic", SEARCH)
        wire.will(Reply(provider=(ProviderCall("search", found="this"),), text="so", cited=True))
        reply, _ = await generate(registry, request)
        for old, new in (("this", "that"), ("a quote", "no quote")):
            parts = tuple(
                part.model_copy(update={"block": str(part.block).replace(old, new)})
                if isinstance(part, ThinkingPart)
                else part
                for part in reply.parts
            )
            edited = after(request, replace(reply, parts=parts), TextPart(text="go on"))
            failed = await failure(registry, edited)
            assert failed.kind == "rejected"


def test_context_of_before_there_were_such_tools_is_read() -> None:
    old = '{"renderer":"r","model":{"provider":"p","model":"m"},"system":[],"tools":[]}'
    assert ModelContext.model_validate_json(old).provider_tools == ()


async def test_pieces_of_a_tools_input_are_no_arguments_of_a_call() -> None:
    kinds: list[str] = []

    async def on_delta(delta: Delta) -> None:
        kinds.append(delta.kind)

    async with talking(AnthropicFormat()) as (registry, wire):
        wire.will(Reply(provider=(ProviderCall("search", "long" * 20),), text="so"))
        async with asyncio.timeout(10):
            await registry.generate(asking(wire, "anthropic", SEARCH), on_delta)
    assert set(kinds) == {"text"}
