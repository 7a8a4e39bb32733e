"""Workers that die, at the same place and for good: what is lost, what is not, and who is told."""

import json
from collections.abc import Generator

import pytest

from domain.events import InputReceived, SandboxPlaced
from domain.ids import RunRef
from domain.record import canonical
from domain.sandbox import SandboxSettings
from domain.state import Call
from domain.work import CallToolWork
from eventlog.port import lane_of
from tests.support.cluster import asks
from tests.support.service import (
    JOB,
    Place,
    Yard,
    child_of_first_call,
    crew,
    places,
    plays,
    said,
    sh,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

LATER_MS = 16_000
"""More than the time a place has to come back, in milliseconds."""


@pytest.fixture
def two() -> Generator[list[Place]]:
    with places("a", "b") as made:
        yield made


async def in_file(place: Place, name: str, ref: RunRef = JOB) -> None:
    """Wait until a command has made a file."""

    async def look() -> bool:
        return (place.workspace(ref) / name).exists()

    await until(f"the file {name}", look)


async def test_the_same_place_goes_on_with_all_files_and_what_was_in_a_command_is_unknown(
    two: list[Place],
) -> None:
    """C3: counted by the command itself."""
    place = two[0]
    yard = Yard(
        crew(),
        plays(boss=[sh("echo 1 > f"), sh("echo x >> ran; sleep 60"), sh("cat f ran"), "done"]),
    )
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await in_file(place, "ran")
    yard.dead.add("e1")
    async with yard.sandboxed("e2", place):
        state = await yard.rested()
    first, second, third = await yard.outcomes()
    assert state.result == "done"
    assert [first.outcome, second.outcome, third.outcome] == [
        "succeeded",
        "outcome_unknown",
        "succeeded",
    ]
    assert json.loads(said(third))["output"] == "1\nx\n"
    placed = [one for one in await yard.events() if isinstance(one, SandboxPlaced)]
    assert [(one.epoch, one.number, one.lost) for one in placed] == [("e1", 1, ""), ("e2", 2, "")]


async def test_a_call_that_is_delivered_again_is_not_begun_again(two: list[Place]) -> None:
    """Rule 6: while it is at work, and when it is over."""
    place = two[0]
    script = "echo x >> ran; while [ ! -e over ]; do sleep 0.01; done"
    yard = Yard(crew(), plays(boss=[sh(script), "done"]))
    async with yard.sandboxed("e1", place, handoff=False):
        await yard.begin()
        await in_file(place, "ran")
        work = again((await yard.state(JOB)).calls["c1-0"])
        for attempt in (work.attempt, work.attempt + 1):
            copy = canonical(work.model_copy(update={"attempt": attempt}))
            for lane in ("sandbox", lane_of("e1")):
                await yard.outside.work.put(lane, JOB, copy)
        await queued(yard, 1)
        (place.workspace() / "over").touch()
        await yard.rested()
        await yard.outside.work.put("sandbox", JOB, canonical(work))
        await queued(yard, 0)
    (ended,) = await yard.outcomes()
    assert ended.outcome == "succeeded"
    assert (place.workspace() / "ran").read_text() == "x\n"


def again(call: Call) -> CallToolWork:
    """The work of a call, once more."""
    return CallToolWork(
        call=call.id,
        attempt=call.attempt,
        lane=call.lane,
        tool=call.tool,
        skill=call.skill,
        safety=call.safety,
        arguments=call.arguments,
        key=call.key,
        timeout_ms=60_000,
        expert="boss",
        definition="",
    )


async def queued(yard: Yard, most: int) -> None:
    """Wait until the queues hold no more than so much, with what is at work."""

    async def look() -> bool:
        return sum(len(queue.messages) for queue in yard.server.work.values()) <= most

    await until(f"{most} messages in the queues", look)


async def test_another_place_brings_the_newest_snapshot_back_and_the_model_is_told(
    two: list[Place],
) -> None:
    """The first machine is gone with all its files, while a command runs."""
    here, there = two
    yard = Yard(
        crew(),
        plays(
            boss=[
                sh("echo kept > f; mkdir -p d/empty; ln -s f l; chmod 640 f"),
                sh("echo lost > g; touch begun; sleep 60"),
                sh("ls; cat f; stat -c %a f; readlink l; ls -d d/empty"),
                "done",
            ]
        ),
    )
    async with yard.sandboxed("e1", here):
        await yard.begin()
        await in_file(here, "begun")
        await yard.reached("a snapshot", lambda one: one.snapshot is not None)
    yard.dead.add("e1")
    here.burn()
    async with yard.sandboxed("e2", there):
        await yard.reached("the loss", lambda one: bool(one.sandbox and one.sandbox.lost_ms))
        yard.later_ms += LATER_MS
        state = await yard.rested()
    first, second, third = await yard.outcomes()
    assert state.result == "done"
    assert (first.outcome, second.outcome) == ("succeeded", "outcome_unknown")
    assert json.loads(said(third))["output"] == "d\nf\nl\nkept\n640\nf\nd/empty\n"
    notes = [one for one in await yard.events() if isinstance(one, InputReceived)]
    assert "again as they were after step 1" in str(notes[-1].parts[0])
    placed = [one for one in await yard.events() if isinstance(one, SandboxPlaced)]
    assert [one.number for one in placed] == [1, 2]
    assert placed[1].lost


async def test_the_files_are_back_before_a_delegate_works_at_the_other_place(
    two: list[Place],
) -> None:
    """The delegate's call is the first there: its job's files are brought back for it, too."""
    here, there = two
    yard = Yard(
        crew(helper=SandboxSettings()),
        plays(
            boss=[sh("echo kept > f"), asks(("helper", '{"query": "go"}')), sh("cat f"), "done"],
            helper=[sh("touch begun; sleep 60"), sh("cat f"), "done"],
        ),
    )
    child = child_of_first_call(JOB, step=2)
    async with yard.sandboxed("e1", here):
        await yard.begin()
        await in_file(here, "begun")
        await yard.reached("a snapshot", lambda one: one.snapshot is not None)
    yard.dead.add("e1")
    here.burn()
    async with yard.sandboxed("e2", there):
        await yard.reached("the loss", lambda one: bool(one.sandbox and one.sandbox.lost_ms), child)
        yard.later_ms += LATER_MS
        await yard.rested()
    for outcomes in (await yard.outcomes(child), await yard.outcomes()):
        assert json.loads(said(outcomes[-1]))["output"] == "kept\n", outcomes


async def test_a_copy_that_is_made_anew_at_the_other_place_has_the_jobs_files(
    two: list[Place],
) -> None:
    here, there = two
    yard = Yard(
        crew(helper=SandboxSettings(workspace="isolated")),
        plays(
            boss=[sh("echo kept > f"), asks(("helper", '{"query": "go"}')), sh("cat f"), "done"],
            helper=[sh("echo other > f; touch begun; sleep 60"), sh("cat f"), "done"],
        ),
    )
    child = child_of_first_call(JOB, step=2)
    async with yard.sandboxed("e1", here):
        await yard.begin()
        await yard.reached("the call", lambda one: bool(one.open_calls), child)
        await yard.reached("a snapshot", lambda one: one.snapshot is not None)
    yard.dead.add("e1")
    here.burn()
    async with yard.sandboxed("e2", there):
        await yard.reached("the loss", lambda one: bool(one.sandbox and one.sandbox.lost_ms), child)
        yard.later_ms += LATER_MS
        await yard.rested()
    for outcomes in (await yard.outcomes(child), await yard.outcomes()):
        assert json.loads(said(outcomes[-1]))["output"] == "kept\n", outcomes
