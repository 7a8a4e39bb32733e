"""What a server may ask us for at all: by its weight, not by what it is."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from services.tool.mcp.bounds import Bounds
from services.tool.mcp.light import (
    NAME_CHARS_MAX,
    QUESTION_CHARS_MAX,
    QUESTION_VALUES_MAX,
    WAITING_MAX,
    Answers,
    Light,
    is_heavy,
)
from services.tool.mcp.seam import Report

LEAF: list[object] = []


@pytest.mark.parametrize(
    "params",
    [
        None,
        {"message": "x" * (QUESTION_CHARS_MAX // 2)},
        {"a": [0] * (QUESTION_VALUES_MAX // 2)},
    ],
)
def test_question_that_people_can_be_asked_is_light(params: dict[str, Any] | None) -> None:
    assert not is_heavy(params)


@pytest.mark.parametrize(
    "params",
    [
        {"message": "x" * (QUESTION_CHARS_MAX + 1)},
        {"x" * (QUESTION_CHARS_MAX + 1): 1},
        {"a": [0] * QUESTION_VALUES_MAX},
        {"a": [[{"b": [LEAF] * 100}]] * (QUESTION_VALUES_MAX // 100)},
    ],
)
def test_question_is_heavy_by_its_values_and_by_its_text(params: dict[str, Any]) -> None:
    assert is_heavy(params)


def asked(name: str, method: str = "ping") -> SessionMessage:
    return SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=name, method=method))


@asynccontextmanager
async def line(*items: SessionMessage) -> AsyncGenerator[tuple[Light, Answers, Report]]:
    """What a session reads and writes, over a transport that brings these."""
    bounds, report = Bounds(stuck_s=0.05, unasked_per_s=1_000_000), Report()
    theirs, reading = anyio.create_memory_object_stream[SessionMessage](len(items) or 1)
    writing, taken = anyio.create_memory_object_stream[SessionMessage](len(items) or 1)
    light = Light(reading, bounds, report)
    for item in items:
        theirs.send_nowait(item)
    theirs.close()
    async with light, Answers(writing, light) as answers, taken:
        yield light, answers, report


@pytest.mark.anyio
async def test_server_that_takes_no_answers_is_heard_no_more() -> None:
    many = [asked(f"q{number}") for number in range(WAITING_MAX + 5)]
    async with line(*many) as (light, _, report):
        assert len([one async for one in light]) == WAITING_MAX
    assert "asks on" in report.ended


@pytest.mark.anyio
async def test_question_that_is_answered_or_withdrawn_makes_room_for_another() -> None:
    cancelled = JSONRPCNotification(
        jsonrpc="2.0", method="notifications/cancelled", params={"requestId": "q1"}
    )
    many = [asked(f"q{number}") for number in range(WAITING_MAX)]
    async with line(*many, SessionMessage(cancelled), asked("a"), asked("b")) as all_of_it:
        light, answers, report = all_of_it
        for _ in many:
            await anext(light)
        answer = JSONRPCResponse(jsonrpc="2.0", id="q0", result={})
        await answers.send(SessionMessage(answer))
        rest = [one.message async for one in light]
    assert [one.id for one in rest if isinstance(one, JSONRPCRequest)] == ["a", "b"]
    assert report.ended == ""


@pytest.mark.anyio
async def test_question_of_a_name_that_is_none_is_passed_over() -> None:
    long = "x" * (NAME_CHARS_MAX + 1)
    async with line(asked(long), asked("q1", long), asked("q2")) as (light, _, _report):
        assert [one.message.id async for one in light] == ["q2"]
