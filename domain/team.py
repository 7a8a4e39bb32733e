"""What a run's team is after an expert has changed it: a new definition. Not how it is stored.

An expert that a model made, or wrote into a file, gets its maker's model and no right that its
maker has not: no other key, host, secret, image, limit or tool (C15, C16).
"""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pydantic import ValidationError

from domain.base_tools import BASE_TOOLS
from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    Definition,
    Expert,
    InteractiveSkill,
    TopologySkill,
    delegate_tool_name,
    sandbox_of,
)
from domain.errors import Rejected
from domain.events import TeamAction
from domain.policy import ANY, PolicyRule
from domain.sandbox import SandboxSettings, SecretGrant, covers
from domain.schemas import model_schema_fault
from domain.team_skills import Maker, asked_skill, skills_within
from domain.team_tools import (
    ARGUMENTS,
    AddDelegateFromConfig,
    AddSkill,
    CreateExpert,
    ExpertKey,
    RemoveSkill,
)
from domain.topology import edge_problem, key_problem, name_of, scope_of

EXPERTS_MAX = 256
"""How many experts a definition may grow to."""


class TeamChange(NamedTuple):
    """What a call comes to: the new definition, what it is about, and what the model is told."""

    definition: Definition
    names: tuple[str, ...]
    result: dict[str, Any]


def change_team(
    definition: Definition,
    caller: str,
    action: TeamAction,
    arguments: Mapping[str, Any],
    found: Definition | None = None,
    *,
    rules: tuple[PolicyRule, ...] = (),
) -> TeamChange:
    """The team after a call of a topology tool; `found` is what was read from a file.

    `rules` are those of the run that are not in its definition: the operator's, and people's.

    Raises:
        Rejected: the call is wrong; the message is for the model.
    """
    try:
        asked = ARGUMENTS[action].model_validate(dict(arguments))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Rejected("invalid_arguments", f"{where}: {first['msg']}") from None
    own = definition.expert(caller)
    above = (*rules, *definition.policy)
    match asked:
        case CreateExpert():
            return _create(definition, own, asked, above)
        case ExpertKey() if action == "removeDelegate":
            return _remove_delegate(definition, own, asked.expert_key)
        case ExpertKey():
            return _add_delegate(definition, own, asked.expert_key)
        case AddDelegateFromConfig():
            return _from_config(definition, own, asked, found, above)
        case AddSkill():
            return _add_skill(definition, Maker(own, (*above, *own.policy)), asked)
        case RemoveSkill():
            return _remove_skill(definition, own, asked.name)
        case _:
            raise AssertionError


def _create(
    definition: Definition, own: Expert, asked: CreateExpert, above: tuple[PolicyRule, ...]
) -> TeamChange:
    _check_new(definition, own, asked.key)
    delegates = tuple(dict.fromkeys(asked.delegates or ()))
    for delegate in delegates:
        _check_edge(definition, asked.key, delegate)
        _check_edge(definition, own.key, delegate)
    if asked.output is not None:
        fault = model_schema_fault(asked.output)
        if fault is not None:
            raise Rejected("invalid_arguments", f"output: {fault}")
    base = own.skills.get(BASE_SKILL)
    skill = base if isinstance(base, BaseSkill) else BaseSkill(omit=tuple(BASE_TOOLS))
    made = Expert(
        key=asked.key,
        description=asked.description or "",
        instruction=asked.instruction,
        delegates=delegates,
        skills={
            BASE_SKILL: skill.model_copy(
                update={"rule": "", "omit": tuple(sorted({*skill.omit, *(asked.omit or ())}))}
            )
        },
        model=own.model,
        fallbacks=own.fallbacks,
        sandbox=own.sandbox,
        output_schema=asked.output,
        policy=_rules_for(asked.key, own, above),
    )
    return TeamChange(_with(definition, made), (made.key,), {"expertKey": made.key})


def _add_delegate(definition: Definition, own: Expert, key: str) -> TeamChange:
    _check_edge(definition, own.key, key)
    result = {"delegateToolName": delegate_tool_name(key)}
    if key in own.delegates:
        return TeamChange(definition, (key,), result)
    changed = own.model_copy(update={"delegates": (*own.delegates, key)})
    return TeamChange(_with(definition, changed), (key,), result)


