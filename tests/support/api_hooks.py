"""What Schemathesis asks about is there, most of the time. Not a test: `test_gateway_document`."""

from typing import Any, cast

import schemathesis

KNOWN: dict[str, Any] = {"run": "j1", "job": "j1", "step": 1, "expert": "coder"}
"""Names in paths, and what there is of that name."""


UNFIT = ("cursor", "digest", "min_position")
"""Parameters whose values come from answers."""


def often(value: object) -> bool:
    """Yes for most values, and always the same for one."""
    return sum(str(value).encode()) % 4 != 0


def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Ask about what is there."""
    del context
    return {
        name: KNOWN[name] if name in KNOWN and often(value) else value
        for name, value in (path_parameters or {}).items()
    }


def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out what hardly ever fits what is there."""
    del context
    unfit = {name for name, value in (query or {}).items() if name in UNFIT and often(value)}
    return query and {name: value for name, value in query.items() if name not in unfit}


def map_body(context: Any, body: object) -> object:
    """Start experts that are defined, with nothing that was never uploaded."""
    del context
    if not isinstance(body, dict):
        return body
    said = dict(cast("dict[str, object]", body))
    if "expert" in said and often(said["expert"]):
        said["expert"] = "coder"
    if said.get("attachments") and often(said["attachments"]):
        del said["attachments"]
    return said


for _hook in (map_path_parameters, map_query, map_body):
    cast("Any", schemathesis).hook(_hook)
