"""Turns the skill tables of an expert into records. Not the connections to the skills."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from domain.base_tools import BASE_TOOLS, select_base_tools
from domain.definition import (
    BASE_SKILL,
    BaseSkill,
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
from domain.mcp import Catalogue
from domain.names import own_name
from domain.names import tool_names as names_of_remote
from domain.team_tools import ARGUMENTS as TEAM_TOOLS
from domain.team_tools import team_tools
from peritus.definitions.lines import Loc
from peritus.definitions.mcp_skills import read_http, read_stdio
from peritus.definitions.report import Report, did_you_mean, place
from peritus.definitions.skill_tables import (
    BaseSkillTable,
    InteractiveSkillTable,
    InteractiveToolTable,
    LocalSkillTable,
    SkillManagerTable,
    TopologySkillTable,
)

SKILL_MANAGER = "@perstack/skill-manager"
"""The skill name under which definitions of the seed ask for the tools of a topology skill."""

FORMER_TOOLS: Mapping[str, str] = {
    "healthCheck": "nothing takes its place",
    "deleteDirectory": "deleteFile with recursive does that",
    "think": "reasoningBudget does that",
}
"""Tools that definitions may still pick, and what there is instead."""


def read_skills(report: Report, raw: object, loc: Loc) -> dict[str, Skill] | None:
    """The skills of one expert, sorted by name; None if one is wrong and reported.

    The base skill is always among them: an expert that asks for others has not asked to lose it.
    """
    if raw is None:
        return {BASE_SKILL: BaseSkill()}
    if not isinstance(raw, dict):
        report.error(loc, f"{place(loc)} must be a table")
        return None
    tables = cast("dict[str, object]", raw)
    skills: dict[str, Skill] = {BASE_SKILL: BaseSkill()}
    complete = True
    for name, table in tables.items():
        skill = _read_skill(report, name, table, (*loc, name))
        if skill is None:
            complete = False
            continue
        skills[name] = skill
    return {name: skills[name] for name in sorted(skills)} if complete else None


def tool_names(skill: Skill) -> frozenset[str]:
    """The names of a skill's tools that the definition alone decides."""
    match skill:
        case BaseSkill():
            return frozenset(select_base_tools(pick=skill.pick, omit=skill.omit))
        case LocalSkill() | InteractiveSkill():
            return frozenset(skill.tools)
        case TopologySkill():
            tools = team_tools("", pick=skill.pick, omit=skill.omit)
            return frozenset(tool.spec.name for tool in tools)
        case _:
            return frozenset()


def remote_names(expert: Expert) -> Iterator[tuple[str, str]]:
    """What a model calls the tools of MCP servers, as far as they are known: (tool, skill)."""
    taken = {
        *(tool for skill in expert.skills.values() for tool in tool_names(skill)),
        *(delegate_tool_name(key) for key in expert.delegates),
    }
    used = [
        (name, tool.remote)
        for name, skill, catalogue in _known_servers(expert)
        for tool in catalogue.chosen(skill.pick, skill.omit)
    ]
    names = names_of_remote(taken, used)
    yield from ((names[tool], tool[0]) for tool in names)


def _known_servers(expert: Expert) -> Iterator[tuple[str, McpStdioSkill | McpHttpSkill, Catalogue]]:
    for name, skill in expert.skills.items():
        if isinstance(skill, (McpStdioSkill, McpHttpSkill)) and skill.catalogue is not None:
            yield name, skill, skill.catalogue


def own_names(expert: Expert) -> Iterator[tuple[str, str]]:
    """What servers call their tools, as far as they are known: (tool, skill), also those unused."""
    for name, _, catalogue in _known_servers(expert):
        yield from ((own_name(tool.remote), name) for tool in catalogue.tools)


def _read_skill(report: Report, name: str, raw: object, loc: Loc) -> Skill | None:
    built_in = _BUILT_IN.get(name)
    if built_in is not None:
        return built_in(report, raw, loc)
    if not isinstance(raw, dict):
        report.error(loc, f"{place(loc)} must be a table")
        return None
    table = cast("dict[str, object]", raw)
    kind = table.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is not None:
        return reader(report, table, loc)
    there_are = f"; it is one of {', '.join(_READERS)}"
    if kind is None:
        report.error(loc, f"'type' is missing in {place(loc)}{there_are}")
    else:
        hint = did_you_mean(str(kind), _READERS) or there_are
        report.error((*loc, "type"), f"{place(loc)}: unknown type {kind!r}{hint}")
    return None


