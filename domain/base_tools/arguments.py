"""What arguments of a base tool are, and the schema a model is shown of them. Not a tool's own."""

from typing import Any

from pydantic import ConfigDict

from domain.record import Record


class Arguments(Record):
    """Arguments of a base tool: closed and strict, so that a slip becomes an error to read.

    An optional argument given as `null` counts as left out: models write both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def parameters_of(arguments: type[Arguments]) -> dict[str, Any]:
    """The JSON schema of some arguments, flat and without what models stumble over."""
    generated = arguments.model_json_schema(by_alias=True)
    return _object(generated, generated.get("$defs", {}))


def _object(generated: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    properties = generated.get("properties", {})
    return {
        "type": "object",
        "properties": {name: _plain(field, shared) for name, field in properties.items()},
        "required": list(generated.get("required", [])),
        "additionalProperties": False,
    }


def _plain(field: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """A field without titles, references, and `null` as a second type."""
    if "$ref" in field:
        return _object(shared[field["$ref"].rsplit("/", 1)[-1]], shared)
    kept = {key: value for key, value in field.items() if key not in {"title", "anyOf"}}
    for branch in field.get("anyOf", ()):
        if branch != {"type": "null"}:
            kept.update(branch)
    if "items" in kept:
        kept["items"] = _plain(kept["items"], shared)
    if kept.get("default", "") is None:
        del kept["default"]
    return dict(sorted(kept.items()))
