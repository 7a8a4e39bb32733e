"""`peritus projections`: what it says of views, and that it makes them anew. Not the views."""

import json
import sqlite3

import pytest

from tests.e2e.cli_project import Outcome, Project
from tests.support import postgres

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]


def lines(outcome: Outcome) -> dict[str, dict[str, object]]:
    assert outcome.code == 0, outcome.said
    return {one["view"]: one for one in map(json.loads, outcome.out.splitlines())}


@pytest.mark.slow
def test_views_are_absent_then_live_then_built_anew_with_the_same_rows(project: Project) -> None:
    project.write("one.toml", '[[reply]]\ntext = "done"\n')
    assert project.run("one.toml").code == 0

    listed = lines(project.peritus("projections", "list", "--json"))
    assert {one["condition"] for one in listed.values()} == {"absent"}
    assert {"runs", "jobs", "steps", "search"} <= listed.keys()
    behind = listed["runs"]["behind"]
    assert isinstance(behind, int)
    assert behind > 0

    runs = project.peritus("runs", "--json").out
    assert len(runs.splitlines()) == 1
    built = project.peritus("projections", "rebuild")
    assert built.code == 0, built.said
    live = lines(project.peritus("projections", "lag", "--json"))
    assert {(one["condition"], one["behind"]) for one in live.values()} == {("live", 0)}

    again = lines(project.peritus("projections", "rebuild", "runs", "--json"))
    assert list(again) == ["runs"]
    assert again["runs"]["generation"] != live["runs"]["generation"]
    assert project.peritus("runs", "--json").out == runs
    shown = project.peritus("projections", "list", "--no-json").out
    assert shown.splitlines()[0].split() == ["VIEW", "VERSION", "STATE", "UP", "TO", "BEHIND"]


def test_a_view_that_there_is_not_is_refused_with_the_one_that_was_meant(project: Project) -> None:
    outcome = project.peritus("projections", "rebuild", "rnus")
    assert outcome.code == 6
    assert "did you mean 'runs'?" in outcome.said


def test_a_file_of_views_of_an_older_release_is_made_anew(project: Project) -> None:
    project.write("one.toml", '[[reply]]\ntext = "done"\n')
    project.run("one.toml")
    path = project.folder / ".peritus" / "views.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE place (schema, incarnation, seq)")
    db.execute("CREATE TABLE runs (old)")
    db.close()
    outcome = project.peritus("runs", "--json")
    assert outcome.code == 0, outcome.said
    assert len(outcome.out.splitlines()) == 1


@pytest.mark.backends
def test_views_in_postgresql_are_those_of_the_file_and_no_file_is_made(project: Project) -> None:
    if (why := postgres.missing()) is not None:
        pytest.skip(why)
    project.write("one.toml", '[[reply]]\ntext = "done"\n')
    assert project.run("one.toml").code == 0
    with postgres.served() as url:
        there = {"PERITUS_VIEWS_URL": url, "PERITUS_PREFIX": "peritus"}
        runs = project.peritus("runs", "--json", env=there)
        built = project.peritus("projections", "rebuild", env=there)
        live = lines(project.peritus("projections", "list", "--json", env=there))
        found = project.peritus("show", json.loads(runs.out)["run"][:8], env=there)
    assert built.code == 0, built.said
    assert {(one["condition"], one["behind"]) for one in live.values()} == {("live", 0)}
    assert found.code == 0, found.said
    assert not (project.folder / ".peritus" / "views.sqlite").exists()
    assert project.peritus("runs", "--json").out == runs.out
