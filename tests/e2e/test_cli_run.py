"""`peritus run` as people and programs use it. Not crashes: see `test_cli_recovery`."""

import json
from pathlib import Path

import pytest

from tests.e2e.cli_project import DEFINITION, Project, scripted

pytestmark = [pytest.mark.broker]

TODO = """\
[[reply]]
text = "First I plan."
[[reply.call]]
tool = "todo"
arguments = { newTodos = ["think"] }
[[reply]]
text = "Done."
"""

FAILS = '[[reply]]\ntext = "no"\nfail = { kind = "auth", message = "bad key", times = 9 }\n'

DELEGATING = """\
[experts.helper]
description = "Helps."
instruction = "Help."
delegates = ["@helper/counter"]

[experts."@helper/counter"]
description = "Counts."
instruction = "Count."
"""

DELEGATION = """\
[[experts.helper.reply]]
text = "Count for me."
[[experts.helper.reply.call]]
tool = "counter"
arguments = { query = "to three" }
[[experts.helper.reply]]
text = "The counter said: one two three."
expect = "one two three"

[[experts."@helper/counter".reply]]
text = "one two three"
"""


def test_a_completed_run_exits_with_0_and_prints_one_event_a_line(project: Project) -> None:
    outcome = project.run("hello.toml")

    assert outcome.code == 0, outcome.said
    kinds = [line["event"]["type"] for line in outcome.events]
    assert kinds[0] == "run.started.v2"
    assert kinds[-1] == "run.completed.v2"
    assert outcome.events[-1]["event"]["result"] == "Hello there."
    assert [line["version"] for line in outcome.events] == list(range(1, len(kinds) + 1))
    assert set(outcome.events[0]) == {
        *("cursor", "tenant", "job", "run", "expert", "parent", "version", "at_ms", "event"),
    }


def test_notices_go_to_standard_error_and_name_the_workspace(project: Project) -> None:
    outcome = project.run("hello.toml")

    assert str(project.workspace) in outcome.said
    assert project.workspace.is_dir()


def test_text_is_shown_when_asked_for_instead_of_json(project: Project) -> None:
    outcome = project.run("hello.toml", "--no-json")

    assert outcome.code == 0
    assert "Hello there." in outcome.out
    assert outcome.out.count("Hello there.") == 1
    assert "completed in step 1" in outcome.out


def test_a_run_at_rest_shows_its_end_when_it_is_taken_up_again(project: Project) -> None:
    run = project.run("hello.toml").run

    text = project.peritus("resume", run, "--no-json")
    lines = project.peritus("resume", run, "--json")

    assert (text.code, text.out.strip()) == (0, "Hello there.")
    assert [one["event"]["type"] for one in lines.events] == ["run.completed.v2"]


def test_a_run_that_reaches_its_limit_exits_with_4_and_can_be_continued(project: Project) -> None:
    project.write("todo.toml", TODO)

    stopped = project.run("todo.toml", "--max-steps", "1")
    continued = project.run("todo.toml", "--continue", "--max-steps", "5", query="Go on")

    assert stopped.code == 4, stopped.said
    assert "--continue" in stopped.said
    assert continued.code == 0, continued.said
    assert continued.run == stopped.run
    assert continued.events[0]["event"]["type"] == "run.continued.v2"


def test_a_run_that_goes_on_keeps_its_model_and_says_so(project: Project) -> None:
    project.write("todo.toml", TODO)
    first = project.run("todo.toml", "--max-steps", "1")

    second = project.run("hello.toml", "--continue", "--max-steps", "5", query="Go on")

    assert second.code == 0, second.said
    assert second.run == first.run
    assert "keeps the model it was started with: scripted" in second.said
    assert "todo.toml" in second.said


def test_a_job_cannot_be_continued_as_another_expert_or_before_it_is_there(
    project: Project, tmp_path: Path
) -> None:
    another = DEFINITION.replace("experts.helper", "experts.other")
    project.write("perstack.toml", DEFINITION + another)
    project.run("hello.toml", "--job", "one")

    other = project.peritus("run", "other", "Go on", "--continue", "--job", "one")
    missing = project.peritus("run", "helper", "Go on", "--continue", "--job", "two")

    assert (other.code, missing.code) == (2, 2)
    assert "is one of expert 'helper', not of 'other'" in other.said
    assert "no run 'two'" in missing.said
    # Nothing was written down for a job that is not there: it may begin anywhere.
    assert project.run("hello.toml", "--job", "two", "--workspace", str(tmp_path / "w")).code == 0


def test_a_failed_run_exits_with_3_and_says_why(project: Project) -> None:
    project.write("fails.toml", FAILS)

    outcome = project.run("fails.toml")

    assert outcome.code == 3
    assert "auth: bad key" in outcome.said


