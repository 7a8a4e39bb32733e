"""Typed values: what is wrong with them, and that no pattern holds a worker up."""

import pytest

from domain.loop_tools import parse_arguments, parse_json
from domain.schemas import model_schema_fault, schema_fault, schema_problem

SLOW = {"type": "string", "pattern": "^(a+)+$"}


def test_a_pattern_that_backtracks_for_ever_elsewhere_is_matched_at_once() -> None:
    """Python's own matching would take longer than the age of the universe."""
    assert "does not match" in str(schema_problem(SLOW, "a" * 5_000 + "b"))
    assert schema_problem(SLOW, "a" * 5_000) is None


def test_a_pattern_that_looks_ahead_is_matched_all_the_same() -> None:
    looks = {"type": "string", "pattern": "^(?=.*[0-9])[a-z0-9]+$"}
    assert schema_problem(looks, "a1") is None
    assert schema_problem(looks, "ab") is not None


def test_problem_names_the_place() -> None:
    schema = {"type": "object", "properties": {"list": {"items": {"type": "integer"}}}}
    assert schema_problem(schema, {"list": [1, "two"]}) == "list[1]: 'two' is not of type 'integer'"


def test_nothing_is_fetched_for_a_reference() -> None:
    schema = {"$ref": "http://127.0.0.1:1/schema.json"}
    assert "cannot be compared" in str(schema_problem(schema, 1))


@pytest.mark.parametrize("schema", ["text", {"type": "nothing"}, {"minimum": "x"}])
def test_what_is_no_schema_is_said_to_be_none(schema: object) -> None:
    assert schema_fault(schema) is not None
    assert model_schema_fault(schema) is not None


TAKES_TIME: list[dict[str, object]] = [
    {"properties": {"a": {"pattern": "(?=x)y"}}},
    {"anyOf": [{"patternProperties": {"^(a+)+$": {}}}]},
]


@pytest.mark.parametrize("schema", TAKES_TIME)
def test_models_may_not_write_patterns_that_take_time(schema: object) -> None:
    assert schema_fault(schema) is None
    assert model_schema_fault(schema) is not None


@pytest.mark.parametrize("value", [10**400, "1e400", [1e308 * 10]])
def test_no_value_breaks_a_comparison(value: object) -> None:
    """C2: whatever a model says, a decision comes to an end."""
    schema_problem({"multipleOf": 0.01}, value)
    schema_problem({"type": "array", "items": {"multipleOf": 0.01}}, value)


def test_a_schema_that_is_nested_too_deep_is_refused() -> None:
    deep: dict[str, object] = {"type": "object"}
    for _ in range(300):
        deep = {"type": "object", "properties": {"x": deep}}
    assert "nested more than" in str(model_schema_fault(deep))


@pytest.mark.parametrize("fault", [{"type": "text"}, {"required": 5}, {"properties": "x"}])
def test_a_schema_with_a_slip_is_no_schema(fault: dict[str, object]) -> None:
    assert schema_fault({"type": "object", **fault}) is not None


@pytest.mark.parametrize("text", ["NaN", "1e400", "[" * 65 + "]" * 65, '"\\ud800"', "{"])
def test_json_that_nobody_else_could_read_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_json(text)
    assert parse_arguments(f'{{"a": {text}}}') is None
    assert parse_json("[" * 60 + "]" * 60) is not None
