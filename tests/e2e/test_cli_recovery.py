"""What Ctrl-C, kill -9 and a second process do to a run. Not what models answer."""

import signal

import pytest

from tests.e2e.cli_project import Project

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

SLEEPS = """\
[[reply]]
text = "I count and sleep."
[[reply.call]]
tool = "exec"
arguments = { command = "bash", args = ["-c", "echo ran >> count; sleep 50"] }

[[reply]]
text = "I woke up."
"""

WAITS = """\
[[reply]]
text = "I wait."
[[reply.call]]
tool = "exec"
arguments = { command = "bash", args = ["-c", "until [ -e go ]; do sleep 0.05; done"] }

[[reply]]
text = "It is there."
"""


def test_ctrl_c_once_cancels_the_run_and_exits_with_5(project: Project) -> None:
    project.write("sleeps.toml", SLEEPS)
    running = project.start_run("sleeps.toml")
    name = running.until("tool_call.claimed.v1")["run"]
    project.until_there("count")

    running.interrupt()
    running.until("run.cancelled.v1")

    assert running.end() == 5, running.said
    assert project.peritus("resume", name).code == 5


def test_sigterm_leaves_the_run_alone_and_says_how_to_take_it_up(project: Project) -> None:
    project.write("sleeps.toml", SLEEPS)
    running = project.start_run("sleeps.toml")
    name = running.until("tool_call.claimed.v1")["run"]
    project.until_there("count")

    running.process.send_signal(signal.SIGTERM)

    assert running.end() == 10, running.said
    assert f"peritus resume {name}" in running.said
    resumed = project.peritus("resume", name)
    assert resumed.code == 0, resumed.said
    assert resumed.events[-1]["event"]["result"] == "I woke up."


def test_a_run_killed_inside_a_tool_is_taken_up_and_the_tool_does_not_run_twice(
    project: Project,
) -> None:
    project.write("sleeps.toml", SLEEPS)
    running = project.start_run("sleeps.toml")
    name = running.until("tool_call.claimed.v1")["run"]
    project.until_there("count")
    running.kill()

    resumed = project.peritus("resume", name)

    assert resumed.code == 0, resumed.said
    ended = [e["event"] for e in resumed.events if e["event"]["type"] == "tool_call.ended.v1"]
    assert [event["outcome"] for event in ended] == ["outcome_unknown"]
    counted = project.workspace / "count"
    assert counted.read_text() == "ran\n"
    assert "requests verified" in project.peritus("replay", name).out


def test_a_second_process_takes_over_the_run_of_one_that_is_killed(project: Project) -> None:
    project.write("sleeps.toml", SLEEPS)
    project.write("waits.toml", WAITS)
    first = project.start_run("sleeps.toml", "--job", "first")
    first.until("tool_call.claimed.v1")
    project.until_there("count")
    second = project.start_run("waits.toml", "--job", "second")
    second.until("tool_call.claimed.v1")

    first.kill()
    watching = project.start("events", "first", "--follow")
    watching.until("run.completed.v2")
    watching.interrupt()
    assert watching.end() == 0
    (project.workspace / "go").touch()

    assert second.until("run.completed.v2")["run"] == "second"
    assert second.end() == 0, second.said


def test_a_run_without_a_worker_can_be_cancelled(project: Project) -> None:
    project.write("sleeps.toml", SLEEPS)
    running = project.start_run("sleeps.toml")
    name = running.until("tool_call.claimed.v1")["run"]
    project.until_there("count")
    running.kill()

    cancelled = project.peritus("cancel", name, "--reason", "not wanted")

    assert cancelled.code == 0, cancelled.said
    assert "cancelled" in cancelled.said
    assert project.peritus("show", name, "--json").out.find('"status":"cancelled"') > 0


def test_another_process_can_cancel_a_run_that_is_at_work(project: Project) -> None:
    project.write("sleeps.toml", SLEEPS)
    running = project.start_run("sleeps.toml")
    name = running.until("tool_call.claimed.v1")["run"]
    project.until_there("count")

    cancelled = project.peritus("cancel", name)

    assert cancelled.code == 0, cancelled.said
    assert running.end() == 5


def test_services_stop_cleanly_at_sigterm(project: Project) -> None:
    running = project.start("serve", "loop", "sandbox", "projections")
    while "serving loop" not in running.said:
        assert running.process.poll() is None, running.said

    running.process.send_signal(signal.SIGTERM)

    assert running.end() == 0, running.said
    assert "Traceback" not in running.said
