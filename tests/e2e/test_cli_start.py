"""`peritus start` with everything given, with nobody there, and with a person who chooses."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peritus.cli.start import Choice, choices_of, pick
from peritus.project import find_project
from peritus.settings import load_settings
from tests.e2e.cli_project import BOUND_S, Project, environment, scripted

CHOICES = [Choice("editor", ""), Choice("7", ""), Choice("create-expert", "")]


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ("1", "editor"),
        (" 3 ", "create-expert"),
        ("editor", "editor"),
        ("0", None),
        ("4", None),
        ("7", None),
        ("edit", None),
        ("", None),
    ],
)
def test_an_answer_is_a_number_of_the_list_or_a_key(answer: str, key: str | None) -> None:
    assert pick(CHOICES, answer) == key


def test_the_choice_is_of_coordinators_and_shipped_experts_come_last(tmp_path: Path) -> None:
    nowhere = choices_of(find_project(tmp_path, load_settings()), load_settings())
    (tmp_path / "perstack.toml").write_text(
        '[experts.zoo]\ninstruction = "x"\ndelegates = ["@zoo/a"]\n'
        '[experts."@zoo/a"]\ninstruction = "x"\n'
    )
    here = choices_of(find_project(tmp_path, load_settings()), load_settings())

    assert [one.key for one in nowhere] == ["create-expert"]
    assert [one.key for one in here] == ["zoo", "create-expert"]


@pytest.mark.broker
def test_with_expert_and_query_it_runs_and_shows_text(project: Project) -> None:
    outcome = project.peritus("start", "helper", "Help me", *scripted("hello.toml"))

    assert outcome.code == 0, outcome.said
    assert "Hello there." in outcome.out
    assert "completed in step 1" in outcome.out


@pytest.mark.parametrize("words", [(), ("helper",)])
def test_where_nobody_can_be_asked_it_says_what_to_give(
    project: Project, words: tuple[str, ...]
) -> None:
    outcome = project.peritus("start", *words, *scripted("hello.toml"))

    assert outcome.code == 2
    assert "peritus start EXPERT QUERY" in outcome.said


@pytest.mark.broker
def test_a_person_chooses_by_number_and_says_what_to_do(project: Project) -> None:
    outer, inner = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "peritus", "start", *scripted("hello.toml")],
        cwd=project.folder,
        env=environment(TERM="xterm", COLUMNS="120"),
        stdin=inner,
        stdout=inner,
        stderr=inner,
    ) as process:
        os.close(inner)
        try:
            shown = _until(outer, "Which expert?")
            assert "1  helper  Helps." in shown
            assert "2  create-expert" in shown
            os.write(outer, b"nobody\n")
            _until(outer, "or a key")
            os.write(outer, b"1\n")
            _until(outer, "What is helper to do?")
            os.write(outer, b"Help me\n")
            _until(outer, "completed in step 1")
            assert process.wait(BOUND_S) == 0
        finally:
            process.kill()
            os.close(outer)


def _until(terminal: int, text: str) -> str:
    """What is shown from here until a text is."""
    shown, deadline = "", time.monotonic() + BOUND_S
    while text not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no {text!r} in {shown!r}"
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown
