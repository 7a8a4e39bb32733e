"""The Anthropic provider over its SDK, against a server that refuses what the API refuses."""

import asyncio
import copy
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from domain.content import (
    AssistantMessage,
    BlobRef,
    CallPart,
    FilePart,
    ResultPart,
    TextPart,
    ThinkingPart,
    UserMessage,
)
from domain.limits import Reasoning, Usage
from domain.prompt import ModelRequest, SystemBlock
from services.loop.models.anthropic import AnthropicModel
from services.loop.models.anthropic_clients import Connection, first_party
from services.loop.models.port import Delta, FailureKind, ModelFailure
from tests.integration.wire_conversations import (
    FAILURES,
    after,
    answered,
    calls_of,
    failure,
    generate,
    joined,
    request_of,
    result,
    told,
)
from tests.wire.anthropic import AnthropicFormat
from tests.wire.http import KEY, WireServer, serving
from tests.wire.script import Call, Refusal, Reply

pytestmark = pytest.mark.anyio

OLD = "claude-haiku-4-5"  # takes a budget
NEW = "claude-opus-4-8"  # thinks adaptively


def connected(url: str, timeout_s: float = 10) -> Connection:
    return first_party(api_key=KEY, base_url=url, timeout_s=timeout_s)


@asynccontextmanager
async def talking(*, timeout_s: float = 10) -> AsyncGenerator[tuple[AnthropicModel, WireServer]]:
    async with serving(AnthropicFormat()) as wire:
        model = AnthropicModel(connected(wire.url, timeout_s), timeout_s=timeout_s)
        try:
            yield model, wire
        finally:
            await model.aclose()


def first() -> ModelRequest:
    return request_of(told("go"), model=OLD)


async def test_text_reply_comes_whole_and_in_pieces() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="Hello, this is a reply.", cached=30, written=20))
        reply, deltas = await generate(model, first())
    assert reply.parts == (TextPart(text="Hello, this is a reply."),)
    assert reply.stop_reason == "end"
    assert reply.model == OLD
    assert reply.response_id.startswith("msg_")
    assert joined(deltas, 0) == "Hello, this is a reply."
    assert len(deltas) > 1


async def test_usage_counts_cached_and_written_tokens_as_input() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="hi", cached=30, written=20))
        reply, _ = await generate(model, first())
    assert reply.usage == Usage(input=150, output=42, reasoning=7, cached=30, cache_written=20)


async def test_usage_that_is_not_told_is_unknown() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="hi", usage=False))
        reply, _ = await generate(model, first())
    assert reply.usage is None


async def test_thinking_goes_back_byte_for_byte_over_many_steps() -> None:
    thought = 'Let me see: "quotes", ünïcode \\ and\nlines.'
    async with talking() as (model, wire):
        request = request_of(told("go"), model=NEW, reasoning="low")
        stored: list[Any] = []
        for step in range(4):
            wire.will(
                Reply(thinking=f"{thought} {step}", redacted=f"blob{step}", calls=(Call("exec"),))
            )
            reply, deltas = await generate(model, request)
            assert [part.kind for part in reply.parts] == ["thinking", "thinking", "call"]
            assert joined(deltas, 0) == f"{thought} {step}"
            stored += [json.loads(str(p.block)) for p in reply.parts if isinstance(p, ThinkingPart)]
            request = answered(request, reply)
        wire.will(Reply(text="done"))
        await generate(model, request)
        assert isinstance(wire.format, AnthropicFormat)
        issued = list(wire.format.signed.values())
    sent = [
        block
        for message in wire.last["messages"]
        for block in message["content"]
        if block["type"] in ("thinking", "redacted_thinking")
    ]
    assert sent == issued
    assert stored == issued


async def test_server_refuses_thinking_that_was_altered() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(thinking="a thought", calls=(Call("exec"),)))
        request = request_of(told("go"), model=NEW, reasoning="low")
        reply, _ = await generate(model, request)
        part = reply.parts[0]
        assert isinstance(part, ThinkingPart)
        altered = part.model_copy(update={"block": str(part.block).replace("a thought", "other")})
        next_request = answered(request, reply)
        messages = (
            request.messages[0],
            AssistantMessage(parts=(altered, *reply.parts[1:])),
            next_request.messages[-1],
        )
        failed = await failure(model, ModelRequest(request.context, messages, "d", {}))
    assert failed.kind == "rejected"
    assert "cannot be modified" in failed.message


