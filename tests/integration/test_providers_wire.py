"""Every provider through the registry, against a server that refuses what the provider refuses."""

from collections import Counter

import pytest

from domain.content import CallPart, TextPart
from domain.limits import Sampling, Usage
from services.loop.models.port import RateSign, RateSigns
from services.loop.models.providers import PROVIDERS
from services.loop.models.sampling import refusals
from tests.integration.providers_wire import WAYS, Way, asking
from tests.integration.wire_conversations import (
    FAILURES,
    answered,
    calls_of,
    failure,
    generate,
    joined,
)
from tests.wire.script import Call, Refusal, Reply

pytestmark = pytest.mark.anyio

on_each_way = pytest.mark.parametrize("way", WAYS, ids=str)

ADDRESSES = (
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_VERTEX_BASE_URL",
    "OPENAI_BASE_URL",
    "AZURE_OPENAI_ENDPOINT",
)
ELSEWHERE = dict.fromkeys(ADDRESSES, "http://127.0.0.1:1") | {
    "ANTHROPIC_API_KEY": "not-this",
    "ANTHROPIC_AUTH_TOKEN": "not-this",
    "ANTHROPIC_VERTEX_PROJECT_ID": "not-this",
    "AWS_ACCESS_KEY_ID": "not-this",
    "AWS_BEARER_TOKEN_BEDROCK": "not-this",
    "AWS_REGION": "us-east-1",
    "AZURE_OPENAI_AD_TOKEN": "not-this",
    "CLOUD_ML_REGION": "us-east5",
    "OPENAI_API_KEY": "not-this",
    "OPENAI_API_VERSION": "not-this",
    "OPENAI_ORG_ID": "not-this",
    "OPENAI_PROJECT_ID": "not-this",
}


def test_every_way_of_the_table_is_tried() -> None:
    tried = Counter(way.provider for way in WAYS)
    assert tried == {name: len(provider.routes) for name, provider in PROVIDERS.items()}


@on_each_way
async def test_step_with_a_call_and_its_answer(way: Way) -> None:
    async with asking(way) as (registry, wire):
        wire.will(
            Reply(text="I look.", calls=(Call("exec", '{"a": 1}'), Call("exec"))),
            Reply(text="Done, this is it."),
        )
        request = way.request(wire.url)
        reply, deltas = await generate(registry, request)
        assert reply.stop_reason == "tool_calls"
        assert joined(deltas, 0) == "I look."
        assert [call.arguments for call in calls_of(reply)] == ['{"a": 1}', "{}"]
        assert reply.usage == Usage(input=100, output=42, reasoning=7)
        reply, _ = await generate(registry, answered(request, reply))
        assert reply.parts == (TextPart(text="Done, this is it."),)
        assert reply.stop_reason == "end"
    for received in wire.received:
        assert received.path == way.path
        name, value = way.auth
        assert received.headers[name].startswith(value)
        if way.in_body:
            assert received.body["model"] == (way.spoken or way.model)
    assert len(wire.received) == 2


@on_each_way
async def test_environment_moves_no_request(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(name, value)
    async with asking(way) as (registry, wire):
        wire.will(Reply(text="here"))
        await generate(registry, way.request(wire.url))
    headers = wire.received[0].headers
    assert [name for name, value in headers.items() if "not-this" in value] == []


@on_each_way
async def test_headers_of_the_choice_are_sent(way: Way) -> None:
    async with asking(way) as (registry, wire):
        wire.will(Reply(text="hi"), Reply(text="hi"))
        await generate(registry, way.request(wire.url, headers={"x-team": "blue"}))
        await generate(registry, way.request(wire.url, headers={"x-team": "red"}))
    assert [received.headers["x-team"] for received in wire.received] == ["blue", "red"]


STATUSES = {400, 401, 404, 429, 503, 529}


@on_each_way
async def test_error_answers_are_classified(way: Way) -> None:
    asked = [one for one in FAILURES if one[0].status in STATUSES]
    async with asking(way) as (registry, wire):
        for refusal, kind, wait_ms in asked:
            wire.will(refusal)
            failed = await failure(registry, way.request(wire.url))
            assert failed.kind == kind, refusal
            assert failed.retryable is (kind in {"rate_limited", "overloaded"})
            assert (failed.status, failed.retry_after_ms) == (refusal.status, wait_ms)
            assert "as the test wants it" in failed.message
    assert len(wire.received) == len(asked)


@on_each_way
async def test_wrong_key_is_an_auth_failure_without_the_key_in_it(way: Way) -> None:
    wrong = dict.fromkeys(way.keys, "wrongkey")
    async with asking(way, wrong) as (registry, wire):
        failed = await failure(registry, way.request(wire.url))
    assert failed.kind == "auth"
    assert "wrongkey" not in failed.message


LEFT = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
}
SIGNS = RateSigns(requests=RateSign(remaining=59, limit=60, reset_ms=1_000))


@on_each_way
async def test_limits_are_told_with_replies_and_with_failures(way: Way) -> None:
    async with asking(way) as (registry, wire):
        wire.will(
            Reply(text="hi", headers=LEFT),
            Refusal(429, headers=LEFT),
            Reply(text="cut in the middle", cut_after=3, headers=LEFT),
            Reply(text="hi"),
        )
        request = way.request(wire.url)
        assert (await generate(registry, request))[0].limits == SIGNS
        assert (await failure(registry, request)).limits == SIGNS
        assert (await failure(registry, request)).limits == SIGNS
        assert (await generate(registry, request))[0].limits is None


@on_each_way
async def test_stream_that_breaks_off_is_a_network_failure(way: Way) -> None:
    async with asking(way) as (registry, wire):
        wire.will(Reply(text="this is cut in the middle", cut_after=4))
        failed = await failure(registry, way.request(wire.url))
    assert failed.kind == "network"


@pytest.mark.parametrize("way", [way for way in WAYS if way.provider != "openai-chat"], ids=str)
async def test_what_the_provider_does_not_take_is_refused_before_any_call(way: Way) -> None:
    async with asking(way) as (registry, wire):
        request = way.request(wire.url, sampling=Sampling(top_k=5, seed=1, stop=("END",)))
        failed = await failure(registry, request)
    assert (failed.kind, failed.retryable) == ("unsupported_parameter", False)
    assert way.provider in failed.message
    assert wire.received == []


@on_each_way
async def test_sampling_that_is_taken_is_sent(way: Way) -> None:
    wanted = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 7, "stop": ["END"]}
    reasons = refusals(way.choice("http://127.0.0.1:1"))
    taken = {name: value for name, value in wanted.items() if not reasons[name]}
    async with asking(way) as (registry, wire):
        wire.will(Reply(text="hi"))
        await generate(registry, way.request(wire.url, sampling=Sampling.model_validate(taken)))
    sent = wire.received[0].body
    assert {name: sent[SPELLED.get((way.wire, name), name)] for name in taken} == taken
    assert not (wanted.keys() - taken) & sent.keys()


SPELLED = {("anthropic", "stop"): "stop_sequences"}


@on_each_way
async def test_calls_of_one_reply_have_ids_of_their_own(way: Way) -> None:
    async with asking(way) as (registry, wire):
        wire.will(Reply(calls=(Call("exec"), Call("exec"))))
        reply, _ = await generate(registry, way.request(wire.url))
    calls = [part for part in reply.parts if isinstance(part, CallPart)]
    assert len({call.provider_id for call in calls}) == 2
