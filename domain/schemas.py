"""What is wrong with a value by its JSON schema (draft 2020-12). Never fetches anything."""

from collections.abc import Mapping
from typing import cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable


def schema_problem(schema: Mapping[str, object], value: object) -> str | None:
    """Why a value is not what the schema asks for; None when it is."""
    validator = Draft202012Validator(dict(schema), registry=Registry())
    try:
        found = best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError) as error:
        return f"the schema cannot be used: {type(error).__name__}"
    if found is None:
        return None
    where = found.json_path.removeprefix("$").removeprefix(".")
    return f"{where}: {found.message}" if where else found.message


def schema_fault(schema: object) -> str | None:
    """Why a value cannot be used as a JSON schema; None when it can."""
    if not isinstance(schema, dict):
        return "a JSON schema is an object"
    try:
        Draft202012Validator.check_schema(cast("dict[str, object]", schema))
    except SchemaError as error:
        return f"it is no JSON schema: {error.message}"
    except RecursionError:
        return "it is nested too deep"
    return None
