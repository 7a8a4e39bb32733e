"""The streams of runs, jobs and tenants: what is told, left out, filtered, and its end (C9)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from domain import events as e
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.streams.bounds import Bounds
from tests.support.gateway import (
    BOUND_S,
    Message,
    deps_of,
    gateway,
    listening,
    take,
    until_closed,
)
from tests.support.pen import Pen, completed, continued, replied, started

pytestmark = pytest.mark.anyio

ROOT = RunRef("acme", "job1", "root")
CHILD = RunRef("acme", "job1", "child")
OTHER = RunRef("acme", "job2", "other")
FOREIGN = RunRef("umbrella", "job1", "root")
PARENT = e.Parent(run="root", call="c1-0")
JOB = "/v1/jobs/job1/events"


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    async with gateway(deps_of(backbone, tmp_path)) as http:
        yield http


class Team:
    """A root run, its child, another job and another tenant's job of the same name."""

    def __init__(self, backbone: Backbone) -> None:
        self.log = backbone.log
        self.root, self.child = Pen(ROOT), Pen(CHILD)
        self.other, self.foreign = Pen(OTHER), Pen(FOREIGN)

    async def start(self) -> "Team":
        await self.root.write(self.log, *started("boss"))
        await self.foreign.write(self.log, *started("spy"))
        await self.child.write(self.log, *started("clerk", PARENT))
        await self.other.write(self.log, *started("loner"))
        return self

    async def end_child(self) -> None:
        await self.child.write(self.log, *completed(1, "child's"))

    async def end_root(self) -> None:
        await self.root.write(self.log, *completed(1, "root's"))


def ids(*pens: Pen) -> list[str]:
    """The ids of all events of these runs, in the order of the log."""
    return [
        f"a0-{seq}-{index}"
        for seq, envelope in sorted(one for pen in pens for one in pen.written)
        for index in range(len(envelope.events))
    ]


def durable(messages: list[Message]) -> list[str | None]:
    return [message.id for message in messages if "." in message.event]


