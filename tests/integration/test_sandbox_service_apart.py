"""Delegates that work in a copy of the workspace, and what their caller takes over of it."""

import json
import re
from pathlib import Path

import pytest

from domain.sandbox import SandboxLimits, SandboxSettings
from peritus.project import Workspaces
from services.loop.models.port import ModelReply
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.merging import Merging
from services.sandbox.workspace import Workspace
from tests.integration.test_sandbox_service_snapshots import taken
from tests.support.cluster import asks
from tests.support.service import (
    JOB,
    Line,
    Place,
    Yard,
    child_of_first_call,
    crew,
    place_fixture,
    plays,
    said,
    sh,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

place = place_fixture

APART = SandboxSettings(workspace="isolated")
DELEGATE = asks(("helper", '{"query": "go"}'))
CHILD = child_of_first_call(JOB, step=2)


def merge(**more: object) -> Line:
    """Merge the run that the model remembers from the answer of its delegate."""
    return asks(("mergeWorkspace", json.dumps({"run": CHILD.run, **more})))


def merge_as_told(told: str) -> ModelReply:
    """Merge the run that the answer of the delegate names."""
    found = re.search(r'mergeWorkspace, run "([^"]+)"', told)
    assert found is not None, told
    return asks(("mergeWorkspace", json.dumps({"run": found.group(1)})))


async def play(place: Place, boss: list[Line], helper: list[Line]) -> Yard:
    yard = Yard(crew(helper=APART), plays(boss=boss, helper=helper))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
        await yard.rested(CHILD)
    return yard


async def merged(yard: Yard) -> list[dict[str, object]]:
    """What the merges answered."""
    ends = await yard.outcomes()
    names = [one for one in ends if '"applied"' in said(one)]
    return [json.loads(said(one)) for one in names]


async def test_a_copy_begins_as_the_callers_and_nothing_of_it_shows_before_the_merge(
    place: Place,
) -> None:
    yard = await play(
        place,
        [
            sh("echo base > f; mkdir d; echo gone > d/gone; ln -s f l; chmod 700 f"),
            DELEGATE,
            sh("cat f; ls"),
            merge(),
            sh("cat f new; ls d"),
            "done",
        ],
        [sh("cat f; stat -c %a f; echo theirs > f; echo new > new; rm d/gone"), "changed"],
    )
    (child,) = await yard.outcomes(CHILD)
    assert json.loads(said(child))["output"] == "base\n700\n"
    (answer,) = await merged(yard)
    assert answer["applied"] is True
    assert answer["counts"] == {"written": 2, "removed": 1, "conflicts": 0}
    before, after = [json.loads(said(one))["output"] for one in (await yard.outcomes())[2::2]]
    assert before == "base\nd\nf\nl\n"
    assert after == "theirs\nnew\n"


async def test_the_answer_of_a_delegate_names_the_run_to_merge(place: Place) -> None:
    yard = await play(
        place, [sh("echo 1 > f"), DELEGATE, merge_as_told, "done"], [sh("echo 2 > f"), "changed"]
    )
    assert [one["applied"] for one in await merged(yard)] == [True]
    assert (place.workspace() / "f").read_text() == "2\n"


async def test_a_merge_says_what_it_would_do_refuses_conflicts_and_may_be_told_who_wins(
    place: Place,
) -> None:
    yard = await play(
        place,
        [
            sh("echo base > f; echo base > g"),
            DELEGATE,
            sh("echo ours > f"),
            merge(dryRun=True, onConflict="theirs"),
            merge(),
            merge(onConflict="ours"),
            sh("cat f g"),
            merge(onConflict="theirs"),
            merge(onConflict="theirs"),
            sh("cat f g"),
            "done",
        ],
        [sh("echo theirs > f; echo theirs > g"), "changed"],
    )
    dry, refused, ours, theirs, again = await merged(yard)
    assert (dry["applied"], dry["conflicts"], dry["written"]) == (False, ["f"], ["f", "g"])
    assert (refused["applied"], refused["conflicts"], refused["written"]) == (False, ["f"], [])
    assert "onConflict" in str(refused["message"])
    assert (ours["applied"], ours["written"]) == (True, ["g"])
    assert (theirs["applied"], theirs["written"]) == (True, ["f"])
    assert (again["applied"], again["counts"]) == (
        True,
        {"written": 0, "removed": 0, "conflicts": 0},
    ), "a merge that was done is not done again"
    looks = [said(one) for one in await yard.outcomes() if one.call != "c2-0"]
    outputs = [out for one in looks if (out := json.loads(one).get("output"))]
    assert outputs == ["ours\ntheirs\n", "theirs\ntheirs\n"]


@pytest.mark.parametrize(
    "run", ["nobody", "../job2", f"{CHILD.run}/../../acme/job2", "", ".", "a\0b", "x" * 5000]
)
async def test_only_runs_of_the_job_that_worked_apart_can_be_merged(place: Place, run: str) -> None:
    """A model names the run: no name leads to another job's files."""
    place.workspace(Yard.job("job2")).mkdir(parents=True)
    (place.workspace(Yard.job("job2")) / "theirs").write_text("secret")
    call = asks(("mergeWorkspace", json.dumps({"run": run})))
    yard = await play(place, [sh("echo 1 > f"), DELEGATE, call, "done"], [sh("ls"), "done"])
    ended = (await yard.outcomes())[-1]
    assert json.loads(said(ended))["error"] == "not_found"
    assert not (place.workspace() / "theirs").exists()


async def test_what_a_delegate_stored_of_its_copy_is_no_snapshot_of_the_job(place: Place) -> None:
    """Else a job that is brought back elsewhere would get the files of the copy."""
    yard = await play(place, [sh("echo 1 > f"), DELEGATE, "done"], [sh("echo 2 > f"), "changed"])
    assert {one.run for one in await taken(yard, CHILD)} == {CHILD.run}
    assert {one.run for one in await taken(yard)} == {JOB.run}


async def test_the_notes_of_copies_leave_no_content_in_blobs(place: Place) -> None:
    """C15: what a snapshot withholds is not stored by a copy either."""
    yard = Yard(
        crew(helper=APART),
        plays(
            boss=[sh("printf %s%s canary- value-1 > f"), DELEGATE, "done"],
            helper=[sh("ls"), "done"],
        ),
    )
    yard.redactions.add("CANARY", "canary-value-1")
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
        await yard.rested(CHILD)
    assert not [name for name, data in yard.server.blobs.items() if b"canary-value-1" in data]
    withheld = [one.withheld for one in await taken(yard, CHILD)]
    assert withheld
    assert set(withheld) == {1}


async def test_a_copy_has_its_name_only_when_it_is_on_the_disk(tmp_path: Path) -> None:
    """Else a power cut could leave empty files, and a merge would take them for changes."""
    seen: list[tuple[str, bool, bool]] = []

    def sync(descriptor: int) -> None:
        del descriptor
        noted = (tmp_path / "isolated" / JOB.tenant / path.name).exists()
        seen.append(((path.with_name(f"{path.name}.new") / "f").read_text(), noted, path.exists()))
        if len(seen) == 1:
            raise OSError(5, "the disk is broken")

    workspaces = Workspaces(tmp_path / "project", tmp_path / "workspaces")
    path = workspaces.isolated(CHILD)
    source = workspaces.own(JOB)
    source.mkdir(parents=True)
    (source / "f").write_text("kept")
    merging = Merging(tmp_path / "isolated", workspaces, SandboxLimits, sync)
    with Workspace(source) as workspace:
        with pytest.raises(SandboxUnavailable):
            await merging.copy(CHILD, workspace, path)
        assert not path.exists()
        await merging.copy(CHILD, workspace, path)
    assert seen == [("kept", True, False)] * 2
    assert (path / "f").read_text() == "kept"
