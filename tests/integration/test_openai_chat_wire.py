"""The chat provider over OpenAI's SDK, against a server that refuses what such servers refuse."""

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
from domain.limits import Usage
from domain.prompt import ModelRequest
from services.loop.models.openai_chat import OpenAIChatModel
from services.loop.models.openai_chat_request import OPENAI, dialect_of, render
from services.loop.models.openai_client import open_client
from services.loop.models.port import FailureKind
from services.loop.models.registry import PROVIDERS, ModelRegistry
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
from tests.wire.chat import ChatFormat
from tests.wire.http import KEY, WireServer, frame, serving
from tests.wire.script import Call, Refusal, Reply

pytestmark = pytest.mark.anyio

MODEL = "qwen3"


@asynccontextmanager
async def talking(
    *,
    timeout_s: float = 10,
    provider: str = "openai-chat",
    format: ChatFormat | None = None,  # noqa: A002
) -> AsyncGenerator[tuple[OpenAIChatModel, WireServer]]:
    async with serving(format or ChatFormat()) as wire:
        url = f"{wire.url}/v1"
        client = open_client(api_key=KEY, base_url=url, timeout_s=timeout_s)
        model = OpenAIChatModel(
            client, base_url=url, secrets=(KEY,), timeout_s=timeout_s, provider=provider
        )
        try:
            yield model, wire
        finally:
            await model.aclose()


class Frames(ChatFormat):
    """Sends chunks as some server was seen to send them."""

    def __init__(self, *deltas: dict[str, Any], finish: str = "stop") -> None:
        super().__init__()
        self._deltas = deltas
        self._finish = finish

    def frames(self, answer: Reply, body: dict[str, Any]) -> list[bytes]:
        del answer, body
        last: dict[str, Any] = {"delta": {}, "finish_reason": self._finish}
        choices = [*({"delta": delta} for delta in self._deltas), last]
        return [frame({"choices": [choice]}) for choice in choices] + [frame("[DONE]")]


def first() -> ModelRequest:
    return request_of(told("go"), model=MODEL, reasoning="low")


async def test_text_reply_comes_whole_and_in_pieces() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="Hello, this is a reply.", cached=30))
        reply, deltas = await generate(model, first())
    assert reply.parts == (TextPart(text="Hello, this is a reply."),)
    assert (reply.stop_reason, reply.model) == ("end", MODEL)
    assert reply.response_id.startswith("chatcmpl-")
    assert reply.usage == Usage(input=100, output=42, reasoning=7, cached=30)
    assert joined(deltas, 0) == "Hello, this is a reply."
    assert len(deltas) > 1


async def test_usage_that_is_not_told_is_unknown() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="hi", usage=False))
        reply, _ = await generate(model, first())
    assert reply.usage is None


async def test_own_server_gets_what_all_servers_understand() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="hi"))
        await generate(model, first())
    assert wire.last["messages"][0] == {"role": "system", "content": "You are careful.\n\nGo."}
    assert wire.last["messages"][1] == {"role": "user", "content": "go"}
    assert wire.last["max_tokens"] == 16_384
    assert "reasoning_effort" not in wire.last


def test_openai_itself_gets_its_own_limit_and_effort() -> None:
    assert dialect_of("openai-chat", PROVIDERS["openai-chat"].routes[0].base_url) == OPENAI
    params = render(request_of(told("go"), model="gpt-5-mini", reasoning="high"), OPENAI)
    assert params.get("max_completion_tokens") == 16_384
    assert params.get("reasoning_effort") == "high"
    assert "max_tokens" not in params
    older = render(request_of(told("go"), model="gpt-4.1", reasoning="high"), OPENAI)
    assert "reasoning_effort" not in older


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_thinking_is_kept_under_either_name_but_not_sent_back(field: str) -> None:
    async with talking(format=ChatFormat(thinking_field=field)) as (model, wire):
        wire.will(Reply(thinking="let me think", calls=(Call("exec"),)), Reply(text="ok"))
        reply, deltas = await generate(model, first())
        assert reply.parts[0] == ThinkingPart(
            provider=f"openai-chat:any/{MODEL}", block='{"reasoning_content":"let me think"}'
        )
        assert joined(deltas, 0) == "let me think"
        await generate(model, answered(first(), reply))
    assert "let me think" not in json.dumps(wire.last)


