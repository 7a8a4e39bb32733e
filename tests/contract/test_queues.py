"""What every form of WORK and COMMANDS promises. Not how either form does it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.port import Backbone, Delivery, Lane
from tests.contract.deployment import (
    ALPHA,
    BETA,
    BOUND_S,
    GAMMA,
    Deployment,
    now_ms,
    pause,
)

pytestmark = pytest.mark.anyio

QUEUES = pytest.mark.parametrize("queue", ["step", "tool", "sandbox", "at-worker", "commands"])
LANES: tuple[Lane, ...] = ("step", "tool", "sandbox", "at-worker")


async def put(backbone: Backbone, queue: str, ref: RunRef, data: bytes) -> None:
    if queue == "commands":
        await backbone.commands.put(ref, data)
    else:
        await backbone.work.put(lane_of(queue), ref, data)


def consume(
    backbone: Backbone, queue: str, in_flight_max: int = 8
) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
    if queue == "commands":
        return backbone.commands.consume(in_flight_max=in_flight_max)
    return backbone.work.consume(lane_of(queue), in_flight_max=in_flight_max)


def lane_of(queue: str) -> Lane:
    return next(lane for lane in LANES if lane == queue)


async def take(items: AsyncIterator[Delivery], n: int = 1) -> list[Delivery]:
    async with asyncio.timeout(BOUND_S):
        return [await anext(items) for _ in range(n)]


async def put_when_back(backbone: Backbone, queue: str, ref: RunRef, data: bytes) -> None:
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                return await put(backbone, queue, ref, data)
            except Unavailable:
                await asyncio.sleep(0.01)


async def acked(items: AsyncIterator[Delivery], n: int) -> list[bytes]:
    found = await take(items, n)
    for delivery in found:
        await delivery.ack()
    return [delivery.data for delivery in found]


async def nothing_comes(items: AsyncIterator[Delivery], within_s: float) -> bool:
    """Whether nothing is delivered in that time. Ends the iterator's wait, not the iterator."""
    try:
        async with asyncio.timeout(within_s):
            await anext(items)
    except TimeoutError:
        return True
    return False


@QUEUES
async def test_a_message_is_delivered_with_its_run_and_bytes(
    backbone: Backbone, other: Backbone, queue: str
) -> None:
    async with consume(other, queue) as items:
        await put(backbone, queue, GAMMA, b"\x00 do it")
        (delivery,) = await take(items)
        assert (delivery.ref, delivery.data, delivery.attempt) == (GAMMA, b"\x00 do it", 1)
        await delivery.ack()


@QUEUES
async def test_messages_put_before_anybody_consumes_are_delivered_in_order(
    backbone: Backbone, queue: str
) -> None:
    for i in range(20):
        await put(backbone, queue, ALPHA, b"%d" % i)
    async with consume(backbone, queue) as items:
        found: list[bytes] = []
        for _ in range(20):
            found += await acked(items, 1)
    assert found == [b"%d" % i for i in range(20)]


async def test_each_lane_gets_only_its_own_work(backbone: Backbone) -> None:
    for lane in LANES:
        await backbone.work.put(lane, ALPHA, lane.encode())
    for lane in LANES:
        async with backbone.work.consume(lane, in_flight_max=8) as items:
            assert await acked(items, 1) == [lane.encode()]
            assert await nothing_comes(items, 0.1)


@QUEUES
async def test_an_acknowledged_message_never_comes_again(
    backbone: Backbone, queue: str, deployment: Deployment
) -> None:
    await put(backbone, queue, ALPHA, b"once")
    async with consume(backbone, queue) as items:
        (delivery,) = await take(items)
        await delivery.ack()
        await delivery.ack()
        assert await nothing_comes(items, deployment.ack_wait_s * 2)


@QUEUES
async def test_an_unanswered_message_comes_again_after_the_ack_wait(
    backbone: Backbone, queue: str
) -> None:
    await put(backbone, queue, ALPHA, b"again")
    async with consume(backbone, queue) as items:
        (first,) = await take(items)
        (second,) = await take(items)
        assert (first.attempt, second.attempt) == (1, 2)
        assert (second.ref, second.data) == (ALPHA, b"again")
        await second.ack()


@QUEUES
async def test_a_late_acknowledgement_of_an_older_delivery_counts(
    backbone: Backbone, queue: str, deployment: Deployment
) -> None:
    await put(backbone, queue, ALPHA, b"slow")
    async with consume(backbone, queue) as items:
        first, _ = await take(items, 2)
        await first.ack()
        assert await nothing_comes(items, deployment.ack_wait_s * 2)


@QUEUES
async def test_progress_holds_off_the_next_delivery(
    backbone: Backbone, queue: str, deployment: Deployment
) -> None:
    await put(backbone, queue, ALPHA, b"long")
    async with consume(backbone, queue) as items:
        (delivery,) = await take(items)
        for _ in range(6):
            await pause(deployment.ack_wait_s / 3)
            await delivery.progress()
        assert await nothing_comes(items, deployment.ack_wait_s / 3)
        await delivery.ack()


