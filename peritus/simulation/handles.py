"""Futures, tasks and callbacks of the simulated loop, hashed by counters. Not the loop."""

import asyncio
from asyncio.tasks import _unregister_task  # pyright: ignore[reportPrivateUsage] - for other loops
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import CoroutineType
from typing import Any, TypeVar

T = TypeVar("T")


class SimFuture(asyncio.Future[T]):
    """A future whose hash is its number in its loop, given by the loop that makes it."""

    serial: int

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class SimTask(asyncio.Task[T]):
    """A task whose hash is its number in its loop, so that sets of tasks keep one order.

    `asyncio.all_tasks` does not know it: that set is shared by all loops of the process, so its
    order would depend on what ran before.
    """

    def __init__(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        serial: int,
        *,
        loop: asyncio.AbstractEventLoop,
        name: object,
        context: Context | None,
    ) -> None:
        self.serial = serial
        super().__init__(
            coro, loop=loop, name=f"task {serial}" if name is None else str(name), context=context
        )
        _unregister_task(self)

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class SimHandle(asyncio.Handle):
    """A callback that is ready."""

    __slots__ = ()

    def run(self) -> None:
        """Call it; what it raises goes to the loop's exception handler."""
        self._run()

    def label(self) -> str:
        """Who it is, in words that do not depend on addresses."""
        return _label(getattr(self, "_callback", None))


class SimTimer(asyncio.TimerHandle):
    """A callback that waits for its time."""

    __slots__ = ()

    def run(self) -> None:
        """Call it; what it raises goes to the loop's exception handler."""
        self._run()

    def label(self) -> str:
        """Who it is, in words that do not depend on addresses."""
        return _label(getattr(self, "_callback", None))


def _label(callback: object) -> str:
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, SimTask):
        return owner.get_name()
    return getattr(callback, "__qualname__", type(callback).__qualname__)


def where(coro: object) -> str:
    """The innermost line of our own that a suspended coroutine waits at."""
    place = "not started"
    while isinstance(coro, CoroutineType):
        if coro.cr_frame is not None:
            place = (
                f"{coro.cr_code.co_qualname} ({coro.cr_code.co_filename}:{coro.cr_frame.f_lineno})"
            )
        coro = coro.cr_await
    return place
