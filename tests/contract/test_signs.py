"""What every form of LEASES, LIVE and requests promises. Not how either form does it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.ids import RunRef
from eventlog.port import Backbone, Said
from tests.contract.deployment import ALPHA, BETA, BOUND_S, GAMMA, OTHER, Deployment, until

pytestmark = pytest.mark.anyio

ANY = RunRef("*", "*", "*")


async def live_until(backbone: Backbone, expected: dict[str, bytes]) -> None:
    async def holds() -> bool:
        return await backbone.leases.live() == expected

    await until(holds)


async def take(items: AsyncIterator[Said], n: int = 1) -> list[bytes]:
    async with asyncio.timeout(BOUND_S):
        return [(await anext(items)).data for _ in range(n)]


async def test_renewed_epochs_live_with_what_they_last_said(
    backbone: Backbone, other: Backbone
) -> None:
    assert await backbone.leases.live() == {}
    await backbone.leases.renew("e1", b"old")
    await backbone.leases.renew("e2", b"\x00two")
    await backbone.leases.renew("e1", b"new")
    assert await other.leases.live() == {"e1": b"new", "e2": b"\x00two"}


async def test_an_epoch_that_says_nothing_for_a_lease_is_dead(backbone: Backbone) -> None:
    await backbone.leases.renew("e1", b"x")
    await live_until(backbone, {})


async def test_an_epoch_that_renews_stays_alive(backbone: Backbone, deployment: Deployment) -> None:
    await backbone.leases.renew("quiet", b"x")
    for i in range(12):
        await backbone.leases.renew("busy", b"%d" % i)
        await asyncio.sleep(deployment.lease_s / 6)
        assert "busy" in await backbone.leases.live()
    await backbone.leases.renew("busy", b"end")
    await live_until(backbone, {"busy": b"end"})


async def test_a_dropped_epoch_is_dead_at_once_and_may_come_back(
    backbone: Backbone, other: Backbone
) -> None:
    await backbone.leases.renew("e1", b"x")
    await backbone.leases.renew("e2", b"y")
    await backbone.leases.drop("e1")
    await backbone.leases.drop("nobody")
    assert await other.leases.live() == {"e2": b"y"}
    await backbone.leases.renew("e1", b"again")
    assert await other.leases.live() == {"e1": b"again", "e2": b"y"}


async def test_a_dead_epoch_can_renew_after_its_lease_lapsed(backbone: Backbone) -> None:
    await backbone.leases.renew("e1", b"x")
    await live_until(backbone, {})
    await backbone.leases.renew("e1", b"y")
    assert await backbone.leases.live() == {"e1": b"y"}


async def test_leases_are_settled_once_the_bucket_is_older_than_a_lease(
    backbone: Backbone,
) -> None:
    assert await backbone.leases.settled() is False
    await until(backbone.leases.settled)


async def test_a_server_restart_ends_all_leases_and_unsettles_them(
    backbone: Backbone, deployment: Deployment
) -> None:
    await backbone.leases.renew("e1", b"x")
    await until(backbone.leases.settled)
    await backbone.leases.renew("e1", b"x")
    await deployment.restart()
    async with deployment.client() as later:
        assert await later.leases.settled() is False
        assert await later.leases.live() == {}
        await later.leases.renew("e2", b"y")
        assert await later.leases.live() == {"e2": b"y"}


async def test_listeners_of_a_run_hear_what_is_said_of_it_in_order(
    backbone: Backbone, other: Backbone
) -> None:
    async with backbone.live.subscribe(ALPHA) as here, other.live.subscribe(ALPHA) as there:
        for ref, data in ((BETA, b"no"), (ALPHA, b"1"), (OTHER, b"no"), (ALPHA, b"\x002")):
            await backbone.live.publish(ref, data)
        assert await take(here, 2) == [b"1", b"\x002"]
        assert await take(there, 2) == [b"1", b"\x002"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (ANY, [b"alpha", b"beta", b"gamma", b"other"]),
        (RunRef("acme", "*", "*"), [b"alpha", b"beta", b"gamma"]),
        (RunRef("acme", "job1", "*"), [b"alpha", b"beta"]),
        (RunRef("*", "*", "alpha"), [b"alpha", b"other"]),
    ],
)
async def test_listeners_of_a_pattern_hear_what_matches(
    backbone: Backbone, other: Backbone, pattern: RunRef, expected: list[bytes]
) -> None:
    said = {ALPHA: b"alpha", BETA: b"beta", GAMMA: b"gamma", OTHER: b"other"}
    async with other.live.subscribe(pattern) as items:
        for ref, data in said.items():
            await backbone.live.publish(ref, data)
        await backbone.live.publish(ALPHA, b"end")
        assert await take(items, len(expected) + 1) == [*expected, b"end"]


async def test_what_is_said_names_its_run(backbone: Backbone, other: Backbone) -> None:
    async with asyncio.timeout(BOUND_S), other.live.subscribe(ANY) as items:
        for ref in (ALPHA, OTHER):
            await backbone.live.publish(ref, b"x")
        assert [await anext(items) for _ in range(2)] == [(ALPHA, b"x"), (OTHER, b"x")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (ANY, [(ALPHA, b"1"), (OTHER, b"2"), (BETA, b"3"), (ALPHA, b"4")]),
        (RunRef("acme", "*", "*"), [(ALPHA, b"1"), (BETA, b"3"), (ALPHA, b"4")]),
        (ALPHA, [(ALPHA, b"1"), (ALPHA, b"4")]),
        (GAMMA, []),
    ],
)
async def test_what_was_said_in_the_last_minute_can_be_read_by_whoever_comes_in_the_middle(
    backbone: Backbone, other: Backbone, pattern: RunRef, expected: list[Said]
) -> None:
    for ref, data in ((ALPHA, b"1"), (OTHER, b"2"), (BETA, b"3"), (ALPHA, b"4")):
        await backbone.live.publish(ref, data)

    async def holds() -> bool:
        return len(await other.live.recent(ANY)) == 4

    await until(holds)
    assert await other.live.recent(pattern) == expected


async def test_what_was_said_is_forgotten_by_a_server_that_begins_again(
    backbone: Backbone, deployment: Deployment
) -> None:
    await backbone.live.publish(ALPHA, b"before")

    async def holds() -> bool:
        return len(await backbone.live.recent(ALPHA)) == 1

    await until(holds)
    await deployment.restart()
    async with deployment.client() as later:
        assert await later.live.recent(ANY) == []


async def test_nobody_hears_what_was_said_before(backbone: Backbone, other: Backbone) -> None:
    await backbone.live.publish(ALPHA, b"before")
    await backbone.leases.live()  # an answer: all that was sent before has arrived
    async with other.live.subscribe(ALPHA) as items:
        await backbone.live.publish(ALPHA, b"after")
        assert await take(items) == [b"after"]


async def test_a_listener_that_takes_nothing_never_holds_up_the_others(
    backbone: Backbone, other: Backbone
) -> None:
    async with backbone.live.subscribe(ALPHA), other.live.subscribe(ALPHA) as items:
        for i in range(500):
            await backbone.live.publish(ALPHA, b"%d" % i)
        assert await take(items, 500) == [b"%d" % i for i in range(500)]


async def test_listeners_hear_again_after_a_server_restart(
    backbone: Backbone, other: Backbone, deployment: Deployment
) -> None:
    async with backbone.live.subscribe(ALPHA) as items:
        await deployment.restart()
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
            talking = tasks.create_task(talk(other))
            assert await take(items) == [b"still there?"]
            talking.cancel()


async def talk(backbone: Backbone) -> None:
    while True:
        await backbone.live.publish(ALPHA, b"still there?")
        await asyncio.sleep(0.02)


async def shout(ref: RunRef, data: bytes) -> bytes:
    return f"{ref.run} {data.decode()}!".encode()


async def test_a_question_is_answered_by_the_server(backbone: Backbone, other: Backbone) -> None:
    async with other.requests.serve(shout):
        assert await backbone.requests.ask(ALPHA, b"hello", timeout_s=BOUND_S) == b"alpha hello!"
        assert await other.requests.ask(BETA, b"you", timeout_s=BOUND_S) == b"beta you!"


async def test_without_a_server_a_question_has_no_answer(backbone: Backbone) -> None:
    assert await backbone.requests.ask(ALPHA, b"anybody?", timeout_s=0.2) is None


async def test_a_question_goes_only_to_servers_of_its_topic(
    backbone: Backbone, other: Backbone
) -> None:
    async def whisper(_ref: RunRef, data: bytes) -> bytes:
        return data.lower()

    async with other.requests.serve(shout), other.requests.serve(whisper, topic="ask-tool"):
        for _ in range(3):
            said = await backbone.requests.ask(ALPHA, b"HI", timeout_s=BOUND_S, topic="ask-tool")
            assert said == b"hi"
            assert await backbone.requests.ask(ALPHA, b"HI", timeout_s=BOUND_S) == b"alpha HI!"
        nobody = backbone.requests.ask(ALPHA, b"HI", timeout_s=0.2, topic="ask-sandbox")
        assert await nobody is None


async def test_a_server_that_closed_answers_no_more(backbone: Backbone, other: Backbone) -> None:
    async with other.requests.serve(shout):
        assert await backbone.requests.ask(ALPHA, b"x", timeout_s=BOUND_S) == b"alpha x!"
    assert await backbone.requests.ask(ALPHA, b"x", timeout_s=0.2) is None


async def test_an_answer_that_comes_too_late_is_none(backbone: Backbone, other: Backbone) -> None:
    never = asyncio.Event()

    async def think(ref: RunRef, data: bytes) -> bytes:
        await never.wait()
        return await shout(ref, data)

    async with other.requests.serve(think):
        assert await backbone.requests.ask(ALPHA, b"well?", timeout_s=0.1) is None


async def test_each_question_goes_to_one_of_several_servers(
    backbone: Backbone, other: Backbone, deployment: Deployment
) -> None:
    asked: list[bytes] = []

    async def answer(_ref: RunRef, data: bytes) -> bytes:
        asked.append(data)
        return data

    async with (
        deployment.client() as third,
        other.requests.serve(answer),
        third.requests.serve(answer),
    ):
        for i in range(50):
            assert await backbone.requests.ask(ALPHA, b"%d" % i, timeout_s=BOUND_S) == b"%d" % i
    assert asked == [b"%d" % i for i in range(50)]


async def test_a_slow_answer_does_not_hold_up_the_others(
    backbone: Backbone, other: Backbone
) -> None:
    release = asyncio.Event()

    async def answer(_ref: RunRef, data: bytes) -> bytes:
        if data == b"slow":
            await release.wait()
        return data

    async with asyncio.timeout(BOUND_S), other.requests.serve(answer), asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(backbone.requests.ask(ALPHA, b"slow", timeout_s=BOUND_S))
        assert await backbone.requests.ask(ALPHA, b"quick", timeout_s=BOUND_S) == b"quick"
        release.set()
        assert await slow == b"slow"


async def test_servers_answer_again_after_a_server_restart(
    backbone: Backbone, other: Backbone, deployment: Deployment
) -> None:
    async with other.requests.serve(shout):
        await deployment.restart()

        async def answered() -> bool:
            return await backbone.requests.ask(ALPHA, b"back", timeout_s=0.2) == b"alpha back!"

        await until(answered)
