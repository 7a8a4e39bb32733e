"""COMMANDS, timers and WORK on a real server that is killed while they are in use."""

import asyncio
import time

import pytest

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.jetstream.pull import SILENCE_S
from eventlog.port import Backbone
from tests.integration.deployment import JetStreamDeployment

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

RUN = RunRef("acme", "job", "run")
BOUND_S = 60.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def put_surely(backbone: Backbone, data: bytes) -> None:
    while True:
        try:
            await backbone.commands.put(RUN, data, message_id=data.decode())
        except Unavailable:
            continue
        return


async def test_every_command_is_handled_when_the_server_is_killed_under_load(
    backbone: Backbone, deployment: JetStreamDeployment
) -> None:
    total, kills = 900, 3
    handled: set[bytes] = set()
    enough = [asyncio.Event() for _ in range(kills)]

    async def handle() -> None:
        async with backbone.commands.consume(in_flight_max=8) as items:
            async for delivery in items:
                handled.add(delivery.data)
                await delivery.ack()
                for kill, event in enumerate(enough):
                    if len(handled) >= total * (kill + 1) // (kills + 1):
                        event.set()
                if len(handled) == total:
                    return

    async def disturb() -> None:
        for event in enough:
            await event.wait()
            await deployment.restart()

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        group.create_task(handle())
        group.create_task(disturb())
        for count in range(total):
            await put_surely(backbone, b"c%d" % count)
    assert handled == {b"c%d" % count for count in range(total)}


async def test_work_goes_on_with_a_new_stream_and_consumer_after_a_kill(
    backbone: Backbone, deployment: JetStreamDeployment
) -> None:
    async with asyncio.timeout(BOUND_S), backbone.work.consume("tool", in_flight_max=2) as items:
        for round_number in range(3):
            await backbone.work.put("tool", RUN, b"%d" % round_number)
            delivery = await anext(items)
            assert delivery.data == b"%d" % round_number
            await delivery.ack()
            await deployment.restart()


async def test_a_timer_that_came_due_while_the_server_was_dead_fires_when_it_is_back(
    backbone: Backbone, deployment: JetStreamDeployment
) -> None:
    due_ms = now_ms() + 300
    await backbone.commands.put_at(RUN, "t1", due_ms, b"overdue")
    await backbone.commands.put_at(RUN, "t2", due_ms + 1500, b"later")
    deployment.server.process.kill()
    await deployment.server.wait_died()
    async with asyncio.timeout(BOUND_S):
        while now_ms() < due_ms:  # noqa: ASYNC110 - time itself is waited for
            await asyncio.sleep(0.02)
        await deployment.start()
        async with backbone.commands.consume(in_flight_max=8) as items:
            first = await anext(items)
            await first.ack()
            second = await anext(items)
            await second.ack()
    assert (first.data, second.data) == (b"overdue", b"later")
    assert now_ms() >= due_ms + 1500


@pytest.mark.slow
async def test_a_consumer_that_hears_only_heartbeats_stays_and_still_delivers(
    backbone: Backbone,
) -> None:
    async with backbone.commands.consume(in_flight_max=1) as items:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * SILENCE_S):
                await anext(items)
        async with asyncio.timeout(BOUND_S):
            await backbone.commands.put(RUN, b"at last")
            delivery = await anext(items)
            await delivery.ack()
    assert (delivery.data, delivery.attempt) == (b"at last", 1)


async def test_what_was_pulled_and_not_looked_at_goes_back_at_once(backbone: Backbone) -> None:
    for count in range(4):
        await backbone.commands.put(RUN, b"%d" % count)
    async with backbone.commands.consume(in_flight_max=4) as items, asyncio.timeout(BOUND_S):
        await (await anext(items)).ack()
    async with backbone.commands.consume(in_flight_max=4) as items, asyncio.timeout(1.0):
        found = [await anext(items) for _ in range(3)]
        for delivery in found:
            await delivery.ack()
    assert sorted(delivery.data for delivery in found) == [b"1", b"2", b"3"]
