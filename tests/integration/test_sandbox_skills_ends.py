"""How servers of skills end: with their room, their worker, their sandbox; and nothing is left."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from commands.discovery import no_job
from domain.definition import Definition
from domain.errors import Unavailable
from domain.events import SnapshotTaken
from domain.ids import RunRef
from domain.sandbox import SandboxSettings
from services.worker.skills import SkillFailed
from tests.contract.sandbox_backends import marker, processes_with
from tests.support.cluster import asks
from tests.support.line_host import Desk, LineHost, line_skill, skilled, text_of
from tests.support.service import (
    BOUND_S,
    IDLE_S,
    JOB,
    Place,
    Yard,
    place_fixture,
    plays,
    said,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

place = place_fixture


def yard_of(definition: Definition, host: LineHost, idle_s: float = 60.0) -> Yard:
    """Workers whose sandbox service has a skill host."""
    return Yard(definition, plays(boss=["done"]), host=host, idle_s=idle_s)


@asynccontextmanager
async def desk(yard: Yard, place: Place, epoch: str = "e1") -> AsyncGenerator[Desk]:
    async with yard.sandboxed(epoch, place) as lane:
        yield Desk(yard, lane)


def daemons(word: str) -> str:
    """An expression that leaves a process which has left its session and ignores signals."""
    script = f"trap '' TERM HUP; : {word}; while :; do sleep 1000; done"
    command = json.dumps(["setsid", "sh", "-c", script])
    quiet = "stdin=-3, stdout=-3, stderr=-3"
    return f"subprocess.Popen({command}, {quiet}) and True"


async def begun(word: str) -> None:
    """Wait for such a process: its command line is empty while it becomes another program."""

    async def look() -> list[str]:
        return processes_with(word)

    await until("what the server has started", look)


async def test_an_idle_room_is_closed_although_a_server_is_open_and_the_next_call_starts_it(
    place: Place,
) -> None:
    """C10: with all that the server has started."""
    host, word = LineHost(), marker()
    yard = yard_of(skilled(line=line_skill()), host)
    async with desk(yard, place) as at:
        assert await at.says(daemons(word)) is True
        await begun(word)
        service = await at.lane.service()
        await service.tidy(later_s=IDLE_S)
        assert processes_with(word) == []
        assert host.left == [host.sites[0].key]
        assert host.open == {}
        assert await at.says("1 + 1") == 2
    assert len(host.sites) == 2
    assert [one.opened for one in yard.backends] == [2]


async def test_a_host_that_cannot_let_go_keeps_no_server_alive(place: Place) -> None:
    class Stubborn(LineHost):
        async def leave(self, tenant: str, key: str) -> None:
            del tenant, key
            message = "no"
            raise RuntimeError(message)

    host, word = Stubborn(), marker()
    yard = yard_of(skilled(line=line_skill()), host)
    async with desk(yard, place) as at:
        await at.says(daemons(word))
        await (await at.lane.service()).tidy(later_s=IDLE_S)
        assert processes_with(word) == []
        (talk,) = host.open.values()
        assert await talk.process.wait() == 137
        host.open.clear()
        assert await at.says("2") == 2


async def test_a_room_that_is_closed_starts_no_server(place: Place) -> None:
    """A host may try again by itself, and later than it should."""
    host = LineHost()
    yard = yard_of(skilled(line=line_skill()), host)
    async with desk(yard, place) as at:
        await at.says("1")
        await (await at.lane.service()).tidy(later_s=IDLE_S)
        with pytest.raises(Unavailable, match="room of the sandbox is closed"):
            await host.sites[0].start()
    assert [one.opened for one in yard.backends] == [1]


async def test_servers_end_with_their_worker(place: Place) -> None:
    host, words = LineHost(), (marker(), marker())
    yard = yard_of(skilled(line=line_skill(), shared=line_skill(shared=True)), host)
    async with desk(yard, place) as at:
        await at.says(daemons(words[0]))
        await at.says(daemons(words[1]), skill="shared")
    assert [processes_with(word) for word in words] == [[], []]
    assert sorted(host.left) == sorted(site.key for site in host.sites)


async def test_a_server_that_dies_is_started_again_by_the_next_call(place: Place) -> None:
    host, word = LineHost(), marker()
    yard = yard_of(skilled(line=line_skill()), host)
    async with desk(yard, place) as at:
        await at.says(daemons(word))
        died = await at.call("os.kill(os.getpid(), signal.SIGKILL)")
        assert (died.is_error, text_of(died)) == (True, "the server ended: 137")
        assert processes_with(word) == [], "what it started has ended with it"
        assert await at.says("3") == 3
    assert [one.opened for one in yard.backends] == [1], "in the same sandbox"


async def test_a_cancelled_call_leaves_the_room_in_order(place: Place) -> None:
    host, word = LineHost(), marker()
    yard = yard_of(skilled(line=line_skill()), host)
    async with desk(yard, place) as at, asyncio.TaskGroup() as tasks:
        sleeps = f"subprocess.run(['sh', '-c', ': {word}; touch begun; sleep 1000'])"
        calling = tasks.create_task(at.call(sleeps))

        async def begun() -> bool:
            return (place.workspace() / "begun").exists()

        await until("the call", begun)
        calling.cancel()
        await asyncio.wait([calling])
        assert processes_with(word) == []
        await (await at.lane.service()).tidy(later_s=IDLE_S)
        assert await at.says("4") == 4


async def test_a_snapshot_while_a_server_runs_does_not_claim_to_be_exact(place: Place) -> None:
    """And one of an expert whose servers change nothing does."""
    exact: dict[bool, set[bool]] = {}
    for read_only in (False, True):
        host = LineHost()
        skill = line_skill()
        definition = skilled(SandboxSettings(read_only=read_only), line=skill)
        call = asks(("run", json.dumps({"python": "1"})))
        yard = Yard(definition, plays(boss=[call, "done"]), host=host)
        job = RunRef(JOB.tenant, f"job-{read_only}", f"job-{read_only}")
        async with yard.sandboxed(f"e-{read_only}", place):
            await yard.begin(job)
            await yard.rested(job)
        (outcome,) = await yard.outcomes(job)
        assert said(outcome) == "1"
        taken = [one for one in await yard.events(job) if isinstance(one, SnapshotTaken)]
        exact[read_only] = {one.exact for one in taken}
    assert exact == {False: {False}, True: {True}}


async def test_discovery_works_in_an_empty_folder_and_leaves_nothing(place: Place) -> None:
    host = LineHost()
    definition = skilled(line=line_skill())
    yard = yard_of(definition, host)
    async with yard.sandboxed("e1", place) as lane:
        service = await lane.service()
        found = await service.discover(no_job("acme"), definition.expert("boss"), "line")
        assert found.catalogue.server == '[".peritus"]'
        assert (found.version, found.args) == (None, line_skill().args)
        (site,) = host.sites
        assert (site.tenant, site.folder) == ("acme", "/workspace")
        assert host.left == [site.key]
        assert host.open == {}
        assert list(place.state.with_name(".scratch").rglob("*discovery*")) == []
        with pytest.raises(Unavailable, match="room of the sandbox is closed"):
            await site.start()
    assert not place.workspace().exists()


async def test_a_discovery_that_fails_leaves_nothing_either(place: Place) -> None:
    host = LineHost()
    definition = skilled(line=line_skill(command="false", args=()))
    yard = yard_of(definition, host)
    async with yard.sandboxed("e1", place) as lane:
        service = await lane.service()
        with pytest.raises(SkillFailed):
            await service.discover(no_job("acme"), definition.expert("boss"), "line")
        assert list(place.state.with_name(".scratch").rglob("*discovery*")) == []
        with pytest.raises(Unavailable, match="no skill 'other'"):
            await service.discover(no_job("acme"), definition.expert("boss"), "other")


async def test_a_discovery_without_a_host_is_unavailable(place: Place) -> None:
    definition = skilled(line=line_skill())
    yard = Yard(definition, plays(boss=["done"]))
    async with yard.sandboxed("e1", place) as lane:
        with pytest.raises(Unavailable, match="speaks no MCP"):
            await (await lane.service()).discover(no_job("acme"), definition.expert("boss"), "line")


WORKER = """
import asyncio, sys
from pathlib import Path
from tests.support.line_host import Desk, LineHost, line_skill, skilled
from tests.support.service import Place, Yard, plays
async def main(folder, expression):
    definition = skilled(line=line_skill(), shared=line_skill(shared=True))
    yard = Yard(definition, plays(boss=["done"]), host=LineHost())
    async with yard.sandboxed("dead", Place(Path(folder))) as lane:
        desk = Desk(yard, lane)
        for skill in ("line", "shared"):
            assert await desk.says(expression, skill=skill) is True
        print("up", flush=True)
        await asyncio.Event().wait()
asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_worker_leaves_nothing_once_reaped(place: Place) -> None:
    """C10: neither the servers nor what they started, nor the folders they had."""
    word = marker()
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, str(place.folder), daemons(word)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert worker.stdout is not None
    try:
        async with asyncio.timeout(BOUND_S):
            assert await worker.stdout.readline() == b"up\n"
            await begun(word)
    finally:  # also of a test that fails
        worker.send_signal(signal.SIGKILL)
        await worker.wait()
    scratch = place.state.with_name(".scratch")
    assert (scratch / "dead").is_dir()
    yard = yard_of(skilled(line=line_skill()), LineHost())
    yard.dead.add("dead")
    async with desk(yard, place, "e2") as at:
        assert await at.says("5") == 5
        assert processes_with(word) == []
        assert not (scratch / "dead").exists()
    assert not (scratch / "e2").exists()


async def test_a_server_is_frozen_while_its_room_is_looked_at(place: Place) -> None:
    """So that a snapshot sees nothing that it has half written."""
    host = LineHost()
    yard = yard_of(skilled(line=line_skill()), host)
    async with desk(yard, place) as at, asyncio.TaskGroup() as tasks:
        await at.says("1")
        rooms = (await at.lane.service())._rooms  # pyright: ignore[reportPrivateUsage]
        (suite,) = rooms._suites.values()  # pyright: ignore[reportPrivateUsage]
        async with rooms.still(suite), suite.boxes.popitem()[1].frozen() as frozen:
            if not frozen:
                pytest.skip("this machine lends no control group to freeze with")
            (talk,) = host.open.values()
            asked = tasks.create_task(talk.ask("2"))
            await asyncio.wait([asked], timeout=0.2)
            assert not asked.done()
        assert await asked == "2"


async def test_a_discovery_for_a_job_sees_its_files(place: Place) -> None:
    """Some servers look at files when they start, and end where there are none."""
    (place.workspace() / "given").mkdir(parents=True)
    host = LineHost()
    definition = skilled(line=line_skill())
    yard = yard_of(definition, host)
    async with yard.sandboxed("e1", place) as lane:
        found = await (await lane.service()).discover(JOB, definition.expert("boss"), "line")
        assert found.catalogue.server == '[".peritus", "given"]'
    assert {path.name for path in place.workspace().iterdir()} == {".peritus", "given"}
