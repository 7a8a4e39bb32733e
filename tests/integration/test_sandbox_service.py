"""The sandbox service as a whole: rooms, seats and what is kept, over real files and bubblewrap."""

import json
import os
from pathlib import Path

import pytest

from domain.commands import CancelRun
from domain.sandbox import SandboxSettings, SecretGrant
from services.sandbox.policy import OperatorPolicy
from tests.support.cluster import asks
from tests.support.service import (
    IDLE_S,
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
    whole,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

place = place_fixture


async def test_commands_and_file_tools_work_in_one_workspace(place: Place) -> None:
    read = asks(("readTextFile", '{"path": "f"}'))
    yard = Yard(crew(), plays(boss=[sh("echo hello > f"), read, "done"]))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        state = await yard.rested()
    assert state.result == "done"
    first, second = await yard.outcomes()
    assert first.outcome == "succeeded", said(first)
    assert json.loads(said(second))["content"] == "hello\n"
    assert (place.workspace() / "f").read_text() == "hello\n"
    owner = (place.workspace() / "f").stat().st_uid
    assert owner == place.workspace().stat().st_uid
    assert os.geteuid() != 0 or owner != 0, "root ran a command as root"


async def test_a_delegate_works_in_the_room_of_its_job_and_in_the_same_sandbox(
    place: Place,
) -> None:
    yard = Yard(
        crew(helper=SandboxSettings()),
        plays(
            boss=[sh("echo one > f"), asks(("helper", '{"query": "look"}')), sh("cat g"), "done"],
            helper=[sh("cat f && echo two > g"), "looked"],
        ),
    )
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
    assert [one.outcome for one in await yard.outcomes()] == ["succeeded"] * 3
    assert json.loads(said((await yard.outcomes())[2]))["output"] == "two\n"
    assert [one.opened for one in yard.backends] == [1], "equal experts share a sandbox"


async def test_an_expert_that_may_only_read_changes_nothing_by_any_tool(place: Place) -> None:
    tries = asks(
        ("exec", '{"command": "sh", "args": ["-c", "echo x > f"]}'),
        ("writeTextFile", '{"path": "f", "text": "x"}'),
        ("deleteFile", '{"path": "f"}'),
        ("mergeWorkspace", '{"run": "other"}'),
        ("readTextFile", '{"path": "f"}'),
    )
    yard = Yard(
        crew(helper=SandboxSettings(read_only=True)),
        plays(
            boss=[sh("echo kept > f"), asks(("helper", '{"query": "look"}')), "done"],
            helper=[tries, "tried"],
        ),
    )
    async with yard.sandboxed("e1", place):
        await yard.begin()
        state = await yard.rested()
        child = child_of_first_call(state.ref, step=2)
        outcomes = await yard.outcomes(child)
    assert [one.is_error for one in outcomes] == [True, True, True, True, False], outcomes
    assert "Read-only file system" in said(outcomes[0])
    assert (place.workspace() / "f").read_text() == "kept\n"
    assert [one.opened for one in yard.backends] == [2], "two kinds of experts, two sandboxes"


async def test_a_room_nobody_uses_is_closed_and_opens_again(place: Place) -> None:
    """C10: descriptors and sandboxes are let go of while the worker lives."""
    yard = Yard(crew(), plays(boss=[sh("echo 1 > f"), "one", sh("cat f"), "two"]))
    async with yard.sandboxed("e1", place) as lane:
        await yard.begin()
        await yard.rested()
        service = await lane.service()
        workspace = str(place.workspace())
        assert workspace in descriptors()
        await service.tidy(later_s=IDLE_S)
        assert workspace not in descriptors()
        await yard.say_more()
        state = await yard.reached("the second answer", lambda one: one.result == "two")
    assert state.at_rest
    assert [one.opened for one in yard.backends] == [2]
    assert [one.outcome for one in await yard.outcomes()] == ["succeeded", "succeeded"]


async def test_a_background_process_keeps_its_room_until_it_ends(place: Place) -> None:
    start = asks(("startProcess", '{"command": "sh", "args": ["-c", "read line; echo got $line"]}'))

    write = asks(("writeProcess", '{"handle": "p-c1-0", "text": "it\\n"}'))
    yard = Yard(crew(), plays(boss=[start, "started", write, "written"]))
    async with yard.sandboxed("e1", place) as lane:
        await yard.begin()
        await yard.rested()
        service = await lane.service()
        await service.tidy(later_s=IDLE_S)
        await yard.say_more()
        await yard.reached("the second answer", lambda one: one.result == "written")

        async def closed() -> bool:
            await service.tidy(later_s=IDLE_S)
            return str(place.workspace()) not in descriptors()

        await until("the end of the process and its room", closed)
    assert [one.opened for one in yard.backends] == [1]
    assert [one.outcome for one in await yard.outcomes()] == ["succeeded"] * 2


async def test_what_a_cancelled_run_keeps_running_is_ended_with_its_room(place: Place) -> None:
    """C6 and C10."""
    start = asks(("startProcess", '{"command": "sleep", "args": ["1000"]}'))
    yard = Yard(crew(), plays(boss=[start, sh("touch begun; sleep 1000"), "done"]))
    async with yard.sandboxed("e1", place) as lane:
        await yard.begin()

        async def begun() -> bool:
            return (place.workspace() / "begun").exists()

        await until("the command", begun)
        await yard.client.submit(JOB, CancelRun(id="stop"), "stop")
        await yard.reached("the end", lambda one: bool(one.expert) and one.at_rest)
        service = await lane.service()

        async def closed() -> bool:
            await service.tidy(later_s=IDLE_S)
            return str(place.workspace()) not in descriptors()

        await until("the end of its process and its room", closed)


async def test_two_jobs_have_two_workspaces_and_see_nothing_of_each_other(place: Place) -> None:
    other = Yard.job("job2")
    yard = Yard(crew(), plays(boss=[sh("ls; echo x > mine; sleep 0.2; ls /workspace/.."), "done"]))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.begin(other)
        await yard.rested()
        await yard.rested(other)
    for ref in (Yard.job("job1"), other):
        (ended,) = await yard.outcomes(ref)
        output = json.loads(said(ended))["output"]
        assert "mine" not in output, output
        assert (place.workspace(ref) / "mine").exists()


@pytest.mark.parametrize(
    ("sandbox", "operator", "hint"),
    [
        (SandboxSettings(image="evil:1"), OperatorPolicy(), "PERITUS_SANDBOX_IMAGES"),
        (
            SandboxSettings(allowed_domains=("evil.test",)),
            OperatorPolicy(egress=("good.test",)),
            "PERITUS_EGRESS_DOMAINS",
        ),
        (
            SandboxSettings(secrets=(SecretGrant(name="KEY"),)),
            OperatorPolicy(deliveries=("egress",)),
            "PERITUS_SECRET_DELIVERY",
        ),
        (
            SandboxSettings(secrets=(SecretGrant(name="ANTHROPIC_API_KEY"),)),
            OperatorPolicy(never=("ANTHROPIC_API_KEY",)),
            "key of a model provider",
        ),
        (SandboxSettings(secrets=(SecretGrant(name="KEY"),)), OperatorPolicy(), "secrets check"),
    ],
    ids=["image", "domain", "delivery", "model key", "missing"],
)
@pytest.mark.parametrize("who", ["boss", "helper"])
async def test_what_the_operator_does_not_allow_is_refused_and_the_answer_says_what_to_change(
    place: Place, sandbox: SandboxSettings, operator: OperatorPolicy, hint: str, who: str
) -> None:
    """Never a weaker sandbox instead, for a delegate no more than for a root run."""
    boss: list[Line] = [sh("touch ran"), "done"]
    if who == "boss":
        definition = crew(sandbox)
    else:
        definition = crew(helper=sandbox)
        boss = [asks(("helper", '{"query": "go"}')), "done"]
    yard = Yard(definition, plays(boss=boss, helper=[sh("touch ran"), "done"]), operator=operator)
    async with yard.sandboxed("e1", place):
        await yard.begin()
        state = await yard.rested()
        ref = state.ref if who == "boss" else child_of_first_call(state.ref)
        (ended,) = await yard.outcomes(ref)
    assert ended.outcome == "failed"
    assert hint in said(ended)
    assert not (place.workspace() / "ran").exists()
    assert [one.opened for one in yard.backends] == [0]


async def test_where_there_is_no_sandbox_a_call_fails_and_says_why_and_the_run_goes_on(
    place: Place,
) -> None:
    yard = Yard(crew(), plays(boss=[sh("touch ran"), "done"]), refusal="bubblewrap is missing")
    async with yard.sandboxed("e1", place):
        await yard.begin()
        state = await yard.reached("the end", lambda one: one.at_rest)
    (ended,) = await yard.outcomes()
    assert (ended.outcome, state.result) == ("failed", "done")
    assert "bubblewrap is missing" in said(ended)


async def test_the_whole_of_a_long_output_is_read_from_the_log(place: Place) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    read = asks(("readResult", '{"call": "c1-0", "from": 9999, "to": 10001}'))
    other = asks(("readResult", '{"call": "c9-9"}'))
    yard = Yard(crew(), plays(boss=[sh(script), read, other, "done"]))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
    first, second, third = await yard.outcomes()
    assert "readResult" in json.loads(await whole(yard, first))["more"]
    assert json.loads(said(second))["content"] == "line 9999\nline 10000\n"
    assert json.loads(said(third))["error"] == "no_result"


def descriptors() -> set[str]:
    """What this process has open, by name."""
    found: set[str] = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue
    return found