@QUEUES
async def test_a_retried_message_comes_again_after_its_delay_and_not_before(
    backbone: Backbone, queue: str
) -> None:
    await put(backbone, queue, ALPHA, b"later")
    async with consume(backbone, queue) as items:
        (first,) = await take(items)
        await first.retry(0.3)
        assert await nothing_comes(items, 0.15)
        (second,) = await take(items)
        assert (second.data, second.attempt) == (b"later", 2)
        await second.retry(0.0)
        (third,) = await take(items)
        assert third.attempt == 3
        await third.ack()


@QUEUES
async def test_never_more_are_unanswered_than_asked_for(
    backbone: Backbone, queue: str, deployment: Deployment
) -> None:
    for i in range(7):
        await put(backbone, queue, ALPHA, b"%d" % i)
    async with consume(backbone, queue, in_flight_max=3) as items:
        held = await take(items, 3)
        assert await nothing_comes(items, deployment.ack_wait_s / 3)
        await held[1].ack()
        held += await take(items, 1)
        await held[0].retry(BOUND_S)
        held += await take(items, 1)
        assert [d.data for d in held] == [b"0", b"1", b"2", b"3", b"4"]
        for delivery in held[2:]:
            await delivery.ack()
        assert sorted(await acked(items, 2)) == [b"5", b"6"]


@QUEUES
async def test_one_at_a_time_works_through_everything(backbone: Backbone, queue: str) -> None:
    async with consume(backbone, queue, in_flight_max=1) as items:
        for i in range(30):
            await put(backbone, queue, ALPHA, b"%d" % i)
        for i in range(30):
            assert await acked(items, 1) == [b"%d" % i]


@QUEUES
async def test_two_consumers_share_the_work(
    backbone: Backbone, other: Backbone, queue: str
) -> None:
    async with consume(backbone, queue, 2) as ones, consume(other, queue, 2) as others:
        for i in range(4):
            await put(backbone, queue, ALPHA, b"%d" % i)
        mine, theirs = await take(ones, 2), await take(others, 2)
        assert sorted(d.data for d in mine + theirs) == [b"0", b"1", b"2", b"3"]
        for delivery in mine + theirs:
            await delivery.ack()


@QUEUES
async def test_what_a_consumer_leaves_unanswered_goes_to_another_one(
    backbone: Backbone, other: Backbone, queue: str
) -> None:
    async with consume(backbone, queue) as items:
        for i in range(3):
            await put(backbone, queue, ALPHA, b"%d" % i)
        await take(items, 2)
    async with consume(other, queue) as items:
        assert sorted(await acked(items, 3)) == [b"0", b"1", b"2"]


@QUEUES
async def test_a_delivery_can_be_answered_after_its_consumer_closed(
    backbone: Backbone, other: Backbone, queue: str, deployment: Deployment
) -> None:
    await put(backbone, queue, ALPHA, b"draining")
    async with consume(backbone, queue) as items:
        (delivery,) = await take(items)
    await delivery.ack()
    async with consume(other, queue) as items:
        assert await nothing_comes(items, deployment.ack_wait_s * 2)


@QUEUES
async def test_a_cancelled_wait_loses_no_message(backbone: Backbone, queue: str) -> None:
    async with consume(backbone, queue) as items:
        assert await nothing_comes(items, 0.02)
        await put(backbone, queue, ALPHA, b"kept")
        assert await acked(items, 1) == [b"kept"]


@QUEUES
async def test_consumers_come_back_after_a_server_restart(
    backbone: Backbone, deployment: Deployment, queue: str
) -> None:
    async with consume(backbone, queue) as items:
        await put(backbone, queue, ALPHA, b"before")
        assert await acked(items, 1) == [b"before"]
        await deployment.restart()
        await put_when_back(backbone, queue, BETA, b"after")
        assert await acked(items, 1) == [b"after"]


async def test_commands_survive_a_server_restart_and_work_does_not(
    backbone: Backbone, deployment: Deployment
) -> None:
    await backbone.commands.put(ALPHA, b"kept")
    for lane in LANES:
        await backbone.work.put(lane, ALPHA, b"gone")
    await deployment.restart()
    async with backbone.commands.consume(in_flight_max=8) as items:
        assert await acked(items, 1) == [b"kept"]
    for lane in LANES:
        async with backbone.work.consume(lane, in_flight_max=8) as items:
            await put_when_back(backbone, lane, ALPHA, b"new")
            assert await acked(items, 1) == [b"new"]