def _remove_delegate(definition: Definition, own: Expert, key: str) -> TeamChange:
    if key not in own.delegates:
        mine = ", ".join(own.delegates) or "none"
        raise Rejected("unknown_delegate", f"{key!r} is not your delegate; yours are: {mine}")
    left = tuple(one for one in own.delegates if one != key)
    changed = own.model_copy(update={"delegates": left})
    return TeamChange(_with(definition, changed), (key,), {"removed": key})


def _from_config(
    definition: Definition,
    own: Expert,
    asked: AddDelegateFromConfig,
    found: Definition | None,
    above: tuple[PolicyRule, ...],
) -> TeamChange:
    if found is None:
        raise Rejected("no_config", "the file was not read")
    found.expert(asked.expert_key)
    for expert in found.experts.values():
        _check_file(definition, own, expert, found)
    taken = [key for key in found.experts if key in definition.experts]
    hemmed = {key: _hemmed(expert, own, above) for key, expert in found.experts.items()}
    changed = [key for key in taken if definition.experts[key] != hemmed[key]]
    if any(definition.experts[key].origin != CONFIG for key in changed):
        raise Rejected(
            "expert_exists", f"expert {changed[0]!r} is defined already; give yours another name"
        )
    _check_room(len(definition.experts.keys() | hemmed.keys()))
    grown = definition
    for expert in hemmed.values():
        grown = _with(grown, expert)
    added = _add_delegate(grown, own, asked.expert_key)
    result = {**added.result, "experts": sorted(hemmed)}
    return TeamChange(added.definition, (asked.expert_key,), result)


def _add_skill(definition: Definition, maker: Maker, asked: AddSkill) -> TeamChange:
    own = maker.expert
    if asked.name in own.skills:
        raise Rejected("skill_exists", f"you have a skill {asked.name!r} already")
    skill = asked_skill(asked, maker)
    changed = own.model_copy(update={"skills": {**own.skills, asked.name: skill}})
    tools = sorted(skill.tools) if isinstance(skill, InteractiveSkill) else []
    return TeamChange(_with(definition, changed), (asked.name,), {"tools": tools})


def _remove_skill(definition: Definition, own: Expert, name: str) -> TeamChange:
    skill = own.skills.get(name)
    if skill is None:
        mine = ", ".join(sorted(own.skills)) or "none"
        raise Rejected("unknown_skill", f"you have no skill {name!r}; yours are: {mine}")
    if isinstance(skill, TopologySkill):
        raise Rejected("skill_needed", "the skill that changes teams cannot remove itself")
    left = {key: one for key, one in own.skills.items() if key != name}
    changed = own.model_copy(update={"skills": left})
    return TeamChange(_with(definition, changed), (name,), {"removed": name})


CONFIG = "config"
"""Where an expert came from that a model wrote into a file: it may be read again and replaced."""


def _hemmed(expert: Expert, maker: Expert, above: tuple[PolicyRule, ...]) -> Expert:
    """An expert of a file, with nothing that its maker has not."""
    skills = skills_within(expert, Maker(maker, (*above, *maker.policy)))
    return expert.model_copy(
        update={
            "origin": CONFIG,
            "model": maker.model.model_copy(update={"reasoning": expert.model.reasoning}),
            "fallbacks": maker.fallbacks,
            "provider_tools": (),
            "provider_skills": (),
            "skills": skills,
            "sandbox": _sandbox_within(sandbox_of(expert), sandbox_of(maker)),
            "policy": (*_rules_for(expert.key, maker, above), *expert.policy),
        }
    )


def _sandbox_within(asked: SandboxSettings, own: SandboxSettings) -> SandboxSettings:
    limits = own.limits
    if asked.limits is not None:
        limits = asked.limits if limits is None else asked.limits.at_most(limits)
    return own.model_copy(
        update={
            "limits": limits,
            "read_only": asked.read_only or own.read_only,
            "workspace": own.workspace if own.workspace == "isolated" else asked.workspace,
            "allowed_domains": tuple(
                domain
                for domain in asked.allowed_domains
                if any(covers(pattern, domain) for pattern in own.allowed_domains)
            ),
            "egress_bytes_max": min(asked.egress_bytes_max, own.egress_bytes_max),
            "egress_bytes_per_s": min(asked.egress_bytes_per_s, own.egress_bytes_per_s),
            "secrets": tuple(_grants(asked, own)),
        }
    )


