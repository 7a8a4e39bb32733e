"""Who lives, as far as leases tell: nobody is taken for dead who was only just born (C7)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventlog.memory import MemoryServer
from eventlog.port import LEASE_S, Leases
from peritus.simulation.loop import run
from peritus.simulation.network import CALM, FaultPlan
from services.worker.signs import Sign, Signs

ALIVE = Sign(services=("loop",)).model_dump_json().encode()

Told = TypeVar("Told")


def signs(leases: Leases, dead: str = "") -> Signs:
    return Signs(leases, "me", (), tuple, lambda epoch: epoch == dead)


def played(story: Callable[[Leases], Awaitable[Told]], *, age_s: float = LEASE_S) -> Told:
    """What happens with the leases of a server of that age, in virtual time."""

    async def main() -> Told:
        server = MemoryServer(now_ms=lambda: 0)
        leases = server.backbone(faults=FaultPlan(1, CALM).client("me")).leases  # takes its time
        await leases.live()  # the bucket exists from here on
        await asyncio.sleep(age_s)
        return await story(leases)

    return run(lambda _: main(), 1, virtual_s_max=1_000)


async def looked(leases: Leases, dead: str = "") -> Signs:
    """Signs that have looked once."""
    made = signs(leases, dead)
    await made.look()
    return made


def test_epoch_without_a_lease_is_gone_once_a_look_after_the_question_shows_it() -> None:
    async def told(leases: Leases) -> list[bool]:
        found = await looked(leases)
        first = found.gone("e1")
        await found.look()
        return [first, found.gone("e1")]

    assert played(told) == [False, True]


def test_epoch_that_was_born_after_the_last_look_is_not_gone() -> None:
    """It says that it lives before it holds anything: the next look shows it."""

    async def told(leases: Leases) -> list[bool]:
        found = await looked(leases)
        await leases.renew("e1", ALIVE)
        first = found.gone("e1")
        await found.look()
        return [first, found.gone("e1")]

    assert played(told) == [False, False]


def test_look_that_began_before_the_question_says_nothing_about_it() -> None:
    async def told(leases: Leases) -> list[bool]:
        found = await looked(leases)
        async with asyncio.TaskGroup() as tasks:
            look = tasks.create_task(found.look())
            await asyncio.sleep(CALM.latency_s[0] / 2)  # it has begun, and is not over
            assert not look.done()
            early = found.gone("e1")
            await look
            still = found.gone("e1")
        await found.look()
        return [early, still, found.gone("e1")]

    assert played(told) == [False, False, True]


def test_end_that_is_proven_needs_no_look() -> None:
    async def told(leases: Leases) -> bool:
        return signs(leases, dead="e1").gone("e1")

    assert played(told)


def test_nobody_is_gone_while_the_bucket_is_younger_than_a_lease() -> None:
    async def told(leases: Leases) -> bool:
        found = await looked(leases)
        found.gone("e1")
        await found.look()
        return found.gone("e1")

    assert not played(told, age_s=LEASE_S / 2)


def test_epoch_that_comes_back_is_doubted_anew() -> None:
    async def told(leases: Leases) -> list[bool]:
        found = await looked(leases)
        found.gone("e1")
        await leases.renew("e1", ALIVE)
        await found.look()
        back = found.gone("e1")
        await leases.drop("e1")
        await found.look()
        return [back, found.gone("e1")]

    assert played(told) == [False, False]