async def test_deepseek_gets_the_thinking_of_replies_with_calls_back() -> None:
    async with talking(provider="deepseek") as (model, wire):
        request = request_of(told("go"), model="deepseek-chat", reasoning="low")
        for thinking in ("let me think", ""):
            wire.will(Reply(thinking=thinking, calls=(Call("exec"),)))
            reply, _ = await generate(model, request)
            request = answered(request, reply)
        wire.will(Reply(text="ok"))
        await generate(model, request)
    sent = [m["reasoning_content"] for m in wire.last["messages"] if m["role"] == "assistant"]
    assert sent == ["let me think", ""]
    assert wire.last["reasoning_effort"] == "low"


async def test_results_are_messages_of_their_own_before_what_people_say() -> None:
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
    sent = wire.last["messages"][-3:]
    assert [message["role"] for message in sent] == ["tool", "tool", "user"]
    assert [message["content"] for message in sent] == ["fine", "Error: (empty)", "hurry"]


async def test_ids_that_begin_anew_in_each_reply_are_kept_apart() -> None:
    async with talking() as (model, wire):
        request = first()
        for _ in range(3):
            wire.will(Reply(calls=(Call("exec"), Call("exec"))))
            reply, _ = await generate(model, request)
            assert [call.provider_id for call in calls_of(reply)] == ["call_0", "call_1"]
            request = answered(request, reply)
        wire.will(Reply(text="ok"))
        await generate(model, request)
    asked = [c["id"] for m in wire.last["messages"] for c in m.get("tool_calls", [])]
    given = [m["tool_call_id"] for m in wire.last["messages"] if m["role"] == "tool"]
    assert asked == given
    assert len(set(asked)) == 6


async def test_calls_under_one_index_with_new_ids_are_several() -> None:
    deltas = [
        {"tool_calls": [{"index": 0, "id": name, "function": {"name": "exec", "arguments": "{}"}}]}
        for name in ("a", "b")
    ]
    async with talking(format=Frames(*deltas)) as (model, wire):
        wire.will(Reply())
        reply, _ = await generate(model, first())
    assert [call.provider_id for call in calls_of(reply)] == ["a", "b"]
    assert reply.stop_reason == "tool_calls"


async def test_calls_without_ids_and_indexes_get_ids() -> None:
    call = {"function": {"name": "exec", "arguments": '{"a":1}'}}
    async with talking(format=Frames({"tool_calls": [call, call]})) as (model, wire):
        wire.will(Reply())
        reply, _ = await generate(model, first())
    assert [call.provider_id for call in calls_of(reply)] == ["call_0", "call_1"]
    assert [call.arguments for call in calls_of(reply)] == ['{"a":1}', '{"a":1}']


async def test_chunk_of_the_wrong_shape_is_malformed() -> None:
    async with talking(format=Frames({"tool_calls": 7})) as (model, wire):
        wire.will(Reply())
        assert (await failure(model, first())).kind == "malformed"


async def test_malformed_arguments_are_kept_and_can_be_sent_again() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(calls=(Call("exec", '{"a": '),)), Reply(text="sorry"))
        reply, _ = await generate(model, first())
        assert calls_of(reply)[0].arguments == '{"a": '
        await generate(model, answered(first(), reply))
    call = wire.last["messages"][2]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"_malformed": '{"a": '}


async def test_reply_cut_at_its_limit_keeps_half_a_call() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="I", calls=(Call("exec", '{"command": ["l'),), stop="max_tokens"))
        reply, _ = await generate(model, first())
    assert reply.stop_reason == "max_tokens"
    assert calls_of(reply)[0].arguments == '{"command": ["l'


async def test_refusal_is_a_reply_with_what_text_there_is() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(refusal="I will not."), Reply(stop="content_filter"))
        refused, _ = await generate(model, first())
        filtered, _ = await generate(model, first())
    assert (refused.stop_reason, refused.parts) == ("refusal", (TextPart(text="I will not."),))
    assert (filtered.stop_reason, filtered.parts) == ("refusal", ())


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


