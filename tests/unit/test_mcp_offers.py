"""Experts as tools, and lines of a pipe: what can be said of both without a server."""

import asyncio
import os
from typing import Any

import pytest

from domain.definition import Definition, Expert
from domain.limits import ModelChoice
from domain.schemas import schema_problem
from gateway.mcp import stdio
from gateway.mcp.offers import Offer, offers_of
from gateway.mcp.stdio import Lines

pytestmark = pytest.mark.anyio

CHOICE = ModelChoice(provider="scripted", model="m1")
OPEN: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}


def offer(**changes: Any) -> Offer:
    expert = Expert(key="x", instruction="Help.", skills={}, model=CHOICE, **changes)
    return Offer("x", expert)


@pytest.mark.parametrize(
    ("schema", "controls"),
    [
        (None, {"max_steps", "budget_usd"}),
        (OPEN, {"max_steps", "budget_usd"}),
        ({"type": "object"}, {"max_steps", "budget_usd"}),
        ({**OPEN, "properties": {"max_steps": {"type": "string"}}}, {"budget_usd"}),
        ({**OPEN, "allOf": [{"required": ["n"]}]}, set[str]()),
        ({**OPEN, "patternProperties": {"^x": {}}}, set[str]()),
        ({**OPEN, "maxProperties": 1}, set[str]()),
    ],
)
def test_control_fields_are_there_where_they_clash_with_nothing(
    schema: dict[str, Any] | None, controls: set[str]
) -> None:
    found = offer(input_schema=schema)

    assert found.controls == controls
    assert controls <= set(found.input_schema.get("properties", {}))
    given = {"max_steps": 3, "budget_usd": 0.5}
    own = {"query": "Go"} if schema is None else {"n": 1}
    named = {name: value for name, value in given.items() if name in controls}
    assert schema_problem(found.input_schema, {**own, **named}) is None


def test_a_schema_without_controls_is_handed_on_as_it_is() -> None:
    draft = "https://json-schema.org/draft/2020-12/schema"
    schema: dict[str, Any] = {**OPEN, "$schema": draft, "anyOf": [{"required": ["n"]}]}
    assert offer(input_schema=schema).input_schema == schema


@pytest.mark.parametrize(
    ("schema", "value", "structured"),
    [
        (OPEN, {"n": 1}, {"n": 1}),
        ({"type": "array"}, [1], {"result": [1]}),
        ({"type": ["object", "null"]}, None, {"result": None}),
        ({"type": ["object", "null"]}, {"n": 1}, {"result": {"n": 1}}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "x", {"result": "x"}),
    ],
)
def test_structured_content_is_an_object_that_fits_the_output_schema(
    schema: dict[str, Any], value: object, structured: dict[str, Any]
) -> None:
    found = offer(output_schema=schema)

    assert found.structured(value) == structured
    assert found.output_schema is not None
    assert found.output_schema["type"] == "object"
    assert schema_problem(found.output_schema, structured) is None


def test_two_experts_never_share_a_name_and_keep_theirs_when_others_come() -> None:
    def named(*keys: str) -> dict[str, str]:
        experts = {
            key: Expert(key=key, instruction="Help.", skills={}, model=CHOICE) for key in keys
        }
        found = offers_of(Definition(experts=experts), frozenset({"peritus_status"}))
        assert all(one.name == name for name, one in found.items())
        return {one.expert.key: name for name, one in found.items()}

    few = named("a.b", "a_b", "peritus_status")
    more = named("a.b", "a_b", "peritus_status", "a-b", "zeta")

    assert len(set(more.values())) == 5
    assert few["a_b"] == "a_b"
    assert few["peritus_status"] != "peritus_status"
    assert {key: more[key] for key in few} == few


async def lines_of(data: bytes) -> list[str]:
    reads, writes = os.pipe()
    lines = Lines(reads)
    lines.start()

    def fill() -> None:
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(data)

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(fill))
        found = [line async for line in lines]
    os.close(reads)
    return found


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", list[str]()),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\nlast", ["one", "", "last"]),
        (b"\xff\n", ["�"]),
        (b"".join(b"%d\n" % at for at in range(500)), [str(at) for at in range(500)]),
    ],
)
async def test_lines_come_whole_and_in_order(data: bytes, lines: list[str]) -> None:
    assert await lines_of(data) == lines


@pytest.mark.parametrize("size", [101, 1_000, 500_000])
async def test_a_line_above_the_limit_is_told_of_and_the_next_one_comes(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "LINE_BYTES_MAX", 100)
    found = await lines_of(b"a\n" + b"x" * size + b"\n" + b"y" * 100 + b"\nb\n")
    assert found == ["a", stdio.TOO_LONG, "y" * 100, "b"]
