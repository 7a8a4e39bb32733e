"""The OpenAI provider over its SDK, against a server that refuses what the API refuses."""

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
    TextPart,
    ThinkingPart,
    UserMessage,
)
from domain.limits import Reasoning, Usage
from domain.prompt import ModelRequest
from services.loop.models.openai_client import open_client
from services.loop.models.openai_responses import OpenAIResponsesModel
from services.loop.models.port import FailureKind
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
from tests.wire.http import KEY, WireServer, serving
from tests.wire.responses import ResponsesFormat
from tests.wire.script import Call, Refusal, Reply

pytestmark = pytest.mark.anyio

MODEL = "gpt-5-mini"


def connected(url: str, timeout_s: float = 10) -> OpenAIResponsesModel:
    client = open_client(api_key=KEY, base_url=url, timeout_s=timeout_s)
    return OpenAIResponsesModel(client, base_url=url, secrets=(KEY,), timeout_s=timeout_s)


@asynccontextmanager
async def talking(
    *, timeout_s: float = 10
) -> AsyncGenerator[tuple[OpenAIResponsesModel, WireServer]]:
    async with serving(ResponsesFormat()) as wire:
        url = f"{wire.url}/v1"
        model = connected(url, timeout_s)
        try:
            yield model, wire
        finally:
            await model.aclose()


def first() -> ModelRequest:
    return request_of(told("go"), model=MODEL, reasoning="low")


async def test_text_reply_comes_whole_and_in_pieces() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="Hello, this is a reply.", cached=30, written=20))
        reply, deltas = await generate(model, first())
    assert reply.parts == (TextPart(text="Hello, this is a reply."),)
    assert (reply.stop_reason, reply.model) == ("end", f"{MODEL}-dated")
    assert reply.response_id.startswith("resp_")
    assert joined(deltas, 0) == "Hello, this is a reply."
    assert len(deltas) > 1


async def test_input_already_counts_cached_and_written_tokens() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="hi", cached=30, written=20), Reply(text="hi", usage=False))
        reply, _ = await generate(model, first())
        silent, _ = await generate(model, first())
    assert reply.usage == Usage(input=100, output=42, reasoning=7, cached=30, cache_written=20)
    assert silent.usage is None


async def test_nothing_is_stored_at_the_provider() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="hi"))
        await generate(model, first())
    assert wire.last["store"] is False
    assert wire.last["include"] == ["reasoning.encrypted_content"]
    assert wire.last["instructions"] == "You are careful.\n\nGo."
    assert [tool["name"] for tool in wire.last["tools"]] == ["exec", "readTextFile"]


async def test_reasoning_goes_back_byte_for_byte_over_many_steps() -> None:
    async with talking() as (model, wire):
        request = first()
        stored: list[Any] = []
        for step in range(4):
            wire.will(Reply(thinking=f"One ünïcode.\n\nTwo {step}.", calls=(Call("exec"),)))
            reply, deltas = await generate(model, request)
            assert [part.kind for part in reply.parts] == ["thinking", "call"]
            assert joined(deltas, 0) == f"One ünïcode.\n\nTwo {step}."
            thoughts = [part for part in reply.parts if isinstance(part, ThinkingPart)]
            assert {thought.provider for thought in thoughts} == {f"openai-responses:any/{MODEL}"}
            stored += [json.loads(str(thought.block)) for thought in thoughts]
            request = answered(request, reply)
        wire.will(Reply(text="done"))
        await generate(model, request)
        assert isinstance(wire.format, ResponsesFormat)
        issued = list(wire.format.reasoning.values())
    assert [item for item in wire.last["input"] if item["type"] == "reasoning"] == issued
    assert stored == issued


async def test_server_refuses_reasoning_that_was_altered() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(thinking="a thought", calls=(Call("exec"),)))
        reply, _ = await generate(model, first())
        part = reply.parts[0]
        assert isinstance(part, ThinkingPart)
        altered = part.model_copy(update={"block": str(part.block).replace("a thought", "other")})
        step = answered(first(), reply)
        said = AssistantMessage(parts=(altered, *reply.parts[1:]))
        messages = (step.messages[0], said, step.messages[-1])
        failed = await failure(model, ModelRequest(step.context, messages, "d", {}))
    assert failed.kind == "rejected"