def _grants(asked: SandboxSettings, own: SandboxSettings) -> list[SecretGrant]:
    """The maker's own grants that were asked for, delivered as the maker gets them."""
    names = {grant.name for grant in asked.secrets}
    return [grant for grant in own.secrets if grant.name in names]


def _rules_for(made: str, maker: Expert, above: tuple[PolicyRule, ...]) -> tuple[PolicyRule, ...]:
    """Rules about a maker hold for what it makes, too, before any of its own.

    Of the rules `above` those come along that name the maker, as far as they keep something back.
    Here they are in one layer with the maker's own, where the first match counts, so what denies
    comes first: never less is held back than from the maker.
    """
    own = maker.policy
    named = [
        rule
        for rule in above
        if rule.verdict != "allow"
        and fnmatchcase(maker.key, rule.expert)
        and not fnmatchcase(made, rule.expert)
    ]
    if named:
        own = (
            *(rule for rule in (*named, *own) if rule.verdict == "deny"),
            *(rule for rule in named if rule.verdict == "ask"),
            *(rule for rule in own if rule.verdict != "deny"),
        )
    return tuple(rule.model_copy(update={"expert": ANY}) for rule in own)


def _check_file(definition: Definition, own: Expert, expert: Expert, found: Definition) -> None:
    """Whether an expert of a file may come: its name, its schemas."""
    _check_name(definition, own, expert.key, beside=found.experts)
    schemas = [expert.input_schema, expert.output_schema]
    for skill in expert.skills.values():
        if isinstance(skill, InteractiveSkill):
            schemas.extend(tool.parameters for tool in skill.tools.values())
    for schema in schemas:
        fault = None if schema is None else model_schema_fault(schema)
        if fault is not None:
            raise Rejected("bad_schema", f"a schema of expert {expert.key!r}: {fault}")


def _check_name(
    definition: Definition, own: Expert, key: str, *, beside: Collection[str] = ()
) -> None:
    """A new name is of the maker's own scope, or a coordinator that nobody's scope is named for.

    Else it could take part in a team that is not the maker's.
    """
    scope, mine = scope_of(key), scope_of(own.key) or name_of(own.key)
    fresh = {name_of(one) for one in beside if not scope_of(one)} - _teams(definition)
    if scope and scope not in {mine, *fresh}:
        raise Rejected("bad_key", f"{key!r} is of the team {scope!r}; yours is {mine!r}")
    taken = key not in definition.experts and name_of(key) in _teams(definition)
    if not scope and taken:
        raise Rejected("bad_key", f"{name_of(key)!r} is the name of a team; take another")


def _teams(definition: Definition) -> set[str]:
    """The names of coordinators, and of the scopes there are."""
    return {scope_of(key) or name_of(key) for key in definition.experts}


def _check_new(definition: Definition, own: Expert, key: str) -> None:
    problem = key_problem(key)
    if problem is not None:
        raise Rejected("bad_key", problem)
    if key.rfind("@") > 0:
        raise Rejected("bad_key", f"{key!r} has a version or tag; give a plain name")
    _check_name(definition, own, key)
    if key in definition.experts:
        raise Rejected("expert_exists", f"expert {key!r} is defined already")
    _check_room(len(definition.experts) + 1)


def _check_room(count: int) -> None:
    if count > EXPERTS_MAX:
        raise Rejected("too_many_experts", f"at most {EXPERTS_MAX} experts; use those there are")


def _check_edge(definition: Definition, caller: str, delegate: str) -> None:
    definition.expert(delegate)
    problem = edge_problem(caller, delegate)
    if problem is not None:
        raise Rejected("forbidden_delegate", f"{caller!r} cannot call {delegate!r}: {problem}")


def _with(definition: Definition, expert: Expert) -> Definition:
    experts = {**definition.experts, expert.key: expert}
    return definition.model_copy(update={"experts": {key: experts[key] for key in sorted(experts)}})
