"""Connections to servers that are processes: one a key, restarted with care, all closed at last."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from domain.errors import Unavailable
from domain.tools import Safety
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.host import McpHost
from services.tool.mcp.pool import pause_s
from tests.integration.mcp_sandbox import GROUNDS, ground_of
from tests.support.skills import QUICK, Traces, stage, text, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", GROUNDS)
async def test_nothing_is_left_behind_after_50_opens_calls_and_closes(
    kind: str, tmp_path: Path
) -> None:
    """C11."""
    async with (
        ground_of(kind, tmp_path) as ground,
        stage("hostile", "instructs", ground=ground) as here,
    ):
        await here.call()
        await here.host.leave("acme", here.place)
        before = Traces.now()
        for number in range(50):
            here.place = f"job:{number}"
            assert not (await here.call()).is_error
            if number % 2:
                await here.host.leave("acme", here.place)
        assert len(here.host) == 25
        for number in range(50):
            await here.host.leave("acme", f"job:{number}")
        await before.same()


async def test_calls_at_one_place_share_a_server() -> None:
    async with stage("hostile", "instructs") as here, asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(here.call(name=f"c1-{number}"))
    assert len(here.started) == 1


async def test_places_tenants_and_skills_share_none() -> None:
    async with stage("hostile", "instructs") as here:
        await here.call()
        here.place = "job:2"
        await here.call()
        here.skill = here.skill.model_copy(update={"args": ("--other",)})
        await here.call()
        here.skill = here.skill.model_copy(update={"catalogue": await here.discover()})
        await here.call()  # what is known of a server makes no other of it
        assert (len(here.host), len(here.started)) == (3, 4)


async def test_a_server_that_is_not_used_is_ended() -> None:
    async with stage("hostile", "instructs", bounds=replace(QUICK, idle_s=0.05)) as here:
        before = Traces.now()
        await here.call()
        await until(lambda: len(here.host) == 0)
        await before.same()
        assert not (await here.call()).is_error
        assert len(here.started) == 2


async def test_a_server_is_started_only_when_the_one_before_is_gone() -> None:
    async with stage("hostile", "stubborn", bounds=replace(QUICK, idle_s=0.05)) as here:
        await here.call()
        await until(lambda: len(here.host) == 0)  # it is being ended, and does not want to
        assert len(here.processes()) == 1
        await here.call()
        assert (len(here.started), len(here.processes())) == (2, 1)


async def test_a_server_that_ended_between_two_calls_is_started_again() -> None:
    async with stage("hostile", "answers_and_dies") as here:
        for _ in range(3):
            assert text(await here.call()) == "the last words"
            await until(lambda: len(here.host) == 0)
        assert len(here.started) == 3


@pytest.mark.parametrize("name", ["modern", "modern_strict", "modern_polite"])
async def test_a_server_of_the_newest_protocol_alone_is_spoken_to(name: str) -> None:
    """Whatever it makes of how sessions began before."""
    async with stage("hostile", name) as here:
        assert text(await here.call()) == "done"


async def test_a_server_of_no_protocol_we_know_is_told_of_by_its_version() -> None:
    async with stage("hostile", "ancient") as here:
        with pytest.raises(Unavailable, match=r"version from the server: 2023-01-01"):
            await here.call()


async def test_what_was_unused_for_longest_makes_room() -> None:
    async with stage("hostile", "stubborn", bounds=replace(QUICK, connections_max=2)) as here:
        for number in range(3):
            here.place = f"job:{number}"
            await here.call()
        assert len(here.processes()) == 2
        here.place = "job:1"
        await here.call()
        assert len(here.started) == 3


async def test_where_all_servers_are_at_work_no_more_is_started() -> None:
    one = replace(QUICK, connections_max=1)
    async with stage("hostile", "never_right", bounds=one) as here, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(here.call())
        await until(lambda: bool(here.started))
        here.place = "job:2"
        with pytest.raises(Unavailable, match="1 servers of skills are at work already"):
            await here.call()
        waiting.cancel()


async def test_a_server_that_hangs_is_ended_before_it_is_used_again() -> None:
    async with stage("hostile", "deaf", bounds=replace(QUICK, ping_s=0.2)) as here:
        assert "gave no answer" in text(await here.call(timeout_ms=200))
        assert "gave no answer" in text(await here.call(timeout_ms=200))
        assert len(here.started) == 2


async def test_a_server_that_was_not_used_for_a_while_is_asked_for_a_sign_of_life() -> None:
    always = replace(QUICK, idle_ping_s=0.0, ping_s=0.2)
    async with stage("hostile", "tires", bounds=always) as here:
        assert text(await here.call()) == "done"
        assert text(await here.call()) == "done"
        assert len(here.started) == 2


async def test_a_server_that_failed_is_started_again_for_the_next_call() -> None:
    async with stage("hostile", "dies", bounds=replace(QUICK, backoff_s=0.05)) as here:
        for number in range(1, 4):
            assert (await here.call()).unknown
            assert len(here.started) == number


def test_a_server_that_failed_is_given_more_time_each_time() -> None:
    bounds = Bounds(backoff_s=0.5, backoff_s_max=30.0)
    pauses = [pause_s(failures, bounds) for failures in (0, 1, 2, 3, 100)]
    assert pauses == [0.0, 0.5, 1.0, 2.0, 30.0]


async def test_leaving_before_a_server_was_even_started_leaves_none() -> None:
    async with stage("hostile", "instructs") as here, asyncio.TaskGroup() as tasks:

        async def refused() -> None:
            with pytest.raises(Unavailable):
                await here.call()

        calling = tasks.create_task(refused())
        await until(lambda: len(here.host) == 1)
        await here.host.leave("acme", here.place)
        await calling
        assert not here.processes()


async def test_leaving_ends_a_server_that_is_still_starting() -> None:
    async with stage("hostile", "silent") as here, asyncio.TaskGroup() as tasks:

        async def refused() -> None:
            with pytest.raises(Unavailable, match="what it ran in is closed"):
                await here.call()

        calling = tasks.create_task(refused())
        await until(lambda: bool(here.started))
        await here.host.leave("acme", here.place)
        await calling
        assert len(here.host) == 0


async def test_a_worker_that_is_cancelled_leaves_no_server() -> None:
    before = Traces.now()
    at_work = asyncio.Event()
    async with stage("hostile", "never_right") as here:

        async def worker() -> None:
            async with asyncio.TaskGroup() as tasks:
                here.host = McpHost(tasks, here.person, QUICK)
                tasks.create_task(here.call())
                await until(lambda: "[not a message]" in "".join(here.heard))
                at_work.set()
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(worker())
            await at_work.wait()
            assert here.processes()
            working.cancel()
        assert not here.processes()
        await before.same()


async def test_leaving_ends_calls_under_way_as_unknown() -> None:
    async with stage("hostile", "never_right") as here, asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(here.call())
        safe = tasks.create_task(here.call(name="c1-1", safety=Safety.READ_ONLY))
        await until(lambda: "[not a message]" in "".join(here.heard))
        await here.host.leave("acme", here.place)
        assert (await calling).unknown
        safe.cancel()
        await here.host.leave("acme", here.place)


async def test_a_call_after_the_end_is_not_run() -> None:
    async with stage("hostile", "instructs") as here:
        await here.host.close()
        with pytest.raises(Unavailable, match="this worker is ending"):
            await here.call()