def test_the_same_job_cannot_be_started_twice_and_exits_with_6(project: Project) -> None:
    assert project.run("hello.toml", "--job", "once").code == 0

    again = project.run("hello.toml", "--job", "once")

    assert again.code == 6
    assert "continue it instead" in again.said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("run", "nobody", "Help"), "no expert 'nobody'"),
        (("run", "helper", " ", *scripted("hello.toml")), "query is empty"),
        (("run", "helper", "Help", *scripted("missing.toml")), "missing.toml"),
        (("run", "helper", "Help", "--reasoning-budget", "loads"), "reasoning budget"),
        (("run", "helper", "Help", "--job", "a b"), "letters, digits"),
        (("run", "helper"), "Missing argument"),
        (("run", "helper", "Help", "--no-such-option"), "No such option"),
        (("serve", "kitchen"), "no service 'kitchen'"),
    ],
)
def test_bad_usage_exits_with_2_and_one_clear_line(
    project: Project, words: tuple[str, ...], text: str
) -> None:
    outcome = project.peritus(*words)

    assert outcome.code == 2
    assert text in outcome.said
    assert "Traceback" not in outcome.said


def test_a_wrong_definition_names_file_and_line(project: Project) -> None:
    project.write("perstack.toml", '[experts.helper]\ninstrction = "Help."\n')

    outcome = project.peritus("run", "helper", "Help")

    assert outcome.code == 2
    assert "perstack.toml:2: unknown key 'instrction'" in outcome.said
    assert "did you mean 'instruction'?" in outcome.said


def test_a_wrong_setting_names_the_variable(project: Project) -> None:
    outcome = project.peritus("runs", env={"PERITUS_DURABILITY": "forever"})

    assert outcome.code == 2
    assert "PERITUS_DURABILITY" in outcome.said


def test_an_internal_error_shows_its_traceback_only_when_asked(project: Project) -> None:
    quiet = project.peritus("run", "nobody", "Help")
    loud = project.peritus("run", "nobody", "Help", "--debug")

    assert "Traceback" not in quiet.said
    assert "Traceback" in loud.said
    assert loud.code == quiet.code == 2


@pytest.mark.slow
def test_a_server_that_is_away_exits_with_7(project: Project) -> None:
    outcome = project.peritus("runs", env={"PERITUS_NATS_URL": "nats://127.0.0.1:9"})

    assert outcome.code == 7
    assert "127.0.0.1:9" in outcome.said


def test_a_workspace_that_would_hold_the_state_is_refused(project: Project) -> None:
    outcome = project.run("hello.toml", "--workspace", ".")

    assert outcome.code == 2
    assert "PERITUS_STATE_DIR" in outcome.said


def test_a_job_keeps_its_workspace(project: Project, tmp_path: Path) -> None:
    project.write("twice.toml", '[[reply]]\ntext = "One."\n[[reply]]\ntext = "Two."\n')
    first = project.run("twice.toml", "--workspace", str(tmp_path / "here"), "--job", "j")

    other = project.run("twice.toml", "--continue", "--job", "j", "--workspace", "elsewhere")
    same = project.run("twice.toml", "--continue", "--job", "j")

    assert first.code == 0
    assert other.code == 2
    assert "keeps its workspace" in other.said
    assert same.code == 0
    assert str(tmp_path / "here") in same.said


def test_events_of_delegates_come_in_the_same_stream(project: Project) -> None:
    project.write("perstack.toml", DELEGATING)
    project.write("delegation.toml", DELEGATION)

    outcome = project.run("delegation.toml")

    assert outcome.code == 0, outcome.said
    runs = {line["run"] for line in outcome.events}
    assert len(runs) == 2
    assert {line["job"] for line in outcome.events} == {outcome.run}
    assert outcome.events[-1]["run"] == outcome.run
    assert "one two three" in outcome.events[-1]["event"]["result"]


def test_a_run_is_listed_shown_printed_and_replayed(project: Project) -> None:
    name = project.run("hello.toml").run

    listed = project.peritus("runs")
    shown = project.peritus("show", name[:-4])
    printed = project.peritus("events", name[:-4])
    replayed = project.peritus("replay", name[:-4])

    assert [json.loads(line)["run"] for line in listed.out.splitlines()] == [name]
    assert "completed" in shown.out
    assert "Hello there." in shown.out
    assert printed.events[-1]["event"]["type"] == "run.completed.v2"
    assert replayed.code == 0
    assert "1 of 1 requests verified" in replayed.out


def test_a_run_nobody_knows_exits_with_2(project: Project) -> None:
    for command in ("show", "events", "replay", "resume", "cancel"):
        outcome = project.peritus(command, "zzz")
        assert outcome.code == 2, command
        assert "no run 'zzz'" in outcome.said


def test_a_beginning_that_several_runs_have_is_refused(project: Project) -> None:
    project.run("hello.toml", "--job", "abc1")
    project.run("hello.toml", "--job", "abc2")

    assert project.peritus("show", "abc").code == 2
    assert project.peritus("show", "abc1").code == 0
