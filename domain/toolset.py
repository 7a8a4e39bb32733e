"""The tools an expert has by its definition: as its model sees them, and as deciding does."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, assert_never

from domain.base_tools import select_base_tools
from domain.definition import (
    BaseSkill,
    Definition,
    Expert,
    InteractiveSkill,
    InteractiveTool,
    LocalSkill,
    McpHttpSkill,
    McpStdioSkill,
    Skill,
    TopologySkill,
    delegate_tool_name,
)
from domain.errors import Rejected
from domain.mcp import ToolOverride, safety_of
from domain.names import TOOL_NAME, tool_names
from domain.team_tools import team_tools
from domain.tools import Lane, LocalTool, Safety, ToolEntry, ToolSpec

DELEGATES = "delegates"
"""The `skill` of a delegate's tool entry: the key of the definition that asked for the tool."""

MERGE = "mergeWorkspace"
"""The base tool that only makes sense to whoever has delegates that work in copies."""

READ_RESULT = "readResult"
"""The base tool that every expert has whose tools may return more than it can be shown."""

QUERY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "description": "The whole task: the delegate sees only this text and the workspace.",
        }
    },
    "required": ["query"],
    "additionalProperties": False,
}
"""What a delegate is called with, when its definition says nothing else."""


class Tool(NamedTuple):
    """A tool as the model sees it, and as deciding sees it."""

    spec: ToolSpec
    entry: ToolEntry


def unsupported_reason(name: str, skill: Skill) -> str | None:
    """Why an expert with that skill cannot be started; None if it can."""
    match skill:
        case BaseSkill() | LocalSkill() | InteractiveSkill() | TopologySkill():
            return None
        case McpStdioSkill() | McpHttpSkill():
            if skill.catalogue is not None:
                return None
            return f"nobody has asked the MCP server of skill {name!r} for its tools yet"
        case _:
            assert_never(skill)


def tools_of(
    definition: Definition,
    expert: Expert,
    skills: Mapping[str, Skill],
    extra_tools: Mapping[str, LocalTool],
) -> list[Tool]:
    """The tools of an expert with these skills, sorted by name.

    Raises:
        Rejected: a skill is of a kind this release does not run, a local tool is not registered,
            or two tools have one name or a name no provider takes; or nobody knows yet what an
            MCP server offers.
    """
    tools: dict[str, Tool] = {}
    for tool in _all_tools(definition, expert, skills, extra_tools):
        _add(tools, expert, tool)
    remote = list(_remote_tools(expert, skills))
    names = tool_names(tools, ((tool.entry.skill, tool.entry.remote) for tool in remote))
    for tool in remote:
        _add(tools, expert, _renamed(tool, names[tool.entry.skill, tool.entry.remote]))
    if remote and READ_RESULT not in tools:  # what is too long for a result is read by that
        base = select_base_tools(pick=(READ_RESULT,))[READ_RESULT]
        _add(tools, expert, Tool(base.spec, base.entry))
    return [tools[name] for name in sorted(tools)]


def _all_tools(
    definition: Definition,
    expert: Expert,
    skills: Mapping[str, Skill],
    extra_tools: Mapping[str, LocalTool],
) -> Iterator[Tool]:
    for name, skill in skills.items():
        match skill:
            case BaseSkill():
                base = select_base_tools(pick=skill.pick, omit=skill.omit)
                if not _has_copies(definition, expert):
                    base.pop(MERGE, None)
                for tool in base.values():
                    yield _typed_completion(expert, Tool(tool.spec, tool.entry))
            case LocalSkill():
                yield from (_local_tool(expert, name, tool, extra_tools) for tool in skill.tools)
            case InteractiveSkill():
                yield from (
                    _question(name, tool, skill.tools[tool]) for tool in sorted(skill.tools)
                )
            case TopologySkill():
                team = team_tools(name, pick=skill.pick, omit=skill.omit)
                yield from (Tool(tool.spec, tool.entry) for tool in team)
            case McpStdioSkill() | McpHttpSkill():
                pass  # named after all others
            case _:
                assert_never(skill)
    for key in expert.delegates:
        yield _delegate_tool(definition.expert(key))


