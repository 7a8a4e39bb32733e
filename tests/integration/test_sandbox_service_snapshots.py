"""Snapshots as the service takes them: when, of what moment, and what a run records of them."""

import asyncio
import json
from pathlib import Path

import pytest

from domain.errors import Unavailable
from domain.events import SnapshotTaken, StepEnded, ToolCallEnded
from domain.ids import RunRef
from domain.sandbox import SandboxLimits, SandboxSettings
from eventlog.port import Blobs
from services.sandbox.policy import OperatorPolicy
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.workspace import Workspace
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
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

place = place_fixture


async def taken(yard: Yard, ref: RunRef = JOB) -> list[SnapshotTaken]:
    """What was stored; a step that ends before that of the one before is stored owes one, too."""
    return [one for one in await yard.events(ref) if isinstance(one, SnapshotTaken)]


async def restored(yard: Yard, place: Place, one: SnapshotTaken) -> Place:
    """The files of a snapshot, brought back into a folder of their own."""
    assert one.manifest is not None, one.problem
    folder = place.folder / f"back-{one.version}"
    folder.mkdir()
    store = SnapshotStore(folder / "store", yard.outside.blobs)
    into = folder / "files"
    into.mkdir()
    with Workspace(into) as workspace:
        await store.restore(JOB.tenant, "back", one.manifest.digest, workspace)
    return Place(into)


async def test_a_step_that_may_have_written_is_stored_and_names_its_checkpoint(
    place: Place,
) -> None:
    boss: list[Line] = [
        sh("echo 1 > f; mkdir -p d/empty; ln -s f l; chmod 750 f"),
        asks(("writeTextFile", '{"path": "f", "text": "2\\n"}')),
        "done",
    ]
    yard = Yard(crew(), plays(boss=boss))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
    first, second, *_ = await taken(yard)
    assert [(one.step, one.run, one.exact, one.problem) for one in (first, second)] == [
        (1, JOB.run, True, ""),
        (2, JOB.run, True, ""),
    ]
    assert first.version == await version_of_step(yard, 1)
    assert second.version == await version_of_step(yard, 2)
    then = (await restored(yard, place, first)).folder
    now = (await restored(yard, place, second)).folder
    assert ((then / "f").read_text(), (now / "f").read_text()) == ("1\n", "2\n")
    assert (then / "d" / "empty").is_dir()
    assert str((then / "l").readlink()) == "f"
    assert (then / "f").stat().st_mode & 0o777 == 0o750


async def test_a_step_that_only_looks_owes_nothing(place: Place) -> None:
    yard = Yard(crew(), plays(boss=[asks(("listDirectory", '{"path": "."}')), "done"]))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
    assert [one.outcome for one in await yard.outcomes()] == ["succeeded"]
    assert await taken(yard) == []


async def version_of_step(yard: Yard, step: int) -> int:
    events = await yard.events()
    return 1 + next(
        number
        for number, one in enumerate(events)
        if isinstance(one, StepEnded) and one.step == step
    )


async def test_a_process_that_runs_on_is_frozen_and_the_snapshot_is_not_called_exact(
    place: Place,
) -> None:
    forever = "while :; do echo x >> log; done"
    start = asks(("startProcess", json.dumps({"command": "sh", "args": ["-c", forever]})))
    yard = Yard(crew(), plays(boss=[start, "done"]))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
    one = (await taken(yard))[0]
    assert (one.exact, one.problem) == (False, "")


async def test_a_call_of_another_run_that_writes_meanwhile_makes_it_not_exact(
    place: Place,
) -> None:
    """A delegate is in the middle of a command when another one's step ends."""
    slow = "touch begun; i=0; while [ ! -e over ]; do sleep 0.01; done"
    quick = "while [ ! -e begun ]; do sleep 0.01; done; echo mine > f"
    yard = Yard(
        crew(slow=SandboxSettings(), quick=SandboxSettings()),
        plays(
            boss=[asks(("slow", '{"query": "go"}'), ("quick", '{"query": "go"}')), "done"],
            slow=[sh(slow), "done"],
            quick=[sh(quick), "done"],
        ),
    )
    child = child_of_first_call(JOB, index=1)
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.reached("the quick one's snapshot", lambda one: one.snapshot is not None, child)
        (place.workspace() / "over").touch()
        await yard.rested()
    assert not (await taken(yard, child))[0].exact
    own = [one.exact for one in await taken(yard) if one.run == JOB.run]
    assert set(own) == {True}, "the caller's own checkpoint came after both"


