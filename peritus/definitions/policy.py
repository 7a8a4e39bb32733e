"""Rules about calls as a definition writes them, and whether they can ever match. Not verdicts."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

from domain.base_tools import BASE_TOOLS
from domain.definition import (
    BASE_SKILL,
    Expert,
    Skill,
    TopologySkill,
    delegate_tool_name,
)
from domain.policy import ANY, PolicyRule
from domain.team_tools import ARGUMENTS as TEAM_TOOLS
from domain.toolset import DELEGATES, unsupported_reason
from peritus.definitions.fields import ITEMS_MAX
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report, did_you_mean, place
from peritus.definitions.schema import ExpertPolicyTable, PolicyTable
from peritus.definitions.skills import own_names, remote_names, tool_names

ARGUMENTS_MAX = 32
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Known:
    """What the rules of a definition may name: its experts, as far as they could be read."""

    experts: Mapping[str, Expert | None]

    def in_scope(self, pattern: str) -> dict[str, Expert | None]:
        """The experts that a rule is about."""
        return {key: one for key, one in self.experts.items() if fnmatchcase(key, pattern)}


def read_policy(
    report: Report, raw: object, loc: Loc, *, expert: str | None = None
) -> tuple[PolicyRule, ...]:
    """The rules of a list, in their order; those of an expert are about that one alone."""
    if raw is None:
        return ()
    if not isinstance(raw, list):
        report.error(loc, f"{place(loc)} must be a list of tables: write [[{place(loc)}]]")
        return ()
    entries = cast("list[object]", raw)
    if len(entries) > ITEMS_MAX:
        report.error(loc, f"{place(loc)} may have {ITEMS_MAX} rules")
        return ()
    rules = [_rule(report, entry, (*loc, index), expert) for index, entry in enumerate(entries)]
    return tuple(rule for rule in rules if rule is not None)


def check_policy(report: Report, raw: object, loc: Loc, known: Known, expert: str = ANY) -> None:
    """Report names in a list of rules that nothing has: such a rule would hold nothing back."""
    for index, entry in enumerate(cast("list[object]", raw) if isinstance(raw, list) else []):
        if isinstance(entry, dict):
            rule = {"expert": expert, **cast("dict[str, object]", entry)}
            if expert != ANY:
                rule["expert"] = expert
            _check_names(report, rule, (*loc, index), known)


def _rule(report: Report, raw: object, loc: Loc, expert: str | None) -> PolicyRule | None:
    table: PolicyTable | ExpertPolicyTable | None
    if expert is None:
        table = report.read(PolicyTable, raw, loc)
    else:
        table = report.read(ExpertPolicyTable, raw, loc)
    if table is None:
        return None
    arguments = _flat(report, table.arguments, (*loc, "arguments"))
    if arguments is None:
        return None
    return PolicyRule(
        verdict=table.verdict,
        expert=table.expert if isinstance(table, PolicyTable) else ANY,
        skill=table.skill,
        tool=table.tool,
        arguments=arguments,
        reason=table.reason,
    )


def _flat(report: Report, raw: Mapping[str, object], loc: Loc) -> dict[str, str] | None:
    """Patterns by path: `arguments.env.HOME` is the same as `arguments."env.HOME"`."""
    found: dict[str, str] = {}
    fine = True
    waiting: list[tuple[str, object, Loc]] = [(key, raw[key], (*loc, key)) for key in raw]
    for path, value, at in waiting:  # grows as it is walked
        if isinstance(value, dict):
            table = cast("dict[str, object]", value)
            waiting.extend((f"{path}.{key}", table[key], (*at, key)) for key in table)
        elif not isinstance(value, str):
            shown = json.dumps(value) if isinstance(value, (bool, int)) else "true"
            message = (
                f"{place(at)} must be a text: a pattern such as '*', or '{shown}' for that JSON"
            )
            report.error(at, message)
            fine = False
        elif path in found:
            report.error(at, f"{place(at)} is given twice")
            fine = False
        else:
            found[path] = value
    if len(found) > ARGUMENTS_MAX:
        report.error(loc, f"{place(loc)} may have {ARGUMENTS_MAX} patterns")
        return None
    return {path: found[path] for path in sorted(found)} if fine else None


def _check_names(report: Report, rule: Mapping[str, object], loc: Loc, known: Known) -> None:
    patterns = [rule.get(key, ANY) for key in ("expert", "skill", "tool")]
    expert, skill, tool = (one if isinstance(one, str) else ANY for one in patterns)
    if _is_name(expert) and expert not in known.experts:
        hint = did_you_mean(expert, known.experts)
        report.error((*loc, "expert"), f"no expert {expert!r} is defined{hint}")
        return
    experts = known.in_scope(expert)
    if any(one is None for one in experts.values()):
        return  # what cannot be read is reported elsewhere
    scope = [one for one in experts.values() if one is not None]
    skills = {name for one in scope for name in (*one.skills, DELEGATES)}
    if _is_name(skill) and skill not in skills:
        hint = did_you_mean(skill, skills) or f"; there are {', '.join(sorted(skills)) or 'none'}"
        report.error((*loc, "skill"), f"no expert of this rule has a skill {skill!r}{hint}")
    elif _is_name(tool) and not _open(scope, skill):
        tools = _tools(scope, skill)
        if tool not in tools:
            hint = did_you_mean(tool, tools)
            report.error((*loc, "tool"), f"no expert of this rule has a tool {tool!r}{hint}")


def _is_name(pattern: str) -> bool:
    return bool(pattern) and not _WILD & set(pattern)


def _open(scope: Iterable[Expert], pattern: str) -> bool:
    """Whether tools may come from servers nobody has asked, or from what is added at work."""
    return any(
        unsupported_reason(name, skill) is not None and fnmatchcase(name, pattern)
        for expert in scope
        for name, skill in expert.skills.items()
    ) or any(isinstance(skill, TopologySkill) for one in scope for skill in one.skills.values())


def _tools(scope: Iterable[Expert], pattern: str) -> set[str]:
    """The tools of skills that match, with those an expert leaves out: a rule may keep them out."""
    tools: set[str] = set()
    for expert in scope:
        for name, skill in expert.skills.items():
            if fnmatchcase(name, pattern):
                tools.update(_whole(name, skill))
        remote = (*remote_names(expert), *own_names(expert))
        tools.update(tool for tool, name in remote if fnmatchcase(name, pattern))
        if fnmatchcase(DELEGATES, pattern):
            tools.update(delegate_tool_name(key) for key in expert.delegates)
    return tools


def _whole(name: str, skill: Skill) -> Iterable[str]:
    if name == BASE_SKILL:
        return BASE_TOOLS
    return TEAM_TOOLS if isinstance(skill, TopologySkill) else tool_names(skill)