def _remote_tools(expert: Expert, skills: Mapping[str, Skill]) -> Iterator[Tool]:
    """The tools of MCP servers, by the names their servers have for them."""
    for name, skill in skills.items():
        if not isinstance(skill, (McpStdioSkill, McpHttpSkill)):
            continue
        reason = unsupported_reason(name, skill)
        if reason is not None or skill.catalogue is None:
            message = f"expert {expert.key!r} cannot be started: {reason}"
            raise Rejected(code="skill_not_resolved", message=message)
        lane = Lane.SANDBOX if isinstance(skill, McpStdioSkill) else Lane.MCP
        for tool in skill.catalogue.chosen(skill.pick, skill.omit):
            override = skill.overrides.get(tool.name, ToolOverride())
            entry = ToolEntry(
                name=tool.name,
                skill=name,
                lane=lane,
                safety=safety_of(tool, override),
                remote=tool.remote,
                timeout_ms=override.timeout_ms or skill.timeout_ms,
            )
            spec = ToolSpec(
                name=tool.name,
                description=tool.description or f"A tool of the skill {name}.",
                parameters=tool.input_schema,
            )
            yield Tool(spec, entry)


def _renamed(tool: Tool, name: str) -> Tool:
    return Tool(
        tool.spec.model_copy(update={"name": name}), tool.entry.model_copy(update={"name": name})
    )


def _has_copies(definition: Definition, expert: Expert) -> bool:
    """Whether a delegate works in a copy of the workspace, which would have to be merged."""
    delegates = (definition.expert(key) for key in expert.delegates)
    return any(delegate.sandbox.workspace == "isolated" for delegate in delegates)


def _local_tool(
    expert: Expert, skill: str, name: str, extra_tools: Mapping[str, LocalTool]
) -> Tool:
    found = extra_tools.get(name)
    if found is None:
        known = ", ".join(sorted(extra_tools)) or "none"
        message = (
            f"expert {expert.key!r} asks for the local tool {name!r} in skill {skill!r}, "
            f"but no such tool is registered; there are: {known}"
        )
        raise Rejected(code="unknown_local_tool", message=message)
    entry = ToolEntry(name=name, skill=skill, lane=Lane.TOOL, safety=found.safety)
    return Tool(found.spec.model_copy(update={"name": name}), entry)


def _typed_completion(expert: Expert, tool: Tool) -> Tool:
    """attemptCompletion, with the result that the expert's output schema asks for."""
    if tool.entry.name != "attemptCompletion" or expert.output_schema is None:
        return tool
    parameters = {
        "type": "object",
        "properties": {"result": expert.output_schema},
        "required": ["result"],
        "additionalProperties": False,
    }
    return tool._replace(spec=tool.spec.model_copy(update={"parameters": parameters}))


def _question(skill: str, name: str, tool: InteractiveTool) -> Tool:
    """A question to a person."""
    spec = ToolSpec(
        name=name,
        description=tool.description or "Ask the person and wait for the answer.",
        parameters=tool.parameters,
    )
    entry = ToolEntry(
        name=name,
        skill=skill,
        lane=Lane.PERSON,
        safety=Safety.UNSAFE,
        input_schema=tool.parameters,
    )
    return Tool(spec, entry)


def _delegate_tool(delegate: Expert) -> Tool:
    name = delegate_tool_name(delegate.key)
    spec = ToolSpec(
        name=name,
        description=delegate.description or f"Give a task to the expert {delegate.key}.",
        parameters=delegate.input_schema or QUERY,
    )
    entry = ToolEntry(
        name=name,
        skill=DELEGATES,
        lane=Lane.DELEGATE,
        safety=Safety.UNSAFE,
        expert=delegate.key,
        input_schema=delegate.input_schema,
    )
    return Tool(spec, entry)


def _add(tools: dict[str, Tool], expert: Expert, tool: Tool) -> None:
    name = tool.entry.name
    if TOOL_NAME.fullmatch(name) is None:
        message = (
            f"expert {expert.key!r} has a tool named {name!r}; a tool's name is "
            "1 to 64 letters, digits, '-' or '_' characters"
        )
        raise Rejected(code="bad_tool_name", message=message)
    other = tools.setdefault(name, tool)
    if other is not tool:
        message = (
            f"expert {expert.key!r} has two tools named {name!r}: "
            f"one of {_source(other)}, one of {_source(tool)}"
        )
        raise Rejected(code="tool_name_taken", message=message)


def _source(tool: Tool) -> str:
    if tool.entry.expert is not None:
        return f"delegate {tool.entry.expert!r}"
    return f"skill {tool.entry.skill!r}"