async def test_thinking_of_another_format_is_not_sent() -> None:
    parts = (ThinkingPart(provider="openai-responses", block='{"type":"x"}'), TextPart(text="hi"))
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(
            model, request_of(told("a"), AssistantMessage(parts=parts), told("b"), model=OLD)
        )
    assert wire.last["messages"][1]["content"] == [{"type": "text", "text": "hi"}]


async def test_thinking_without_a_signature_is_not_sent() -> None:
    block = '{"type":"thinking","thinking":"cut","signature":""}'
    parts = (ThinkingPart(provider="anthropic", block=block), TextPart(text="hi"))
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(
            model, request_of(told("a"), AssistantMessage(parts=parts), told("b"), model=OLD)
        )
    assert len(wire.last["messages"][1]["content"]) == 1


async def test_results_come_first_in_one_message_with_their_errors() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="both", calls=(Call("exec", '{"a": 1}'), Call("readTextFile"))))
        reply, _ = await generate(model, first())
        one, two = calls_of(reply)
        assert reply.stop_reason == "tool_calls"
        assert (one.arguments, two.arguments) == ('{"a": 1}', "{}")
        wire.will(Reply(text="ok"))
        request = after(
            first(), reply, TextPart(text="hurry"), result(one, "fine"), result(two, is_error=True)
        )
        await generate(model, request)
    content = wire.last["messages"][-1]["content"]
    assert [block["type"] for block in content] == ["tool_result", "tool_result", "text"]
    assert content[0]["tool_use_id"] == one.provider_id
    assert [block.get("is_error") for block in content] == [False, True, None]
    assert wire.last["messages"][1]["content"][1]["input"] == {"a": 1}


async def test_tool_arguments_stream_with_the_name_of_their_tool() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="x", calls=(Call("exec", '{"command": ["ls", "-la"]}'),)))
        _, deltas = await generate(model, first())
    pieces = [delta for delta in deltas if delta.kind == "arguments"]
    assert joined(pieces, 1) == '{"command": ["ls", "-la"]}'
    assert {piece.tool for piece in pieces} == {"exec"}


async def test_malformed_arguments_are_kept_and_can_be_sent_again() -> None:
    async with talking() as (model, wire):
        for arguments in ('{"a": ', "[1, 2]", '"\\ud800"', '{"a": NaN}'):
            wire.will(Reply(calls=(Call("exec", arguments),)), Reply(text="sorry"))
            reply, _ = await generate(model, first())
            assert calls_of(reply)[0].arguments == arguments
            await generate(model, answered(first(), reply))
            sent = wire.last["messages"][1]["content"][0]["input"]
            assert sent == {"_malformed": arguments}


async def test_reply_cut_at_its_limit_keeps_half_a_call() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="I", calls=(Call("exec", '{"command": ["l'),), stop="max_tokens"))
        reply, _ = await generate(model, first())
    assert reply.stop_reason == "max_tokens"
    assert calls_of(reply)[0].arguments == '{"command": ["l'


async def test_refusal_is_a_reply_with_what_text_there_is() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="I would", stop="refusal"), Reply(stop="refusal", refusal="No."))
        begun, _ = await generate(model, first())
        silent, _ = await generate(model, first())
    assert (begun.stop_reason, begun.parts) == ("refusal", (TextPart(text="I would"),))
    assert (silent.stop_reason, silent.parts) == ("refusal", (TextPart(text="No."),))


async def test_reply_without_text_and_calls_is_empty() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(), Reply(thinking="only thinking"))
        for _ in range(2):
            failed = await failure(model, first())
            assert failed.kind == "empty"
            assert failed.retryable
            assert failed.usage is not None


@pytest.mark.parametrize(("refusal", "kind", "wait_ms"), FAILURES)
async def test_error_answer_is_classified_after_one_request(
    refusal: Refusal, kind: FailureKind, wait_ms: int | None
) -> None:
    async with talking() as (model, wire):
        wire.will(refusal, Reply(text="never asked for"))
        failed = await failure(model, first())
        assert len(wire.received) == 1
    assert (failed.kind, failed.status) == (kind, refusal.status)
    assert failed.retry_after_ms == wait_ms
    assert refusal.message in failed.message


@pytest.mark.parametrize("frames", [0, 1, 4, 7])
async def test_cut_stream_is_a_network_failure_and_keeps_known_usage(frames: int) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="some text", cut_after=frames))
        failed = await failure(model, first())
        assert len(wire.received) == 1
    assert failed.kind == "network"
    assert (failed.usage is not None) == (frames > 0)


