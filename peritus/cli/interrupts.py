"""Ctrl-C once and twice, and SIGTERM, for a command that watches a run. Not what they do to it."""

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def interrupts(on_first: Callable[[], None], on_second: Callable[[], None]) -> Generator[None]:
    """Call `on_first` at the first SIGINT; `on_second` at the next one, and at SIGTERM.

    Once the context has closed, more of them change nothing: the process is about to end.
    """
    loop = asyncio.get_running_loop()
    seen = 0

    def interrupted() -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            on_first()
        else:
            on_second()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, on_second)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _ignored)


def _ignored() -> None:
    """A signal that comes too late to mean anything."""


@contextmanager
def stopped_by_signal() -> Generator[asyncio.Event]:
    """An event that SIGINT or SIGTERM sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
