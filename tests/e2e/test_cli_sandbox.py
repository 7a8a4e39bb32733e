"""`peritus sandbox`: doctor, ls, gc and shell, through the real command. Not the backends."""

import json
import os
import pty
import select
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_project import BOUND_S, Outcome, Project, environment

pytestmark = [pytest.mark.broker, pytest.mark.sandbox, pytest.mark.slow]

WRITES = """\
[[reply]]
text = "I write."
[[reply.call]]
tool = "writeTextFile"
arguments = { path = "kept.txt", text = "kept" }

[[reply]]
text = "Now I look."
[[reply.call]]
tool = "exec"
arguments = { command = "true" }

[[reply]]
text = "Done."
"""
LOOKS = """\
[[reply]]
text = "I look again."
[[reply.call]]
tool = "exec"
arguments = { command = "cat", args = ["kept.txt"] }

[[reply]]
text = "Done again."
"""
WAITS = """\
[[reply]]
text = "I wait."
[[reply.call]]
tool = "exec"
arguments = { command = "sleep", args = ["1000"], timeout = 600000 }
"""


@pytest.fixture
def run(project: Project) -> str:
    """A run at rest, with a file and a snapshot of it."""
    project.write("writes.toml", WRITES)
    ended = project.run("writes.toml")
    assert ended.code == 0, ended.said
    return ended.run


def own(project: Project, run: str) -> Path:
    """Make the workspace of a job one that nobody chose, as a service would have made it."""
    (project.folder / ".peritus" / "jobs" / "default" / f"{run}.workspace").unlink()
    folder = project.folder / ".peritus" / "workspaces" / "default" / run
    folder.parent.mkdir(parents=True)
    return project.workspace.rename(folder)


def listed(project: Project, what: str) -> list[dict[str, Any]]:
    outcome = project.peritus("sandbox", "ls", "--json")
    assert outcome.code == 0, outcome.said
    return [one for one in outcome.events if one["what"] == what]


def gc(project: Project, *words: str) -> Outcome:
    outcome = project.peritus("sandbox", "gc", "--json", *words)
    assert outcome.code == 0, outcome.said
    return outcome


def test_the_doctor_tries_every_backend_and_says_which_is_used(project: Project) -> None:
    outcome = project.peritus("sandbox", "doctor", "--json")
    people = project.peritus("sandbox", "doctor")
    forced = project.peritus("sandbox", "doctor", env={"PERITUS_SANDBOX": "docker"})

    assert outcome.code == 0, outcome.said
    found = {one["backend"]: one for one in outcome.events}
    assert set(found) == {"docker", "bubblewrap", "landlock"}
    assert (found["bubblewrap"]["holds"], found["bubblewrap"]["used"]) == (True, True)
    assert found["bubblewrap"]["checks"]["no_route"]
    assert found["docker"]["reason"] == "PERITUS_SANDBOX_IMAGE is not set"
    assert not found["landlock"]["used"]
    assert "PERITUS_SANDBOX=auto: bubblewrap is used" in people.out
    assert "not landlock: auto never takes it" in people.out
    assert forced.code == 1
    assert "there is no sandbox to use" in forced.out
    assert not (project.folder / ".peritus").exists()


def test_what_is_kept_is_listed(project: Project, run: str) -> None:
    [workspace] = listed(project, "workspace")
    [journal] = listed(project, "journal")
    [snapshots] = listed(project, "snapshots")
    people = project.peritus("sandbox", "ls", "--no-json")

    assert (workspace["run"], workspace["kind"]) == (run, "mounted")
    assert (workspace["status"], workspace["at_rest"]) == ("completed", True)
    assert (workspace["files"], workspace["saved"]) == (1, True)
    assert not workspace["alive"]
    assert workspace["epoch"] == journal["epoch"]
    assert snapshots["workspace"] == run
    assert str(project.workspace) in people.out


def test_a_command_runs_as_an_experts_would_and_its_exit_code_is_ours(
    project: Project, run: str
) -> None:
    true = project.peritus("sandbox", "shell", run, "--", "true")
    both = project.peritus(
        *("sandbox", "shell", run, "--", "sh", "-c"),
        "cat kept.txt; pwd; echo x > new.txt; ls /root /home; echo --debug >&2; exit 7",
    )
    route = project.peritus("sandbox", "shell", run, "--", "cat", "/proc/net/route")
    killed = project.peritus("sandbox", "shell", run, "--", "sh", "-c", "kill -9 $$")
    option = project.peritus("sandbox", "shell", run, "--", "echo", "--debug")
    missing = project.peritus("sandbox", "shell", run, "--egress", "--", "true")

    assert true.code == 0, true.said
    assert "made outside of any run" in true.said
    assert both.code == 7
    assert both.out.startswith("kept/workspace\n")
    assert "--debug" in both.said
    assert (project.workspace / "new.txt").read_text() == "x\n"
    assert len(route.out.splitlines()) == 1  # the heading
    assert killed.code == 137
    assert option.out == "--debug\n"
    assert missing.code != 0
    assert "has no allowedDomains" in missing.said


def test_a_read_only_expert_has_a_read_only_shell(project: Project) -> None:
    project.write(
        "perstack.toml",
        '[experts.helper]\ninstruction = "Help."\n[experts.helper.sandbox]\nreadOnly = true\n',
    )
    project.write("looks.toml", WAITS.replace("sleep", "true").replace('["1000"]', "[]"))
    ended = project.run("looks.toml")
    outcome = project.peritus("sandbox", "shell", ended.run, "--", "touch", "new.txt")
    assert outcome.code == 1
    assert "read-only for expert helper" in outcome.said
    assert not (project.workspace / "new.txt").exists()