async def test_reasoning_only_the_provider_knew_is_not_sent() -> None:
    bare = ThinkingPart(provider="openai-responses", block='{"type":"reasoning","id":"rs_1"}')
    other = ThinkingPart(provider="anthropic", block='{"type":"thinking","signature":"s"}')
    said = AssistantMessage(parts=(bare, other, TextPart(text="hi")))
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(model, request_of(told("a"), said, told("b"), model=MODEL))
    assert [item.get("role") for item in wire.last["input"]] == ["user", "assistant", "user"]


async def test_reasoning_that_nothing_follows_is_not_sent() -> None:
    block = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"e"}'
    thought = ThinkingPart(provider="openai-responses", block=block)
    said = AssistantMessage(parts=(TextPart(text="hi"), thought))
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(model, request_of(told("a"), said, told("b"), model=MODEL))
    assert "reasoning" not in [item["type"] for item in wire.last["input"]]


async def test_results_are_outputs_of_their_calls() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="both", calls=(Call("exec", '{"a": 1}'), Call("readTextFile"))))
        reply, deltas = await generate(model, first())
        one, two = calls_of(reply)
        assert reply.stop_reason == "tool_calls"
        assert joined(deltas, 1) == '{"a": 1}'
        wire.will(Reply(text="ok"))
        request = after(
            first(), reply, result(one, "fine"), result(two, is_error=True), TextPart(text="hurry")
        )
        await generate(model, request)
    items = wire.last["input"][-3:]
    assert [item["type"] for item in items] == [
        "function_call_output",
        "function_call_output",
        "message",
    ]
    assert items[0]["call_id"] == one.provider_id
    assert [items[0]["output"], items[1]["output"]] == ["fine", "Error: (empty)"]


async def test_malformed_arguments_are_kept_and_can_be_sent_again() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(calls=(Call("exec", '{"a": '),)), Reply(text="sorry"))
        reply, _ = await generate(model, first())
        assert calls_of(reply)[0].arguments == '{"a": '
        await generate(model, answered(first(), reply))
    call = next(item for item in wire.last["input"] if item["type"] == "function_call")
    assert json.loads(call["arguments"]) == {"_malformed": '{"a": '}


async def test_valid_arguments_go_back_as_they_were_written() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(calls=(Call("exec", '{ "a" :  1e0 }'),)), Reply(text="ok"))
        reply, _ = await generate(model, first())
        await generate(model, answered(first(), reply))
    call = next(item for item in wire.last["input"] if item["type"] == "function_call")
    assert call["arguments"] == '{ "a" :  1e0 }'


async def test_reply_cut_at_its_limit_keeps_half_a_call() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="I", calls=(Call("exec", '{"command": ["l'),), stop="max_tokens"))
        reply, _ = await generate(model, first())
    assert reply.stop_reason == "max_tokens"
    assert calls_of(reply)[0].arguments == '{"command": ["l'


async def test_refusal_is_a_reply_with_what_text_there_is() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(refusal="I will not."), Reply(text="I wo", stop="content_filter"))
        refused, deltas = await generate(model, first())
        filtered, _ = await generate(model, first())
    assert (refused.stop_reason, refused.parts) == ("refusal", (TextPart(text="I will not."),))
    assert joined(deltas, 0) == "I will not."
    assert (filtered.stop_reason, filtered.parts) == ("refusal", (TextPart(text="I wo"),))


async def test_reply_without_text_and_calls_is_empty() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(), Reply(thinking="only thinking"))
        for _ in range(2):
            failed = await failure(model, first())
            assert failed.kind == "empty"
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


async def test_quota_that_is_used_up_is_not_tried_again() -> None:
    async with talking() as (model, wire):
        wire.will(Refusal(429, "insufficient_quota", "Check your plan.", "insufficient_quota"))
        failed = await failure(model, first())
    assert (failed.kind, failed.status, failed.retryable) == ("rejected", 429, False)


@pytest.mark.parametrize("frames", [0, 1, 4, 6])
async def test_cut_stream_is_a_network_failure(frames: int) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="some text", cut_after=frames))
        assert (await failure(model, first())).kind == "network"
        assert len(wire.received) == 1


@pytest.mark.parametrize("frame", [0, 3, 6])
async def test_broken_json_in_the_stream_is_malformed(frame: int) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="some text", break_at=frame))
        assert (await failure(model, first())).kind == "malformed"


@pytest.mark.parametrize("stop", ["", "failed"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("server_error", "server"),
        ("rate_limit_exceeded", "rate_limited"),
        ("invalid_prompt", "rejected"),
        ("something_new", "server"),
    ],
)
async def test_error_in_the_stream_is_classified(error: str, kind: FailureKind, stop: str) -> None:
    async with talking() as (model, wire):
        # The stop names how the error is sent, not how the reply would have ended.
        wire.will(Reply(text="some text", error_at=3, error=error, stop=stop))
        assert (await failure(model, first())).kind == kind
        assert len(wire.received) == 1


