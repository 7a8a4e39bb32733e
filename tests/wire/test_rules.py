"""What the wire servers refuse, request by request: the rules of the providers. Not our client."""

from typing import Any

import pytest

from tests.wire.anthropic import AnthropicFormat
from tests.wire.chat import ChatFormat
from tests.wire.http import post, serving
from tests.wire.responses import ResponsesFormat
from tests.wire.script import Reply

pytestmark = pytest.mark.anyio

Json = dict[str, Any]


A_OLD = "claude-haiku-4-5"
A_NEW = "claude-opus-4-8"


def anthropic_body(*messages: Json, **fields: Any) -> Json:
    return {"model": A_OLD, "max_tokens": 2_000, "messages": list(messages), **fields}


def turn(role: str, *blocks: Json) -> Json:
    return {"role": role, "content": list(blocks)}


A_TEXT: Json = {"type": "text", "text": "hi"}
A_USE: Json = {"type": "tool_use", "id": "t1", "name": "exec", "input": {}}
A_GIVEN: Json = {"type": "tool_result", "tool_use_id": "t1", "content": [A_TEXT]}
A_MARKED: Json = {**A_TEXT, "cache_control": {"type": "ephemeral"}}
A_SERVED: Json = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
A_FOUND: Json = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
A_SEARCH: Json = {"type": "web_search_20250305", "name": "web_search"}
A_SKILL: Json = {"type": "anthropic", "skill_id": "pdf"}
A_TOOL: Json = {"name": "exec", "description": "d", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"model": A_OLD, "messages": [turn("user", A_TEXT)]}, "max_tokens: Field required"),
        (anthropic_body(turn("user", A_TEXT), bogus=1), "Extra inputs"),
        (anthropic_body(turn("user", {**A_TEXT, "bogus": 1})), "Extra inputs"),
        (anthropic_body(turn("user", {"type": "text", "text": ""})), "non-empty"),
        (anthropic_body(turn("user", {"type": "text", "text": " "})), "non-whitespace"),
        (anthropic_body(turn("assistant", A_TEXT)), "user role"),
        (anthropic_body(turn("user", A_TEXT), turn("assistant", A_USE)), "without `tool_result`"),
        (
            anthropic_body(turn("user", A_TEXT), turn("assistant", A_USE), turn("user", A_TEXT)),
            "without `tool_result`",
        ),
        (
            anthropic_body(
                turn("user", A_TEXT), turn("assistant", A_USE), turn("user", A_TEXT, A_GIVEN)
            ),
            "without `tool_result`",
        ),
        (anthropic_body(turn("user", A_GIVEN)), "unexpected `tool_use_id`"),
        (
            anthropic_body(
                turn("user", A_TEXT),
                turn("assistant", A_USE, A_USE),
                turn("user", A_GIVEN, A_GIVEN),
            ),
            "must be unique",
        ),
        (anthropic_body(turn("user", *[A_MARKED] * 5)), "maximum of 4"),
        (anthropic_body(turn("user", A_TEXT), tools=[A_TOOL, A_TOOL]), "must be unique"),
        (
            anthropic_body(turn("user", A_TEXT), tools=[{**A_TOOL, "input_schema": {}}]),
            "input_schema",
        ),
        (
            anthropic_body(turn("user", A_TEXT), thinking={"type": "enabled", "budget_tokens": 10}),
            "greater than or equal to 1024",
        ),
        (
            anthropic_body(
                turn("user", A_TEXT), thinking={"type": "enabled", "budget_tokens": 2_000}
            ),
            "must be greater than",
        ),
        (anthropic_body(turn("user", A_TEXT), thinking={"type": "adaptive"}), "not supported"),
        (
            {
                **anthropic_body(
                    turn("user", A_TEXT), thinking={"type": "enabled", "budget_tokens": 1_500}
                ),
                "model": A_NEW,
            },
            "not supported",
        ),
        (
            anthropic_body(
                turn("user", A_TEXT),
                turn("assistant", {"type": "thinking", "thinking": "t", "signature": "s"}),
            ),
            "Invalid `signature`",
        ),
        (anthropic_body(turn("user", A_TEXT), temperature=1.0), "temperature: Extra inputs"),
        (anthropic_body(turn("user", A_TEXT), stop_sequences=["\n"]), "non-whitespace"),
        (anthropic_body(turn("user", A_TEXT), turn("assistant", A_TEXT)), "prefill"),
        (
            anthropic_body(
                turn("user", A_TEXT),
                turn("assistant", A_USE),
                turn("user", A_GIVEN),
                thinking={"type": "enabled", "budget_tokens": 1_500},
            ),
            "Expected `thinking`",
        ),
        (
            anthropic_body(turn("user", {**A_TEXT, "citations": [{"encrypted_index": "i"}]})),
            "not permitted in a user message",
        ),
        (
            anthropic_body(
                turn("user", A_TEXT),
                turn("assistant", {**A_TEXT, "citations": [{"encrypted_index": "i"}]}),
                turn("user", A_TEXT),
            ),
            "Invalid `encrypted_index`",
        ),
        (
            anthropic_body(turn("user", A_TEXT), turn("assistant", A_SERVED), turn("user", A_TEXT)),
            "Invalid `encrypted_content`",
        ),
        (anthropic_body(turn("user", A_TEXT), tools=[{**A_SEARCH, "name": "x"}]), "web_search"),
        (anthropic_body(turn("user", A_TEXT), tools=[{**A_SEARCH, "max_uses": 0}]), "max_uses"),
        (
            anthropic_body(
                turn("user", A_TEXT),
                tools=[{**A_SEARCH, "allowed_domains": ["a"], "blocked_domains": ["b"]}],
            ),
            "only one of",
        ),
        (anthropic_body(turn("user", A_TEXT), tools=[{**A_SEARCH, "type": "new"}]), "not one of"),
        (anthropic_body(turn("user", A_TEXT), container={"id": "gone"}), "has expired"),
        (anthropic_body(turn("user", A_TEXT), container={"skills": [A_SKILL]}), "code_execution"),
        (
            anthropic_body(turn("user", A_TEXT), container={"skills": [A_SKILL] * 9}),
            "at most 8",
        ),
    ],
)
async def test_anthropic_server_refuses_what_the_api_refuses(wrong: Json, reason: str) -> None:
    async with serving(AnthropicFormat()) as wire:
        answer = await post(wire, wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert reason in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([A_SERVED], "without a corresponding `web_search_tool_result` block"),
        ([A_FOUND], "must have a corresponding `server_tool_use` block before it"),
        ([A_FOUND, A_SERVED], "must have a corresponding `server_tool_use` block before it"),
    ],
)
async def test_anthropic_server_wants_calls_of_its_tools_with_their_results(
    said: list[Json], reason: str
) -> None:
    rules = AnthropicFormat()
    rules.given = {"s1": A_SERVED, "web_search_tool_result s1": A_FOUND}
    async with serving(rules) as wire:
        wire.will(Reply(text="ok"))
        body = anthropic_body(turn("user", A_TEXT), turn("assistant", *said), turn("user", A_TEXT))
        answer = await post(wire, body)
        assert reason in answer.json()["error"]["message"]
        body["messages"][1] = turn("assistant", A_SERVED, A_FOUND)
        assert (await post(wire, body)).status_code == 200


