"""What differs between a lockfile and what servers offer now, for people. Not what is wrong."""

import json
from collections.abc import Iterator, Mapping

from domain.definition import Definition
from domain.mcp import Catalogue, RemoteTool
from peritus.definitions.lock import (
    Lock,
    LockedSkill,
    McpSkill,
    changes,
    mcp_skills,
    settings_digest,
    settings_of,
)


def differences(
    lock: Lock, definition: Definition, found: Mapping[tuple[str, str], Catalogue]
) -> Iterator[str]:
    """Every difference of a lock to a definition and what its servers offer now, sorted."""
    skills = {(key, name): skill for key, name, skill in mcp_skills(definition)}
    locked = {
        (key, name): skill
        for key, own in lock.experts.items()
        for name, skill in own.items()
        if skill.whole or (key, name) in skills  # the seed writes down skills of all kinds
    }
    for place in sorted({*skills, *locked}):
        where = f"{place[0]}, {place[1]}"
        if place not in locked:
            yield f"{where}: the skill is new"
        elif place not in skills:
            yield f"{where}: the skill is gone"
        else:
            yield from (
                f"{where}: {line}" for line in _of_skill(locked[place], skills[place], found[place])
            )


def _of_skill(locked: LockedSkill, skill: McpSkill, new: Catalogue) -> Iterator[str]:
    if locked.whole and locked.digest != settings_digest(skill):
        yield from changes(locked.settings, settings_of(skill))
    old = locked.catalogue
    if not locked.whole:
        yield "the lock is one of the seed, which says less than runs are pinned to"
        new = new.model_copy(update={"tools": tuple(t for t in new.tools if t.kind == "tool")})
    else:
        yield from _of_server(old, new)
    before = {tool.remote: tool for tool in old.tools}
    after = {tool.remote: tool for tool in new.tools}
    for remote in sorted({*before, *after}):
        what = named(after.get(remote) or before[remote])
        if remote not in before:
            yield f"{what} is new"
        elif remote not in after:
            yield f"{what} is gone"
        elif changed := _changed(before[remote], after[remote], whole=locked.whole):
            yield f"{what} has another {', '.join(changed)}"


def _of_server(old: Catalogue, new: Catalogue) -> Iterator[str]:
    for what, before, after in (
        ("the server's name", old.server, new.server),
        ("the server's version", old.version, new.version),
        ("the version of the protocol", old.protocol, new.protocol),
        ("the version of its package", old.package, new.package),
    ):
        if before != after:
            yield f"{what} was {before!r} and is {after!r}"


def named(tool: RemoteTool) -> str:
    """A tool as its server knows it, and what kind of thing it is."""
    match tool.kind:
        case "prompt":
            return f"prompt {tool.name!r}"
        case "resources" | "resource":
            return "the way to its resources" if tool.kind == "resources" else "reading resources"
        case _:
            return f"tool {tool.name!r}"


def _changed(old: RemoteTool, new: RemoteTool, *, whole: bool) -> list[str]:
    """What differs; where not the whole was locked, as far as that can be seen."""
    parts = [("description", old.description != new.description)]
    if not whole:
        return [*_names(parts), *_names([("input schema", _plain(old) != _plain(new))])]
    parts += [
        ("input schema", old.input_schema != new.input_schema),
        ("output schema", old.output_schema != new.output_schema),
        ("word on reading only", old.read_only != new.read_only),
        ("word on doing it twice", old.idempotent != new.idempotent),
    ]
    found = _names(parts)
    return found or ([] if old.digest == new.digest else ["order in its schema"])


def _names(parts: list[tuple[str, bool]]) -> list[str]:
    return [name for name, differs in parts if differs]


def _plain(tool: RemoteTool) -> str:
    return json.dumps(tool.input_schema, sort_keys=True)
