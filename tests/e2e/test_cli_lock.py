"""`peritus lock`: real servers are asked once, and what they say later is compared."""

import tomllib

import pytest

from tests.e2e.cli_project import DEFINITION, Project
from tests.support.mini_server import REMOVE, SEARCH, mini_skill

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]


def but_time(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("generatedAt")]


def test_what_servers_offer_is_written_beside_the_definition_and_starts_need_no_server(
    project: Project,
) -> None:
    project.write("perstack.toml", DEFINITION + mini_skill("helper", "find", SEARCH, REMOVE))
    lock = project.folder / "perstack.lock"

    outcome = project.peritus("lock")

    assert outcome.code == 0, outcome.said
    assert outcome.out == "✓ helper, find: mini 1.0, 2 tools\n"
    assert "perstack.lock is written" in outcome.said
    tools = tomllib.loads(lock.read_text())["experts"]["helper"]["toolDefinitions"]
    assert [(tool["name"], tool["readOnly"]) for tool in tools] == [
        ("remove", False),
        ("search", True),
    ]
    validated = project.peritus("validate")
    assert "✓ helper, find: mini 1.0, 2 tools, as perstack.lock says" in validated.out
    shown = project.peritus("experts")
    assert "find (2)" in shown.out
    ran = project.run("hello.toml", "--json")
    assert ran.code == 0, ran.said
    pinned = next(one for one in ran.events if one["event"]["type"].startswith("context.pinned"))
    assert {"remove", "search"} <= {tool["name"] for tool in pinned["event"]["tools"]}


@pytest.mark.slow
def test_a_second_lock_of_the_same_changes_nothing(project: Project) -> None:
    project.write("perstack.toml", DEFINITION + mini_skill("helper", "find", SEARCH))
    lock = project.folder / "perstack.lock"
    assert project.peritus("lock").code == 0
    before = lock.read_text()

    again = project.peritus("lock")

    assert "perstack.lock is as it was" in again.said
    assert lock.read_text() == before
    lock.unlink()
    assert project.peritus("lock").code == 0
    assert but_time(lock.read_text()) == but_time(before)


def test_a_check_names_each_difference_and_writes_nothing(project: Project) -> None:
    project.write("perstack.toml", DEFINITION + mini_skill("helper", "find", SEARCH))
    missing = project.peritus("lock", "--check")
    assert missing.code == 2
    assert "perstack.lock: is not there: run `peritus lock`" in missing.said
    assert project.peritus("lock").code == 0
    fine = project.peritus("lock", "--check")
    assert (fine.code, fine.out) == (0, "✓ perstack.lock is what its servers offer\n")
    before = (project.folder / "perstack.lock").read_text()
    other = {**SEARCH, "description": "Sends things."}
    changed = mini_skill("helper", "find", other, REMOVE, version="2.0")
    project.write("perstack.toml", DEFINITION + changed)

    outcome = project.peritus("lock", "--check")

    assert outcome.code == 1
    first, *rest = outcome.out.splitlines()
    assert first.startswith("✗ helper, find: args was ")
    assert rest == [
        "✗ helper, find: the server's version was '1.0' and is '2.0'",
        "✗ helper, find: tool 'remove' is new",
        "✗ helper, find: tool 'search' has another description",
    ]
    assert (project.folder / "perstack.lock").read_text() == before


def test_a_lock_that_does_not_fit_stops_a_start_and_says_what_to_do(project: Project) -> None:
    project.write("perstack.toml", DEFINITION + mini_skill("helper", "find", SEARCH))
    assert project.peritus("lock").code == 0
    project.write("perstack.toml", DEFINITION + mini_skill("helper", "find", REMOVE))

    stopped = project.run("hello.toml")

    assert stopped.code == 2
    assert "skill 'find' is not as it was locked" in stopped.said
    assert "run `peritus lock`" in stopped.said
    assert project.peritus("lock").code == 0
    assert project.run("hello.toml").code == 0


def test_a_tool_that_is_picked_has_to_be_there(project: Project) -> None:
    text = DEFINITION + mini_skill("helper", "find", SEARCH) + 'pick = ["serch"]\n'
    project.write("perstack.toml", text)

    outcome = project.peritus("lock")

    assert outcome.code == 2
    assert "the server has no tool 'serch'; did you mean 'search'?" in outcome.said


def test_every_server_that_cannot_be_asked_is_told(project: Project) -> None:
    broken = (
        '[experts.helper.skills.{}]\ntype = "mcpStdioSkill"\ncommand = "{}"\nargs = ["-c", "1"]\n'
    )
    text = DEFINITION + broken.format("ends", "python3") + broken.format("none", "no-such-program")
    project.write("perstack.toml", text)

    outcome = project.peritus("lock")

    assert outcome.code in (6, 7)
    assert "skill 'ends' of expert 'helper': " in outcome.said
    assert "skill 'none' of expert 'helper': " in outcome.said
    assert not (project.folder / "perstack.lock").exists()


def test_without_mcp_skills_there_is_nothing_to_lock(project: Project) -> None:
    outcome = project.peritus("lock")

    assert outcome.code == 0
    assert "has no MCP skills: there is nothing to lock" in outcome.said
    assert not (project.folder / "perstack.lock").exists()


def test_open_runs_are_left_alone_while_servers_are_asked(project: Project) -> None:
    project.write("perstack.toml", DEFINITION + mini_skill("helper", "find", SEARCH))
    project.write("wait.toml", '[[reply]]\ntext = "Late."\ndelay_ms = 60000\n')
    started = project.start_run("wait.toml", "--json")
    run = started.until("generation.requested.v2")["run"]
    started.kill()

    assert project.peritus("lock").code == 0

    told = project.peritus("events", run, "--json").events
    assert [one for one in told if one["event"]["type"] == "generation.abandoned.v1"] == []
    assert project.peritus("cancel", run).code == 0
