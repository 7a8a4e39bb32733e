"""The example that works with a person: asked, approved and denied by commands beside the run."""

import json
import shutil
from pathlib import Path

import pytest

from domain.events import ApprovalDecided, ApprovalRequested, GenerationCompleted, QuestionAnswered
from tests.e2e.cli_project import Project, scripted
from tests.e2e.team_stories import EXAMPLES, demo, folder_of, stories_of, text_of, verified

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

TRIP = EXAMPLES / "trip"
ANSWER = "We are two, and at most 60."


@pytest.mark.slow
def test_the_demo_answers_lifts_the_budget_and_approves_the_booking(tmp_path: Path) -> None:
    ended = demo("trip", tmp_path)
    assert ended.returncode == 0, ended.stderr

    folder = folder_of(tmp_path)
    (story,) = stories = stories_of(folder)
    (answered,) = [event for event in story.events if isinstance(event, QuestionAnswered)]
    asked = [event for event in story.events if isinstance(event, ApprovalRequested)]
    decided = [event for event in story.events if isinstance(event, ApprovalDecided)]
    assert [event.limit for event in asked] == ["money", None]
    assert [event.verdict for event in decided] == ["approved", "approved"]
    assert decided[1].digest == asked[1].digest != ""
    assert [answered.by.via, *(event.by.via for event in decided)] == ["cli"] * 3
    assert [one.outcome for one in story.outcomes("exec")] == ["succeeded"]
    replies = [event for event in story.events if isinstance(event, GenerationCompleted)]
    spent = sum(reply.charged_money for reply in replies)
    assert spent == 172_500  # micro-USD: 47,500 tokens in and 2,000 out, at 3 and 15 a million
    booking = json.loads((folder / "workspace" / "booking.json").read_text())
    assert booking == {"trip": "lake", "people": 2, "total": 84}
    assert verified(stories) == 5


def test_a_booking_that_is_denied_never_runs_and_the_expert_says_so(tmp_path: Path) -> None:
    for name in ("perstack.toml", "script.toml"):
        shutil.copy(TRIP / name, tmp_path)
    shutil.copytree(TRIP / "seed", tmp_path / "workspace")
    project = Project(tmp_path)

    working = project.start("run", "trip", "Plan a day trip.", *scripted("script.toml"))
    try:
        question = working.until("question.asked.v1")
        run, call = question["run"], question["event"]["call"]
        assert project.peritus("answer", run, call, ANSWER).code == 0
        assert working.until("approval.requested.v1")["event"]["approval"] == "budget-1"
        assert project.peritus("approve", run, "budget-1").code == 0
        booking = working.until("approval.requested.v1")["event"]["approval"]
        assert project.peritus("deny", run, booking, "--reason", "too dear").code == 0
        completed = working.until("run.completed.v2")
        assert working.end() == 0, working.said
    finally:
        if working.process.poll() is None:
            working.kill()

    assert completed["event"]["result"].startswith("Not booked: you said no.")
    assert not (project.workspace / "booking.json").exists()
    (story,) = stories_of(tmp_path)
    (refused,) = story.outcomes("exec")
    assert refused.outcome == "refused"
    assert "too dear" in text_of(refused)