@pytest.mark.parametrize("frames", [0, 1, 3])
async def test_cut_stream_is_a_network_failure(frames: int) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="some longer text", cut_after=frames))
        assert (await failure(model, first())).kind == "network"
        assert len(wire.received) == 1


@pytest.mark.parametrize("frame", [0, 2])
async def test_broken_json_in_the_stream_is_malformed(frame: int) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="some text", break_at=frame))
        assert (await failure(model, first())).kind == "malformed"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("server_error", "server"),
        ("rate_limit_exceeded", "rate_limited"),
        ("invalid_request_error", "rejected"),
    ],
)
async def test_error_in_the_stream_is_classified(error: str, kind: FailureKind) -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="some text", error_at=2, error=error))
        assert (await failure(model, first())).kind == kind
        assert len(wire.received) == 1


@pytest.mark.parametrize("frames", [0, 2])
async def test_stream_that_stalls_times_out(frames: int) -> None:
    async with talking(timeout_s=0.3) as (model, wire):
        wire.will(Reply(text="some text", stall_after=frames))
        assert (await failure(model, first())).kind == "timeout"


async def test_key_never_shows_in_a_message() -> None:
    async with talking() as (model, wire):
        wire.will(Refusal(401, "invalid_request_error", f"invalid key {KEY}"))
        assert KEY not in (await failure(model, first())).message


async def test_each_request_extends_the_one_before() -> None:
    async with talking(provider="deepseek") as (model, wire):
        request = request_of(told("go"), model="deepseek-chat", reasoning="low")
        for step in range(5):
            calls = tuple(Call("exec", f'{{"n": {step}}}') for _ in range(step + 1))
            wire.will(Reply(thinking=f"t{step}", text=f"s{step}", calls=calls))
            reply, _ = await generate(model, request)
            request = answered(request, reply)
    for shorter, longer in pairwise(received.body for received in wire.received):
        before = json.dumps(shorter["messages"])
        assert json.dumps(longer["messages"]).startswith(before.removesuffix("]"))
        assert {**shorter, "messages": 0} == {**longer, "messages": 0}


async def test_same_request_is_the_same_bytes() -> None:
    async with talking() as (model, wire):
        wire.will(Reply(text="a"), Reply(text="b"))
        await generate(model, first())
        await generate(model, first())
    assert len({received.raw for received in wire.received}) == 1


async def test_images_of_results_follow_in_what_the_user_says() -> None:
    image = FilePart(blob=BlobRef(digest="i", size=4, media_type="image/png"), name="a.png")
    pdf = FilePart(blob=BlobRef(digest="p", size=4, media_type="application/pdf"), name="b.pdf")
    call = CallPart(provider_id="c1", tool="exec", arguments="{}")
    messages = (
        UserMessage(parts=(TextPart(text="look"), pdf)),
        AssistantMessage(parts=(call,)),
        UserMessage(parts=(result(call, image), TextPart(text="well?"))),
    )
    async with talking() as (model, wire):
        wire.will(Reply(text="ok"))
        request = request_of(*messages, model=MODEL, blobs={"i": b"png!", "p": b"%PDF"})
        await generate(model, request)
    asked, _, output, user = wire.last["messages"][1:]
    assert "b.pdf" in asked["content"]
    assert "a.png" in output["content"]
    assert [content["type"] for content in user["content"]] == ["image_url", "text"]
    assert user["content"][0]["image_url"]["url"] == "data:image/png;base64,cG5nIQ=="


async def test_registry_reaches_a_provider_at_the_address_of_the_choice() -> None:
    asked: list[str] = []

    def key_of(name: str) -> str:
        asked.append(name)
        return KEY

    registry = ModelRegistry(key_of)
    async with serving(ChatFormat()) as wire:
        wire.will(Reply(text="one"), Reply(text="two"))
        request = request_of(told("go"), model=MODEL, provider="fireworks")
        choice = request.context.model.model_copy(update={"base_url": f"{wire.url}/v1"})
        context = request.context.model_copy(update={"model": choice})
        for expected in ("one", "two"):
            reply, _ = await generate(registry, ModelRequest(context, request.messages, "d", {}))
            assert reply.parts == (TextPart(text=expected),)
        await registry.aclose()
    assert asked == ["FIREWORKS_API_KEY"] * 2, "a key that was changed counts at once"
