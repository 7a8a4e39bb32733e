"""The time limit of a call stands still while the call waits for a person."""

import asyncio

import pytest

from services.worker.hands import Stop
from services.worker.patience import Patience

pytestmark = pytest.mark.anyio

LONG_S = 60.0
SHORT_S = 0.02
BOUND_S = 10.0


async def spent() -> None:
    """Longer than the short patience, by the loop's clock."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(SHORT_S * 3, over.set_result, None)
    await over


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_scope_ends_with_the_time() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(BOUND_S), Patience(SHORT_S).scope():
            await for_ever()


async def test_time_of_standing_still_does_not_count() -> None:
    patience = Patience(SHORT_S)
    async with asyncio.timeout(BOUND_S), patience.scope(), patience.scope():
        with patience.standing_still():
            await spent()


async def test_after_it_the_time_goes_on() -> None:
    patience = Patience(SHORT_S)

    async def asks_and_goes_on() -> None:
        async with patience.scope():
            with patience.standing_still(), patience.standing_still():
                await spent()
            await for_ever()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asks_and_goes_on(), BOUND_S)


async def test_it_stands_still_as_long_as_one_question_is_open() -> None:
    patience = Patience(SHORT_S)
    async with asyncio.timeout(BOUND_S), patience.scope():
        with patience.standing_still():
            with patience.standing_still():
                await spent()
            await spent()


async def test_a_scope_that_begins_meanwhile_stands_still_too() -> None:
    patience = Patience(SHORT_S)
    async with asyncio.timeout(BOUND_S):
        with patience.standing_still():
            async with patience.scope():
                await spent()


async def test_a_stop_ends_a_call_that_waits_for_a_person() -> None:
    patience, stop = Patience(LONG_S), Stop()

    async def asks_for_ever() -> None:
        async with stop.scope(patience):
            with patience.standing_still():
                stop.request()
                await for_ever()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asks_for_ever(), BOUND_S)
    assert stop.requested


async def test_what_was_stopped_before_does_not_begin() -> None:
    stop = Stop()
    stop.request()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(BOUND_S), stop.scope(Patience(LONG_S)):
            await for_ever()