def _base(report: Report, raw: object, loc: Loc) -> Skill | None:
    table = report.read(BaseSkillTable, raw, loc)
    if table is None:
        return None
    _tell_built_in(report, table, BASE_SKILL, loc)
    for key, names in (("pick", table.pick), ("omit", table.omit)):
        for index, name in enumerate(names):
            if name in BASE_TOOLS:
                continue
            if name not in FORMER_TOOLS:
                hint = did_you_mean(name, BASE_TOOLS)
                report.error((*loc, key, index), f"the base skill has no tool {name!r}{hint}")
            elif key == "pick":
                instead = FORMER_TOOLS[name]
                report.notice((*loc, key, index), f"there is no tool {name!r}: {instead}")
    return BaseSkill(
        rule=table.rule,
        pick=tuple(table.pick),
        omit=tuple(table.omit),
        allowed_domains=tuple(table.allowed_domains),
        required_env=tuple(table.required_env),
    )


def _skill_manager(report: Report, raw: object, loc: Loc) -> Skill | None:
    table = report.read(SkillManagerTable, raw, loc)
    if table is None:
        return None
    _tell_built_in(report, table, SKILL_MANAGER, loc)
    for key, value in (
        ("requiredEnv", table.required_env),
        ("allowedDomains", table.allowed_domains),
    ):
        if value:
            report.notice((*loc, key), f"{key!r} has no effect: the skill is built in")
    return _team(report, table, loc)


def _topology(report: Report, raw: object, loc: Loc) -> Skill | None:
    table = report.read(TopologySkillTable, raw, loc)
    return None if table is None else _team(report, table, loc)


def _team(report: Report, table: TopologySkillTable | SkillManagerTable, loc: Loc) -> Skill:
    for key, names in (("pick", table.pick), ("omit", table.omit)):
        for index, name in enumerate(names):
            if name not in TEAM_TOOLS:
                hint = did_you_mean(name, TEAM_TOOLS) or f"; there are {', '.join(TEAM_TOOLS)}"
                report.error((*loc, key, index), f"a topology skill has no tool {name!r}{hint}")
    return TopologySkill(rule=table.rule, pick=tuple(table.pick), omit=tuple(table.omit))


def _tell_built_in(
    report: Report, table: BaseSkillTable | SkillManagerTable, package: str, loc: Loc
) -> None:
    """Tell of keys that would start another program in the place of a built-in skill."""
    for key, value, usual in (
        ("command", table.command, ("npx",)),
        ("packageName", table.package_name, (package,)),
        ("args", table.args, ([package], ["-y", package])),
    ):
        if value and value not in usual:
            what = "the base skill" if package == BASE_SKILL else "the skill"
            report.notice((*loc, key), f"{key!r} has no effect: {what} is built in")


def _interactive(report: Report, raw: object, loc: Loc) -> Skill | None:
    table = report.read(InteractiveSkillTable, raw, loc)
    if table is None:
        return None
    tools: dict[str, InteractiveTool] = {}
    for name, value in sorted(table.tools.items()):
        tool = report.read(InteractiveToolTable, value, (*loc, "tools", name))
        if tool is None:
            return None
        parameters = json.loads(tool.input_json_schema)
        tools[name] = InteractiveTool(description=tool.description, parameters=parameters)
    if not tools:
        report.error(loc, f"{place(loc)} has no tools")
        return None
    return InteractiveSkill(description=table.description, rule=table.rule, tools=tools)


def _local(report: Report, raw: object, loc: Loc) -> Skill | None:
    table = report.read(LocalSkillTable, raw, loc)
    if table is None:
        return None
    return LocalSkill(rule=table.rule, tools=tuple(table.tools))


Reader = Callable[[Report, object, Loc], Skill | None]

_BUILT_IN: Mapping[str, Reader] = {BASE_SKILL: _base, SKILL_MANAGER: _skill_manager}
"""Skills that are known by their names, whatever the seed would start for them."""

_READERS: Mapping[str, Reader] = {
    "mcpStdioSkill": read_stdio,
    "mcpHttpSkill": read_http,
    "mcpSseSkill": read_http,
    "interactiveSkill": _interactive,
    "localSkill": _local,
    "topologySkill": _topology,
}