async def test_a_job_is_told_with_all_its_runs_and_whose_they_are_until_its_root_ends(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    async with listening(client, JOB) as messages:
        first = await take(messages, 1 + 8)
        await team.end_child()
        await team.other.write(team.log, *completed(1))
        await team.end_root()
        async with asyncio.timeout(BOUND_S):
            rest = [message async for message in messages]
    assert (first[0].event, first[0].json) == ("hello", {"job": "job1", "cursor": "a0-0-0"})
    assert durable([*first, *rest]) == ids(team.root, team.child)
    whose = {(m.json["run"], m.json["expert"], m.json["parent"]) for m in first[1:]}
    assert whose == {("root", "boss", None), ("child", "clerk", "root")}
    end = rest[-1]
    assert (end.event, end.id) == ("end", ids(team.root)[-1])
    assert end.json == {"run": "root", "job": "job1", "status": "completed"}


async def test_every_cursor_of_a_job_resumes_and_its_end_can_be_told_again(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    await team.end_child()
    await team.end_root()
    everything = ids(team.root, team.child)
    for place, cursor in enumerate(everything, start=1):
        messages = await until_closed(client, JOB, query=f"?after={cursor}")
        assert durable(messages) == everything[place:]
        assert (messages[-1].event, messages[-1].id) == ("end", everything[-1])


async def test_a_stream_that_follows_outlives_the_end_of_a_turn_and_tells_each(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    async with listening(client, "/v1/runs/root/events", query="?follow=1") as messages:
        await take(messages, 1 + 4)
        await team.end_root()
        first = await take(messages, 4)
        await team.root.write(team.log, *continued())
        await team.root.write(team.log, *completed(2))
        second = await take(messages, 7)
    assert [first[-1].event, second[-1].event] == ["end", "end"]
    assert (first[-1].id, second[-1].id) == (ids(team.root)[6], ids(team.root)[-1])


async def test_a_late_fact_after_the_end_is_no_other_end(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    await team.end_root()
    late = e.GenerationSuperseded(step=1, attempt=1, usage=None, refunded=0)
    async with listening(client, "/v1/runs/root/events", query="?follow=1") as messages:
        seen = await take(messages, 1 + 7 + 1)
        await team.root.write(team.log, late)
        await team.root.write(team.log, *continued())
        seen += await take(messages, 4)
    assert [m.event for m in seen].count("end") == 1
    assert seen[-1].event == "generation.requested.v2"


async def test_a_tenant_is_told_everything_that_is_its_own(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    async with listening(client, "/v1/events") as messages:
        seen = await take(messages, 1 + 12)
        await team.end_root()
        await team.foreign.write(team.log, *completed(1))
        await team.other.write(team.log, *completed(1))
        seen += await take(messages, 6)
    assert seen[0].json == {"tenant": "acme", "cursor": "a0-0-0"}
    assert durable(seen) == ids(team.root, team.child, team.other)


async def test_the_position_of_any_view_is_a_place_in_the_stream_of_a_tenant(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    """Whoever lists and then follows from the list's position misses and repeats nothing."""
    team = await Team(backbone).start()
    position = f"a0-{team.foreign.seq}-0"
    async with listening(client, "/v1/events", query=f"?after={position}") as messages:
        seen = await take(messages, 1 + 8)
    assert (seen[0].event, seen[0].id) == ("hello", position)
    assert durable(seen) == ids(team.child, team.other)


@pytest.mark.parametrize("beyond", ["a0-99-0", "b7-1-0", "no-cursor"])
async def test_no_place_of_the_log_is_reset_in_the_stream_of_a_tenant(
    backbone: Backbone, client: httpx2.AsyncClient, beyond: str
) -> None:
    await Team(backbone).start()
    async with listening(client, "/v1/events", query=f"?after={beyond}") as messages:
        assert [m.event for m in await take(messages, 2)] == ["hello", "reset"]


async def test_a_cursor_of_another_job_or_tenant_is_reset_and_shows_nothing_of_it(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    """C9: the cursor is bound to job and run; what is another's looks like what never was."""
    team = await Team(backbone).start()
    await team.end_root()
    never = await until_closed(client, JOB, last="a0-77-0")
    for cursor in (ids(team.other)[1], ids(team.foreign)[2]):
        messages = await until_closed(client, JOB, last=cursor)
        assert messages == never
        assert messages[1].json["reason"] == "not_of_this_run"
    run = await until_closed(client, "/v1/runs/root/events", last=ids(team.child)[0])
    assert (run[1].event, durable(run)) == ("reset", ids(team.root))


async def test_types_leave_out_events_and_move_the_cursor_all_the_same(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    await team.end_root()
    query = "?types=run.,step.ended.v1"
    messages = await until_closed(client, "/v1/runs/root/events", query=query)
    kinds = ["hello", "run.started.v2", "step.ended.v1", "run.completed.v2", "end"]
    assert [m.event for m in messages] == kinds
    query = "?types=input.received.v2"
    messages = await until_closed(client, "/v1/runs/root/events", query=query)
    assert [m.event for m in messages] == ["hello", "input.received.v2", "end"]
    assert messages[-1].id == ids(team.root)[-1]


async def test_a_filtered_stream_resumes_from_the_cursor_of_a_heartbeat(
    backbone: Backbone, tmp_path: Path
) -> None:
    """C9: what was left out is not read again by whoever comes back."""
    team = await Team(backbone).start()
    query = "?types=run.completed.v2&run=root"
    async with gateway(deps_of(backbone, tmp_path, heartbeat_s=0.03)) as http:
        async with listening(http, JOB, query=query) as messages:
            assert (await take(messages, 1))[0].event == "hello"
            await team.child.write(team.log, replied(1))
            async with asyncio.timeout(BOUND_S):
                async for beat in messages:
                    assert beat.event == "heartbeat"
                    if beat.id == ids(team.child)[-1]:
                        break
        await team.end_root()
        after = await until_closed(http, JOB, last=ids(team.child)[-1])
        again = await until_closed(http, JOB, last=ids(team.child)[-1], query=query)
    assert durable(after) == ids(team.root)[4:]
    assert [m.event for m in again] == ["hello", "run.completed.v2", "end"]


async def test_runs_and_jobs_can_be_picked_out(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    await team.end_child()
    await team.end_root()
    messages = await until_closed(client, JOB, query="?run=child")
    assert durable(messages) == ids(team.child)
    async with listening(client, "/v1/events", query="?job=job2&job=job9") as some:
        assert durable(await take(some, 5)) == ids(team.other)
    async with listening(client, "/v1/events", query="?run=other&run=child&types=run.") as some:
        assert [m.json["run"] for m in (await take(some, 4))[1:]] == ["child", "other", "child"]


async def test_the_header_counts_more_than_the_query(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    await team.end_root()
    first, last = ids(team.root)[0], ids(team.root)[-1]
    messages = await until_closed(client, JOB, last=last, query=f"?after={first}")
    assert [m.event for m in messages] == ["hello", "end"]


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("types=run.complete.v2", "run.completed.v2"),
        ("types=runs.", "run."),
        ("typs=run.", "types"),
        ("live=maybe", "live"),
        ("run=a.b", "run"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_with_what_may_be_meant(
    backbone: Backbone, client: httpx2.AsyncClient, query: str, hint: str
) -> None:
    await Team(backbone).start()
    answer = await client.get(f"{JOB}?{query}")
    assert answer.status_code == 422
    assert hint in answer.text


async def test_jobs_that_are_not_there_or_another_tenants_are_not_found(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await Pen(RunRef("umbrella", "secret", "run")).write(backbone.log, *started())
    answers = [await client.get(f"/v1/jobs/{job}/events") for job in ("secret", "nobody", "a.b")]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert len({answer.text for answer in answers}) == 1


async def test_a_gateway_holds_only_so_many_streams(backbone: Backbone, tmp_path: Path) -> None:
    await Team(backbone).start()
    deps = deps_of(backbone, tmp_path, streams=Bounds(viewers=1))
    async with gateway(deps) as http, listening(http, JOB) as messages:
        await take(messages, 1)
        answer = await http.get(JOB)
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")


async def test_a_gateway_that_closes_says_goodbye_with_the_place_to_go_on_from(
    backbone: Backbone, tmp_path: Path
) -> None:
    team = await Team(backbone).start()
    async with asyncio.timeout(BOUND_S), AsyncExitStack() as served:
        http = await served.enter_async_context(gateway(deps_of(backbone, tmp_path)))
        async with (
            httpx2.AsyncClient(base_url=http.base_url, trust_env=False, timeout=BOUND_S) as own,
            listening(own, "/v1/runs/root/events") as messages,
        ):
            await take(messages, 5)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(served.aclose())
                (goodbye,) = await take(messages, 1)
    assert (goodbye.event, goodbye.json["reason"]) == ("goodbye", "closing")
    assert goodbye.id == goodbye.json["cursor"] == ids(team.root)[-1]


async def test_a_history_that_nobody_can_read_ends_no_stream_but_its_own(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    team = await Team(backbone).start()
    await team.log.append(CHILD, b"\xff", expected_seq=team.child.seq)
    await team.end_root()
    messages = await until_closed(client, JOB)
    (problem,) = [m for m in messages if m.event == "problem"]
    assert (problem.json["code"], problem.json["run"]) == ("integrity_violated", "child")
    assert (problem.id, messages[-1].event) == ("a0-5-0", "end")
    rest = await until_closed(client, JOB, last=problem.id)
    assert durable(rest) == ids(team.root)[4:]
