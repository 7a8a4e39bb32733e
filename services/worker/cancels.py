"""Hears cancels of runs whose work this process is at. The cancel itself is in the log."""

import asyncio
import logging
from dataclasses import dataclass

from domain.errors import Unavailable
from eventlog.port import EventLog
from services.worker.hands import Bench

logger = logging.getLogger(__name__)

CANCEL = b'"run.cancel_requested.v1"'
"""Looked for in the bytes: decoding every envelope of the system would cost each worker a core."""

AGAIN_S = 1.0


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
                        if CANCEL in item.data:
                            self.bench.stop(item.ref)
            except Unavailable:
                logger.warning("cancels are not heard for now; listening again")
                await asyncio.sleep(AGAIN_S)
