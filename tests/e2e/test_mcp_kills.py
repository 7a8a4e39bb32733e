"""Calls of a server nobody here wrote, cancelled and killed in their middle: what is left."""

import asyncio

import pytest

from tests.e2e.cli_project import Outcome, Project, Started, scripted
from tests.e2e.conftest import Locked
from tests.e2e.mcp_project import (
    EVERYTHING_SKILL,
    HELPER,
    call,
    ended,
    script_of,
    servers,
    text_of,
    turn,
    verified,
)
from tests.e2e.people_project import waiting
from tests.e2e.processes import until
from tests.e2e.test_sandbox_kills import groups, mounts

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.sandbox, pytest.mark.registries]

UNSAFE = (
    "[experts.helper.skills.everything.tools.trigger-long-running-operation]\n"
    "readOnly = false\nidempotent = false\n"
)
"""The definition's word, above the server's: a second call of it is not the same as one."""

LONG = call("trigger-long-running-operation", duration=300, steps=300)
SHORT = call("trigger-long-running-operation", duration=6, steps=2)
ASKS = call("trigger-elicitation-request")


@pytest.fixture
def everything(shop: Project, locked: Locked) -> Project:
    """A helper that has the server, with a lock that is as good for each of these definitions."""
    shop.write("perstack.toml", HELPER + EVERYTHING_SKILL)
    shop.write("perstack.lock", locked(HELPER + EVERYTHING_SKILL))
    return shop


def begin(project: Project) -> Started:
    words = ("run", "helper", "Go", *scripted("script.toml"), "--json", "--job", "one")
    return project.start(*words)


async def at_work() -> None:
    """Wait until the server runs."""

    async def running() -> bool:
        return bool(await asyncio.to_thread(servers))

    await until("the server", running)


async def nothing_left(project: Project) -> None:
    """No process of the server, no control group, no mount and no sandbox of the project."""

    async def gone() -> bool:
        return not await asyncio.to_thread(servers)

    await until("the end of the server", gone)
    state = project.folder / ".peritus" / "workspaces" / ".place"
    assert groups((state / "place").read_text().strip()) == []
    assert str(project.folder) not in mounts()
    assert [path.name for name in ("sandboxes", "lives") for path in state.glob(f"{name}/*")] == []


def resumed(project: Project) -> Outcome:
    """The run, taken up again to its end."""
    outcome = project.peritus("resume", "one", "--json")
    assert outcome.code == 0, outcome.said
    whole = project.peritus("events", "one", "--json")
    assert sum(one["event"]["type"] == "run.completed.v2" for one in whole.events) == 1
    verified(project, "one")
    return whole


async def test_a_run_that_is_cancelled_in_a_call_is_quiet_and_leaves_no_server(
    everything: Project,
) -> None:
    everything.write("script.toml", script_of(turn(LONG)))
    running = begin(everything)
    await at_work()

    running.interrupt()
    running.until("run.cancelled.v1")

    assert running.end() == 5, running.said
    assert "Traceback" not in running.said
    assert "ERROR" not in running.said
    await nothing_left(everything)
    whole = everything.peritus("events", "one", "--json")
    assert [one["outcome"] for one in ended(whole)] == ["cancelled"]


async def test_a_call_that_may_not_be_repeated_is_of_unknown_outcome_after_kill_9(
    everything: Project,
) -> None:
    everything.write("perstack.toml", HELPER + EVERYTHING_SKILL + UNSAFE)
    everything.write(
        "script.toml",
        script_of(
            turn(LONG),
            turn(call("echo", message="on"), expect=("outcome_unknown",)),
            turn(expect=("Echo: on",)),
        ),
    )
    running = begin(everything)
    await at_work()
    running.kill()

    whole = await asyncio.to_thread(resumed, everything)

    killed, after = ended(whole)
    assert (killed["outcome"], after["outcome"]) == ("outcome_unknown", "succeeded")
    assert killed["is_error"]
    await nothing_left(everything)


async def test_a_call_that_may_be_repeated_is_made_again_after_kill_9(everything: Project) -> None:
    everything.write("script.toml", script_of(turn(SHORT), turn(expect=("operation completed",))))
    running = begin(everything)
    await at_work()
    running.kill()

    whole = await asyncio.to_thread(resumed, everything)

    (again,) = ended(whole)
    assert again["outcome"] == "succeeded"
    assert "Duration: 6 seconds" in text_of(again)
    await nothing_left(everything)


async def test_what_a_killed_call_asked_is_over_and_its_outcome_unknown(
    everything: Project,
) -> None:
    everything.write("script.toml", script_of(turn(ASKS), turn(expect=("outcome_unknown",))))
    running = begin(everything)
    running.until("tool_call.asked.v1")
    (shown,) = waiting(everything)
    running.kill()

    whole = await asyncio.to_thread(resumed, everything)
    late = everything.peritus("answer", "one", shown["id"], '{"name": "Ada"}')

    (killed,) = ended(whole)
    assert killed["outcome"] == "outcome_unknown"
    assert late.code == 6
    assert waiting(everything) == []
    await nothing_left(everything)
