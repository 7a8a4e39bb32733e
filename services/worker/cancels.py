"""Hears cancels of runs whose work this process is at. The cancel itself is in the log."""

import asyncio
import logging
from dataclasses import dataclass

from domain.envelope import decode
from domain.errors import Unavailable
from domain.events import GenerationAbandoned
from domain.ids import RunRef
from eventlog.port import EventLog, Stored
from services.worker.hands import Bench

logger = logging.getLogger(__name__)

CANCEL = b'"run.cancel_requested.v'
"""Looked for in the bytes: decoding every envelope of the system would cost each worker a core."""

CONTINUED = b'"run.continued.v'

INTERRUPTED = b'"reason":"interrupted"'
"""In an envelope with an attempt that a person interrupted; a text of a model may hold it too."""

AGAIN_S = 1.0


def hear(bench: Bench, item: Stored) -> None:
    """Stop, resume or interrupt what an envelope of the log says."""
    if CANCEL in item.data:
        bench.stop(item.ref, item.seq)
    elif CONTINUED in item.data:
        bench.resume(item.ref)
    if INTERRUPTED in item.data:
        for event in decode(item.data).events:
            if isinstance(event, GenerationAbandoned) and event.reason == "interrupted":
                bench.interrupt(item.ref, event.step, event.attempt)


@dataclass(frozen=True, slots=True)
class Cancels:
    """Follows the log from now on and stops the work of runs that are being cancelled."""

    log: EventLog
    bench: Bench

    async def run(self) -> None:
        """Listen until cancelled."""
        after: int | None = None
        while True:
            try:
                if after is None:
                    after = (await self.log.bounds())[1]
                async with self.log.follow(after_seq=after) as stored:
                    async for item in stored:
                        after = item.seq
                        hear(self.bench, item)
            except Unavailable:
                logger.warning("cancels are not heard for now; listening again")
                await asyncio.sleep(AGAIN_S)


async def goes_on(log: EventLog, ref: RunRef, after_seq: int) -> bool:
    """Whether a run that was stopped has been continued since.

    Raises:
        Unavailable: the log is away.
    """
    return any(CONTINUED in item.data for item in await log.load(ref, after_seq=after_seq))