async def test_anthropic_server_takes_sampling_from_the_version_before_only() -> None:
    async with serving(AnthropicFormat()) as wire:
        wire.will(Reply(text="ok"))
        body = anthropic_body(turn("user", A_TEXT), temperature=0.5)
        older = await post(wire, body, **{"anthropic-version": "2023-06-01"})
    assert older.status_code == 200


def responses_body(*items: Json, **fields: Any) -> Json:
    return {"model": "gpt-5-mini", "input": list(items), "store": False, **fields}


R_SAID: Json = {"role": "user", "content": "hi"}
R_CALL: Json = {"type": "function_call", "call_id": "c1", "name": "exec", "arguments": "{}"}
R_OUTPUT: Json = {"type": "function_call_output", "call_id": "c1", "output": "ok"}
R_FOUND: Json = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}}
R_THOUGHT: Json = {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": "forged"}


@pytest.mark.parametrize(
    ("wrong", "status", "reason"),
    [
        ({"input": [R_SAID]}, 400, "'model'"),
        (responses_body(R_SAID, bogus=1), 400, "Unknown parameter"),
        (responses_body({**R_SAID, "bogus": 1}), 400, "Unknown parameter"),
        (responses_body(R_SAID, R_OUTPUT), 400, "No tool call found"),
        (responses_body(R_SAID, R_CALL), 400, "No tool output found"),
        (responses_body(R_SAID, {**R_CALL, "call_id": "x" * 65}), 400, "too long"),
        (responses_body(R_SAID, R_CALL, R_CALL, R_OUTPUT), 400, "Duplicate"),
        (responses_body(R_SAID, R_THOUGHT, R_CALL, R_OUTPUT), 400, "could not be verified"),
        (
            responses_body(R_SAID, {**R_THOUGHT, "encrypted_content": None}, R_CALL, R_OUTPUT),
            404,
            "not found",
        ),
        (responses_body(R_SAID, max_output_tokens=1), 400, "below minimum"),
        (responses_body(R_SAID, reasoning={"effort": "very"}), 400, "Invalid value"),
        (
            responses_body(R_SAID, tools=[{"type": "function", "name": "a b", "parameters": {}}]),
            400,
            "does not match",
        ),
        (responses_body(R_SAID, temperature=0), 400, "'temperature' is not supported"),
        (responses_body(R_SAID, include=["all"]), 400, "Invalid value: 'all'"),
        (responses_body(R_SAID, tools=[{"type": "mystery"}]), 400, "Invalid value"),
        (responses_body(R_SAID, tools=[{"type": "file_search"}]), 400, "vector_store_ids"),
        (responses_body(R_SAID, tools=[{"type": "web_search", "max_uses": 1}]), 400, "max_uses"),
        (responses_body(R_SAID, {**R_FOUND, "action": None, "x": 1}), 400, "Unknown parameter"),
        (responses_body(R_SAID, {"type": "web_search_call", "id": "ws_1"}), 400, "Missing"),
        (responses_body(R_SAID, R_FOUND), 404, "not found"),
    ],
)
async def test_responses_server_refuses_what_the_api_refuses(
    wrong: Json, status: int, reason: str
) -> None:
    async with serving(ResponsesFormat()) as wire:
        answer = await post(wire, wrong)
    assert answer.status_code == status
    assert reason in answer.json()["error"]["message"]


async def test_responses_server_wants_an_item_with_the_reasoning_before_it() -> None:
    rules = ResponsesFormat()
    rules.given["ws_1"], rules.followed["ws_1"] = R_FOUND, "rs_9"
    rules.reasoning["rs_9"] = R_THOUGHT
    async with serving(rules) as wire:
        wire.will(Reply(text="ok"))
        answer = await post(wire, responses_body(R_SAID, R_FOUND))
        assert "without its required 'reasoning' item: 'rs_9'" in answer.json()["error"]["message"]
        whole = await post(wire, responses_body(R_SAID, R_THOUGHT, R_FOUND))
        assert whole.status_code == 200


def chat_body(*messages: Json, **fields: Any) -> Json:
    return {"model": "qwen3", "messages": list(messages), **fields}


C_SAID: Json = {"role": "user", "content": "hi"}
C_CALL: Json = {"id": "c1", "type": "function", "function": {"name": "exec", "arguments": "{}"}}
C_CALLS: Json = {"role": "assistant", "content": None, "tool_calls": [C_CALL]}
C_EXTRA: Json = {"extra_content": {"google": {"thought_signature": "forged"}}}
C_FORGED: Json = {"role": "assistant", "content": None, "tool_calls": [{**C_CALL, **C_EXTRA}]}
C_GIVEN: Json = {"role": "tool", "tool_call_id": "c1", "content": "ok"}


@pytest.mark.parametrize(
    ("wrong", "status", "reason"),
    [
        (chat_body(), 400, "'messages'"),
        (chat_body(C_SAID, bogus=1), 400, "Unrecognized"),
        (chat_body({**C_SAID, "bogus": 1}), 400, "Extra inputs"),
        (chat_body({"role": "user", "content": ""}), 400, "empty"),
        (chat_body(C_SAID, C_CALLS), 400, "must be followed by"),
        (chat_body(C_SAID, C_CALLS, C_SAID, C_GIVEN), 400, "must be followed by"),
        (chat_body(C_SAID, C_GIVEN), 400, "must be a response"),
        (chat_body(C_SAID, {**C_CALLS, "tool_calls": [C_CALL, C_CALL]}, C_GIVEN), 400, "unique"),
        ({**chat_body(C_SAID, max_tokens=5), "model": "gpt-5"}, 400, "max_tokens"),
        ({**chat_body(C_SAID, C_CALLS, C_GIVEN), "model": "deepseek-x"}, 400, "passed back"),
        (chat_body(C_SAID, tools=[{"type": "function", "function": {"name": "a b"}}]), 400, "name"),
        (chat_body(C_SAID, top_k=1), 400, "top_k"),
        (chat_body(C_SAID, stop=list("abcde")), 400, "stop"),
        ({**chat_body(C_SAID, temperature=0), "model": "gpt-5"}, 400, "temperature"),
        ({**chat_body(C_SAID, C_CALLS, C_GIVEN), "model": "gemini-3-x"}, 400, "missing a thought"),
        ({**chat_body(C_SAID, C_FORGED, C_GIVEN), "model": "gemini-3-x"}, 400, "Corrupted"),
        (chat_body(C_SAID, C_FORGED, C_GIVEN), 400, "Extra inputs"),
    ],
)
async def test_chat_server_refuses_what_the_api_refuses(
    wrong: Json, status: int, reason: str
) -> None:
    async with serving(ChatFormat()) as wire:
        answer = await post(wire, wrong)
    assert answer.status_code == status
    assert reason in answer.json()["error"]["message"]
