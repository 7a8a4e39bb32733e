"""The examples with teams, as `demo.sh` runs them: no key, real tools. Not their scripts' steps."""

import json
import shutil
from pathlib import Path

import pytest

from domain.events import DelegationRequested, DelegationSettled
from tests.e2e.cli_project import Project, scripted
from tests.e2e.team_stories import EXAMPLES, demo, folder_of, stories_of, text_of, verified

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]


def test_three_reviewers_work_at_once_and_their_findings_are_merged(tmp_path: Path) -> None:
    ended = demo("review", tmp_path)
    assert ended.returncode == 0, ended.stderr

    stories = stories_of(folder_of(tmp_path))
    (review,) = (story for story in stories if story.expert == "review")
    kinds = [
        type(event)
        for event in review.events
        if isinstance(event, (DelegationRequested, DelegationSettled))
    ]
    assert kinds == [DelegationRequested] * 3 + [DelegationSettled] * 3
    findings = [
        finding
        for tool in ("correctness", "safety", "tests")
        for ended_call in review.outcomes(tool)
        for finding in json.loads(text_of(ended_call))["findings"]
    ]
    assert sorted(finding["line"] for finding in findings) == [18, 20, 22, 25, 25]
    assert "2 major, 2 minor" in ended.stdout.partition("REVIEW.md in")[2]
    assert verified(stories) == 13


@pytest.mark.slow
def test_tests_decide_and_are_not_changed(tmp_path: Path) -> None:
    ended = demo("build", tmp_path)
    assert ended.returncode == 0, ended.stderr

    folder = folder_of(tmp_path)
    stories = stories_of(folder)
    first, second = (story for story in stories if story.expert == "@build/verifier")
    assert "FAILED (failures=4)" in text_of(first.outcomes("exec")[0])
    assert "Ran 3 tests" in text_of(second.outcomes("exec")[0])
    assert json.loads(text_of(second.outcomes("attemptCompletion")[0]) or "{}") == {}

    coder = [story for story in stories if story.expert == "@build/coder"][1]
    refused, repaired = coder.outcomes("editTextFile")
    assert (refused.outcome, repaired.outcome) == ("refused", "succeeded")
    assert "the tests say what is wanted" in text_of(refused)
    (build,) = (story for story in stories if story.expert == "build")
    verdicts = [json.loads(text_of(one))["verdict"] for one in build.outcomes("verifier")]
    assert verdicts == ["CONTINUE", "PASS"]
    seed = EXAMPLES / "build" / "seed" / "test_roman.py"
    assert (folder / "workspace" / "test_roman.py").read_text() == seed.read_text()
    assert verified(stories) == 21


def test_the_build_script_does_not_go_on_when_the_first_attempt_passes(tmp_path: Path) -> None:
    for name in ("perstack.toml", "script.toml"):
        shutil.copy(EXAMPLES / "build" / name, tmp_path)
    script = tmp_path / "script.toml"
    script.write_text(script.read_text().replace('(5, "V"), (1, "I"))\n', '(4, "IV"), (1, "I"))\n'))
    shutil.copytree(EXAMPLES / "build" / "seed", tmp_path / "workspace")

    outcome = Project(tmp_path).peritus("run", "build", "Write roman.py.", *scripted("script.toml"))

    assert outcome.code == 3
    assert "reply 2 of the script" in outcome.said
    assert "FAILED (failures=4)" in outcome.said
