"""`peritus run create-expert` from nothing: written, refused, corrected, loaded, run and proven.

Not what a model makes of the instructions: a script plays all experts, also the one they make.
"""

import shutil
from pathlib import Path

import pytest

from domain.events import TeamChanged
from peritus.definitions import load_definition
from tests.e2e.cli_project import Project, scripted
from tests.e2e.team_stories import Story, stories_of, text_of, verified

pytestmark = [pytest.mark.broker]

SCRIPT = Path(__file__).parent / "scripts" / "create-expert.toml"
REQUEST = "An expert that counts the words of a text file."
MADE = "word-counter"
VERIFIER = "@create-expert/verifier"


@pytest.fixture
def nowhere(tmp_path: Path) -> Project:
    """A folder with the script alone: no definition in it or above it."""
    shutil.copy(SCRIPT, tmp_path / "script.toml")
    return Project(tmp_path)


def told(story: Story, tool: str) -> list[str]:
    return [text_of(ended) for ended in story.outcomes(tool)]


@pytest.mark.sandbox
def test_an_expert_is_made_refused_corrected_loaded_run_and_proven(nowhere: Project) -> None:
    outcome = nowhere.peritus("run", "create-expert", REQUEST, *scripted("script.toml"))
    assert outcome.code == 0, outcome.said

    made = nowhere.workspace / "perstack.toml"
    loaded = load_definition(made)
    assert (list(loaded.definition.experts), loaded.notices) == ([MADE], ())
    assert not (nowhere.workspace / "trial").exists()
    assert not (nowhere.folder / "perstack.toml").exists()

    stories = stories_of(nowhere.folder)
    by_expert = [story.expert for story in stories]
    assert by_expert.count(VERIFIER) == by_expert.count("@create-expert/writer") == 2
    first, second = (story for story in stories if story.expert == VERIFIER)

    (refused,) = first.outcomes("addDelegateFromConfig")
    assert (refused.outcome, refused.is_error) == ("failed", True)
    assert "perstack.toml:1: 'instruction' is missing in experts.word-counter" in text_of(refused)
    assert "perstack.toml:3: unknown key 'instrction'" in text_of(refused)
    assert "team.changed.v1" not in first.kinds()

    (added,) = second.outcomes("addDelegateFromConfig")
    assert added.outcome == "succeeded"
    (changed,) = [event for event in second.events if isinstance(event, TeamChanged)]
    assert (changed.action, changed.names) == ("addDelegateFromConfig", (MADE,))
    assert told(second, MADE) == ["trial/poem.txt has 7 words; trial/count.txt says so."]

    (child,) = (story for story in stories if story.expert == MADE)
    assert child.parent == second.run
    assert [ended.outcome for ended in child.outcomes("exec")] == ["succeeded"]
    assert verified(stories) == 25
    assert nowhere.peritus("replay", outcome.run).code == 0


def test_it_is_found_in_a_project_with_no_expert_and_nobody_else_is(nowhere: Project) -> None:
    nowhere.write("perstack.toml", '[provider]\nproviderName = "scripted"\n')
    nowhere.write("hello.toml", '[[reply]]\ntext = "What shall it do?"\n')

    asked = nowhere.peritus("run", "create-expert", "An expert.", "--model", "hello.toml")
    other = nowhere.peritus("run", "create-experts", "An expert.", "--model", "hello.toml")

    assert asked.code == 0, asked.said
    assert asked.events[-1]["event"]["result"] == "What shall it do?"
    assert other.code == 2
    assert "no expert is defined" in other.said
