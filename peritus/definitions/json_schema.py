"""JSON schemas that a definition asks data to have. Not the check of data."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from domain.schemas import schema_fault
from peritus.definitions.fields import SCHEMA_CHARS_MAX
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report, place

DRAFT = "https://json-schema.org/draft/2020-12/schema"
DEPTH_MAX = 32
PATTERN_CHARS_MAX = 512

_DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data, in which a `$ref` is no reference."""

_REFERENCES = ("$ref", "$dynamicRef")


def read_schema(report: Report, raw: object, loc: Loc, *, of_object: bool) -> dict[str, Any] | None:
    """The schema at a place, written as a table or as JSON; None if it is wrong and reported."""
    problem, schema = _parse(raw)
    problem = problem or _size_problem(schema) or schema_problem(schema)
    if problem is None and of_object and schema.get("type") != "object":
        problem = 'must describe an object: say type = "object" at its top'
    if problem is None:
        return schema
    report.error(loc, f"{place(loc)}: {problem}")
    return None


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Why a schema cannot be used; None if it can. It has to be bounded already."""
    draft = schema.get("$schema", DRAFT)
    if not isinstance(draft, str) or draft.rstrip("#") != DRAFT:
        return f"'$schema' must be {DRAFT!r}, the only draft that is read"
    fault = schema_fault(schema)
    if fault is not None:
        return fault
    problems = (
        found
        for part in _parts(schema)
        for found in (_reference_problem(part, schema), _pattern_problem(part))
        if found
    )
    return next(problems, None) or _endless(schema)


def _parse(raw: object) -> tuple[str | None, dict[str, Any]]:
    """The schema as JSON has it, or what keeps it from being one."""
    value: object = raw
    try:
        if not isinstance(raw, str):
            value = json.dumps(raw, allow_nan=False)  # a day is no JSON, nor is what is no number
        elif len(raw) > SCHEMA_CHARS_MAX:
            return f"at most {SCHEMA_CHARS_MAX} characters are allowed", {}
        value = json.loads(cast("str", value))
    except (TypeError, ValueError) as error:
        return f"not JSON: {error}", {}
    except RecursionError:
        return "nested too deep", {}
    if not isinstance(value, dict):
        return "must be a table, or a text with a JSON object", {}
    return None, cast("dict[str, Any]", value)


def _size_problem(schema: Mapping[str, Any]) -> str | None:
    if len(json.dumps(schema, ensure_ascii=False)) > SCHEMA_CHARS_MAX:
        return f"at most {SCHEMA_CHARS_MAX} characters are allowed"
    if _depth(schema) > DEPTH_MAX:
        return f"nested more than {DEPTH_MAX} levels deep"
    return None


def _depth(schema: object) -> int:
    deepest = 0
    waiting = [(schema, 1)]
    for value, depth in waiting:  # grows as it is walked
        deepest = max(deepest, depth)
        waiting.extend((child, depth + 1) for child in _children(value))
    return deepest


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every table of a schema that may be a schema itself."""
    waiting: list[object] = [schema]
    for value in waiting:  # grows as it is walked
        if isinstance(value, dict):
            table = cast("dict[str, object]", value)
            yield table
            waiting.extend(child for key, child in table.items() if key not in _DATA)
        elif isinstance(value, list):
            waiting.extend(cast("list[object]", value))


def _reference_problem(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    for keyword in _REFERENCES:
        reference = part.get(keyword)
        if not isinstance(reference, str):
            continue  # a property of that name
        if not reference.startswith("#"):
            return f"{keyword} {reference!r} leads out of the schema: only '#...' is followed"
        if not _resolves(reference, schema):
            return f"{keyword} {reference!r} leads nowhere in the schema"
    if part is not schema and isinstance(part.get("$id"), str):
        return "'$id' may only be at the top of the schema"
    return None


def _pattern_problem(part: Mapping[str, Any]) -> str | None:
    pattern, by_pattern = part.get("pattern"), part.get("patternProperties")
    patterns = [pattern] if isinstance(pattern, str) else []
    if isinstance(by_pattern, dict):
        patterns.extend(cast("dict[str, object]", by_pattern))
    if any(len(one) > PATTERN_CHARS_MAX for one in patterns):
        return f"a pattern may have {PATTERN_CHARS_MAX} characters"
    return None


def _endless(schema: Mapping[str, Any]) -> str | None:
    """Whether a schema refers to itself for the very same value, so that a check never ends."""
    registry = Registry[Any]()  # holds nothing, and fetches nothing
    try:
        validator = Draft202012Validator(dict(schema), registry=registry)
        next(validator.iter_errors({}), None)  # pyright: ignore[reportUnknownMemberType]
    except RecursionError:
        return "a reference leads back to itself, so a check would never end"
    return None


def _resolves(reference: str, schema: Mapping[str, Any]) -> bool:
    resource: Resource[Any] = DRAFT202012.create_resource(schema)
    uri = resource.id() or ""
    registry = Registry[Any]().with_resource(uri, resource)
    try:
        registry.resolver(uri).lookup(reference)
    except (Unresolvable, ValueError, RecursionError):
        return False
    return True
