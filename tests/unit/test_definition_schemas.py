"""Typed input and output of experts: which schemas are taken, in both forms. Not the data."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.definitions import expert, hello, problem

ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"$ref": "#/$defs/count"}},
    "required": ["item"],
    "$defs": {"count": {"type": "integer", "minimum": 1}},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_text(schema: object, key: str = "input") -> str:
    return expert(f"{key} = '''{json.dumps(schema)}'''")


def test_expert_without_schemas_takes_and_gives_texts(project: Path) -> None:
    found = hello(project, expert())
    assert (found.input_schema, found.output_schema) == (None, None)


def test_schema_as_a_table_and_as_json_is_the_same(project: Path) -> None:
    table = expert("""\
[experts.hello.input]
type = "object"
required = ["item"]
[experts.hello.input.properties]
item = { type = "string" }
count = { "$ref" = "#/$defs/count" }
[experts.hello.input."$defs"]
count = { type = "integer", minimum = 1 }""")
    assert hello(project, table).input_schema == ORDER
    assert hello(project, as_text(ORDER)).input_schema == ORDER


@pytest.mark.parametrize("schema", [{}, {"type": "array", "items": {"type": "number"}}, ORDER])
def test_output_may_be_anything(project: Path, schema: object) -> None:
    assert hello(project, as_text(schema, "output")).output_schema == schema


def test_name_of_the_draft_an_id_and_an_anchor_are_fine(project: Path) -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/order",
        "$defs": {"a": {"$anchor": "here", "type": "string"}},
        "properties": {"a": {"$ref": "#here"}, "$ref": {"type": "string"}, "$id": {"const": 1}},
        "enum": [{"$ref": "https://example.com/data"}],
    }
    assert hello(project, as_text(schema, "output")).output_schema == schema


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("[]", "must be a table, or a text with a JSON object"),
        ("{", "not JSON: "),
        ({"type": "array"}, 'must describe an object: say type = "object" at its top'),
        ({"properties": {}}, "must describe an object"),
        ({"type": "objct"}, "it is no JSON schema: 'objct' is not valid"),
        ({"type": "object", "required": "a"}, "it is no JSON schema: 'a' is not of type 'array'"),
        (
            {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"},
            "'$schema' must be 'https://json-schema.org/draft/2020-12/schema'",
        ),
        (
            {"type": "object", "properties": {"a": {"$ref": "https://example.com/s"}}},
            "$ref 'https://example.com/s' leads out of the schema",
        ),
        (
            {"type": "object", "$dynamicRef": "other.json#a"},
            "$dynamicRef 'other.json#a' leads out of the schema",
        ),
        ({"type": "object", "$ref": "#/$defs/none"}, "'#/$defs/none' leads nowhere"),
        ({"type": "object", "$ref": "#none"}, "'#none' leads nowhere"),
        (
            {"type": "object", "properties": {"a": {"$id": "https://example.com/a"}}},
            "'$id' may only be at the top",
        ),
        ({"type": "object", "$ref": "#"}, "a reference leads back to itself"),
        ({"type": "object", "allOf": [{"$ref": "#"}]}, "a reference leads back to itself"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "'(' is not a 'regex'"),
        ({"type": "object", "patternProperties": {"[": True}}, "'[' is not a 'regex'"),
        ({"type": "object", "pattern": "a" * 513}, "a pattern may have 512 characters"),
        ({"type": "object", "description": "x" * 20_480}, "at most 20480 characters"),
    ],
)
def test_schema_that_cannot_be_used_is_an_error_on_its_line(
    project: Path, schema: object, says: str
) -> None:
    text = expert(f"input = '{schema}'") if isinstance(schema, str) else as_text(schema)
    found = problem(project, text)
    assert found.startswith("perstack.toml:3: experts.hello.input: ")
    assert says in found


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("input = 1", "must be a table"),
        ("input.default = 1979-05-27", "not JSON"),
        ('input = { type = "object", maximum = inf }', "not JSON"),
    ],
)
def test_table_that_is_no_json_is_an_error(project: Path, value: str, says: str) -> None:
    assert says in problem(project, expert(value))


@pytest.mark.parametrize("depth", [40, 5_000])
def test_schema_that_is_nested_deep_is_an_error_and_no_crash(project: Path, depth: int) -> None:
    nested = '{"not":' * depth + "{}" + "}" * depth
    found = problem(project, expert(f"output = '{nested}'"))
    assert "nested" in found or "at most 20480 characters" in found


def test_question_with_a_schema_nested_deep_is_an_error_and_no_crash(project: Path) -> None:
    nested = "[" * 10_000
    tools = f"q.inputJsonSchema = '{nested}'"
    skill = "[experts.hello.skills.ask]\ntype = 'interactiveSkill'"
    found = problem(project, expert(f"{skill}\n[experts.hello.skills.ask.tools]\n{tools}"))
    assert "not JSON" in found
