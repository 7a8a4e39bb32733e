"""Does something again and again until the store takes it. Not for what may fail for good."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from domain.errors import Unavailable

logger = logging.getLogger(__name__)

PAUSE_S = 0.1
PAUSE_MAX_S = 5.0

T = TypeVar("T")


async def insist(attempt: Callable[[], Awaitable[T]], what: str) -> T:
    """The result of the first try that the store did not refuse.

    Whoever insists is alive and says so by its lease: nobody else takes the work up meanwhile.
    """
    pause_s = PAUSE_S
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            logger.warning("%s waits: %s", what, error)
        await asyncio.sleep(pause_s)
        pause_s = min(PAUSE_MAX_S, pause_s * 2)
