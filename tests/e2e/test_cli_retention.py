"""Deleting, exporting and importing jobs with the real command, over a real server."""

import json
import zipfile
from pathlib import Path

import pytest

from tests.e2e.cli_project import Project

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

DEFINITION = """\
[experts.helper]
instruction = "Help."
[experts.helper.skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["writeTextFile"]
"""

SCRIPT = """\
[[reply]]
text = "I write."
[[reply.call]]
tool = "writeTextFile"
arguments = { path = "note.txt", text = "a note" }
[[reply]]
text = "Done."
delay_ms = 600
[[reply]]
text = "Done again."
[[reply]]
text = "And again."
"""


def project_in(folder: Path) -> Project:
    folder.mkdir()
    made = Project(folder)
    made.write("perstack.toml", DEFINITION)
    made.write("script.toml", SCRIPT)
    return made


def rows(project: Project) -> set[str]:
    return {row["run"] for row in project.peritus("runs", "--json").events}


@pytest.mark.slow
def test_a_job_moves_to_another_deployment_and_is_deleted_here(tmp_path: Path) -> None:
    here, there = project_in(tmp_path / "here"), project_in(tmp_path / "there")
    assert here.run("script.toml", "--job", "moves").code == 0
    exported = here.peritus("export", "moves", "-o", "moves.zip")
    assert exported.code == 0, exported.said
    assert "1 runs" in exported.said
    file = here.folder / "moves.zip"
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert (manifest["job"], manifest["at_rest"], manifest["missing"]) == ("moves", True, [])

    imported = there.peritus("import", str(file))
    assert imported.code == 0, imported.said
    assert "imported moves" in imported.said
    assert "is here already" in there.peritus("import", str(file)).said
    assert rows(there) == {"moves"}
    replayed = there.peritus("replay", "moves")
    assert replayed.code == 0, replayed.said
    assert there.peritus("files", "moves", "cat", "note.txt", "--step", "1").out == "a note"
    went_on = there.run("script.toml", "--job", "moves", "--continue", query="And now?")
    assert went_on.code == 0, went_on.said

    unsure = here.peritus("delete", "moves")
    assert (unsure.code, rows(here)) == (6, {"moves"})
    assert "--yes" in unsure.said
    deleted = here.peritus("delete", "moves", "--yes")
    assert deleted.code == 0, deleted.said
    assert deleted.events[0]["runs"] == 1
    assert rows(here) == set()
    for words in (
        ("import", str(file)),
        ("export", "moves"),
        ("replay", "moves"),
        ("cancel", "moves"),
        ("fork", "moves", "--from", "1", "--query", "x"),
        ("delete", "nothing", "--yes"),
    ):
        refused = here.peritus(*words)
        assert refused.code == 6, (words, refused.said)
    again = here.run("script.toml", "--job", "moves")
    assert again.code == 6, again.said
    assert "was deleted" in again.said


@pytest.mark.slow
def test_a_source_goes_only_with_its_forks(tmp_path: Path) -> None:
    project = project_in(tmp_path / "p")
    assert project.run("script.toml", "--job", "first").code == 0
    forked = project.peritus(
        "fork",
        "first",
        "--from",
        "2",
        "--query",
        "Again",
        "--job",
        "second",
        "--provider",
        "scripted",
        "--model",
        "script.toml",
    )
    assert forked.code == 0, forked.said
    kept = project.peritus("delete", "first", "--yes")
    assert kept.code == 6
    assert "second" in kept.said
    shown = project.peritus("delete", "first", "--with-forks", "--dry-run")
    assert shown.out.split() == ["second", "first"]
    assert rows(project) == {"first", "second"}
    gone = project.peritus("delete", "first", "--with-forks", "--yes")
    assert gone.code == 0, gone.said
    assert rows(project) == set()


@pytest.mark.slow
def test_old_jobs_go_and_blobs_that_nothing_needs_are_told_of(tmp_path: Path) -> None:
    project = project_in(tmp_path / "p")
    assert project.run("script.toml", "--job", "first").code == 0
    assert "no job is that old" in project.peritus("delete", "--older-than", "1d", "--yes").said
    gone = project.peritus("delete", "--older-than", "0s", "--yes")
    assert gone.code == 0, gone.said
    assert [event["job"] for event in gone.events] == ["first"]
    swept = project.peritus("blobs", "sweep", "--dry-run", "--older-than", "12h")
    assert swept.code == 0, swept.said
    assert "0 blobs would be removed" in swept.said
    assert project.peritus("blobs", "sweep", "--older-than", "1h").code == 2
    assert project.peritus("delete").code == 2
    assert project.peritus("delete", "first", "--older-than", "1d").code == 2


def test_the_service_finishes_what_is_begun_and_deletes_what_is_old(tmp_path: Path) -> None:
    project = project_in(tmp_path / "p")
    assert project.run("script.toml", "--job", "first").code == 0
    serving = project.start("serve", "retention", env={"PERITUS_RETENTION_DAYS": "0.0000001"})
    try:
        while rows(project):
            pass  # each look takes long enough
    finally:
        serving.kill()
    again = project.run("script.toml", "--job", "first")
    assert "was deleted" in again.said
