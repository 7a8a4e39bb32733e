"""What a server offers, as the tools a run can be pinned to. Not the requests that found it.

The same offer gives the same tools, in the same order: a run is pinned to their digests. What
cannot be a tool is left out, with a reason for people.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mcp_types import Prompt, ResourceTemplate, Tool

from domain.mcp import RemoteTool
from domain.record import clean
from domain.schema_rules import DEPTH_MAX, depth_of
from services.tool.mcp.bounds import Bounds

TEMPLATES_SHOWN = 30
TEMPLATE_CHARS_MAX = 300
NAME_CHARS_MAX = 256

ONLY_AS_TASK = "it runs only as a task of the protocol, and no tool is called as one here"

LIST_RESOURCES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "cursor": {"type": "string", "description": "Where an earlier answer said to go on."}
    },
    "additionalProperties": False,
}

READ_RESOURCE: dict[str, Any] = {
    "type": "object",
    "properties": {"uri": {"type": "string", "description": "The address of the resource."}},
    "required": ["uri"],
    "additionalProperties": False,
}


class Offer:
    """What a server was found to offer, in the parts it was asked for."""

    def __init__(self) -> None:
        self.tools: dict[str, tuple[RemoteTool, ...]] = {}
        self.left_out: dict[str, dict[str, str]] = {}
        self.listed_at: dict[str, float] = {}

    def find(self, remote: str, group: str) -> RemoteTool | None:
        """The tool of that remote name, of a part that was asked for."""
        return next((tool for tool in self.tools.get(group, ()) if tool.remote == remote), None)


def only_as_task(tool: Tool) -> bool:
    """Whether the server takes no plain call of a tool."""
    return tool.execution is not None and tool.execution.task_support == "required"


def of_tool(tool: Tool) -> RemoteTool:
    """A tool of the server."""
    hints = tool.annotations
    return RemoteTool(
        name=clean(tool.name),
        description=clean(tool.description or tool.title or ""),
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        read_only=bool(hints and hints.read_only_hint),
        idempotent=bool(hints and hints.idempotent_hint),
    )


def of_prompt(prompt: Prompt) -> RemoteTool:
    """A tool that fills in a prompt of the server."""
    arguments = prompt.arguments or []
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            argument.name: {"type": "string", "description": clean(argument.description or "")}
            for argument in arguments
        },
        "required": sorted(argument.name for argument in arguments if argument.required),
        "additionalProperties": False,
    }
    about = clean(prompt.description or prompt.title or "")
    return RemoteTool(
        kind="prompt",
        name=clean(prompt.name),
        description=f"Fills in a prompt of the server and returns its text. {about}".strip(),
        input_schema=schema,
        read_only=True,
    )


def of_resources(templates: Iterable[ResourceTemplate]) -> tuple[RemoteTool, RemoteTool]:
    """The tools that list the resources of the server, and read one."""
    lines = sorted(_template(template) for template in templates)
    read = "Reads a resource of the server by its URI."
    if lines:
        more = (
            f"\n(and {len(lines) - TEMPLATES_SHOWN} more)" if len(lines) > TEMPLATES_SHOWN else ""
        )
        shown = "\n".join(lines[:TEMPLATES_SHOWN])
        read = f"{read} URIs can also be made by these templates:\n{shown}{more}"
    return (
        RemoteTool(
            kind="resources",
            name="list",
            description="Lists the resources of the server: their URIs, names and types.",
            input_schema=LIST_RESOURCES,
            read_only=True,
        ),
        RemoteTool(
            kind="resource",
            name="read",
            description=read,
            input_schema=READ_RESOURCE,
            read_only=True,
        ),
    )


def _template(template: ResourceTemplate) -> str:
    about = " ".join(clean(template.description or template.title or "").split())
    return f"{clean(template.uri_template)} {about}".strip()[:TEMPLATE_CHARS_MAX]


def sifted(
    offered: Iterable[RemoteTool], bounds: Bounds
) -> tuple[tuple[RemoteTool, ...], dict[str, str]]:
    """Those that can be used, sorted by kind and name, and why others cannot, by remote name."""
    used: dict[str, RemoteTool] = {}
    left_out: dict[str, str] = {}
    size = 0
    tools = sorted(offered, key=lambda tool: (tool.kind, tool.name))
    counts = Counter(tool.remote for tool in tools)
    for tool in tools:
        remote = tool.remote
        problem = _problem(tool, bounds)
        if counts[remote] > 1:  # nobody could say which of them is called
            problem = "the server offers more than one of that name"
        if problem is None and len(used) >= bounds.tools_max:
            problem = f"a server may offer {bounds.tools_max} tools; pick the ones you need"
        if problem is None:
            size += _size(tool)
            if size > bounds.catalogue_bytes_max:
                problem = f"all tools of a server may have {bounds.catalogue_bytes_max} bytes"
        if problem is not None:
            left_out[remote[:NAME_CHARS_MAX]] = problem
        else:
            used[remote] = tool
    return tuple(used.values()), left_out


def _problem(tool: RemoteTool, bounds: Bounds) -> str | None:
    if not tool.name.strip() or len(tool.name) > NAME_CHARS_MAX:
        return f"a tool's name has 1 to {NAME_CHARS_MAX} characters"
    if tool.input_schema.get("type") != "object":
        return "its input schema is not one of an object"
    for schema in (tool.input_schema, tool.output_schema):
        if schema is not None and depth_of(schema) > DEPTH_MAX:
            return f"a schema of it is nested more than {DEPTH_MAX} levels deep"
    if _size(tool) > bounds.tool_bytes_max:
        return f"its description and schemas have more than {bounds.tool_bytes_max} bytes"
    try:
        tool.digest  # noqa: B018 - what has no bytes cannot be pinned
    except ValueError:
        return "its schema has values that no file can hold"
    return None


def _size(tool: RemoteTool) -> int:
    return len(tool.description) + sum(
        len(json.dumps(schema)) for schema in (tool.input_schema, tool.output_schema) if schema
    )
