"""Which JSON schemas are taken: bounded ones of draft 2020-12 whose references stay inside.

Not the check of data: `domain.schemas` has that.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

DRAFT = "https://json-schema.org/draft/2020-12/schema"
CHARS_MAX = 20 * 1024
DEPTH_MAX = 32
PATTERN_CHARS_MAX = 512

_DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data, in which a `$ref` is no reference."""

_REFERENCES = ("$ref", "$dynamicRef")


def shape_problem(schema: Mapping[str, Any]) -> str | None:
    """Why a schema is not taken, as far as its size and its draft say."""
    if depth_of(schema) > DEPTH_MAX:
        return f"nested more than {DEPTH_MAX} levels deep"
    if len(json.dumps(schema, ensure_ascii=False)) > CHARS_MAX:
        return f"at most {CHARS_MAX} characters are allowed"
    draft = schema.get("$schema", DRAFT)
    if not isinstance(draft, str) or draft.rstrip("#") != DRAFT:
        return f"'$schema' must be {DRAFT!r}, the only draft that is read"
    return None


def parts_problem(schema: Mapping[str, Any]) -> str | None:
    """Why a schema that is one is not taken: for a reference, a pattern, or a check without end."""
    problems = (
        found
        for part in parts_of(schema)
        for found in (_reference_problem(part, schema), _pattern_problem(part))
        if found
    )
    return next(problems, None) or _endless(schema)


def depth_of(value: object) -> int:
    """How deep a JSON value is nested; 1 for a plain one."""
    deepest = 0
    waiting = [(value, 1)]
    for one, depth in waiting:  # grows as it is walked
        deepest = max(deepest, depth)
        waiting.extend((child, depth + 1) for child in _children(one))
    return deepest


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


def parts_of(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
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
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - it takes long to load
    from referencing import Registry  # noqa: PLC0415

    registry = Registry[Any]()  # holds nothing, and fetches nothing
    try:
        validator = Draft202012Validator(dict(schema), registry=registry)
        next(validator.iter_errors({}), None)  # pyright: ignore[reportUnknownMemberType]
    except RecursionError:
        return "a reference leads back to itself, so a check would never end"
    return None


def _resolves(reference: str, schema: Mapping[str, Any]) -> bool:
    from referencing import Registry, Resource  # noqa: PLC0415 - it takes long to load
    from referencing.exceptions import Unresolvable  # noqa: PLC0415
    from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

    resource: Resource[Any] = DRAFT202012.create_resource(schema)
    uri = resource.id() or ""
    registry = Registry[Any]().with_resource(uri, resource)
    try:
        registry.resolver(uri).lookup(reference)
    except (Unresolvable, ValueError, RecursionError):
        return False
    return True
