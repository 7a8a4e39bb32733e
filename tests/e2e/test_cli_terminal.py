"""`peritus run` at a real terminal: what waits is asked right there. Not the words of each line."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.e2e.cli_project import BOUND_S, Project, environment, scripted
from tests.e2e.people_project import DEFINITION, LEADING, QUESTION, exec_call, waiting

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>]|\r")

ASKS_AND_WRITES = (
    QUESTION.replace('[[reply]]\ntext = "Blue it is."\nexpect = "dark blue"\n', "")
    + f'[[reply]]\ntext = "I write."\n{exec_call("hi")}\n[[reply]]\ntext = "Written."\n'
)


@dataclass
class Terminal:
    """A command at a terminal, and the person in front of it."""

    process: subprocess.Popen[bytes]
    master: int
    shown: bytes = b""
    _read: int = field(default=0)

    def until(self, text: str) -> str:
        """Wait until that is on the screen, after what was waited for before; all up to it."""
        wanted = text.encode()
        deadline = time.monotonic() + BOUND_S
        while wanted not in (seen := ESCAPES.sub(b"", self.shown)[self._read :]):
            assert time.monotonic() < deadline, f"no {text!r} in {seen.decode()!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.master, 65_536)
                except OSError:
                    assert wanted in ESCAPES.sub(b"", self.shown)[self._read :], seen.decode()
        end = seen.index(wanted) + len(wanted)
        self._read += end
        return seen[:end].decode()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(BOUND_S)


@contextmanager
def terminal(project: Project, *words: str) -> Generator[Terminal]:
    """`peritus` at a terminal of 100 columns."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "peritus", *words],
        cwd=project.folder,
        env=environment(
            **project.settings,
            TERM="xterm",
            COLUMNS="200",
            LINES="40",
            PROMPT_TOOLKIT_NO_CPR="1",
        ),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.fixture
def team(project: Project) -> Project:
    project.write("perstack.toml", DEFINITION)
    project.write("both.toml", ASKS_AND_WRITES)
    project.write("leads.toml", LEADING)
    return project


def test_the_person_answers_edits_and_sees_what_came_of_it(team: Project) -> None:
    with terminal(team, "run", "clerk", "Go", *scripted("both.toml")) as at:
        asked = at.until("answer>")
        at.type("dark blue\r")
        wanted = at.until("[l]ater>")
        at.type("e\r")
        at.until("arguments>")
        at.type("\x01\x0b" + '{"command": "bash", "args": ["-c", "echo edited >> said"]}\r')
        after = at.until("completed in step 3")
        code = at.end()

    assert "clerk asks: Which colour?" in asked
    assert "because: commands are looked at first" in wanted
    assert 'args: ["-c", "echo hi >> said"]' in wanted
    assert "edited by" in after
    assert code == 0
    assert (team.workspace / "said").read_text() == "edited\n"


def test_a_denial_with_its_reason_is_given_at_the_prompt(team: Project) -> None:
    with terminal(team, "run", "lead", "Go", *scripted("leads.toml")) as at:
        tree = at.until("[l]ater>")
        at.type("d\r")
        at.until("why (or Enter)>")
        at.type("not today\r")
        after = at.until("completed in step 2")
        at.until("completed in step 2")
        assert at.end() == 0

    assert "└─ clerk" in tree
    assert "wants to call exec bash -c" in tree
    assert "denied by" in after
    assert "not today" in after
    assert not (team.workspace / "said").exists()


def test_what_is_decided_elsewhere_is_asked_no_longer(team: Project) -> None:
    with terminal(team, "run", "lead", "Go", *scripted("leads.toml"), "--job", "one") as at:
        at.until("[l]ater>")
        assert team.peritus("approve", "one").code == 0
        at.until("it was decided elsewhere")
        at.until("completed in step 2")
        at.until("completed in step 2")
        assert at.end() == 0


def test_what_is_left_for_later_is_told_with_its_commands_and_ctrl_c_stops_the_run(
    team: Project,
) -> None:
    with terminal(team, "run", "clerk", "Go", *scripted("both.toml"), "--job", "one") as at:
        at.until("answer>")
        at.type("\x04")
        at.until("peritus answer one c1-0 TEXT")
        assert [one["id"] for one in waiting(team)] == ["c1-0"]
        at.process.send_signal(signal.SIGINT)
        at.until("was cancelled")
        assert at.end() == 5


def test_ctrl_c_at_the_prompt_stops_the_run(team: Project) -> None:
    with terminal(team, "run", "clerk", "Go", *scripted("both.toml"), "--job", "one") as at:
        at.until("answer>")
        at.type("\x03")
        at.until("was cancelled")
        assert at.end() == 5
