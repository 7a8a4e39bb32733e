"""Whether the delegates and tools of an expert fit together in its file. Not how one delegates."""

from collections.abc import Mapping
from typing import cast

from domain.definition import Skill, delegate_tool_name
from domain.names import TOOL_NAME
from domain.topology import edge_problem, find_cycles, key_problem
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report, did_you_mean
from peritus.definitions.skills import tool_names


def check_key(report: Report, key: str) -> None:
    """Report a key that is not `[@scope/]name[@version|@tag]`."""
    problem = key_problem(key)
    if problem is not None:
        report.error(("experts", key), problem)


def check_delegates(
    report: Report, key: str, experts: Mapping[str, object], skills: Mapping[str, Skill]
) -> None:
    """Report delegates that do not exist, must not be called from here, or share a tool's name."""
    taken = {tool: f"skill {name!r}" for name in skills for tool in tool_names(skills[name])}
    for index, delegate in enumerate(delegates_of(experts[key])):
        loc: Loc = ("experts", key, "delegates", index)
        if delegate not in experts:
            hint = did_you_mean(delegate, experts) or "; experts cannot be fetched from a registry"
            report.error(loc, f"expert {delegate!r} is not in this file{hint}")
            continue
        reason = edge_problem(key, delegate)
        if reason is not None:
            report.error(loc, f"{key!r} cannot delegate to {delegate!r}: {reason}")
            continue
        tool = delegate_tool_name(delegate)
        if TOOL_NAME.fullmatch(tool) is None:
            report.error(
                loc,
                f"the tool for {delegate!r} would be called {tool!r}, which models do not take: "
                "use 1 to 64 letters, digits, '-' or '_' characters",
            )
        elif tool in taken:
            message = f"the tool for {delegate!r} would be called {tool!r}, as one of {taken[tool]}"
            report.error(loc, message)
        else:
            taken[tool] = f"delegate {delegate!r}"


def check_tools(report: Report, key: str, skills: Mapping[str, Skill]) -> None:
    """Report tools of two skills that have the same name."""
    taken: dict[str, str] = {}
    for name in sorted(skills):
        for tool in sorted(tool_names(skills[name])):
            other = taken.setdefault(tool, name)
            if other != name:
                message = f"skills {other!r} and {name!r} both have a tool {tool!r}"
                report.error(("experts", key, "skills", name), message)


def tell_cycles(report: Report, experts: Mapping[str, object]) -> None:
    """Tell of experts that can call each other without an end: only the depth bounds them."""
    edges = {key: delegates_of(raw) for key, raw in experts.items()}
    for cycle in find_cycles(edges):
        way = " -> ".join([*cycle, cycle[0]])
        message = f"experts can call each other in a circle, which only depthMax bounds: {way}"
        report.notice(("experts", cycle[0], "delegates"), message)


def delegates_of(raw: object) -> list[str]:
    """The delegates as written, as far as they are texts: anything else is reported elsewhere."""
    delegates = cast("dict[str, object]", raw).get("delegates") if isinstance(raw, dict) else None
    if not isinstance(delegates, list):
        return []
    return [item for item in cast("list[object]", delegates) if isinstance(item, str)]