@pytest.mark.parametrize("frame", [0, 3, 5])
async def test_broken_json_in_the_stream_is_malformed(frame: int) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="some text", break_at=frame))
        assert (await failure(model, first())).kind == "malformed"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "rate_limited"),
        ("api_error", "server"),
        ("invalid_request_error", "rejected"),
        ("something_new", "server"),
    ],
)
async def test_error_event_in_the_stream_is_classified(error: str, kind: FailureKind) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="some text", error_at=3, error=error))
        failed = await failure(model, first())
        assert len(wire.received) == 1
    assert failed.kind == kind
    assert failed.usage is not None


@pytest.mark.parametrize("frames", [0, 4])
async def test_stream_that_stalls_times_out(frames: int) -> None:
    async with talking(timeout_s=0.3) as (model, wire):
        wire.will(Reply(text="some text", stall_after=frames))
        assert (await failure(model, first())).kind == "timeout"


async def test_cancelled_generation_hangs_up() -> None:
    begun = asyncio.Event()

    async def on_delta(delta: Delta) -> None:
        del delta
        begun.set()

    async with talking() as (model, wire), asyncio.timeout(10):
        wire.will(Reply(text="some text", stall_after=4))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(model.generate(first(), on_delta))
            await begun.wait()
            task.cancel()
        assert task.cancelled()
        await wire.hung_up.wait()


async def test_error_of_the_listener_is_not_taken_for_the_providers() -> None:
    async def on_delta(delta: Delta) -> None:
        raise ValueError(delta.text)

    async with talking() as (model, wire), asyncio.timeout(10):
        wire.will(Reply(text="boom"))
        with pytest.raises(ValueError, match="boom"):
            await model.generate(first(), on_delta)


async def test_nobody_at_the_address_is_a_network_failure() -> None:
    model = AnthropicModel(connected("http://127.0.0.1:1"), timeout_s=10)
    assert (await failure(model, first())).kind == "network"
    await model.aclose()
    await model.aclose()


async def test_key_never_shows_in_a_message() -> None:
    async with talking() as (model, wire):
        wire.will(Refusal(401, "authentication_error", f"invalid key {KEY}"))
        failed = await failure(model, first())
    assert KEY not in failed.message
    assert "[key]" in failed.message


def test_missing_key_names_the_variable() -> None:
    with pytest.raises(ModelFailure) as caught:
        first_party(api_key="", timeout_s=10)
    assert caught.value.kind == "missing_key"
    assert "ANTHROPIC_API_KEY" in caught.value.message


@pytest.mark.parametrize(
    ("reasoning", "limit", "budget", "sent_limit"),
    [
        ("none", 16_384, None, 16_384),
        (0, 16_384, None, 16_384),
        ("minimal", 16_384, 1_024, 16_384),
        ("low", 16_384, 2_048, 16_384),
        ("medium", 16_384, 5_000, 16_384),
        ("high", 16_384, 10_000, 16_384),
        ("high", 4_096, 10_000, 14_096),
        (10, 16_384, 1_024, 16_384),
        (16_384, 16_384, 16_384, 32_768),
    ],
)
async def test_older_model_gets_a_budget_below_the_limit(
    reasoning: Reasoning, limit: int, budget: int | None, sent_limit: int
) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        request = request_of(told("go"), model=OLD, reasoning=reasoning, output_tokens_max=limit)
        await generate(model, request)
    thinking = {"type": "enabled", "budget_tokens": budget} if budget else None
    assert wire.last.get("thinking") == thinking
    assert wire.last["max_tokens"] == sent_limit


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        ("none", None),
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        (3_000, "medium"),
    ],
)
async def test_newer_model_gets_an_effort(reasoning: Reasoning, effort: str | None) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(model, request_of(told("go"), model=NEW, reasoning=reasoning))
    assert wire.last.get("output_config") == ({"effort": effort} if effort else None)
    assert ("thinking" in wire.last) == (effort is not None)


def without_breakpoints(body: dict[str, Any]) -> dict[str, Any]:
    bare = copy.deepcopy(body)
    for message in bare["messages"]:
        for block in message["content"]:
            block.pop("cache_control", None)
    return bare


