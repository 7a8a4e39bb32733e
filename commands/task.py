"""What a root run is told first: a text, or data as its expert's input schema asks. Not a start."""

import json
from typing import Any

from domain.definition import Expert
from domain.errors import Rejected
from domain.loop_tools import parse_arguments
from domain.schemas import schema_problem


def task_of(expert: Expert, query: str, data: dict[str, Any] | None) -> str:
    """The task as the expert reads it: data as JSON, checked; a text as it is.

    An expert with typed input also takes a text that is the JSON of such data.

    Raises:
        Rejected: there is neither or both, or it is not what the expert asks for.
    """
    if data is None and not query.strip():
        raise Rejected("bad_query", "the query is empty; say what the expert is to do")
    if data is not None and query.strip():
        raise Rejected("bad_input", "give the task as text or as data, not both")
    schema = expert.input_schema
    if schema is None:
        if data is not None:
            message = f"expert {expert.key!r} takes a text; the definition asks for no typed input"
            raise Rejected("bad_input", message)
        return query
    value = parse_arguments(query) if data is None else data
    problem = "it is no JSON object" if value is None else schema_problem(schema, value)
    if problem is not None:
        message = f"expert {expert.key!r} takes data, and this does not fit: {problem}"
        raise Rejected("bad_input", f"{message}; it asks for {json.dumps(schema)}")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
