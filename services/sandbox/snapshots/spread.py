"""Doing the same to many things, a few at a time. Not a queue."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from domain.errors import PeritusError

T = TypeVar("T")


async def spread(
    things: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int
) -> None:
    """Do the work for each thing, `at_once` at a time.

    Raises:
        PeritusError: the first that the work raised; what had not begun then is left.
    """
    left = iter(things)
    failures: list[PeritusError] = []

    async def hand() -> None:
        for thing in left:
            try:
                await work(thing)
            except PeritusError as error:
                failures.append(error)
            if failures:
                return

    async with asyncio.TaskGroup() as hands:
        for _ in range(at_once):
            hands.create_task(hand())
    if failures:
        raise failures[0]
