"""Puts what a lockfile knows into the experts of a definition, and says what does not fit."""

from collections.abc import Mapping
from pathlib import Path

from domain.definition import Definition, Expert
from domain.mcp import Catalogue
from peritus.definitions.lines import Loc
from peritus.definitions.lock import TO_MEND, Lock, McpSkill, mcp_skills, pin
from peritus.definitions.lock_file import read_lock
from peritus.definitions.problems import DefinitionError
from peritus.definitions.report import Report, did_you_mean, place


def lock_path(config: Path) -> Path:
    """Where the lock of a definition file is: beside it, by its name."""
    return config.with_suffix(".lock")


def lock_beside(report: Report, config: Path) -> Lock | None:
    """The lock of a definition file; None where there is none, or it is wrong and reported."""
    try:
        return read_lock(lock_path(config))
    except DefinitionError as error:
        report.add(*error.problems)
        return None


def pin_experts(
    report: Report, experts: Mapping[str, Expert | None], lock: Lock | None
) -> dict[str, Expert | None]:
    """The experts with what the lock knows of their skills; what does not fit is reported."""
    known = Definition(experts={key: one for key, one in experts.items() if one is not None})
    if lock is not None:
        pinned = pin(known, lock)
        for (key, name), fault in pinned.faults.items():
            report.error(_at(key, name), f"skill {name!r} is not as it was locked: {fault}")
        for key, name in pinned.partial[:1]:
            message = f"{lock.shown} is one of the seed, so servers are asked at each start"
            report.notice(_at(key, name), f"{message}: {TO_MEND} to start without")
        known = pinned.definition
    for key, name, skill in mcp_skills(known):
        if skill.catalogue is not None:
            _check_tools(report, skill, skill.catalogue, _at(key, name))
    return {key: known.experts.get(key) for key in experts}


def tell_unlocked(report: Report, experts: Mapping[str, Expert | None]) -> None:
    """Tell, once, that servers are asked at each start because there is no lock."""
    known = Definition(experts={key: one for key, one in experts.items() if one is not None})
    loose = [(key, name) for key, name, skill in mcp_skills(known) if skill.catalogue is None]
    if loose:
        what = "its server is" if len(loose) == 1 else f"{len(loose)} servers are"
        message = f"{what} asked for tools at each start: {TO_MEND} to start without, and pinned"
        report.notice(_at(*loose[0]), message)


def _check_tools(report: Report, skill: McpSkill, catalogue: Catalogue, loc: Loc) -> None:
    """Report tools that the server does not have: `omit` would not keep them out."""
    names = sorted({tool.name for tool in catalogue.tools})
    said: list[tuple[Loc, str]] = [
        *((("pick", index), name) for index, name in enumerate(skill.pick)),
        *((("omit", index), name) for index, name in enumerate(skill.omit)),
        *((("tools", name), name) for name in skill.overrides),
    ]
    for where, name in said:
        if name not in names:
            hint = did_you_mean(name, names) or f"; it has {', '.join(names) or 'none'}"
            message = f"{place((*loc, *where))}: the server has no tool {name!r}{hint}"
            report.error((*loc, *where), message)


def _at(expert: str, skill: str) -> Loc:
    return ("experts", expert, "skills", skill)
