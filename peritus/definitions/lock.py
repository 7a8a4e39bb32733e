"""What a lockfile says the MCP servers of a definition offer. Not how it is written or checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from domain.definition import Definition, McpHttpSkill, McpStdioSkill
from domain.mcp import Catalogue
from domain.record import canonical, digest_of
from services.sandbox.packages.request import pinned

LOCK_NAME = "perstack.lock"
"""The file beside a definition file that holds its lock."""

SHOWN_CHARS_MAX = 80
"""How much is shown of a setting that changed."""

TO_MEND = "run `peritus lock`"

McpSkill = McpStdioSkill | McpHttpSkill


@dataclass(frozen=True, slots=True)
class LockedSkill:
    """What was found of one MCP skill: how it was started then, and what its server offered."""

    settings: Mapping[str, Any]
    catalogue: Catalogue
    digest: str = ""  # of the settings; empty in a lockfile of the seed, which has none

    @property
    def whole(self) -> bool:
        """Whether everything is known of it: the seed wrote down a part only."""
        return bool(self.digest)


@dataclass(frozen=True, slots=True)
class Lock:
    """One lockfile. `shown` is its path, as people read it."""

    shown: str = LOCK_NAME
    experts: Mapping[str, Mapping[str, LockedSkill]] = field(
        default_factory=dict[str, Mapping[str, LockedSkill]]
    )

    def find(self, expert: str, skill: str) -> LockedSkill | None:
        """What it says of a skill; None if nothing."""
        return self.experts.get(expert, {}).get(skill)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A definition with what a lock knows put in, and why the rest is not."""

    definition: Definition
    faults: Mapping[tuple[str, str], str]  # by expert and skill: what the lock has wrong
    partial: tuple[tuple[str, str], ...]  # of which the lock knows a part only


def mcp_skills(definition: Definition) -> Iterator[tuple[str, str, McpSkill]]:
    """Every MCP skill with the keys of its expert and of itself, sorted."""
    for key in sorted(definition.experts):
        skills = definition.experts[key].skills
        for name in sorted(skills):
            skill = skills[name]
            if isinstance(skill, (McpStdioSkill, McpHttpSkill)):
                yield key, name, skill


def settings_of(skill: McpSkill) -> dict[str, Any]:
    """The settings that decide what a server offers, as a definition file has them.

    Which of its tools are used, and how long they may take, is not among them: a lock stays good
    when that is changed. What its server is told of us is: some offer more to who lets them ask.
    """
    told = {} if skill.sampling == "deny" else {"sampling": skill.sampling}
    if isinstance(skill, McpStdioSkill):
        return {
            "type": "mcpStdioSkill",
            "command": skill.command,
            "args": list(skill.args),
            "requiredEnv": list(skill.required_env),
            **({"env": dict(skill.env)} if skill.env else {}),
            "allowedDomains": list(skill.allowed_domains),
            **told,
            **({"shared": True} if skill.shared else {}),
        }
    oauth = None if skill.oauth is None else skill.oauth.model_dump(mode="json", exclude_none=True)
    return {
        "type": "mcpSseSkill" if skill.transport == "sse" else "mcpHttpSkill",
        "endpoint": skill.endpoint,
        "headers": {name: skill.headers[name] for name in sorted(skill.headers)},
        **({} if oauth is None else {"oauth": oauth}),
        "allowedDomains": list(skill.allowed_domains),
        **told,
    }


def settings_digest(skill: McpSkill) -> str:
    """Two skills of one digest are the same server, started or reached in the same way."""
    return digest_of(canonical(settings_of(skill)))


def pin(definition: Definition, lock: Lock) -> Pinned:
    """Give every MCP skill that has no catalogue the one that the lock has for it."""
    found: dict[tuple[str, str], Catalogue] = {}
    faults: dict[tuple[str, str], str] = {}
    partial: list[tuple[str, str]] = []
    for expert, name, skill in mcp_skills(definition):
        if skill.catalogue is not None:
            continue
        locked = lock.find(expert, name)
        if locked is None:
            faults[expert, name] = f"{lock.shown} does not have it: {TO_MEND}"
        elif not locked.whole:
            partial.append((expert, name))
        elif locked.digest != settings_digest(skill):
            changed = "; ".join(changes(locked.settings, settings_of(skill))) or "its settings"
            faults[expert, name] = (
                f"it was changed since {lock.shown} was written ({changed}): {TO_MEND}"
            )
        else:
            found[expert, name] = locked.catalogue
    return Pinned(with_catalogues(definition, found), faults, tuple(partial))


def with_catalogues(
    definition: Definition, found: Mapping[tuple[str, str], Catalogue]
) -> Definition:
    """The definition with catalogues put in, by expert and skill.

    A server of a package is from then on of the version that it was found in.
    """
    if not found:
        return definition
    experts = dict(definition.experts)
    for (expert, name), catalogue in found.items():
        old = experts[expert]
        skill = old.skills[name]
        known: dict[str, Any] = {"catalogue": catalogue}
        if isinstance(skill, McpStdioSkill) and catalogue.package:
            known["args"] = pinned(skill.command, skill.args, catalogue.package)
        skills = {**old.skills, name: skill.model_copy(update=known)}
        experts[expert] = old.model_copy(update={"skills": skills})
    return definition.model_copy(update={"experts": experts})


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two settings, key by key, for people."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old == new or (not old and not new):
            continue
        if old is None:
            yield f"{key} is new"
        elif new is None:
            yield f"{key} is gone"
        else:
            was, now_is = _apart(repr(old), repr(new))
            yield f"{key} was {was} and is {now_is}"


def _apart(old: str, new: str) -> tuple[str, str]:
    """Two texts as they are, or from shortly before they begin to differ where they are long."""
    start = 0
    if max(len(old), len(new)) > SHOWN_CHARS_MAX:
        alike = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
        )
        start = max(0, alike - SHOWN_CHARS_MAX // 4)
    return _cut(old, start), _cut(new, start)


def _cut(text: str, start: int) -> str:
    end = start + SHOWN_CHARS_MAX
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"
