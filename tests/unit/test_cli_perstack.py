"""Every command and option of `perstack` is here, or the docs say what is instead."""

import re
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from peritus.cli.event_names import SEED, event_types
from peritus.cli.main import build

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"

COMMANDS = ("start", "run", "log", "install", "expert", "application")
COMMANDS_OF_OLD = ("publish", "unpublish", "tag", "status")
RUN_OPTIONS = (
    *("config", "provider", "model", "reasoning-budget", "max-steps", "max-retries", "timeout"),
    *("env-path", "job-id", "continue", "continue-job", "resume-from"),
    *("interactive-tool-call-result", "verbose", "filter", "runtime", "workspace", "env"),
)
LOG_OPTIONS = (
    *("job", "run", "checkpoint", "step", "type", "errors", "tools", "delegations", "filter"),
    *("json", "pretty", "verbose", "take", "offset", "context", "messages", "summary"),
)
EVENTS = (
    *("startRun", "startGeneration", "retry", "callTools", "callInteractiveTool", "callDelegate"),
    *("resolveToolResults", "finishToolCall", "finishAllToolCalls", "continueToNextStep"),
    *("stopRunByInteractiveTool", "stopRunByDelegate", "stopRunByExceededMaxSteps"),
    *("stopRunByError", "completeRun"),
)


def rows() -> dict[str, str]:
    """The table, by what `perstack` has."""
    part = DOCS.read_text().partition("## From `perstack`")[2].partition("\n## ")[0]
    found = dict(re.findall(r"^\| (`.+?) \| (.+) \|$", part, re.MULTILINE))
    assert found
    return found


def options_of(name: str) -> set[str]:
    group = get_command(build())
    assert isinstance(group, TyperGroup)
    command = group.commands[name]
    assert isinstance(command, TyperCommand)
    return {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}


WANTED = [f"run --{name}" for name in RUN_OPTIONS] + [f"log --{name}" for name in LOG_OPTIONS]


@pytest.mark.parametrize("option", WANTED)
def test_every_option_of_perstack_is_in_the_table(option: str) -> None:
    assert rows()[f"`{option}`"]


def test_no_other_option_of_perstack_is_claimed() -> None:
    claimed = {name.strip("`") for name in rows() if " --" in name}
    assert claimed == set(WANTED)


@pytest.mark.parametrize("command", [*COMMANDS, *COMMANDS_OF_OLD])
def test_every_command_of_perstack_is_in_the_table(command: str) -> None:
    assert [name for name in rows() if f"`{command}`" in name]


@pytest.mark.parametrize("option", WANTED)
def test_an_option_that_is_the_same_exists_and_one_that_is_not_does_not(option: str) -> None:
    command, _, flag = option.partition(" ")
    here = rows()[f"`{option}`"]
    same = re.match(r"same `peritus (\w+) (--[a-z-]+)`", here)
    if same is not None:
        assert same.groups() == (command, flag)
        assert flag in options_of(command)
    else:
        assert re.match(r"(none|not yet): .{20,}", here), here
        assert flag not in options_of(command)


def test_every_option_that_the_table_names_exists() -> None:
    named = [
        found
        for text in rows().values()
        for found in re.findall(r"`peritus (\w+) (--[a-z-]+)`", text)
    ]
    assert [one for one in named if one[1] not in options_of(one[0])] == []


def test_every_state_event_of_perstack_can_be_filtered_by() -> None:
    assert sorted(SEED) == sorted(EVENTS)
    assert all(event_types(name) for name in EVENTS)