async def test_a_command_held_over_a_server_restart_can_still_be_acknowledged(
    backbone: Backbone, deployment: Deployment
) -> None:
    await backbone.commands.put(ALPHA, b"held")
    async with backbone.commands.consume(in_flight_max=8) as items:
        (delivery,) = await take(items)
        await deployment.restart()
        await put_when_back(backbone, "commands", BETA, b"next")
        await delivery.ack()
        found = await take(items)
        while found[0].data == b"held":
            await found[0].ack()
            found = await take(items)
        assert found[0].data == b"next"
        await found[0].ack()
        assert await nothing_comes(items, deployment.ack_wait_s * 2)


async def test_a_command_nobody_answered_comes_again_after_a_server_restart(
    backbone: Backbone, deployment: Deployment
) -> None:
    await backbone.commands.put(ALPHA, b"again")
    async with backbone.commands.consume(in_flight_max=8) as items:
        await take(items)
        await deployment.restart()
        assert await acked(items, 1) == [b"again"]


async def test_a_message_id_is_stored_once(backbone: Backbone, other: Backbone) -> None:
    await backbone.commands.put(ALPHA, b"first", message_id="m1")
    await other.commands.put(ALPHA, b"second", message_id="m1")
    await backbone.commands.put(ALPHA, b"third", message_id="m2")
    async with backbone.commands.consume(in_flight_max=8) as items:
        assert await acked(items, 2) == [b"first", b"third"]
        await backbone.commands.put(ALPHA, b"fourth", message_id="m1")
        assert await nothing_comes(items, 0.2)


async def test_commands_without_a_message_id_are_all_stored(backbone: Backbone) -> None:
    for _ in range(3):
        await backbone.commands.put(ALPHA, b"same")
    async with backbone.commands.consume(in_flight_max=8) as items:
        assert await acked(items, 3) == [b"same"] * 3


async def test_a_timer_is_delivered_when_it_is_due_and_not_before(
    backbone: Backbone, deployment: Deployment
) -> None:
    async with backbone.commands.consume(in_flight_max=8) as items:
        due_ms = now_ms() + 700
        await backbone.commands.put_at(ALPHA, "t1", due_ms, b"ring")
        (delivery,) = await take(items)
        assert now_ms() >= due_ms
        assert (delivery.ref, delivery.data, delivery.attempt) == (ALPHA, b"ring", 1)
        await delivery.ack()
        assert await nothing_comes(items, deployment.ack_wait_s * 2)


async def test_a_timer_in_the_past_is_delivered_soon(backbone: Backbone) -> None:
    async with backbone.commands.consume(in_flight_max=8) as items:
        await backbone.commands.put_at(ALPHA, "t1", now_ms() - 60_000, b"overdue")
        await backbone.commands.put_at(BETA, "t1", 0, b"long ago")
        assert sorted(await acked(items, 2)) == [b"long ago", b"overdue"]


async def test_the_same_timer_again_replaces_it(backbone: Backbone) -> None:
    async with backbone.commands.consume(in_flight_max=8) as items:
        await backbone.commands.put_at(ALPHA, "t1", now_ms() + 500, b"old")
        await backbone.commands.put_at(ALPHA, "t1", now_ms() + 900, b"new")
        assert await acked(items, 1) == [b"new"]
        assert await nothing_comes(items, 0.3)


async def test_timers_of_other_names_or_runs_do_not_replace_each_other(
    backbone: Backbone,
) -> None:
    async with backbone.commands.consume(in_flight_max=8) as items:
        due_ms = now_ms() + 300
        await backbone.commands.put_at(ALPHA, "t1", due_ms, b"a1")
        await backbone.commands.put_at(ALPHA, "t2", due_ms, b"a2")
        await backbone.commands.put_at(BETA, "t1", due_ms, b"b1")
        assert sorted(await acked(items, 3)) == [b"a1", b"a2", b"b1"]


async def test_a_timer_that_fired_can_be_set_again(backbone: Backbone) -> None:
    async with backbone.commands.consume(in_flight_max=8) as items:
        for data in (b"first", b"second"):
            await backbone.commands.put_at(ALPHA, "t1", now_ms() + 300, data)
            assert await acked(items, 1) == [data]


async def test_timers_survive_a_server_restart(backbone: Backbone, deployment: Deployment) -> None:
    await backbone.commands.put_at(ALPHA, "t1", now_ms() + 800, b"future")
    await backbone.commands.put_at(BETA, "t1", now_ms() + 300, b"sooner")
    await deployment.stop()
    await pause(0.5)
    await deployment.start()
    async with backbone.commands.consume(in_flight_max=8) as items:
        assert sorted(await acked(items, 2)) == [b"future", b"sooner"]


async def test_without_a_server_nothing_is_put(backbone: Backbone, deployment: Deployment) -> None:
    await deployment.stop()
    with pytest.raises(Unavailable):
        await backbone.commands.put(ALPHA, b"x", message_id="m1")
    with pytest.raises(Unavailable):
        await backbone.work.put("step", ALPHA, b"x")
    await deployment.start()
