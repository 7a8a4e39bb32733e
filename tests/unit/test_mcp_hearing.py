"""What people hear of a call: in order, bounded, and never waited for."""

import asyncio

import pytest

from services.tool.mcp.hearing import WAITING_CHARS_MAX, Hearing

pytestmark = pytest.mark.anyio


async def test_all_that_was_said_is_heard_in_order_before_the_end() -> None:
    heard: list[str] = []

    async def hear(text: str) -> None:
        heard.append(text)

    hearing = Hearing(hear)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(hearing.pass_on())
        for number in range(3):
            hearing.say(f"{number}\n")
            await asyncio.sleep(0)
        hearing.say("last\n")
        hearing.end()
    assert "".join(heard) == "0\n1\n2\nlast\n"


async def test_what_a_slow_listener_missed_is_counted() -> None:
    heard: list[str] = []
    may_hear = asyncio.Event()

    async def hear(text: str) -> None:
        await may_hear.wait()
        heard.append(text)

    hearing = Hearing(hear)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(hearing.pass_on())
        for _ in range(3):
            hearing.say("x" * WAITING_CHARS_MAX)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        hearing.end()
        may_hear.set()
    kept = "".join(heard)
    assert kept.count("x") == 2 * WAITING_CHARS_MAX
    assert kept.endswith(f"[... {WAITING_CHARS_MAX} characters were not shown ...]\n")


async def test_nothing_is_heard_after_the_end() -> None:
    async def hear(text: str) -> None:
        raise NotImplementedError(text)

    hearing = Hearing(hear)
    hearing.end()
    hearing.say("late")
    async with asyncio.timeout(5):
        await hearing.pass_on()