def test_a_shell_has_a_terminal_of_its_own(project: Project, run: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.folder)
        words = ["-m", "peritus", "sandbox", "shell", run]
        os.execve(sys.executable, [sys.executable, *words], environment(TERM="dumb"))
    said = b""
    try:
        while not said.endswith(b"$ "):
            assert select.select([terminal], [], [], BOUND_S)[0], said
            said += os.read(terminal, 4096)
        os.write(terminal, b"tty; cat kept.txt; echo $((6*7)); exit 3\n")
        while select.select([terminal], [], [], BOUND_S)[0]:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 3, said
    assert b"/dev/pts/0" in said
    assert b"kept42" in said


def test_a_killed_shell_leaves_nothing_after_gc(project: Project, run: str) -> None:
    """C10: what a killed process made is found by its label."""
    words = ("sh", "-c", "echo '{}'; exec sleep 1000")
    started = project.start("sandbox", "shell", run, "--", *words)
    assert next(started.events()) == {}
    [before] = listed(project, "sandbox")
    started.kill()

    planned = gc(project, "--dry-run")
    done = gc(project)

    assert before["alive"]
    assert any(before["epoch"] in one["why"] for one in planned.events)
    assert any(before["epoch"] in one["what"] + one["where"] for one in done.events)
    assert listed(project, "sandbox") == []


def test_gc_removes_only_what_is_old_saved_and_ours(project: Project, run: str) -> None:
    folder = own(project, run)
    young = gc(project)
    planned = gc(project, "--older-than", "0s", "--dry-run")
    assert young.events == []
    assert (folder / "kept.txt").exists()
    assert f"workspace of {run}" in [one["what"] for one in planned.events]

    done = gc(project, "--older-than", "0s")
    after = project.peritus("files", run, "cat", "kept.txt")

    assert {"local snapshots", f"workspace of {run}"} <= {one["what"] for one in done.events}
    assert not folder.exists()
    assert listed(project, "journal") == []
    assert listed(project, "snapshots") == []
    assert after.out == "kept"  # of the snapshot


def test_a_run_that_goes_on_after_gc_has_its_files_back_and_its_model_is_told(
    project: Project,
) -> None:
    project.write("twice.toml", WRITES + LOOKS)
    project.workspace.mkdir()
    first = project.run("twice.toml", "--copy")
    [workspace] = listed(project, "workspace")
    folder = Path(workspace["path"])
    cleared = gc(project, "--older-than", "0s")
    assert f"workspace of {first.run}" in [one["what"] for one in cleared.events]
    assert not folder.exists()

    again = project.run("twice.toml", "--continue", "--json")

    assert again.code == 0, again.said
    assert again.run == first.run
    ended = [one["event"] for one in again.events if one["event"]["type"] == "tool_call.ended.v1"]
    answer, news = (part["text"] for part in ended[-1]["content"])
    assert json.loads(answer)["output"] == "kept"
    assert "as they were after step 3;" in news
    assert (folder / "kept.txt").read_text() == "kept"


@pytest.mark.usefixtures("run")
def test_gc_leaves_alone_what_no_snapshot_holds_and_folders_of_people(project: Project) -> None:
    mounted = gc(project, "--older-than", "0s", "--unsaved")
    assert (project.workspace / "kept.txt").exists()
    assert not any("workspace" in one["what"] for one in mounted.events)

    project.write("writes.toml", WRITES)
    second = project.peritus(
        *("run", "helper", "x", "--provider", "scripted", "--model", "writes.toml"),
        env={"PERITUS_SNAPSHOTS": "false"},
    ).run
    folder = own(project, second)
    kept = gc(project, "--older-than", "0s")
    assert [one["why"] for one in kept.events if not one["removed"]] == [
        "no snapshot holds all its files; --unsaved removes it too"
    ]
    assert (folder / "kept.txt").exists()
    gc(project, "--older-than", "0s", "--unsaved")
    assert not folder.exists()


def test_gc_leaves_alone_what_somebody_has_open(project: Project, run: str) -> None:
    folder = own(project, run)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        kept = gc(project, "--older-than", "0s")
    finally:
        os.close(descriptor)
    reasons = [one["why"] for one in kept.events if not one["removed"]]
    assert reasons == [f"process {os.getpid()} has it open"]
    assert (folder / "kept.txt").read_text() == "kept"


def test_an_open_run_keeps_its_files_and_its_journal_and_its_shell_says_so(
    project: Project,
) -> None:
    project.write("waits.toml", WAITS)
    started = project.start_run("waits.toml")
    try:
        event = started.until("tool_call.requested.v2")
        run = str(event["run"])
        gc(project, "--older-than", "0s", "--unsaved")
        shell = project.peritus("sandbox", "shell", run, "--", "true")
        [journal] = listed(project, "journal")
    finally:
        started.interrupt()
        code = started.end()
    assert code == 5, started.said
    assert journal["alive"]
    assert shell.code == 0, shell.said
    assert f"run {run} is open" in shell.said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gc", "--older-than", "soon"), "such as 12h or 7d"),
        (("shell", "nobody"), "nobody"),
    ],
)
def test_mistakes_are_told_in_a_line(project: Project, words: tuple[str, ...], said: str) -> None:
    outcome = project.peritus("sandbox", *words)
    assert outcome.code == 2
    assert said in outcome.said
    assert "Traceback" not in outcome.said


def test_ls_of_a_project_without_runs_is_empty(project: Project) -> None:
    outcome = project.peritus("sandbox", "ls", "--no-json")
    assert outcome.code == 0
    assert "nothing is kept here" in outcome.said
    assert json.dumps(outcome.events) == "[]"
