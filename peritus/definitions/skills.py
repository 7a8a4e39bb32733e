"""Turns the skill tables of an expert into records. Not the connections to the skills."""

import json
from collections.abc import Mapping
from typing import TypeVar, cast

from domain.base_tools import BASE_TOOLS, select_base_tools
from domain.context import unsupported_reason
from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    InteractiveSkill,
    InteractiveTool,
    LocalSkill,
    McpHttpSkill,
    McpStdioSkill,
    Skill,
)
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report, did_you_mean, place
from peritus.definitions.schema import (
    BaseSkillTable,
    InteractiveSkillTable,
    InteractiveToolTable,
    LocalSkillTable,
    McpSseSkillTable,
    McpStdioSkillTable,
    Table,
)

T = TypeVar("T", bound=Table)

FORMER_TOOLS: Mapping[str, str] = {
    "healthCheck": "nothing takes its place",
    "deleteDirectory": "deleteFile with recursive does that",
    "think": "reasoningBudget does that",
}
"""Tools that definitions may still pick, and what there is instead."""

TYPES = ("mcpStdioSkill", "mcpSseSkill", "interactiveSkill", "localSkill")


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
        reason = unsupported_reason(name, skill)
        if reason is not None:
            report.notice((*loc, name), f"the expert cannot be started: {reason}")
    return {name: skills[name] for name in sorted(skills)} if complete else None


def tool_names(skill: Skill) -> frozenset[str]:
    """The names of a skill's tools that the definition alone decides."""
    match skill:
        case BaseSkill():
            return frozenset(select_base_tools(pick=skill.pick, omit=skill.omit))
        case LocalSkill() | InteractiveSkill():
            return frozenset(skill.tools)
        case _:
            return frozenset()


def _read_skill(report: Report, name: str, raw: object, loc: Loc) -> Skill | None:
    if name == BASE_SKILL:
        return _base(report, raw, loc)
    if not isinstance(raw, dict):
        report.error(loc, f"{place(loc)} must be a table")
        return None
    table = cast("dict[str, object]", raw)
    kind = table.get("type")
    match kind:
        case "mcpStdioSkill":
            return _stdio(report, table, loc)
        case "mcpSseSkill":
            return _sse(report, table, loc)
        case "interactiveSkill":
            return _interactive(report, table, loc)
        case "localSkill":
            return _local(report, table, loc)
        case None:
            report.error(loc, f"'type' is missing in {place(loc)}; it is one of {', '.join(TYPES)}")
        case _:
            hint = did_you_mean(str(kind), TYPES) or f"; it is one of {', '.join(TYPES)}"
            report.error((*loc, "type"), f"{place(loc)}: unknown type {kind!r}{hint}")
    return None


def _base(report: Report, raw: object, loc: Loc) -> Skill | None:
    table = report.read(BaseSkillTable, raw, loc)
    if table is None:
        return None
    for key, value, usual in (
        ("command", table.command, ("npx",)),
        ("packageName", table.package_name, (BASE_SKILL,)),
        ("args", table.args, ([BASE_SKILL], ["-y", BASE_SKILL])),
    ):
        if value and value not in usual:
            report.notice((*loc, key), f"{key!r} has no effect: the base skill is built in")
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


def _stdio(report: Report, raw: object, loc: Loc) -> Skill | None:
    table = report.read(McpStdioSkillTable, raw, loc)
    if table is None:
        return None
    if (table.package_name is None) == (not table.args):
        report.error(loc, f"{place(loc)} needs one of 'packageName' and 'args'")
        return None
    args = [table.package_name] if table.package_name is not None else table.args
    if table.command == "npx" and "-y" not in args:
        args = ["-y", *args]  # without it npx waits for somebody to say yes
    return McpStdioSkill(
        description=table.description,
        rule=table.rule,
        pick=tuple(table.pick),
        omit=tuple(table.omit),
        command=table.command,
        args=tuple(args),
        required_env=tuple(table.required_env),
        allowed_domains=tuple(table.allowed_domains),
    )


def _sse(report: Report, raw: object, loc: Loc) -> Skill | None:
    table = report.read(McpSseSkillTable, raw, loc)
    if table is None:
        return None
    return McpHttpSkill(
        description=table.description,
        rule=table.rule,
        pick=tuple(table.pick),
        omit=tuple(table.omit),
        endpoint=table.endpoint,
        allowed_domains=tuple(table.allowed_domains),
    )


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
