"""Which skills a model may give: to itself, or to an expert that it wrote into a file.

No skill opens a way that its maker has not: no host, secret or program beyond its own (C15, C16).
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, assert_never
from urllib.parse import urlsplit

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
    sandbox_of,
)
from domain.errors import Rejected
from domain.policy import ANY, Asked, PolicyRule, matches
from domain.sandbox import covers
from domain.schemas import model_schema_fault
from domain.team_tools import AddSkill

EXEC = "exec"
"""The base tool whose owner may run any program in the sandbox: so also a server."""


class Maker(NamedTuple):
    """Who gives a skill, and the rules that hold for it."""

    expert: Expert
    rules: tuple[PolicyRule, ...]


def asked_skill(asked: AddSkill, maker: Maker) -> Skill:
    """The skill that a call of `addSkill` asks for.

    Raises:
        Rejected: it is none, or reaches further than its maker; the message is for the model.
    """
    shared: dict[str, Any] = {
        "description": asked.description or "",
        "rule": asked.rule or "",
    }
    chosen: dict[str, Any] = {"pick": tuple(asked.pick or ()), "omit": tuple(asked.omit or ())}
    match asked.type:
        case "interactiveSkill":
            return InteractiveSkill(**shared, tools=_questions(asked.tools))
        case "mcpStdioSkill":
            if not asked.command:
                raise Rejected("invalid_arguments", "command: an mcpStdioSkill needs one")
            args = tuple(asked.args or ())
            made = McpStdioSkill(**shared, **chosen, command=asked.command, args=args)
            return _process_within(asked.name, made, maker)
        case "mcpSseSkill":
            if not asked.endpoint:
                raise Rejected("invalid_arguments", "endpoint: an mcpSseSkill needs one")
            remote = McpHttpSkill(**shared, **chosen, endpoint=asked.endpoint, transport="sse")
            return _endpoint_within(asked.name, remote, maker)
        case _:
            assert_never(asked.type)


def _questions(tools: Mapping[str, Mapping[str, Any]] | None) -> dict[str, InteractiveTool]:
    if not tools:
        raise Rejected("invalid_arguments", "tools: an interactiveSkill needs at least one")
    found: dict[str, InteractiveTool] = {}
    for name, table in tools.items():
        schema = table.get("inputJsonSchema", {"type": "object"})
        fault = model_schema_fault(schema)
        if fault is not None:
            raise Rejected("invalid_arguments", f"tools.{name}.inputJsonSchema: {fault}")
        found[name] = InteractiveTool(
            description=str(table.get("description", "")), parameters=schema
        )
    return found


def skills_within(expert: Expert, giver: Maker) -> dict[str, Skill]:
    """The skills of an expert of a file, without tools that its maker has not.

    What the maker has keeps the maker's name for it: rules about a skill go by that.

    Raises:
        Rejected: a skill reaches further than its maker; the message is for the model.
    """
    maker = giver.expert
    found: dict[str, Skill] = {}
    local = {
        tool
        for skill in expert.skills.values()
        if isinstance(skill, LocalSkill)
        for tool in skill.tools
    }
    reforms = any(isinstance(skill, TopologySkill) for skill in expert.skills.values())
    for name, skill in maker.skills.items():
        if isinstance(skill, LocalSkill) and local.intersection(skill.tools):
            kept = tuple(tool for tool in skill.tools if tool in local)
            found[name] = skill.model_copy(update={"tools": kept, "rule": ""})
        elif isinstance(skill, TopologySkill) and reforms:
            found[name] = skill
    for name, skill in expert.skills.items():
        if isinstance(skill, BaseSkill):
            found[name] = _base_within(skill, maker)
        elif isinstance(skill, InteractiveSkill):
            found[name] = skill
        elif isinstance(skill, McpStdioSkill):
            found[name] = _process_within(name, skill, giver)
        elif isinstance(skill, McpHttpSkill):
            found[name] = _endpoint_within(name, skill, giver)
    return {name: found[name] for name in sorted(found)}


def _base_within(skill: BaseSkill, maker: Expert) -> BaseSkill:
    has = _base_tools(maker)
    omit = {*skill.omit, *(name for name in BASE_TOOLS if name not in has)}
    return skill.model_copy(
        update={"omit": tuple(sorted(omit)), "allowed_domains": (), "required_env": ()}
    )


def _process_within(name: str, skill: McpStdioSkill, maker: Maker) -> Skill:
    """A server that is a process, with nothing that a command of its maker has not."""
    known = _known(name, skill, maker)
    if known is not None:
        return known
    if EXEC not in _base_tools(maker.expert):
        raise _beyond(name, "it runs a program, and you have no tool that runs any")
    if any(_holds_commands(rule, maker.expert) for rule in maker.rules):
        raise _beyond(name, "it runs a program, and rules keep your own commands back")
    own = sandbox_of(maker.expert)
    granted = {grant.name for grant in own.secrets if grant.deliver == "env"}
    missing = [variable for variable in skill.required_env if variable not in granted]
    if missing:
        raise _beyond(name, f"it asks for {missing[0]!r}, which your own commands do not get")
    for domain in skill.allowed_domains:
        if not any(covers(pattern, domain) for pattern in own.allowed_domains):
            raise _beyond(name, f"it reaches {domain!r}, which your own commands do not")
    return skill.model_copy(update={"sampling": "deny", "shared": False})


def _holds_commands(rule: PolicyRule, maker: Expert) -> bool:
    """Whether a rule keeps commands back and would not do so with a skill's tools.

    One for every tool goes for those of the new skill as well.
    """
    everything = rule.skill == ANY and rule.tool == ANY
    asked = Asked(maker.key, BASE_SKILL, EXEC, None)
    return rule.verdict != "allow" and not everything and matches(rule, asked)


def _endpoint_within(name: str, skill: McpHttpSkill, maker: Maker) -> Skill:
    """A server that is reached by HTTP, at a host that its maker's commands reach too."""
    known = _known(name, skill, maker)
    if known is not None:
        return known
    if skill.headers or skill.oauth is not None:
        raise _beyond(name, "it brings headers or a login of its own")
    try:
        host = urlsplit(skill.endpoint).hostname or ""
    except ValueError:
        raise Rejected("invalid_arguments", f"{skill.endpoint!r} is no address") from None
    if not any(covers(pattern, host) for pattern in sandbox_of(maker.expert).allowed_domains):
        raise _beyond(name, f"it reaches {host!r}, which your own commands do not")
    return skill.model_copy(update={"sampling": "deny", "shared": False})


def _known(name: str, skill: McpStdioSkill | McpHttpSkill, maker: Maker) -> Skill | None:
    """The maker's own skill, if it is that very one: with all that was found out about it."""
    own = maker.expert.skills.get(name)
    if not isinstance(own, type(skill)):
        return None
    same = own.model_copy(update={"catalogue": None})
    return own if same == skill.model_copy(update={"catalogue": None}) else None


def _beyond(name: str, why: str) -> Rejected:
    return Rejected("skill_beyond_rights", f"you cannot give the skill {name!r}: {why}")


def _base_tools(expert: Expert) -> Iterable[str]:
    base = expert.skills.get(BASE_SKILL)
    if not isinstance(base, BaseSkill):
        return ()
    return select_base_tools(pick=base.pick, omit=base.omit)
