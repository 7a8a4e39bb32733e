"""`peritus init`, `validate` and `experts` as people use them, and runs of what `init` writes."""

import json
import re
import shlex
from collections.abc import Generator
from pathlib import Path

import pytest

from peritus.cli.init import FIRST
from tests.e2e.cli_project import Project

pytestmark = [pytest.mark.broker]

SCRIPT = '[[reply]]\ntext = "Hello."\nexpect = "{expect}"\n'

GREETER = """\
[variables]
name = { required = true }

[experts.greeter]
instruction = "Greet {{name}}."
"""


@pytest.fixture
def empty(tmp_path: Path) -> Generator[Project]:
    made = Project(tmp_path)
    yield made
    if (tmp_path / ".peritus" / "endpoint.json").exists():
        assert made.peritus("runs").code == 0  # the last one stops the server


def asked_first(template: str) -> list[str]:
    """The words of the command that `init` proposes."""
    options = ["--provider", "scripted", "--model", "script.toml"]
    return ["run", *shlex.split(FIRST[template]), *options]


@pytest.mark.sandbox
def test_first_example_runs_without_a_key_and_writes_its_file(empty: Project) -> None:
    made = empty.peritus("init")
    assert made.code == 0, made.said
    (line,) = re.findall(r"^    (peritus run .*)$", made.out, re.MULTILINE)
    assert shlex.split(line)[1:] == asked_first("hello")

    outcome = empty.peritus(*asked_first("hello"))

    assert outcome.code == 0, outcome.said
    assert outcome.events[-1]["event"]["result"] == "hello.txt says: Hello, Ada!"
    assert (empty.workspace / "hello.txt").read_text() == "Hello, Ada!\n"
    assert empty.peritus("replay", outcome.run).code == 0


@pytest.mark.sandbox
def test_team_example_delegates_and_is_verified_by_another(empty: Project) -> None:
    assert empty.peritus("init", "--template", "team").code == 0

    outcome = empty.peritus(*asked_first("team"))

    assert outcome.code == 0, outcome.said
    events = [one["event"] for one in outcome.events]
    started = [event for event in events if event["type"].startswith("run.started.")]
    assert sorted(event["expert"] for event in started) == [
        *("@editor/verifier", "@editor/writer", "editor"),
    ]
    assert "The verifier says PASS." in outcome.events[-1]["event"]["result"]
    assert (empty.workspace / "text.md").read_text().startswith("Tea is an infusion.")


def test_example_is_valid_and_its_tree_names_everybody(empty: Project) -> None:
    assert empty.peritus("init", "--template", "team").code == 0
    assert empty.peritus("init", "--template", "team").code == 2
    checked = empty.peritus("validate", "--json")
    assert (checked.code, json.loads(checked.out)["notices"]) == (0, [])
    shown = empty.peritus("experts")
    assert shown.code == 0
    assert [line.split()[-3] for line in shown.out.splitlines() if "anthropic" in line] == [
        *("editor", "@editor/writer", "@editor/verifier"),
    ]


def test_run_pins_the_values_of_its_variables_and_does_not_start_without_one(
    empty: Project,
) -> None:
    empty.write("perstack.toml", GREETER)
    empty.write("script.toml", SCRIPT.format(expect="Go"))
    words = ("run", "greeter", "Go", "--provider", "scripted", "--model", "script.toml")

    missing = empty.peritus(*words)
    assert missing.code == 2
    assert "variable 'name' has no value: give it with --var name=VALUE" in missing.said
    assert not (empty.folder / ".peritus").exists()

    pinned: list[str] = []
    for name in ("Ada", "Ada", "{{name}}"):
        outcome = empty.peritus(*words, "--var", f"name={name}")
        assert outcome.code == 0, outcome.said
        pinned.append(outcome.events[0]["event"]["definition"])
    assert pinned[0] == pinned[1] != pinned[2]


def test_wrong_limits_and_variables_of_the_command_are_bad_usage(empty: Project) -> None:
    empty.write("perstack.toml", GREETER)
    empty.write("script.toml", SCRIPT.format(expect="Go"))
    words = ("run", "greeter", "Go", "--provider", "scripted", "--model", "script.toml")
    for option, value, says in (
        ("--budget", "two", "must be US dollars"),
        ("--wall-time", "90", "must be a text with units"),
        ("--var", "name", "is not NAME=VALUE"),
        ("--var", "nmae=x", "did you mean 'name'?"),
    ):
        outcome = empty.peritus(*words, option, value)
        assert outcome.code == 2, outcome.said
        assert says in outcome.said
        assert not (empty.folder / ".peritus").exists()


def test_limits_of_the_command_go_above_the_definition(empty: Project) -> None:
    empty.write("perstack.toml", '[experts.a]\ninstruction = "x"\n')
    empty.write("script.toml", SCRIPT.format(expect="Go"))
    words = ("run", "a", "Go", "--provider", "scripted", "--model", "script.toml")

    stopped = empty.peritus(*words, "--max-tokens", "1")
    free = empty.peritus(*words, "--budget", "0", "--wall-time", "1h", "--max-depth", "0")
    shown = empty.peritus("experts", "--json")

    assert stopped.code == 4, stopped.said
    assert free.code == 0, free.said
    assert json.loads(shown.out)["limits"]["tokens_max"] is None
