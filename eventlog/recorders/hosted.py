"""A connection in an event loop of its own thread, for callers that block. Not asynchronous.

The library is synchronous and threaded. So one thread holds one loop with one connection, and
every call is carried out there while its caller waits. The thread ends with `close`, with its last
owner, or with the program.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import CancelledError, Future, wait
from contextlib import AbstractAsyncContextManager, contextmanager
from threading import Thread
from typing import Generic, TypeVar

from eventsourcing.persistence import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from domain.errors import (
    Conflict,
    IntegrityViolated,
    PeritusError,
    Rejected,
    TooLarge,
    Unavailable,
)
from eventlog.jetstream.durability import DurabilityTooWeak
from eventlog.jetstream.streams import StreamMismatch

T = TypeVar("T")
R = TypeVar("R")

Open = Callable[[], AbstractAsyncContextManager[T]]
Started = tuple[asyncio.AbstractEventLoop, asyncio.Event, T]

SETTLE_TURNS = 5

LOOK_S = 1.0
"""How often a caller looks whether the thread still lives, in seconds."""

CLOSED = "this recorder is closed: its factory, or its application, was closed before"


class Hosted(Generic[T]):
    """What `open_` opens, kept open in a thread. Use it from any other thread."""

    def __init__(self, open_: Open[T], *, name: str) -> None:
        """Start the thread; returns when it is open.

        Raises:
            OperationalError: it could not be opened.
            ProgrammingError: what is there does not fit the settings.
        """
        started: Future[Started[T]] = Future()
        # A daemon: a program that never closes its application must be able to end. What was
        # acknowledged is stored, so there is nothing to finish.
        self._thread = Thread(target=_host, args=(open_, started), name=name, daemon=True)
        self._thread.start()
        with library_errors():
            self._loop, stop, self._resource = started.result()
        self._end = weakref.finalize(self, _signal, self._loop, stop)

    def call(self, work: Callable[[T], Awaitable[R]]) -> R:
        """Do it in the loop and wait for it.

        Raises:
            InterfaceError: this is closed.
            IntegrityError: something else was stored first.
            OperationalError: the store is away, or its answer was lost.
            DataError: it cannot be stored.
        """

        async def carried_out() -> R:
            return await work(self._resource)

        if not self._end.alive or self._loop.is_closed():
            raise InterfaceError(CLOSED)
        future = asyncio.run_coroutine_threadsafe(carried_out(), self._loop)
        with library_errors():
            try:
                # A call that comes as the loop ends may never be carried out: so look after it.
                while not wait([future], LOOK_S).done:
                    if not self._thread.is_alive():
                        raise InterfaceError(CLOSED)
                return future.result()
            except CancelledError:
                raise InterfaceError(CLOSED) from None
            finally:
                future.cancel()

    def close(self) -> None:
        """End the thread and wait for that; twice is fine."""
        self._end()
        self._thread.join()


@contextmanager
def library_errors() -> Generator[None]:
    """Our errors as those that callers of the library know."""
    try:
        yield
    except Conflict as error:
        raise IntegrityError(str(error)) from error
    except Unavailable as error:
        raise OperationalError(str(error)) from error
    except (TooLarge, IntegrityViolated) as error:
        raise DataError(str(error)) from error
    except (DurabilityTooWeak, StreamMismatch, Rejected) as error:
        raise ProgrammingError(str(error)) from error
    except PeritusError as error:
        raise DatabaseError(str(error)) from error


def _host(open_: Open[T], started: "Future[Started[T]]") -> None:
    asyncio.run(_serve(open_, started))


async def _settle() -> None:
    """Let transports that were closed last end before their loop does."""
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)


async def _serve(open_: Open[T], started: "Future[Started[T]]") -> None:
    try:
        async with open_() as resource:
            stop = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stop, resource))
            await stop.wait()
    except BaseException as failed:
        if started.done():
            raise
        started.set_exception(failed)
    finally:
        await _settle()


def _signal(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(stop.set)