async def test_the_next_tool_that_writes_waits_for_the_snapshot_but_the_model_does_not(
    place: Place,
) -> None:
    """Half of a large workspace is read when the second command is asked for, and it waits."""
    files = "for i in $(seq 3000); do echo 1 > f$i; done"
    yard = Yard(crew(), plays(boss=[sh(files), sh("for i in f*; do echo 2 > $i; done"), "done"]))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
    first, second, *_ = await taken(yard)
    assert [(one.step, one.exact) for one in (first, second)] == [(1, True), (2, True)]
    kinds = await yard.types()
    asked = [number for number, one in enumerate(kinds) if one == "generation.requested.v2"]
    assert asked[1] < kinds.index("snapshot.taken.v1"), "the model waited for the snapshot"
    then = (await restored(yard, place, first)).folder
    contents = {path.read_text() for path in then.iterdir() if path.is_file()}
    assert contents == {"1\n"}, "a command wrote while the files of the step before were read"


class Held(SnapshotStore):
    """Takes as long to prepare a capture as a test wants; `broken` makes the first one fail."""

    def __init__(self, folder: Path, blobs: Blobs, *, broken: bool = False) -> None:
        super().__init__(folder, blobs)
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._broken = broken

    async def prepare(self, tenant: str, room: str) -> None:
        """Read what is known of a room, once the test lets it."""
        self.asked.set()
        await self.go.wait()
        if self._broken:
            self._broken = False
            message = "the disk is away"
            raise Unavailable(message)
        await super().prepare(tenant, room)


@pytest.mark.parametrize("broken", [False, True], ids=["stored", "put_off"])
async def test_the_next_tool_that_writes_waits_from_the_moment_its_snapshot_is_begun(
    place: Place,
    broken: bool,  # noqa: FBT001 - a column
) -> None:
    """Long before the snapshot asks at the gate; and not longer than it is on its way."""
    stores: list[Held] = []

    def store(folder: Path, blobs: Blobs) -> Held:
        stores.append(Held(folder, blobs, broken=broken))
        return stores[-1]

    write = asks(("writeTextFile", '{"path": "f", "text": "2\\n"}'))
    yard = Yard(crew(), plays(boss=[sh("echo 1 > f"), write, "done"]), store=store)
    async with yard.sandboxed("e1", place) as lane:
        await yard.begin()
        file, due = place.workspace() / "f", (await lane.service()).due

        async def decided() -> bool:
            return bool(due.waiting) or (file.exists() and file.read_text() == "2\n")

        await until("the second tool to wait, or to write", decided)
        assert file.read_text() == "1\n", "it wrote before the files of the first step were read"
        assert stores[0].asked.is_set()
        stores[0].go.set()
        await yard.rested()
    stored = [(one.step, one.exact) for one in await taken(yard)]
    assert ((1, True) in stored) is not broken, "what was put off was overtaken"
    assert stored[-1][0] >= 2
    assert stored[-1][1]
    assert [one.outcome for one in await yard.outcomes()] == ["succeeded", "succeeded"]
    assert due.waiting == 0


async def test_a_workspace_over_its_limits_is_not_stored_and_the_run_says_why(
    place: Place,
) -> None:
    operator = OperatorPolicy(limits=SandboxLimits(workspace_files=20))
    script = "for i in $(seq 30); do : > f$i; done"
    yard = Yard(crew(), plays(boss=[sh(script), "done"]), operator=operator)
    async with yard.sandboxed("e1", place):
        await yard.begin()
        state = await yard.rested()
    (one,) = await taken(yard)
    assert one.manifest is None
    assert "more than 20 files" in one.problem
    assert state.result == "done"


async def test_an_operator_that_wants_no_snapshots_gets_none(place: Place) -> None:
    operator = OperatorPolicy(snapshots=False)
    yard = Yard(crew(), plays(boss=[sh("echo 1 > f"), "done"]), operator=operator)
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.reached("the end", lambda one: one.at_rest)
    assert await taken(yard) == []
    ended = [one for one in await yard.events() if isinstance(one, ToolCallEnded)]
    assert [one.outcome for one in ended] == ["succeeded"], said(ended[0])
