"""JSON schemas that a definition asks data to have. Not the check of data."""

import json
from typing import Any, cast

from domain.schema_rules import CHARS_MAX
from domain.schemas import schema_fault
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report, place


def read_schema(report: Report, raw: object, loc: Loc, *, of_object: bool) -> dict[str, Any] | None:
    """The schema at a place, written as a table or as JSON; None if it is wrong and reported."""
    problem, schema = _parse(raw)
    problem = problem or schema_fault(schema)
    if problem is None and of_object and schema.get("type") != "object":
        problem = 'must describe an object: say type = "object" at its top'
    if problem is None:
        return schema
    report.error(loc, f"{place(loc)}: {problem}")
    return None


def _parse(raw: object) -> tuple[str | None, dict[str, Any]]:
    """The schema as JSON has it, or what keeps it from being one."""
    value: object = raw
    try:
        if not isinstance(raw, str):
            value = json.dumps(raw, allow_nan=False)  # a day is no JSON, nor is what is no number
        elif len(raw) > CHARS_MAX:
            return f"at most {CHARS_MAX} characters are allowed", {}
        value = json.loads(cast("str", value))
    except (TypeError, ValueError) as error:
        return f"not JSON: {error}", {}
    except RecursionError:
        return "nested too deep", {}
    if not isinstance(value, dict):
        return "must be a table, or a text with a JSON object", {}
    return None, cast("dict[str, Any]", value)
