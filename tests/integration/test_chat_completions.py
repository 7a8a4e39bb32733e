"""Experts asked by the real client of OpenAI, over a real gateway. Not what experts do."""

import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from domain.content import text_of
from domain.events import InputReceived
from domain.ids import RunRef
from domain.limits import Limits
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_definition
from services.loop.models.port import ModelFailure
from tests.support.gateway import BOUND_S, deps_of, gateway
from tests.support.people import at_work, calls, events_of, rests, state_when, team
from tests.support.speaking import Speaker, speaking

pytestmark = pytest.mark.anyio

TOKEN = "a-token"  # what clients send as their API key
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
LONG = "A long answer, told in many pieces. " * 20


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: time.time_ns() // 1_000_000).backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[openai.AsyncOpenAI]:
    limits = Limits(retry_base_ms=1, retry_max_ms=1)
    definitions = one_definition(lambda: team(limits=limits))
    deps = deps_of(backbone, tmp_path, definitions=definitions, token=TOKEN)
    async with (
        gateway(deps) as http,
        openai.AsyncOpenAI(
            base_url=f"{http.base_url}/v1".replace("//v1", "/v1"),
            api_key=TOKEN,
            timeout=BOUND_S,
            max_retries=0,
        ) as found,
    ):
        yield found


def said(completion: ChatCompletion) -> str:
    return completion.choices[0].message.content or ""


def peritus_of(completion: Any) -> dict[str, Any]:
    return completion.peritus  # type: ignore[no-any-return]


async def query_of(backbone: Backbone, job: str) -> str:
    """What the first input of a job says."""
    return (await said_to(backbone, job))[0]


async def said_to(backbone: Backbone, job: str) -> list[str]:
    """What was said to a job, one by one."""
    events = await events_of(backbone, RunRef("acme", job, job))
    return [text_of(event.parts) for event in events if isinstance(event, InputReceived)]


