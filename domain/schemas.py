"""What is wrong with a value by its JSON schema (draft 2020-12). Never fetches anything.

Patterns are matched by RE2, whose time grows with the text and nothing else: a model that names a
slow one must not hold up a worker. What RE2 has no words for (looking ahead, back references) is
Python's to match, and is not taken from models.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from itertools import islice
from typing import Any, cast

from domain.schema_rules import parts_of, parts_problem, shape_problem

PATTERNS_KEPT = 256


def schema_problem(schema: Mapping[str, object], value: object) -> str | None:
    """Why a value is not what the schema asks for; None when it is."""
    import referencing  # noqa: PLC0415 - as below

    nothing_to_fetch = cast("Any", referencing).Registry()
    validator = _validator()(dict(schema), registry=nothing_to_fetch)
    try:
        found = _library().exceptions.best_match(validator.iter_errors(value))
    except Exception as error:  # noqa: BLE001 - no schema and no value may end a decision
        return f"it cannot be compared with the schema: {type(error).__name__}"
    if found is None:
        return None
    where = str(found.json_path).removeprefix("$").removeprefix(".")
    return f"{where}: {found.message}" if where else str(found.message)


WRONG_MAX = 16
RULE_CHARS_MAX = 200


def wrong_fields(schema: Mapping[str, object], value: object) -> list[tuple[str, str]]:
    """Where a value breaks which rule of the schema; nothing of the value itself is repeated."""
    import referencing  # noqa: PLC0415 - as below

    validator = _validator()(dict(schema), registry=cast("Any", referencing).Registry())
    found: list[tuple[str, str]] = []
    try:
        for error in islice(validator.iter_errors(value), WRONG_MAX):
            where = ".".join(str(one) for one in error.absolute_path)
            rule = json.dumps({str(error.validator): error.validator_value}, ensure_ascii=False)
            found.append((where, rule[:RULE_CHARS_MAX]))
    except Exception as error:  # noqa: BLE001 - no schema and no value may end a decision
        found.append(("", f"it cannot be compared with the schema: {type(error).__name__}"))
    return found


def schema_fault(schema: object) -> str | None:
    """Why a value cannot be used as a JSON schema; None when it can."""
    if not isinstance(schema, dict):
        return "a JSON schema is an object"
    found = cast("dict[str, Any]", schema)
    library = _library()
    try:
        problem = shape_problem(found)
        if problem is not None:
            return problem
        library.Draft202012Validator.check_schema(found)
        return parts_problem(found)
    except library.exceptions.SchemaError as error:
        return f"it is no JSON schema: {error.message}"
    except RecursionError:
        return "nested too deep"


def model_schema_fault(schema: object) -> str | None:
    """Why a schema that a model wrote cannot be used; None when it can."""
    fault = schema_fault(schema)
    if fault is not None:
        return fault
    for part in parts_of(cast("dict[str, Any]", schema)):
        if "patternProperties" in part:
            return "patternProperties is not taken here; name the properties"
        pattern = part.get("pattern")
        if isinstance(pattern, str) and _plain(pattern) is None:
            return f"the pattern {pattern!r} is none that RE2 matches"
    return None


def _library() -> Any:  # noqa: ANN401 - its types say little
    """Imported when something is typed: that takes longer than a short run."""
    import jsonschema  # noqa: PLC0415

    return cast("Any", jsonschema)


@cache
def _validator() -> Any:  # noqa: ANN401
    library = _library()

    def check(
        validator: object, pattern: str, instance: object, schema: object
    ) -> Iterator[Exception]:
        del validator, schema
        if isinstance(instance, str) and not _matches(pattern, instance):
            said = f"{instance!r} does not match {pattern!r}"
            yield library.exceptions.ValidationError(said)

    return library.validators.extend(library.Draft202012Validator, {"pattern": check})


def _matches(pattern: str, text: str) -> bool:
    plain = _plain(pattern)
    return (re.search(pattern, text) if plain is None else plain.search(text)) is not None


@lru_cache(PATTERNS_KEPT)
def _plain(pattern: str) -> Any:  # noqa: ANN401 - the library has no types
    """The pattern as RE2 has it; None when it has no words for it."""
    import re2  # type: ignore[import-untyped] # noqa: PLC0415

    library = cast("Any", re2)
    options = library.Options()
    options.log_errors = False
    try:
        return library.compile(pattern, options)
    except library.error:
        return None