async def test_each_request_extends_the_one_before_but_for_its_breakpoints() -> None:
    async with talking() as (model, wire):
        request = request_of(told("go"), model=NEW, reasoning="low")
        for step in range(5):
            calls = tuple(Call("exec", f'{{"n": {step}}}') for _ in range(step + 1))
            wire.will(Reply(thinking=f"t{step}", text=f"s{step}", calls=calls))
            reply, _ = await generate(model, request)
            request = answered(request, reply)
    bodies = [without_breakpoints(received.body) for received in wire.received]
    for shorter, longer in pairwise(bodies):
        before = json.dumps(shorter["messages"])
        assert json.dumps(longer["messages"]).startswith(before.removesuffix("]"))
        assert {**shorter, "messages": 0} == {**longer, "messages": 0}


async def test_breakpoints_mark_tools_system_and_the_ends_of_the_last_two_requests() -> None:
    async with talking() as (model, wire):
        request = first()
        for _ in range(3):
            wire.will(Reply(text="s", calls=(Call("exec"), Call("exec"))))
            reply, _ = await generate(model, request)
            request = answered(request, reply)
    marked = [
        (place, number)
        for place, message in enumerate(wire.last["messages"])
        for number, block in enumerate(message["content"])
        if "cache_control" in block
    ]
    assert marked == [(2, 1), (4, 1)]
    assert ["cache_control" in block for block in wire.last["system"]] == [False, True]
    assert ["cache_control" in tool for tool in wire.last["tools"]] == [False, True]


async def test_same_request_is_the_same_bytes() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="a"), Reply(text="b"))
        await generate(model, first())
        await generate(model, first())
        other = AnthropicModel(connected(wire.url))
        wire.will(Reply(text="c"))
        await generate(other, first())
        await other.aclose()
    assert len({received.raw for received in wire.received}) == 1


async def test_ids_a_provider_would_refuse_are_replaced_and_still_match() -> None:
    async with talking() as (model, wire):
        request = first()
        for ids in (("call_0", "call_0"), ("call_0", "functions.exec:1"), ("x" * 99, "call_n2")):
            parts = tuple(
                CallPart(provider_id=name, tool="exec", arguments=f'{{"n": {n}}}')
                for n, name in enumerate(ids)
            )
            results = tuple(result(call, f"{n}") for n, call in enumerate(parts))
            messages = (
                *request.messages,
                AssistantMessage(parts=parts),
                UserMessage(parts=results),
            )
            request = ModelRequest(request.context, messages, "d", {})
            wire.will(Reply(text="ok"))
            await generate(model, request)
    sent = wire.last["messages"]
    for asked, given in zip(sent[1::2], sent[2::2], strict=True):
        assert [b["id"] for b in asked["content"]] == [b["tool_use_id"] for b in given["content"]]
    assert sent[1]["content"][0]["id"] == "call_0"


async def test_result_without_its_call_is_told_as_text() -> None:
    orphan = ResultPart(provider_id="gone", tool="exec", content=(TextPart(text="42"),))
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(model, request_of(UserMessage(parts=(orphan,)), model=OLD))
    assert wire.last["messages"][0]["content"][0]["text"] == "42"


async def test_images_and_documents_are_sent_and_other_files_are_named() -> None:
    blobs = {"i": b"png!", "p": b"%PDF", "z": b"zip"}
    files = (
        FilePart(blob=BlobRef(digest="i", size=4, media_type="image/png"), name="a.png"),
        FilePart(blob=BlobRef(digest="p", size=4, media_type="application/pdf"), name="b.pdf"),
        FilePart(blob=BlobRef(digest="z", size=3, media_type="application/zip"), name="c.zip"),
    )
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(model, request_of(UserMessage(parts=files), model=OLD, blobs=blobs))
    content = wire.last["messages"][0]["content"]
    assert [block["type"] for block in content] == ["image", "document", "text"]
    assert content[0]["source"] == {"type": "base64", "media_type": "image/png", "data": "cG5nIQ=="}
    assert "c.zip" in content[2]["text"]


async def test_blank_texts_are_not_sent() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        messages = (
            UserMessage(parts=(TextPart(text=""), TextPart(text="a"))),
            AssistantMessage(parts=(TextPart(text=" \n"),)),
            told(" "),
        )
        system = (SystemBlock(name="empty", text=""), SystemBlock(name="base", text="x"))
        await generate(model, request_of(*messages, model=OLD, system=system, tools=()))
    assert len(wire.last["system"]) == 1
    assert [message["role"] for message in wire.last["messages"]] == ["user", "user"]
    assert "tools" not in wire.last