@pytest.mark.parametrize("frames", [0, 4])
async def test_stream_that_stalls_times_out(frames: int) -> None:
    async with talking(timeout_s=0.3) as (model, wire):
        wire.will(Reply(text="some text", stall_after=frames))
        assert (await failure(model, first())).kind == "timeout"


async def test_nobody_at_the_address_is_a_network_failure() -> None:
    model = connected("http://127.0.0.1:1")
    assert (await failure(model, first())).kind == "network"
    await model.aclose()
    await model.aclose()


async def test_key_never_shows_in_a_message() -> None:
    async with talking() as (model, wire):
        wire.will(Refusal(401, "invalid_request_error", f"invalid key {KEY}"))
        assert KEY not in (await failure(model, first())).message


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        ("none", None),
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        (2_048, "low"),
        (5_000, "medium"),
        (5_001, "high"),
    ],
)
async def test_reasoning_becomes_an_effort(reasoning: Reasoning, effort: str | None) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(model, request_of(told("go"), model=MODEL, reasoning=reasoning))
    asked = wire.last.get("reasoning")
    assert asked == ({"effort": effort, "summary": "auto"} if effort else None)


async def test_model_that_cannot_reason_is_not_asked_to() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(model, request_of(told("go"), model="gpt-4.1", reasoning="high"))
    assert "reasoning" not in wire.last


async def test_each_request_extends_the_one_before() -> None:
    async with talking() as (model, wire):
        request = first()
        for step in range(5):
            calls = tuple(Call("exec", f'{{"n": {step}}}') for _ in range(step + 1))
            wire.will(Reply(thinking=f"t{step}", text=f"s{step}", calls=calls))
            reply, _ = await generate(model, request)
            request = answered(request, reply)
    for shorter, longer in pairwise(received.body for received in wire.received):
        before = json.dumps(shorter["input"])
        assert json.dumps(longer["input"]).startswith(before.removesuffix("]"))
        assert {**shorter, "input": 0} == {**longer, "input": 0}


async def test_same_request_is_the_same_bytes() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="a"), Reply(text="b"))
        await generate(model, first())
        await generate(model, first())
    assert len({received.raw for received in wire.received}) == 1


async def test_repeated_ids_are_replaced_and_still_match() -> None:
    async with talking() as (model, wire):
        request = first()
        for ids in (("call_0", "call_0"), ("call_0", "y" * 65)):
            parts = tuple(CallPart(provider_id=i, tool="exec", arguments="{}") for i in ids)
            results = tuple(result(call, f"{n}") for n, call in enumerate(parts))
            said = AssistantMessage(parts=parts)
            messages = (*request.messages, said, UserMessage(parts=results))
            request = ModelRequest(request.context, messages, "d", {})
            wire.will(Reply(text="ok"))
            await generate(model, request)
    calls = [i["call_id"] for i in wire.last["input"] if i["type"] == "function_call"]
    outputs = [i["call_id"] for i in wire.last["input"] if i["type"] == "function_call_output"]
    assert calls == outputs
    assert len(set(calls)) == 4


async def test_files_are_sent_where_the_format_allows() -> None:
    blobs = {"i": b"png!", "p": b"%PDF", "z": b"zip"}
    image = FilePart(blob=BlobRef(digest="i", size=4, media_type="image/png"), name="a.png")
    pdf = FilePart(blob=BlobRef(digest="p", size=4, media_type="application/pdf"), name="b.pdf")
    other = FilePart(blob=BlobRef(digest="z", size=3, media_type="application/zip"), name="c.zip")
    call = CallPart(provider_id="c1", tool="exec", arguments="{}")
    messages = (
        UserMessage(parts=(image, pdf, other)),
        AssistantMessage(parts=(call,)),
        UserMessage(parts=(result(call, "see", image),)),
    )
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        await generate(model, request_of(*messages, model=MODEL, blobs=blobs))
    told_first, _, output = wire.last["input"]
    kinds = [content["type"] for content in told_first["content"]]
    assert kinds == ["input_image", "input_file", "input_text"]
    assert told_first["content"][0]["image_url"] == "data:image/png;base64,cG5nIQ=="
    assert [content["type"] for content in output["output"]] == ["input_text", "input_image"]
