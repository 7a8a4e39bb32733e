"""Turns the table of one expert into its record. Not the file around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from domain.definition import Expert, Skill
from peritus.definitions.fields import (
    DESCRIPTION_CHARS_MAX,
    INSTRUCTION_CHARS_MAX,
    RULE_CHARS_MAX,
)
from peritus.definitions.json_schema import read_schema
from peritus.definitions.lines import Loc
from peritus.definitions.models import Chooser, Defaults, Flags
from peritus.definitions.policy import read_policy
from peritus.definitions.provider_tools import read_provider_skills, read_provider_tools
from peritus.definitions.report import Report, place
from peritus.definitions.sandbox import read_sandbox
from peritus.definitions.schema import ExpertTable
from peritus.definitions.skills import read_skills
from peritus.definitions.topology import check_delegates, check_key, check_tools
from peritus.definitions.variables import Variables
from peritus.definitions.versions import check_min_version


@dataclass(frozen=True, slots=True)
class Around:
    """What the experts of a definition have in common; None where it is wrong and reported."""

    experts: Mapping[str, object]  # all tables, as they are written
    folders: Mapping[str, Path]  # where each was written
    defaults: Defaults | None
    variables: Variables
    flags: Flags


def read_expert(report: Report, key: str, around: Around) -> Expert | None:
    """One expert; None if something in it is wrong and reported."""
    loc: Loc = ("experts", key)
    check_key(report, key)
    raw = around.experts[key]
    table = report.read(ExpertTable, raw, loc)
    content = cast("dict[str, object]", raw) if isinstance(raw, dict) else None
    skills, sandbox = None, None
    if content is not None:
        skills = read_skills(report, content.get("skills"), (*loc, "skills"))
        sandbox = read_sandbox(report, content, skills, loc)
    check_delegates(report, key, around.experts, skills or {})
    check_tools(report, key, skills or {})
    if content is None or table is None or skills is None or sandbox is None:
        return None
    whole = _made(report, key, table, skills, around)
    if whole is None:
        return None
    return whole.model_copy(update={"sandbox": sandbox})


def _made(
    report: Report, key: str, table: ExpertTable, skills: Mapping[str, Skill], around: Around
) -> Expert | None:
    loc: Loc = ("experts", key)
    if table.min_runtime_version is not None:
        check_min_version(report, table.min_runtime_version, (*loc, "minRuntimeVersion"))
    typed = {
        name: read_schema(report, raw, (*loc, name), of_object=name == "input")
        for name, raw in (("input", table.input), ("output", table.output))
        if raw is not None
    }
    policy = read_policy(report, table.policy, (*loc, "policy"), expert=key)
    texts = around.variables
    instruction = texts.put_into(table.instruction, (*loc, "instruction"), INSTRUCTION_CHARS_MAX)
    description = texts.put_into(table.description, (*loc, "description"), DESCRIPTION_CHARS_MAX)
    if not instruction:
        report.error((*loc, "instruction"), f"{place((*loc, 'instruction'))} is empty")
    if around.defaults is None:
        return None
    folder = around.folders.get(key, around.defaults.folder)
    chooser = Chooser(report, around.defaults, around.flags)
    models = chooser.choose(key, table, folder)
    if models is None or None in typed.values():
        return None
    forced = around.flags.provider is not None
    tools = read_provider_tools(report, table, models.first, loc, forced=forced)
    provider_skills = read_provider_skills(report, table, models.first, loc, forced=forced)
    return Expert(
        key=key,
        version=table.version,
        description=description,
        instruction=instruction,
        delegates=tuple(table.delegates),
        tags=tuple(table.tags),
        skills={name: _with_rule(texts, skills[name], (*loc, "skills", name)) for name in skills},
        model=models.first,
        fallbacks=models.fitting(report, tools, provider_skills),
        provider_tools=tools,
        provider_skills=provider_skills,
        input_schema=typed.get("input"),
        output_schema=typed.get("output"),
        policy=policy,
    )


def _with_rule(variables: Variables, skill: Skill, loc: Loc) -> Skill:
    rule = variables.put_into(skill.rule, (*loc, "rule"), RULE_CHARS_MAX)
    return skill if rule == skill.rule else skill.model_copy(update={"rule": rule})
