"""Projects with servers nobody here wrote, and what their models say. Not the tests."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peritus.definitions.toml_text import toml_value
from tests.e2e.cli_project import Outcome, Project, scripted
from tests.support.processes import processes_with
from tests.support.registries import EVERYTHING

WORD = f"seen-by-{os.getpid()}"
"""On the command line of each server-everything of this process's tests."""

HELPER = """\
[experts.helper]
description = "Helps."
instruction = "Help."
"""


def npx(name: str, package: str, *args: str) -> str:
    """The table of a skill that is an npm package; keys may follow it."""
    return _skill(name, "npx", ("-y", package, *args))


def uvx(name: str, package: str, *args: str) -> str:
    """The table of a skill that is a Python package; keys may follow it."""
    return _skill(name, "uvx", (package, *args))


def _skill(name: str, command: str, args: Sequence[str]) -> str:
    return (
        f"[experts.helper.skills.{name}]\n"
        f'type = "mcpStdioSkill"\ncommand = "{command}"\nargs = {json.dumps(list(args))}\n'
    )


EVERYTHING_SKILL = npx("everything", EVERYTHING, "stdio", WORD)


@dataclass(frozen=True)
class Turn:
    """What a model says, if what it was told last holds all of `expect`."""

    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    expect: tuple[str, ...] = ()
    more: str = ""

    def toml(self, table: str) -> str:
        lines = [f"[[{table}]]", 'text = "Go on."' if self.calls else 'text = "It is done."']
        lines.append(f"expect = {json.dumps(self.expect, ensure_ascii=False)}")
        lines.append(self.more)
        for tool, arguments in self.calls:
            text = toml_value(json.dumps(arguments))
            lines += [f"[[{table}.call]]", f"tool = {json.dumps(tool)}", f"arguments_text = {text}"]
        return "\n".join(lines)


def call(tool: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return (tool, arguments)


def turn(*calls: tuple[str, dict[str, Any]], expect: Sequence[str] = (), more: str = "") -> Turn:
    return Turn(calls, tuple(expect), more)


def script_of(*turns: Turn, sampled: Sequence[Turn] = ()) -> str:
    """A script of what the helper says, and of what its model says to servers that ask it."""
    own = [one.toml("experts.helper.reply") for one in turns]
    return "\n\n".join([*own, *(one.toml("reply") for one in sampled)]) + "\n"


def played(project: Project, *turns: Turn, sampled: Sequence[Turn] = ()) -> Outcome:
    """A run in which the model says that, to its end; it has completed, and its replay is as it."""
    project.write("script.toml", script_of(*turns, sampled=sampled))
    outcome = project.peritus("run", "helper", "Go", *scripted("script.toml"), "--json")
    assert outcome.code == 0, outcome.said
    verified(project, outcome.run)
    return outcome


def verified(project: Project, run: str) -> None:
    """Each request of a run is what its log says it was."""
    replayed = project.peritus("replay", run)
    assert replayed.code == 0, replayed.out + replayed.said
    assert "requests verified" in replayed.out


def ended(outcome: Outcome) -> list[dict[str, Any]]:
    """How calls ended, in the order they were asked for."""
    order = [
        one["event"]["call"]
        for one in outcome.events
        if one["event"]["type"] == "tool_call.requested.v2"
    ]
    found = [one["event"] for one in outcome.events if one["event"]["type"] == "tool_call.ended.v1"]
    return sorted(found, key=lambda one: order.index(one["call"]))


def text_of(event: dict[str, Any]) -> str:
    """What the model reads of a call."""
    return "\n".join(part["text"] for part in event["content"] if part["kind"] == "text")


def servers() -> list[int]:
    """The processes of server-everything that this process's tests started."""
    return [pid for pid in processes_with(WORD) if pid != os.getpid()]
