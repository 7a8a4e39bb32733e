"""`peritus doctor` and `peritus dead`: what they say and what they never say. Not repairs."""

import json

import pytest

from tests.e2e.cli_project import Project

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]


def test_the_doctor_finds_nothing_broken_and_never_shows_a_key(project: Project) -> None:
    project.write(".env", "ANTHROPIC_API_KEY=sk-do-not-show\n")

    outcome = project.peritus("doctor", "--json", env={"OPENAI_API_KEY": "sk-nor-this"})

    assert outcome.code == 0, outcome.out
    found = {one["name"]: one for one in map(json.loads, outcome.out.splitlines())}
    assert found["sandbox"]["verdict"] == "ok"
    assert found["provider anthropic"]["detail"] == "ANTHROPIC_API_KEY is set"
    assert found["provider openai"]["verdict"] == "ok"
    assert "nats-server 2." in found["server"]["detail"]
    assert "'os' declared" in found["durability"]["detail"]
    assert found["views"]["verdict"] == "ok"
    assert "sk-" not in outcome.out + outcome.said


def test_the_doctor_exits_with_1_when_the_definition_is_wrong(project: Project) -> None:
    project.write("perstack.toml", "[experts]\n")

    outcome = project.peritus("doctor")

    assert outcome.code == 1
    assert "no expert is defined" in outcome.out


def test_there_are_no_dead_letters_to_send_again_at_first(project: Project) -> None:
    listed = project.peritus("dead", "list", "--no-json")
    again = project.peritus("dead", "requeue", "7")

    assert listed.code == 0
    assert "no dead letters" in listed.said
    assert again.code == 6
    assert "no dead letter 7" in again.said


@pytest.mark.parametrize("words", [("runs",), ("show", "x"), ("serve", "loop"), ("doctor",)])
def test_where_there_is_no_project_none_is_made(project: Project, words: tuple[str, ...]) -> None:
    (project.folder / "perstack.toml").unlink()
    before = set(project.folder.iterdir())

    outcome = project.peritus(*words)

    assert "no perstack.toml in" in outcome.out + outcome.said
    assert outcome.code == (0 if words == ("doctor",) else 2)
    assert set(project.folder.iterdir()) == before


def test_the_doctor_goes_on_when_the_state_folder_cannot_be_used(project: Project) -> None:
    project.write(".peritus", "a file")

    outcome = project.peritus("doctor", "--json")

    found = {one["name"]: one["verdict"] for one in map(json.loads, outcome.out.splitlines())}
    assert outcome.code == 1
    assert (found["state"], found["server"], found["sandbox"]) == ("broken", "broken", "ok")