async def test_an_expert_answers_as_a_model_does(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": ["Good morning."]}):
        found = await client.chat.completions.create(model="clerk", messages=HELLO)
    assert (found.object, found.model, said(found)) == (
        "chat.completion",
        "clerk",
        "Good morning.",
    )
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    facts = peritus_of(found)
    assert facts["status"] == "completed"
    assert await query_of(backbone, facts["job"]) == "Hello"
    assert found.created > 0


async def test_a_stream_says_what_the_whole_says_in_many_pieces(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    replies = [calls(("look", "{}"), text="I look first."), LONG]
    async with at_work(backbone, {"clerk": replies}):
        stream = await client.chat.completions.create(
            model="clerk",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        whole = await client.chat.completions.create(model="clerk", messages=HELLO)
    texts = [one.choices[0].delta.content or "" for one in chunks if one.choices]
    assert "".join(texts) == said(whole) == f"I look first.\n\n{LONG}"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({one.id for one in chunks}) == 1
    assert len({one.created for one in chunks}) == 1
    assert chunks[0].created > 0


async def test_a_stream_tells_each_piece_as_it_comes(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    speaker = Speaker()
    pieces = ["One ", "two ", "three."]
    async with speaking(backbone, speaker):
        stream = await client.chat.completions.create(model="clerk", messages=HELLO, stream=True)
        chunks = aiter(stream)
        assert (await anext(chunks)).choices[0].delta.role == "assistant"
        for piece in pieces:
            speaker.say(piece)
            assert (await anext(chunks)).choices[0].delta.content == piece
        speaker.stop()
        rest = [chunk async for chunk in chunks]
    assert [one.choices[0].finish_reason for one in rest] == ["stop"]


async def test_a_reply_that_breaks_off_stays_and_the_next_one_follows(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    speaker = Speaker()
    async with speaking(backbone, speaker):
        stream = await client.chat.completions.create(model="clerk", messages=HELLO, stream=True)
        chunks = aiter(stream)
        await anext(chunks)
        speaker.say("Half of")
        assert (await anext(chunks)).choices[0].delta.content == "Half of"
        speaker.fall()
        speaker.say("All of it.")
        speaker.stop()
        rest = [chunk.choices[0].delta.content or "" async for chunk in chunks]
    assert "".join(rest) == "\n\nAll of it."


async def test_a_stream_without_usage_has_none(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": ["Hi."]}):
        stream = await client.chat.completions.create(model="clerk", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert all(one.choices for one in chunks)
    assert all(one.usage is None for one in chunks)


async def test_an_earlier_conversation_is_told_in_the_documented_form(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": [{"type": "text", "text": "Three?"}]},
    ]
    async with at_work(backbone, {"clerk": ["Four."]}):
        found = await client.chat.completions.create(model="clerk", messages=messages)
    assert await query_of(backbone, peritus_of(found)["job"]) == (
        "Instructions:\n\nBe brief.\n\n"
        "The conversation so far:\n\nUser: One?\n\nAssistant: Two.\n\n"
        "Now:\n\nThree?"
    )


@pytest.mark.parametrize("named", ["header", "metadata"])
async def test_a_job_that_is_named_goes_on(
    client: openai.AsyncOpenAI, backbone: Backbone, named: str
) -> None:
    async with at_work(backbone, {"clerk": ["First.", "Second."]}):
        first = await client.chat.completions.with_raw_response.create(
            model="clerk", messages=HELLO
        )
        job = first.headers["peritus-job"]
        messages: list[ChatCompletionMessageParam] = [
            *HELLO,
            {"role": "assistant", "content": "First."},
            {"role": "user", "content": "And?"},
        ]
        second = await client.chat.completions.create(
            model="clerk",
            messages=messages,
            extra_headers={"Peritus-Job": job} if named == "header" else None,
            metadata={"peritus_job": job} if named == "metadata" else None,
        )
    assert said(second) == "Second."
    assert peritus_of(second)["job"] == job
    assert await said_to(backbone, job) == ["Hello", "And?"]


async def test_the_same_key_is_one_run(client: openai.AsyncOpenAI, backbone: Backbone) -> None:
    async with at_work(backbone, {"clerk": ["Once.", "Twice."]}):
        found = [
            await client.chat.completions.create(
                model="clerk", messages=HELLO, extra_headers={"Idempotency-Key": "k1"}
            )
            for _ in range(3)
        ]
    assert {said(one) for one in found} == {"Once."}
    assert len({one.id for one in found}) == 1


async def test_a_question_is_the_answer_and_what_is_said_next_answers_it(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    asks = calls(("question", '{"question": "Which colour?"}'), text="One thing.")
    async with at_work(backbone, {"clerk": [asks, "Blue it is."]}):
        first = await client.chat.completions.create(model="clerk", messages=HELLO)
        facts = peritus_of(first)
        second = await client.chat.completions.create(
            model="clerk",
            messages=[{"role": "user", "content": "blue"}],
            metadata={"peritus_job": facts["job"]},
        )
    assert said(first) == "One thing.\n\nWhich colour?"
    assert (facts["status"], facts["waiting"][0]["kind"]) == ("waiting", "question")
    assert said(second) == "Blue it is."


async def test_an_approval_is_told_and_not_decided_here(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": [calls(("send", '{"to": "ann"}')), "Sent."]}):
        found = await client.chat.completions.create(model="clerk", messages=HELLO)
    facts = peritus_of(found)
    assert facts["waiting"][0]["arguments"] == {"to": "ann"}
    assert f"/v1/runs/{facts['run']}/approve" in said(found)


async def test_a_run_that_fails_is_an_error_that_is_not_asked_again(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    eager = client.with_options(max_retries=2)
    failure = ModelFailure(kind="rejected", message="no such model")
    async with at_work(backbone, {"clerk": [failure]}):
        with pytest.raises(openai.InternalServerError) as whole:
            await eager.chat.completions.create(model="clerk", messages=HELLO)
        stream = await client.chat.completions.create(model="clerk", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError) as streamed:
            async for _ in stream:
                pass
    assert (whole.value.status_code, whole.value.code) == (502, "run_failed")
    assert "no such model" in str(whole.value.body)
    assert streamed.value.code == "run_failed"
    assert len({one.ref for one in (await backbone.log.read(after_seq=0)).envelopes}) == 2


async def test_errors_have_the_shape_of_that_api(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as nobody:
        await client.chat.completions.create(model="nobody", messages=HELLO)
    assert (nobody.value.code, nobody.value.type) == ("unknown_expert", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as tools:
        await client.chat.completions.create(model="clerk", messages=HELLO, n=2)
    assert (tools.value.code, tools.value.param) == ("unsupported_parameter", "n")
    with pytest.raises(openai.NotFoundError) as job:
        await client.chat.completions.create(
            model="clerk", messages=HELLO, metadata={"peritus_job": "none"}
        )
    assert job.value.code == "no_such_job"
    stranger = client.with_options(api_key="another")
    with pytest.raises(openai.AuthenticationError) as refused:
        await stranger.models.list()
    assert (refused.value.code, refused.value.type) == ("unauthorized", "authentication_error")


async def test_experts_are_the_models(client: openai.AsyncOpenAI) -> None:
    assert [one.id async for one in client.models.list()] == ["boss", "clerk"]
    assert (await client.models.retrieve("boss")).owned_by == "peritus"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")


async def test_a_client_that_goes_leaves_the_run_at_work(
    client: openai.AsyncOpenAI, backbone: Backbone
) -> None:
    stream = await client.chat.completions.create(
        model="clerk", messages=HELLO, stream=True, extra_headers={"Idempotency-Key": "k1"}
    )
    await stream.close()
    async with at_work(backbone, {"clerk": ["Done."]}):
        again = await client.chat.completions.create(
            model="clerk", messages=HELLO, extra_headers={"Idempotency-Key": "k1"}
        )
        ref = RunRef("acme", peritus_of(again)["job"], peritus_of(again)["job"])
        await state_when(backbone, ref, rests)
    assert said(again) == "Done."
