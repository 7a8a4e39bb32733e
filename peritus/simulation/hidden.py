"""Faults that workers survive by design, and that are faults all the same. Not expected trouble.

One broken run must not take a worker with it, so handlers catch what they do not know and log it.
In a simulated world nothing unknown may come up: whatever they log of the kind is a problem.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager

from domain.errors import PeritusError

EXPECTED = (PeritusError, OSError)
WORKERS = ("services.worker", "services.loop", "commands")


class _Listener(logging.Handler):
    def __init__(self, problems: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or isinstance(error, EXPECTED) or not record.name.startswith(WORKERS):
            return
        self._problems.append(f"{record.getMessage()}: {error!r}")


@contextmanager
def brought_to_light(problems: list[str]) -> Generator[None]:
    """Add what is logged meanwhile to the problems of a world."""
    listener, root = _Listener(problems), logging.getLogger()
    root.addHandler(listener)
    try:
        yield
    finally:
        root.removeHandler(listener)
