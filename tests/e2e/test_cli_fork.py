"""Checkpoints and forks of a real run, with the real command: history, files, edits. Not models."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_project import Outcome, Project, scripted

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

DEFINITION = """\
[experts.helper]
instruction = "Help."
[experts.helper.skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
"""


SLOW_MS = 400


def writes(text: str, expect: str = "") -> str:
    """A reply that is slow enough for the snapshot of the step before it."""
    call = f'tool = "writeTextFile"\narguments = {{ path = "note.txt", text = "{text}" }}\n'
    head = f'text = "I write {text}."\nexpect = "{expect}"\ndelay_ms = {SLOW_MS}\n'
    return f"[[reply]]\n{head}[[reply.call]]\n{call}"


SCRIPT = f"""\
{writes("one")}
{writes("two")}
[[reply]]
text = "Done."
delay_ms = {SLOW_MS}
[[reply]]
text = "Done again."
"""

OTHER = f"""\
[[reply]]
text = "never asked for"
{writes("three", "the file is locked")}
[[reply]]
text = "Done otherwise."
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose run `first` wrote twice and completed."""
    folder = tmp_path_factory.mktemp("fork")
    made = Project(folder)
    made.write("perstack.toml", DEFINITION)
    made.write("script.toml", SCRIPT)
    made.write("other.toml", OTHER)
    ended = made.run("script.toml", "--job", "first")
    assert ended.code == 0, ended.said
    return made


def forked(project: Project, *words: str) -> Outcome:
    return project.peritus("fork", "first", *words)


def last(outcome: Outcome) -> Any:
    return outcome.events[-1]["event"]


def note(project: Project, run: str) -> str:
    return project.peritus("files", run, "cat", "note.txt").out


def test_checkpoints_are_the_beginning_and_the_ends_of_steps(project: Project) -> None:
    listed = project.peritus("checkpoints", "first", "--json")
    assert listed.code == 0, listed.said
    points = [json.loads(line) for line in listed.out.splitlines()]
    assert [(one["step"], one["snapshot"]) for one in points] == [
        (0, False),
        (1, True),
        (2, True),
        (3, False),
    ]
    shown = project.peritus("checkpoints", "show", "first", "2")
    assert "model: I write two." in shown.out
    assert "Done." not in shown.out
    diff = project.peritus("checkpoints", "diff", "first", "1", "2", "--json")
    facts = json.loads(diff.out)
    assert facts["files"] == ["M note.txt"]
    assert facts["state"]["step"] == [1, 2]
    assert any("I write two" in line for line in facts["messages"])


def test_fork_goes_on_with_the_files_of_then_and_leaves_its_source_alone(project: Project) -> None:
    before = project.peritus("events", "first", "--json").out
    ended = forked(project, "--from", "1", "--job", "again")
    assert ended.code == 0, ended.said
    assert "its workspace begins with the files after step 1" in ended.said
    assert [one["event"]["type"] for one in ended.events[:3]] == [
        "run.forked.v1",
        "context.pinned.v2",
        "generation.requested.v2",
    ]
    assert last(ended)["result"] == "Done."
    assert note(project, "again") == "two"
    assert project.peritus("events", "first", "--json").out == before
    replayed = project.peritus("replay", "again")
    assert (replayed.code, "2 of 2 requests verified" in replayed.out) == (0, True)
    assert (project.workspace / "note.txt").read_text() == "two"


def test_fork_with_another_result_and_model_reads_that(project: Project) -> None:
    words = ("--result", "c1-0=the file is locked", *scripted("other.toml"), "--job", "locked")
    ended = forked(project, "--from", "1", *words)
    assert ended.code == 0, ended.said
    assert "with another result, model" in ended.said
    assert last(ended)["result"] == "Done otherwise."
    assert note(project, "locked") == "three"
    shown = project.peritus("checkpoints", "show", "locked", "1").out
    assert "the file is locked" in shown
    assert project.peritus("replay", "locked").code == 0


def test_fork_in_a_folder_that_somebody_chose_changes_nothing_there_by_itself(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ended = forked(project, "--from", "1", "--workspace", str(tmp_path), "--job", "elsewhere")
    assert ended.code == 0, ended.said
    heard = [one["event"] for one in ended.events if one["event"]["type"] == "input.received.v2"]
    assert [one["speaker"] for one in heard] == ["runtime"]
    assert "not those of then" in heard[0]["parts"][0]["text"]
    placed = next(
        one["event"] for one in ended.events if one["event"]["type"] == "sandbox.placed.v1"
    )
    assert (placed["workspace"], placed["restored"]) == ("mounted", None)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "note.txt").read_text() == "two"


def test_fork_of_what_is_over_needs_something_to_say(project: Project) -> None:
    silent = forked(project, "--from", "3")
    assert silent.code != 0
    assert "say what comes next" in silent.said
    said = forked(project, "--from", "3", "--query", "And now?", "--job", "more")
    assert last(said)["result"] == "Done again."
    assert note(project, "more") == "two"


@pytest.mark.slow
def test_fork_of_a_fork_has_all_their_checkpoints(project: Project) -> None:
    first = forked(project, "--from", "2", "--job", "child")
    assert first.code == 0, first.said
    listed = project.peritus("checkpoints", "child", "--json").out.splitlines()
    points = [json.loads(line) for line in listed]
    assert [(one["run"], one["step"]) for one in points] == [
        ("first", 0),
        ("first", 1),
        ("first", 2),
        ("child", 3),
    ]
    again = project.peritus("resume", "child", "--from", "1")
    assert again.code == 0, again.said
    assert again.events[0]["event"]["source"]["run"] == "first"
    more = ("fork", "child", "--from", "3", "--query", "more", "--job", "grandchild")
    assert project.peritus(*more).code == 0
    assert project.peritus("replay", "grandchild").code == 0
    diff = project.peritus("checkpoints", "diff", "grandchild", "3", "first@3")
    assert "the same messages" in diff.out


@pytest.mark.slow
def test_forks_are_told_from_runs_that_were_started(project: Project) -> None:
    ended = forked(project, "--from", "2", "--job", "shown", "--detach")
    assert ended.code == 0, ended.said
    assert project.peritus("resume", "shown").code == 0
    assert "forked   from run first after step 2" in project.peritus("show", "shown").out
    assert "⑂ first@2" in project.peritus("runs", "--no-json").out
    assert "fork of run first after step 2" in project.peritus("tree", "shown", "--no-json").out
    assert "shown" in project.peritus("tree", "first", "--no-json").out


def test_what_is_no_step_or_no_call_is_said(project: Project, tmp_path: Path) -> None:
    assert "there are: 0 to 3" in forked(project, "--from", "9").said
    wrong = forked(project, "--from", "1", "--result", "c9-0=x")
    assert "no call 'c9-0'" in wrong.said
    assert "CALL=TEXT" in forked(project, "--from", "1", "--result", "x").said
    missing = forked(project, "--from", "1", "--result", f"c1-0=@{tmp_path / 'none'}")
    assert "cannot be read" in missing.said
