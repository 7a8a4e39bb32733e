"""What the wire servers refuse, request by request: the rules of the providers. Not our client."""

from typing import Any

import pytest

from tests.wire.anthropic import AnthropicFormat
from tests.wire.chat import ChatFormat
from tests.wire.http import post, serving
from tests.wire.responses import ResponsesFormat

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
    ],
)
async def test_anthropic_server_refuses_what_the_api_refuses(wrong: Json, reason: str) -> None:
    async with serving(AnthropicFormat()) as wire:
        answer = await post(wire, wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert reason in answer.json()["error"]["message"]


def responses_body(*items: Json, **fields: Any) -> Json:
    return {"model": "gpt-5-mini", "input": list(items), "store": False, **fields}


R_SAID: Json = {"role": "user", "content": "hi"}
R_CALL: Json = {"type": "function_call", "call_id": "c1", "name": "exec", "arguments": "{}"}
R_OUTPUT: Json = {"type": "function_call_output", "call_id": "c1", "output": "ok"}
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
    ],
)
async def test_responses_server_refuses_what_the_api_refuses(
    wrong: Json, status: int, reason: str
) -> None:
    async with serving(ResponsesFormat()) as wire:
        answer = await post(wire, wrong)
    assert answer.status_code == status
    assert reason in answer.json()["error"]["message"]


def chat_body(*messages: Json, **fields: Any) -> Json:
    return {"model": "qwen3", "messages": list(messages), **fields}


C_SAID: Json = {"role": "user", "content": "hi"}
C_CALL: Json = {"id": "c1", "type": "function", "function": {"name": "exec", "arguments": "{}"}}
C_CALLS: Json = {"role": "assistant", "content": None, "tool_calls": [C_CALL]}
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
    ],
)
async def test_chat_server_refuses_what_the_api_refuses(
    wrong: Json, status: int, reason: str
) -> None:
    async with serving(ChatFormat()) as wire:
        answer = await post(wire, wrong)
    assert answer.status_code == status
    assert reason in answer.json()["error"]["message"]
