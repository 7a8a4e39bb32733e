"""What Schemathesis asks about is there, most of the time. Not a test: `test_gateway_document`."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, cast

import schemathesis
from pydantic import Field, TypeAdapter, ValidationError

from gateway.bodies import ATTACHMENTS_MAX, NAME_CHARS_MAX, AttachmentBody
from gateway.parameters import POSITION_PATTERN

ATTACHMENTS: TypeAdapter[Any] = TypeAdapter(
    Annotated[list[AttachmentBody], Field(max_length=ATTACHMENTS_MAX)]
)

KNOWN: dict[str, Any] = {"run": "j1", "job": "j1", "step": 1, "expert": "coder"}
"""Names in paths, and what there is of that name."""


NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

UNFIT: Mapping[str, re.Pattern[str]] = {
    "cursor": re.compile(r".{0,400}", re.DOTALL),
    "digest": re.compile(r"[0-9a-f]{64}"),
    "min_position": re.compile(POSITION_PATTERN.strip("^$")),
}
"""Parameters whose values come from answers, and what they look like."""


def often(value: object) -> bool:
    """Yes for most values, and always the same for one."""
    return sum(str(value).encode()) % 4 != 0


def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Ask about what is there, instead of what could be."""
    del context
    return {
        name: KNOWN[name]
        if name in KNOWN and NAME.fullmatch(str(value)) and often(value)
        else value
        for name, value in (path_parameters or {}).items()
    }


def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out what hardly ever fits what is there. What is wrong stays: it has to be refused."""
    del context
    if not query:
        return query
    return {
        name: value for name, value in query.items() if not (often(value) and fits(name, value))
    }


def fits(name: str, value: object) -> bool:
    """Whether it looks like what an answer would have said."""
    return name in UNFIT and isinstance(value, str) and UNFIT[name].fullmatch(value) is not None


def map_body(context: Any, body: object) -> object:
    """Start experts that are defined, with nothing that was never uploaded. The same holds."""
    del context
    if not isinstance(body, dict):
        return body
    said = dict(cast("dict[str, object]", body))
    expert, attached = said.get("expert"), said.get("attachments")
    if isinstance(expert, str) and 0 < len(expert) <= NAME_CHARS_MAX and often(expert):
        said["expert"] = "coder"
    if attached and often(attached) and is_attached(attached):
        del said["attachments"]
    return said


def is_attached(value: object) -> bool:
    """Whether these are attachments, though of nothing that is there."""
    try:
        ATTACHMENTS.validate_python(value)
    except ValidationError:
        return False
    return True


for _hook in (map_path_parameters, map_query, map_body):
    cast("Any", schemathesis).hook(_hook)
