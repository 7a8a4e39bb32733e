"""Which expert may delegate to which, and the names of the tools for it. Not how one delegates."""

from collections.abc import Mapping
from typing import cast

from domain.context import TOOL_NAME, is_delegate
from domain.definition import Skill, delegate_tool_name
from peritus.definitions.fields import EXPERT_KEY, EXPERT_KEY_CHARS_MAX
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report, did_you_mean
from peritus.definitions.skills import tool_names


def check_key(report: Report, key: str) -> None:
    """Report a key that is not `[@scope/]name[@version|@tag]`."""
    if EXPERT_KEY.fullmatch(key) is None or len(key) > EXPERT_KEY_CHARS_MAX:
        message = (
            f"{key!r} is not the key of an expert: [@scope/]name[@version|@tag], lower-case "
            f"letters, digits, '-', '_' and '.', at most {EXPERT_KEY_CHARS_MAX} characters"
        )
        report.error(("experts", key), message)


def check_delegates(
    report: Report, key: str, experts: Mapping[str, object], skills: Mapping[str, Skill]
) -> None:
    """Report delegates that do not exist, must not be called from here, or share a tool's name."""
    taken = {tool: f"skill {name!r}" for name in skills for tool in tool_names(skills[name])}
    for index, delegate in enumerate(_delegates(experts[key])):
        loc: Loc = ("experts", key, "delegates", index)
        if delegate not in experts:
            hint = did_you_mean(delegate, experts) or "; experts cannot be fetched from a registry"
            report.error(loc, f"expert {delegate!r} is not in this file{hint}")
            continue
        reason = _forbidden(key, delegate)
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


def _delegates(raw: object) -> list[str]:
    """The delegates as written, as far as they are texts: anything else is reported elsewhere."""
    delegates = cast("dict[str, object]", raw).get("delegates") if isinstance(raw, dict) else None
    if not isinstance(delegates, list):
        return []
    return [item for item in cast("list[object]", delegates) if isinstance(item, str)]


def _forbidden(key: str, delegate: str) -> str | None:
    """Why an edge is not allowed: delegates belong to one coordinator; calls go down or across."""
    if key == delegate:
        return "an expert cannot delegate to itself"
    scope, name = _parts(key)
    to_scope, to_name = _parts(delegate)
    if to_scope and to_scope != (scope or name):
        return f"it is a delegate of {to_scope!r} only"
    if scope and not to_scope and to_name == scope:
        return "a delegate cannot call its own coordinator"
    return None


def _parts(key: str) -> tuple[str, str]:
    """Scope and name of a key, without version or tag; a coordinator has no scope."""
    if is_delegate(key):
        scope, _, rest = key[1:].partition("/")
        return scope, rest.partition("@")[0]
    return "", key.partition("@")[0]
