"""What an expert can call, for people who look at it before a run: tools with where they lead."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from domain.definition import (
    Definition,
    Expert,
    LocalSkill,
    McpHttpSkill,
    McpStdioSkill,
)
from domain.names import own_name
from domain.policy import STRICTNESS, Asked, PolicyLayer, PolicyRule, Verdict, named
from domain.tools import Lane, LocalTool, ToolEntry, ToolSpec
from domain.toolset import Tool, tools_of

WHERE: Mapping[Lane, str] = {
    Lane.LOOP: "loop",
    Lane.TEAM: "loop",
    Lane.SANDBOX: "sandbox",
    Lane.TOOL: "program",
    Lane.MCP: "tool service",
    Lane.DELEGATE: "delegate",
    Lane.PERSON: "person",
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say of a tool: `verdict`, unless its arguments make it one of `or_by`."""

    verdict: Verdict
    or_by: tuple[Verdict, ...] = ()

    def __str__(self) -> str:
        others = " or ".join(self.or_by)
        return f"{self.verdict}, or {others} by arguments" if others else self.verdict


@dataclass(frozen=True, slots=True)
class ToolRow:
    """One tool: `name` as a model sees it, `of_server` as its server does where that differs."""

    name: str
    skill: str
    where: str
    safety: str
    ruling: Ruling
    description: str
    parameters: Mapping[str, Any]
    of_server: str = ""
    expert: str = ""  # of a delegate
    timeout_ms: int | None = None

    def facts(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return {
            "name": self.name,
            "skill": self.skill,
            "server_name": self.of_server or None,
            "where": self.where,
            "expert": self.expert or None,
            "safety": self.safety,
            "policy": self.ruling.verdict,
            "policy_by_arguments": list(self.ruling.or_by),
            "timeout_ms": self.timeout_ms,
            "description": self.description,
            "schema": self.parameters,
        }


def tool_rows(
    definition: Definition, key: str, operator: tuple[PolicyRule, ...] = ()
) -> list[ToolRow]:
    """All tools of an expert, sorted by name.

    Raises:
        Rejected: there is no such expert, or what its servers offer is not known.
    """
    expert = definition.expert(key)
    layers = (
        PolicyLayer(name="operator", rules=operator),
        PolicyLayer(name="definition", rules=definition.policy),
        PolicyLayer(name="expert", rules=expert.policy),
    )
    tools = tools_of(definition, expert, expert.skills, _stand_ins(expert))
    return [_row(expert, tool, layers) for tool in tools]


def _row(expert: Expert, tool: Tool, layers: Iterable[PolicyLayer]) -> ToolRow:
    entry = tool.entry
    return ToolRow(
        name=entry.name,
        skill=entry.skill,
        where=WHERE[entry.lane],
        safety=entry.safety.value,
        ruling=ruling(layers, expert.key, entry),
        description=tool.spec.description,
        parameters=tool.spec.parameters,
        of_server=_of_server(entry),
        expert=entry.expert or "",
        timeout_ms=entry.timeout_ms,
    )


def _of_server(entry: ToolEntry) -> str:
    """What the server calls it, where that is not the whole of what a model does."""
    if not entry.remote or own_name(entry.remote) == entry.name:
        return ""
    kind, _, name = entry.remote.partition(":")
    return name if kind == "tool" else f"{kind} {name}".strip()


def ruling(layers: Iterable[PolicyLayer], expert: str, entry: ToolEntry) -> Ruling:
    """What the rules of a definition say of a tool, before anybody knows its arguments."""
    found = [_of_layer(layer.rules, expert, entry) for layer in layers]
    verdict = _strictest(one.verdict for one in found)
    others = {
        _strictest([other, *(one.verdict for one in found if one is not layer)])
        for layer in found
        for other in layer.or_by
    }
    return Ruling(verdict, tuple(v for v in STRICTNESS if v in others and v != verdict))


def _strictest(verdicts: Iterable[Verdict]) -> Verdict:
    return max([STRICTNESS[0], *verdicts], key=STRICTNESS.index)


def _of_layer(rules: Iterable[PolicyRule], expert: str, entry: ToolEntry) -> Ruling:
    own = own_name(entry.remote) if entry.remote else ""
    asked = Asked(expert, entry.skill, entry.name, None, own)
    others: list[Verdict] = []
    for rule in rules:
        if not named(rule, asked):
            continue
        if not rule.arguments:
            return Ruling(rule.verdict, tuple(others))
        others.append(rule.verdict)
    return Ruling("allow", tuple(others))


def _stand_ins(expert: Expert) -> dict[str, LocalTool]:
    """Tools that only the program has which registers them: known by their names here."""
    names = {
        name
        for skill in expert.skills.values()
        if isinstance(skill, LocalSkill)
        for name in skill.tools
    }
    text = "The program that embeds Peritus registers this tool."
    return {
        name: LocalTool(spec=ToolSpec(name=name, description=text, parameters={"type": "object"}))
        for name in sorted(names)
    }


def unknown_servers(expert: Expert) -> Iterator[str]:
    """The skills of an expert that nobody knows the tools of."""
    for name, skill in expert.skills.items():
        if isinstance(skill, (McpStdioSkill, McpHttpSkill)) and skill.catalogue is None:
            yield name
