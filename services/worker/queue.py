"""Takes deliveries of a queue and handles each in its own task, kept alive while it lasts."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from pydantic import ValidationError

from domain.errors import IntegrityViolated, Unavailable
from domain.work import WORK, Work
from eventlog.port import WORK_ACK_WAIT_S, Delivery

logger = logging.getLogger(__name__)

HEARTBEAT_S = WORK_ACK_WAIT_S / 3
"""How often a delivery that is still worked on says so, in seconds."""

AGAIN_S = 1.0
BROKEN_AGAIN_S = 60.0


async def consume(
    source: AbstractAsyncContextManager[AsyncIterator[Delivery]],
    handle: Callable[[Delivery], Awaitable[None]],
) -> None:
    """Handle deliveries side by side until cancelled; the source bounds how many."""
    async with source as deliveries, asyncio.TaskGroup() as tasks:
        async for delivery in deliveries:
            tasks.create_task(_handle(delivery, handle))


def read_work(delivery: Delivery) -> Work | None:
    """The work of a delivery; None for what another release put there, which is only a hint."""
    try:
        return WORK.validate_json(delivery.data)
    except ValidationError:
        logger.warning("work of run %s is of another release", delivery.ref.run)
        return None


async def _handle(delivery: Delivery, handle: Callable[[Delivery], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    beat: asyncio.TimerHandle | None = None
    async with asyncio.TaskGroup() as tasks:

        def progress() -> None:
            nonlocal beat
            tasks.create_task(_progress(delivery))
            beat = loop.call_later(HEARTBEAT_S, progress)

        beat = loop.call_later(HEARTBEAT_S, progress)
        try:
            await handle(delivery)
        except Unavailable:
            await _retry(delivery)
        except IntegrityViolated:
            # One broken run must not take a worker with it: the reconciler alarms, people repair.
            logger.exception("RunIntegrityViolated: run %s", delivery.ref.run)
            await _retry(delivery, BROKEN_AGAIN_S)
        except Exception:
            # A fault of ours that one run brings out must not end the work of all others.
            logger.exception("what is asked of run %s cannot be handled", delivery.ref.run)
            await _retry(delivery, BROKEN_AGAIN_S)
        finally:
            beat.cancel()


async def _progress(delivery: Delivery) -> None:
    try:
        await delivery.progress()
    except Unavailable:
        return  # it comes again, and is recognised


async def _retry(delivery: Delivery, delay_s: float = AGAIN_S) -> None:
    try:
        await delivery.retry(delay_s)
    except Unavailable:
        return  # it comes again by itself after the ack wait
