"""The demo over eight processes, each killed once in the middle of a call. Not one process."""

import asyncio
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from domain.events import ToolCallClaimed, ToolCallEnded, ToolCallRequested
from eventlog.port import Backbone
from peritus.feed import Heard, stored_events
from tests.e2e.processes import (
    TOKEN,
    Team,
    Watch,
    read_through,
    server,
    start_run,
    team,
    until,
)
from tests.support.gateway import Message

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.sandbox, pytest.mark.faults]

EXAMPLE = Path(__file__).parents[2] / "examples" / "bugfix"
JOB = "demo"

COUNTED = """\
[[reply]]
text = "Call {name}."
delay_ms = 1000
[[reply.call]]
tool = "exec"
arguments = {{ command = "bash", args = ["-c", "echo {name} >> ran; sleep {sleep_s}"] }}
"""

SLOW_S = 2
"""How long a call takes that is to be killed: it is found within a fraction of that."""

FIRST_DEMO_STEP = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The demo as a project, with three counted calls before it and a model that takes its time."""
    shutil.copy(EXAMPLE / "perstack.toml", tmp_path)
    shutil.copytree(EXAMPLE / "seed", tmp_path / "workspaces" / "default" / JOB)
    counted = [
        COUNTED.format(name=name, sleep_s=sleep_s)
        for name, sleep_s in (("one", SLOW_S), ("two", SLOW_S), ("three", 0))
    ]
    demo = re.sub(r"delay_ms = \d+", "delay_ms = 1000", (EXAMPLE / "script.toml").read_text())
    (tmp_path / "script.toml").write_text("\n".join([*counted, demo]))
    return tmp_path


async def test_every_process_of_a_deployment_may_be_killed_once_and_the_run_completes(
    folder: Path,
) -> None:
    ran = folder / "workspaces" / "default" / JOB / "ran"
    async with server(folder / "nats") as (nats, backbone):
        settings = {
            "PERITUS_NATS_URL": nats.url,
            "PERITUS_NATS_TOKEN": TOKEN,
            "PERITUS_HANDOFF": "false",
            "PERITUS_GATEWAY_PORT": "0",
            "PERITUS_GATEWAY_AUTH": "none",
            "PERITUS_WORKSPACES_DIR": str(folder / "workspaces"),
        }
        with team(folder, settings) as services:
            for name in ("loop", "sandbox", "projections", "gateway") * 2:
                services.start(name)
            await services.ready()
            body = {"expert": "bugfixer", "query": "Repair it.", "job": JOB}
            body |= {"provider": "scripted", "model": "script.toml"}
            ref = await start_run(services, body, "once")
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(read_through(services, ref))
                await kill_each(services, Watch(backbone, ref), ran)
            again = await start_run(services, body, "once")

        state = await Watch(backbone, ref).state()
        heard = await stored_events(backbone.log, [ref])
        await check_chain(backbone, heard)

    assert again == ref, "the same key started a second run"
    assert state.status == "completed", state.failure_message
    check_read(reading.result(), heard)
    check_calls(heard, ran.read_text().split())


async def kill_each(services: Team, run: Watch, ran: Path) -> None:
    """Kill both loops in generations, both sandboxes in calls, the others while work goes on."""
    services.of(await run.generating(1)).kill()
    services.of(await at_work(run, 1, ran)).kill()
    services.of(await run.generating(2)).kill()
    for _ in range(2):
        services.start("loop")
    services.of(await at_work(run, 2, ran)).kill()
    for _ in range(2):
        services.start("sandbox")
    victims = (*services.living("gateway"), *services.living("projections"))
    for step, victim in enumerate(victims, FIRST_DEMO_STEP):
        await run.generating(step)
        victim.kill()
        services.start(victim.name)
    await run.at_rest()
    await services.ready()


async def at_work(run: Watch, step: int, ran: Path) -> int:
    """The pid of the process whose call of that step has taken effect and goes on."""
    pid = await run.calling(step)

    async def has_run() -> bool:
        return effects(ran) >= step

    await until(f"the effect of the call of step {step}", has_run)
    return pid


def effects(ran: Path) -> int:
    """How many calls have taken effect, as they wrote down themselves."""
    return len(ran.read_text().split()) if ran.exists() else 0


async def check_chain(backbone: Backbone, heard: list[Heard]) -> None:
    """Versions without a gap; a broken chain of hashes would not have folded."""
    assert [one.version for one in heard] == list(range(1, len(heard) + 1))
    assert len({one.cursor for one in heard}) == len(heard)
    assert await backbone.dead.list(limit=10) == []


def check_read(messages: list[Message], heard: list[Heard]) -> None:
    """A reader that reconnects with the last id saw every event once, in order."""
    assert [message.id for message in messages] == [str(one.cursor) for one in heard]
    assert [message.event for message in messages] == [one.event.type for one in heard]


def check_calls(heard: list[Heard], ran: list[str]) -> None:
    """Each call ended once; what succeeded ran once, what is unknown at most once."""
    events = [one.event for one in heard]
    asked = [event.call for event in events if isinstance(event, ToolCallRequested)]
    ended = Counter(event.call for event in events if isinstance(event, ToolCallEnded))
    claimed = Counter(event.call for event in events if isinstance(event, ToolCallClaimed))
    outcomes = [event.outcome for event in events if isinstance(event, ToolCallEnded)]
    assert ended == Counter(asked)
    assert max(claimed.values()) == 1
    assert outcomes.count("outcome_unknown") == 2
    assert outcomes[:3] == ["outcome_unknown", "outcome_unknown", "succeeded"]
    assert ran.count("three") == 1
    assert all(number == 1 for number in Counter(ran).values())
