"""Reads and writes the text of a lockfile. Not whether it still fits its definition.

The seed's form, with what a run has to be pinned to added: its own lockfiles are read, too.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from domain.definition import Definition
from domain.mcp import Catalogue, RemoteTool, ToolKind
from domain.topology import name_of
from peritus.definitions.lock import (
    TO_MEND,
    Lock,
    LockedSkill,
    McpSkill,
    mcp_skills,
    settings_digest,
    settings_of,
)
from peritus.definitions.problems import DefinitionError, Problem
from peritus.definitions.sources import FILE_BYTES_MAX, shown_path
from peritus.definitions.toml_text import key_text, toml_value

VERSION = "1"

_HEAD = """\
# What the MCP servers of {config} offer, as `peritus lock` found it. Not to be edited by hand.
# Keep it with {config}: runs then start without asking any server, and are pinned to this.
"""


class _Part(BaseModel):
    """A table of a lockfile. What else the seed writes into it is passed over."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class _Tool(_Part):
    skill_name: str
    name: str
    description: str = ""
    input_schema: dict[str, Any] | str
    kind: ToolKind = "tool"
    output_schema: dict[str, Any] | str | None = None
    read_only: bool = False
    idempotent: bool = False
    digest: str = ""


class _Skill(_Part):
    model_config = ConfigDict(extra="allow")

    digest: str = ""
    server: str = ""
    server_version: str = ""
    protocol: str = ""
    package_version: str = ""


class _Expert(_Part):
    skills: dict[str, _Skill] = Field(default_factory=dict[str, _Skill])
    tool_definitions: list[_Tool] = Field(default_factory=list[_Tool])


class _File(_Part):
    version: str | int
    experts: dict[str, _Expert] = Field(default_factory=dict[str, _Expert])


def read_lock(path: Path) -> Lock | None:
    """The lockfile at a path; None if none is there.

    Raises:
        DefinitionError: it cannot be read; the message says what to do.
    """
    shown = shown_path(path)
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(shown, error.strerror or type(error).__name__) from None
    if len(data) > FILE_BYTES_MAX:
        raise _unreadable(shown, f"it has more than {FILE_BYTES_MAX} bytes")
    try:
        file_table = _File.model_validate(tomllib.loads(data.decode()))
        if str(file_table.version) != VERSION:
            raise _unreadable(shown, f"it is of version {file_table.version}, not {VERSION}")
        experts = {
            key: dict(_skills(shown, key, table)) for key, table in file_table.experts.items()
        }
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _unreadable(shown, f"{where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise _unreadable(shown, str(error)) from None
    return Lock(shown, experts)


def lock_text(
    definition: Definition,
    found: Mapping[tuple[str, str], Catalogue],
    config: str,
    generated_ms: int,
) -> str:
    """The lockfile of a definition as it is written, and of what its servers were found to offer.

    `found` has every MCP skill, by expert and name. Only the time differs between two of the same.
    """
    lines = [
        _HEAD.format(config=config).rstrip("\n"),
        f"version = {toml_value(VERSION)}",
        f"generatedAt = {generated_ms}",
        f"configPath = {toml_value(config)}",
    ]
    skills: dict[str, list[tuple[str, McpSkill]]] = {}
    for key, name, skill in mcp_skills(definition):
        skills.setdefault(key, []).append((name, skill))
    for key, own in skills.items():
        head = f"experts.{key_text(key)}"
        version = definition.experts[key].version
        lines += ["", f"[{head}]", f"key = {toml_value(key)}", f"name = {toml_value(name_of(key))}"]
        lines.append(f"version = {toml_value(version)}")
        for name, skill in own:
            lines += [
                "",
                f"[{head}.skills.{key_text(name)}]",
                *_skill_lines(skill, found[key, name]),
            ]
        for name, _ in own:
            for tool in _sorted(found[key, name]):
                lines += ["", f"[[{head}.toolDefinitions]]", *_tool_lines(name, tool)]
    return "\n".join(lines) + "\n"


def _skill_lines(skill: McpSkill, catalogue: Catalogue) -> Iterator[str]:
    for key, value in settings_of(skill).items():
        yield f"{key_text(key)} = {toml_value(value)}"
    if catalogue.package:
        yield f"packageVersion = {toml_value(catalogue.package)}"
    yield f"server = {toml_value(catalogue.server)}"
    yield f"serverVersion = {toml_value(catalogue.version)}"
    yield f"protocol = {toml_value(catalogue.protocol)}"
    yield f"digest = {toml_value(settings_digest(skill))}"


def _tool_lines(skill: str, tool: RemoteTool) -> Iterator[str]:
    yield f"skillName = {toml_value(skill)}"
    yield f"name = {toml_value(tool.name)}"
    yield f"kind = {toml_value(tool.kind)}"
    yield f"description = {toml_value(tool.description)}"
    yield f"inputSchema = {_schema_text(tool.input_schema)}"
    if tool.output_schema is not None:
        yield f"outputSchema = {_schema_text(tool.output_schema)}"
    yield f"readOnly = {toml_value(tool.read_only)}"
    yield f"idempotent = {toml_value(tool.idempotent)}"
    yield f"digest = {toml_value(tool.digest)}"


def _schema_text(schema: Mapping[str, Any]) -> str:
    """A schema as a table; as a text of JSON where it holds what TOML has not."""
    try:
        text = toml_value(schema)
    except ValueError:
        return toml_value(json.dumps(schema, ensure_ascii=False))
    return text


def _skills(shown: str, expert: str, table: _Expert) -> Iterator[tuple[str, LockedSkill]]:
    names = dict.fromkeys([*table.skills, *(tool.skill_name for tool in table.tool_definitions)])
    for name in names:
        skill = table.skills.get(name, _Skill())
        tools = [
            _tool(shown, expert, tool) for tool in table.tool_definitions if tool.skill_name == name
        ]
        catalogue = Catalogue(
            server=skill.server,
            version=skill.server_version,
            protocol=skill.protocol,
            tools=tuple(tools),
            package=skill.package_version,
        )
        catalogue = catalogue.model_copy(update={"tools": _sorted(catalogue)})
        yield name, LockedSkill(skill.model_extra or {}, catalogue, skill.digest)


def _tool(shown: str, expert: str, table: _Tool) -> RemoteTool:
    tool = RemoteTool(
        kind=table.kind,
        name=table.name,
        description=table.description,
        input_schema=_schema(table.input_schema),
        output_schema=None if table.output_schema is None else _schema(table.output_schema),
        read_only=table.read_only,
        idempotent=table.idempotent,
    )
    if table.digest and table.digest != tool.digest:
        where = f"tool {tool.name!r} of skill {table.skill_name!r} of expert {expert!r}"
        raise _unreadable(shown, f"{where} is not what was found: it was changed by hand")
    return tool


def _schema(raw: dict[str, Any] | str) -> dict[str, Any]:
    value: object = json.loads(raw) if isinstance(raw, str) else raw
    if not isinstance(value, dict):
        msg = "a schema is no table"
        raise ValueError(msg)  # noqa: TRY004 - of a file's content, as all others
    return cast("dict[str, Any]", value)


def _sorted(catalogue: Catalogue) -> tuple[RemoteTool, ...]:
    return tuple(sorted(catalogue.tools, key=lambda tool: (tool.kind, tool.name)))


def _unreadable(shown: str, why: str) -> DefinitionError:
    return DefinitionError([Problem(shown, 0, f"the lock cannot be used: {why}: {TO_MEND}")])
