"""`peritus files` over the demo's run: look, take out, compare, by step and live. Not the store."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli_project import BOUND_S, Project, environment

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

EXAMPLE = Path(__file__).parents[2] / "examples" / "bugfix"
BUG, REPAIR = "return fahrenheit - 32 * 5 / 9", "return (fahrenheit - 32) * 5 / 9"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The demo's project after its run, and the run."""
    folder = tmp_path_factory.mktemp("demo")
    for name in ("perstack.toml", "script.toml"):
        shutil.copy(EXAMPLE / name, folder)
    shutil.copytree(EXAMPLE / "seed", folder / "workspace")
    made = Project(folder)
    ended = made.peritus(
        *("run", "bugfixer", "Repair it", "--provider", "scripted", "--model", "script.toml")
    )
    assert ended.code == 0, ended.said
    return made, ended.run


def listed(demo: tuple[Project, str], *words: str) -> dict[str, dict[str, object]]:
    """What `ls` says, by path."""
    project, run = demo
    outcome = project.peritus("files", run, "ls", *words, "--json")
    assert outcome.code == 0, outcome.said
    return {one["path"]: one for one in map(json.loads, outcome.out.splitlines())}


def test_files_are_listed_as_they_are_and_as_they_were(demo: tuple[Project, str]) -> None:
    now, then = listed(demo), listed(demo, "--step", "4")
    folder = listed(demo, "/workspace/__pycache__")

    assert {"REPORT.md", "temperature.py", "__pycache__"} <= now.keys()
    assert "probe.py" in then
    assert "probe.py" not in now
    assert "REPORT.md" not in then
    assert (now["temperature.py"]["kind"], now["temperature.py"]["mode"]) == ("file", "644")
    assert now["temperature.py"]["size"] == then["temperature.py"]["size"] + 2  # type: ignore[operator]
    assert folder
    assert all(path.startswith("__pycache__/") for path in folder)


def test_one_file_is_shown_by_step(demo: tuple[Project, str]) -> None:
    project, run = demo
    now = project.peritus("files", run, "cat", "temperature.py")
    then = project.peritus("files", run, "cat", "./temperature.py", "--step", "5")
    assert (now.code, then.code) == (0, 0)
    assert now.out == (project.workspace / "temperature.py").read_text()
    assert REPAIR in now.out
    assert then.out == (EXAMPLE / "seed" / "temperature.py").read_text()
    assert BUG in then.out


def test_what_changed_is_told_between_steps_since_a_step_and_since_the_newest(
    demo: tuple[Project, str],
) -> None:
    project, run = demo
    steps = project.peritus("files", run, "diff", "--since", "4", "--step", "7", "--no-json")
    since = project.peritus("files", run, "diff", "--since", "4", "--json")
    lines = project.peritus(*("files", run, "diff", "temperature.py", "--since", "4", "--no-json"))
    same = project.peritus("files", run, "diff")
    (project.workspace / "REPORT.md").chmod(0o600)
    moved = project.peritus("files", run, "diff", "--no-json")
    (project.workspace / "REPORT.md").chmod(0o644)

    assert "D probe.py" in steps.out.splitlines()
    assert "M temperature.py" in steps.out.splitlines()
    assert "REPORT.md" not in steps.out
    assert {"path": "REPORT.md", "what": "added"} in since.events
    assert f"-    {BUG}\n+    {REPAIR}\n" in lines.out
    assert (same.code, same.out) == (0, "")
    assert "nothing changed" in same.said
    assert moved.out == "m REPORT.md\n"


def test_files_are_taken_out_exactly_and_nothing_is_replaced(
    demo: tuple[Project, str], tmp_path: Path
) -> None:
    project, run = demo
    whole = project.peritus("files", run, "get", "", str(tmp_path / "all"))
    named = project.peritus(
        *("files", run, "get", "temperature.py", str(tmp_path / "then.py"), "--step", "4")
    )
    again = project.peritus("files", run, "get", "temperature.py", str(tmp_path / "then.py"))
    into = project.peritus("files", run, "get", "__pycache__", str(tmp_path))

    assert [one.code for one in (whole, named, into)] == [0, 0, 0]
    for file in (tmp_path / "all").rglob("*"):
        source = project.workspace / file.relative_to(tmp_path / "all")
        assert file.stat().st_mode == source.stat().st_mode
        assert file.is_dir() or file.read_bytes() == source.read_bytes()
    assert (tmp_path / "all" / "REPORT.md").exists()
    assert not (tmp_path / "all" / ".peritus").exists()
    assert BUG in (tmp_path / "then.py").read_text()
    assert again.code != 0
    assert "is there already" in again.said
    assert BUG in (tmp_path / "then.py").read_text()
    assert list((tmp_path / "__pycache__").iterdir())


