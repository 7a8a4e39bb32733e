"""Finds out what the MCP servers of a definition offer before a run starts. Not how one asks them.

A run is pinned to what its experts' servers offer, so this is known before the start command.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from domain.definition import Definition, TopologySkill, sandbox_of
from domain.errors import PeritusError, Rejected, Unavailable
from domain.mcp import Catalogue, RemoteTool
from domain.record import canonical, digest_of
from peritus.definitions.lock import (
    Lock,
    McpSkill,
    mcp_skills,
    pin,
    settings_digest,
    with_catalogues,
)

__all__ = [
    "DISCOVERIES_MAX",
    "Discover",
    "McpSkill",
    "SkillsNotResolved",
    "catalogues_of",
    "reached",
    "resolve",
]

DISCOVERIES_MAX = 4
"""How many servers are asked at once: each may be a process that is first fetched and installed."""

Discover = Callable[[str, str, McpSkill], Awaitable[Catalogue]]
"""Asks the server of a skill, given the expert, the skill's name and the skill.

Raises SkillFailed, Unavailable or Rejected: it cannot be asked; the message says why.
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nobody knows what one skill offers."""

    expert: str
    skill: str
    reason: str
    temporary: bool = False

    def __str__(self) -> str:
        return f"skill {self.skill!r} of expert {self.expert!r}: {self.reason}"


class SkillsNotResolved(Rejected):
    """No run can start: `failures` says of every skill in the way why it is."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = tuple(failures)
        super().__init__("skill_not_resolved", "\n".join(map(str, failures)))


async def resolve(
    definition: Definition, lock: Lock | None, discover: Discover, *, wanted: str | None = None
) -> Definition:
    """The definition with what every MCP server offers: what the lock knows, else what it says now.

    `wanted` is the expert that is to run: servers of experts that it never reaches are not asked.
    A server that several experts have alike is asked once.

    Raises:
        SkillsNotResolved: some cannot be asked, or are not what the lock says; all are named.
        Unavailable: the same, where trying again may help with every one of them.
    """
    names = set(definition.experts) if wanted is None else reached(definition, wanted)
    failures: list[Failure] = []
    if lock is not None:
        pinned = pin(definition, lock)
        definition = pinned.definition
        failures += [
            Failure(expert, skill, reason)
            for (expert, skill), reason in pinned.faults.items()
            if expert in names
        ]
    if failures:
        raise SkillsNotResolved(failures)  # before any server is started
    found = await catalogues_of(definition, discover, names)
    if lock is not None:
        _raise_any(_not_as_locked(found, lock))
    return with_catalogues(definition, found)


async def catalogues_of(
    definition: Definition, discover: Discover, names: Collection[str] | None = None
) -> dict[tuple[str, str], Catalogue]:
    """What every MCP server of these experts offers, by expert and skill, as far as not known.

    Raises:
        SkillsNotResolved: some cannot be asked; all are named.
        Unavailable: the same, where trying again may help with every one of them.
    """
    servers = _alike(definition, definition.experts if names is None else names)
    found, failures = await _ask_all(servers, discover)
    _raise_any(failures)
    return found


def _raise_any(failures: Sequence[Failure]) -> None:
    told = sorted(failures, key=lambda one: (one.expert, one.skill))
    if told and all(failure.temporary for failure in told):
        raise Unavailable("\n".join(map(str, told)))
    if told:
        raise SkillsNotResolved(told)


def reached(definition: Definition, expert: str) -> set[str]:
    """The experts that a run of one may come to; all, where one may choose its own delegates.

    Raises:
        Rejected: there is no such expert.
    """
    found: set[str] = set()
    waiting = [expert]
    while waiting:
        key = waiting.pop()
        if key in found:
            continue
        found.add(key)
        one = definition.expert(key)
        if any(isinstance(skill, TopologySkill) for skill in one.skills.values()):
            return set(definition.experts)
        waiting += one.delegates
    return found


@dataclass(frozen=True, slots=True)
class _Server:
    """One server, and the expert and name of every skill that is it; the first one asks."""

    skill: McpSkill
    places: list[tuple[str, str]]


def _alike(definition: Definition, names: Collection[str]) -> list[_Server]:
    """The servers nobody has asked yet. Where one runs is a part of what it is."""
    servers: dict[tuple[str, str], _Server] = {}
    for expert, name, skill in mcp_skills(definition):
        if skill.catalogue is None and expert in names:
            box = digest_of(canonical(sandbox_of(definition.experts[expert])))
            server = servers.setdefault((settings_digest(skill), box), _Server(skill, []))
            server.places.append((expert, name))
    return list(servers.values())


async def _ask_all(
    servers: Sequence[_Server], discover: Discover
) -> tuple[dict[tuple[str, str], Catalogue], list[Failure]]:
    found: dict[tuple[str, str], Catalogue] = {}
    failures: list[Failure] = []
    turns = asyncio.Semaphore(DISCOVERIES_MAX)

    async def ask(server: _Server) -> None:
        expert, name = server.places[0]
        async with turns:
            try:
                catalogue = await discover(expert, name, server.skill)
            except PeritusError as error:
                away = isinstance(error, Unavailable)
                reason = str(error).removeprefix(f"skill {name!r} of expert {expert!r}: ")
                failures.extend(Failure(*place, reason, away) for place in server.places)
                return
        found.update(dict.fromkeys(server.places, catalogue))

    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(ask(server))
    return found, failures


def _not_as_locked(found: Mapping[tuple[str, str], Catalogue], lock: Lock) -> list[Failure]:
    """Servers that differ from a lock of the seed, as far as such a lock says anything."""
    failures: list[Failure] = []
    for (expert, name), catalogue in found.items():
        locked = lock.find(expert, name)
        if locked is None:
            continue
        differing = sorted(_seen_by_seed(locked.catalogue) ^ _seen_by_seed(catalogue))
        tools = ", ".join(dict.fromkeys(name for name, _ in differing))
        if differing:
            reason = f"it is not what {lock.shown} says any more ({tools}): run `peritus lock`"
            failures.append(Failure(expert, name, reason))
    return failures


def _seen_by_seed(catalogue: Catalogue) -> set[tuple[str, str]]:
    return {(tool.name, _plain(tool)) for tool in catalogue.tools if tool.kind == "tool"}


def _plain(tool: RemoteTool) -> str:
    """What the seed wrote down of a tool; its tables are in an order of their own."""
    return json.dumps([tool.description, tool.input_schema], sort_keys=True)
