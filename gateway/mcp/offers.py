"""Which tools there are, and what each takes and gives. Not what a call of one does.

A tool is a coordinator of the definition: an expert that nobody's scope is named for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import mcp_types as types

from domain.definition import Definition, Expert
from domain.names import tool_names
from domain.topology import scope_of

RESULT = "result"
"""The one field of structured content where the expert's own output is no object."""

CONTROLS: Mapping[str, dict[str, Any]] = {
    "max_steps": {
        "type": "integer",
        "minimum": 1,
        "description": "At most so many steps; never more than the expert is allowed anyway.",
    },
    "budget_usd": {
        "type": "number",
        "minimum": 0,
        "description": "At most so many US dollars; never more than the expert is allowed anyway.",
    },
}
"""What a caller may say about any run, where the expert's own input has no field of that name."""

QUERY: Mapping[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What the expert is to do."}},
    "required": ["query"],
    "additionalProperties": False,
}

_COMPOSED = frozenset(
    {
        "$ref",
        "$dynamicRef",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "dependentSchemas",
        "propertyNames",
        "patternProperties",
        "unevaluatedProperties",
        "minProperties",
        "maxProperties",
    }
)
"""Keywords by which a schema looks at fields it does not list: nothing is added to such a one."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An expert as a tool."""

    name: str
    expert: Expert

    @property
    def schema(self) -> Mapping[str, Any]:
        """What the expert itself takes."""
        return QUERY if self.expert.input_schema is None else self.expert.input_schema

    @property
    def controls(self) -> frozenset[str]:
        """The control fields that this tool has."""
        properties = self.schema.get("properties", {})
        if _COMPOSED & self.schema.keys() or not isinstance(properties, dict):
            return frozenset()
        return frozenset(CONTROLS) - cast("dict[str, Any]", properties).keys()

    @property
    def input_schema(self) -> dict[str, Any]:
        """What the tool takes: the expert's fields, and the controls beside them."""
        controls = {name: CONTROLS[name] for name in sorted(self.controls)}
        properties = {**self.schema.get("properties", {}), **controls}
        return {**self.schema, "type": "object", **({"properties": properties} if controls else {})}

    @property
    def wrapped(self) -> bool:
        """Whether the output goes into a field of an object, being none itself."""
        schema = self.expert.output_schema
        return schema is not None and schema.get("type") != "object"

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """What the structured content is; None for an expert whose result is a text."""
        schema = self.expert.output_schema
        if schema is None or not self.wrapped:
            return schema
        if "$ref" in str(schema):  # its references would point somewhere else one level deeper
            return {"type": "object", "required": [RESULT]}
        return {"type": "object", "properties": {RESULT: schema}, "required": [RESULT]}

    def structured(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """A typed result as structured content."""
        if self.wrapped or not isinstance(value, dict):
            return {RESULT: value}
        return cast("dict[str, Any]", value)

    @property
    def tool(self) -> types.Tool:
        """The tool as clients are told of it."""
        return types.Tool(
            name=self.name,
            title=self.expert.key,
            description=self.expert.description or f"The expert {self.expert.key}.",
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            annotations=types.ToolAnnotations(open_world_hint=True),
        )


def offers_of(definition: Definition, taken: frozenset[str]) -> dict[str, Offer]:
    """The tools of a definition by name, none of them named as something else is."""
    keys = [key for key in sorted(definition.experts) if not scope_of(key)]
    names = tool_names(taken, [("expert", f"tool:{key}") for key in keys])
    found = {name: key for (_, remote), name in names.items() for key in [remote[len("tool:") :]]}
    return {name: Offer(name, definition.experts[key]) for name, key in sorted(found.items())}
