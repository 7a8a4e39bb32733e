"""Tools and skills that a provider runs itself: which an expert asks for. Not what they do."""

from typing import cast

from domain.limits import ModelChoice
from domain.provider_tools import ProviderSkill, ProviderTool
from peritus.definitions.lines import Loc
from peritus.definitions.providers import PROVIDERS
from peritus.definitions.report import Report, did_you_mean, place
from peritus.definitions.schema import (
    BuiltinProviderSkillTable,
    CustomProviderSkillTable,
    ExpertTable,
)
from services.loop.models.capabilities import unsupported
from services.loop.models.server_tools import FORMS, SKILLS, forms_of, has_skills

DECLARED = frozenset(tool for one in PROVIDERS.values() for tool in one.tools)
SPOKEN = frozenset(tool for forms in FORMS.values() for tool in forms)


def read_provider_tools(
    report: Report, expert: ExpertTable, choice: ModelChoice, loc: Loc, *, forced: bool
) -> tuple[ProviderTool, ...]:
    """The tools of an expert that its provider can be asked for, in the order they are written.

    One that the seed knows of this provider, and Peritus cannot ask for, is left out with a notice;
    so is any where a flag has brought the expert to this provider (`forced`).
    """
    options = _options(report, expert, (*loc, "providerToolOptions"))
    tools: dict[str, ProviderTool] = {}
    for index, name in enumerate(expert.provider_tools):
        at: Loc = (*loc, "providerTools", index)
        if name in tools:
            report.error(at, f"{place(at)}: {name!r} is written twice")
        elif name in forms_of(choice):
            tools[name] = ProviderTool(name=name, options=options.get(name, {}))
        elif name not in DECLARED | SPOKEN:
            hint = did_you_mean(name, DECLARED | SPOKEN)
            report.error(at, f"no provider has a tool {name!r}{hint}")
        else:
            left_out = forced or name in PROVIDERS[choice.provider].tools
            _tell(report, _lacks(choice, ProviderTool(name=name)), at, left_out=left_out)
    for name, tool in tools.items():
        _tell(report, _lacks(choice, tool), (*loc, "providerToolOptions", name))
    return tuple(tools.values())


def read_provider_skills(
    report: Report, expert: ExpertTable, choice: ModelChoice, loc: Loc, *, forced: bool
) -> tuple[ProviderSkill, ...]:
    """The skills of an expert that its provider loads, in the order they are written.

    A custom one that is written out is left out with a notice: the provider wants it uploaded.
    """
    skills: dict[ProviderSkill, None] = {}
    for index, raw in enumerate(expert.provider_skills):
        at: Loc = (*loc, "providerSkills", index)
        skill = _skill(report, raw, at)
        if skill is None:
            continue
        wrong = _lacks(choice, skill)
        left_out = forced or (has_skills(choice) and skill.kind == "custom")
        _tell(report, wrong, at, left_out=left_out)
        if not wrong:
            skills[skill] = None
    _tell(report, _lacks(choice, *skills), (*loc, "providerSkills"))
    return tuple(skills)


def _lacks(choice: ModelChoice, *wanted: ProviderTool | ProviderSkill) -> list[str]:
    """What a provider has not of these; what it lacks in any case is told elsewhere."""
    tools = [one for one in wanted if isinstance(one, ProviderTool)]
    skills = [one for one in wanted if isinstance(one, ProviderSkill)]
    always = unsupported(choice)
    return [one for one in unsupported(choice, tools, skills) if one not in always]


def _tell(report: Report, wrong: list[str], loc: Loc, *, left_out: bool = False) -> None:
    for sentence in wrong:
        if left_out:
            report.notice(loc, f"{place(loc)} is left out: {sentence}")
        else:
            report.error(loc, f"{place(loc)}: {sentence}")


def _options(report: Report, expert: ExpertTable, loc: Loc) -> dict[str, dict[str, object]]:
    """The options of each tool; an empty list says nothing."""
    found: dict[str, dict[str, object]] = {}
    for name, raw in expert.provider_tool_options.items():
        at: Loc = (*loc, name)
        if not isinstance(raw, dict):
            report.error(at, f"{place(at)} must be a table")
            continue
        table = cast("dict[str, object]", raw)
        found[name] = {key: table[key] for key in sorted(table) if table[key] != []}
        if name not in expert.provider_tools:
            message = f"{place(at)} has no effect: {name!r} is not in 'providerTools'"
            report.notice(at, message)
    return found


def _skill(report: Report, raw: object, loc: Loc) -> ProviderSkill | None:
    table = cast("dict[str, object]", raw) if isinstance(raw, dict) else {}
    kind = table.get("type")
    if kind == "builtin":
        builtin = report.read(BuiltinProviderSkillTable, table, loc)
        if builtin is None:
            return None
        if builtin.skill_id not in SKILLS:
            hint = did_you_mean(builtin.skill_id, SKILLS) or f"; there are {', '.join(SKILLS)}"
            report.error((*loc, "skillId"), f"no built-in skill {builtin.skill_id!r}{hint}")
            return None
        return ProviderSkill(kind="builtin", name=builtin.skill_id)
    if kind == "custom":
        custom = report.read(CustomProviderSkillTable, table, loc)
        if custom is None:
            return None
        return ProviderSkill(kind="custom", name=custom.name, definition=custom.definition)
    report.error(loc, f'{place(loc)} must be a table with type = "builtin" or "custom"')
    return None
