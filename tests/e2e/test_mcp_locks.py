"""Servers nobody here wrote, with a lock and without: what is started when, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.cli_project import Project, scripted
from tests.e2e.conftest import Locked
from tests.e2e.mcp_project import (
    EVERYTHING_SKILL,
    HELPER,
    WORD,
    call,
    ended,
    played,
    script_of,
    servers,
    text_of,
    turn,
    verified,
)

pytestmark = [pytest.mark.broker, pytest.mark.sandbox, pytest.mark.registries]

DEFINITION = HELPER + EVERYTHING_SKILL
SAID = "Echoes back the input string"
WAITS = call("exec", command="bash", args=["-c", "until [ -e go ]; do sleep 0.05; done"])


@pytest.fixture
def everything(shop: Project, locked: Locked) -> Project:
    """A helper that has the server, with a lock."""
    shop.write("perstack.toml", DEFINITION)
    shop.write("perstack.lock", locked(DEFINITION))
    return shop


@pytest.fixture
def bare(everything: Project, tmp_path: Path) -> Project:
    """The same on a machine that has no packages, and fetches none: no server can be started."""
    none = {"PERITUS_PACKAGES_DIR": str(tmp_path / "none"), "PERITUS_PACKAGES_FETCH": "false"}
    return replace(everything, settings={**everything.settings, **none})


def tampered(change: Callable[[str], str]) -> Callable[[Project], None]:
    """Changes what the lock says of the tool `echo`."""

    def write(project: Project) -> None:
        head, name, rest = (project.folder / "perstack.lock").read_text().partition('"echo"')
        tool, gap, others = rest.partition("\n\n")
        project.write("perstack.lock", head + name + change(tool) + gap + others)

    return write


def without_digest(tool: str) -> str:
    """A description that nobody can tell from the one that was found, until its server is asked."""
    lines = tool.replace(SAID, "Sends the input string on").splitlines()
    return "\n".join(line for line in lines if not line.startswith("digest"))


def test_with_a_lock_a_run_starts_where_no_server_can_be_started(bare: Project) -> None:
    outcome = played(bare, turn(call("echo", message="hello")), turn(expect=("is not here",)))

    pinned = outcome.events[1]["event"]
    assert {"echo", "get-sum", "prompt_args-prompt"} <= {tool["name"] for tool in pinned["tools"]}
    (called,) = ended(outcome)
    assert (called["outcome"], called["is_error"]) == ("failed", True)
    assert "PERITUS_PACKAGES_FETCH" in text_of(called)


def test_without_a_lock_such_a_run_does_not_start(bare: Project) -> None:
    (bare.folder / "perstack.lock").unlink()

    refused = bare.run("hello.toml", "--json")

    assert (refused.code, refused.out) == (6, "")
    assert "skill 'everything' of expert 'helper': it could not be started" in refused.said


def test_with_a_lock_no_server_runs_before_the_first_call_of_it(everything: Project) -> None:
    everything.write(
        "script.toml",
        script_of(
            turn(WAITS), turn(call("get-sum", a=1, b=2)), turn(expect=("The sum of 1 and 2 is 3.",))
        ),
    )
    running = everything.start("run", "helper", "Go", *scripted("script.toml"), "--json")
    placed = running.until("sandbox.placed.v1")
    assert servers() == []
    everything.workspace.joinpath("go").touch()
    running.until("run.completed.v2")

    assert running.end() == 0, running.said
    assert "asked for tools" not in running.said
    assert servers() == []
    verified(everything, placed["run"])


def test_without_a_lock_its_server_is_asked_before_the_start_and_is_gone_then(
    everything: Project,
) -> None:
    (everything.folder / "perstack.lock").unlink()
    everything.write("script.toml", script_of(turn(WAITS), turn()))

    running = everything.start("run", "helper", "Go", *scripted("script.toml"), "--json")
    pinned = running.until("context.pinned.v2")["event"]
    running.until("sandbox.placed.v1")

    assert "its server is asked for tools at each start" in running.said
    assert "echo" in {tool["name"] for tool in pinned["tools"]}
    assert servers() == []
    everything.workspace.joinpath("go").touch()
    assert running.end() == 0, running.said


def test_a_lock_in_which_a_tool_was_changed_is_refused_by_its_name(everything: Project) -> None:
    tampered(lambda tool: tool.replace(SAID, "Sends the input string on"))(everything)

    refused = everything.run("hello.toml", "--json")
    checked = everything.peritus("lock", "--check")

    assert (refused.code, refused.out) == (2, "")
    assert "tool 'echo' of skill 'everything' of expert 'helper'" in refused.said
    assert "it was changed by hand" in refused.said
    assert checked.code == 2
    assert "tool 'echo'" in checked.said


def test_a_change_that_no_lock_can_tell_is_found_by_its_server_before_the_call(
    everything: Project,
) -> None:
    tampered(without_digest)(everything)

    checked = everything.peritus("lock", "--check")
    outcome = played(
        everything,
        turn(call("echo", message="hello"), call("get-sum", a=1, b=2)),
        turn(expect=("The tool 'echo' was not called", "The sum of 1 and 2 is 3.")),
    )

    assert checked.code == 1
    assert checked.out == "✗ helper, everything: tool 'echo' has another description\n"
    changed, other = ended(outcome)
    assert changed["outcome"] == "failed"
    assert "the server changed: its description" in text_of(changed)
    assert other["outcome"] == "succeeded"


def test_a_server_that_is_started_in_another_way_is_not_what_was_locked(
    everything: Project,
) -> None:
    other = DEFINITION.replace(WORD, f"{WORD}-other")
    assert other != DEFINITION
    everything.write("perstack.toml", other)

    refused = everything.run("hello.toml", "--json")
    checked = everything.peritus("lock", "--check")

    assert (refused.code, refused.out) == (2, "")
    assert "skill 'everything' is not as it was locked" in refused.said
    assert checked.code == 1
    assert "✗ helper, everything: args was " in checked.out