def test_odd_names_links_and_bytes_come_out_as_they_are(
    demo: tuple[Project, str], tmp_path: Path
) -> None:
    project, run = demo
    odd = project.workspace / "odd"
    odd.mkdir()
    every = bytes(range(256)) * 8
    for name in (b"\xff\x1b[31m", b"two\nlines", b"-rf"):
        Path(os.fsdecode(os.fsencode(odd) + b"/" + name)).write_bytes(every)
    (odd / "out").symlink_to("/etc/passwd")
    try:
        people = project.peritus("files", run, "ls", "odd", "--no-json")
        copied = project.peritus("files", run, "get", "odd", str(tmp_path))
        shown = subprocess.run(
            [sys.executable, "-m", "peritus", "files", run, "cat", "odd/\\xff\x1b[31m"],
            cwd=project.folder,
            env=environment(),
            capture_output=True,
            timeout=BOUND_S,
            check=False,
        )
        link = project.peritus("files", run, "cat", "odd/out")
    finally:
        shutil.rmtree(odd)

    assert copied.code == 0, copied.said
    assert len(people.out.splitlines()) == 4
    assert "\x1b" not in people.out
    names = sorted(os.fsencode(one.name) for one in (tmp_path / "odd").iterdir())
    assert names == sorted([b"\xff\x1b[31m", b"two\nlines", b"-rf", b"out"])
    assert (tmp_path / "odd" / "-rf").read_bytes() == every
    assert (tmp_path / "odd" / "out").readlink() == Path("/etc/passwd")
    assert shown.stdout == every
    assert link.code != 0
    assert "it is a link" in link.said


def test_a_workspace_that_is_gone_is_read_from_its_newest_snapshot(
    demo: tuple[Project, str],
) -> None:
    project, run = demo
    away = project.folder / "away"
    project.workspace.rename(away)
    try:
        outcome = project.peritus("files", run, "cat", "temperature.py")
        compared = project.peritus("files", run, "diff")
    finally:
        away.rename(project.workspace)
    assert outcome.code == 0, outcome.said
    assert REPAIR in outcome.out
    assert "nothing changed" in compared.said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ls", "nowhere"), "there is no 'nowhere'"),
        (("cat", "__pycache__"), "it is a folder"),
        (("cat",), "say which file"),
        (("ls", "--since", "1"), "--since is for diff"),
        (("diff", "--step", "4"), "say from where"),
        (("ls", "--step", "2"), "these steps have one: 3, 4"),
        (("ls", "--step", "99"), "the last one that has is 9"),
        (("diff", "nowhere", "--since", "4"), "there is no 'nowhere'"),
        (("cat", "../perstack.toml"), "there is no '../perstack.toml'"),
    ],
)
def test_mistakes_are_told_in_a_line(
    demo: tuple[Project, str], words: tuple[str, ...], said: str
) -> None:
    project, run = demo
    outcome = project.peritus("files", run, *words)
    assert outcome.code != 0
    assert outcome.out == ""
    assert said in outcome.said
    assert "Traceback" not in outcome.said


def test_a_copy_is_worked_in_and_the_folder_stays_as_it_is(project: Project) -> None:
    project.write("writes.toml", WRITES_COPIED)
    project.workspace.mkdir()
    (project.workspace / "given").write_text("as it was")
    before = sorted(path.name for path in project.workspace.iterdir())

    ran = project.run("writes.toml", "--copy", "--job", "copied")

    assert ran.code == 0, ran.said
    assert "a copy of" in ran.said
    assert sorted(path.name for path in project.workspace.iterdir()) == before
    assert project.peritus("files", "copied", "cat", "given").out == "changed"
    placed = [one["event"] for one in ran.events if one["event"]["type"] == "sandbox.placed.v1"]
    assert [one["workspace"] for one in placed] == ["copied"]


WRITES_COPIED = """\
[[reply]]
text = "I change it."
[[reply.call]]
tool = "writeTextFile"
arguments = { path = "given", text = "changed" }

[[reply]]
text = "Done."
"""
