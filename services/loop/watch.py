"""Reads the log once and then live: which runs are open, and which are cancelled. Not a view."""

import asyncio
import logging
from dataclasses import dataclass, field

from domain.errors import Unavailable
from domain.events import TERMINAL_TYPES
from domain.ids import RunRef
from eventlog.port import EventLog
from services.worker.cancels import hear
from services.worker.hands import Bench

logger = logging.getLogger(__name__)

ENDS = tuple(f'{{"type":"{name.rsplit(".v", 1)[0]}.v'.encode() for name in sorted(TERMINAL_TYPES))
"""Found in an envelope's bytes only as an event, of any version: inside a text the quotes would be
escaped."""

AGAIN_S = 1.0


@dataclass(slots=True)
class Watch:
    """The open runs as EVENTS has them: what OPEN is rebuilt from. Does what `Cancels` does too."""

    log: EventLog
    bench: Bench
    open: dict[RunRef, int] = field(default_factory=dict[RunRef, int])
    """The runs whose last envelope does not bring them to rest, and its sequence."""

    async def run(self) -> None:
        """Read until cancelled."""
        after = 0
        while True:
            try:
                async with self.log.follow(after_seq=after) as stored:
                    async for item in stored:
                        after = item.seq
                        hear(self.bench, item)
                        if any(end in item.data for end in ENDS):
                            self.open.pop(item.ref, None)
                        else:
                            self.open[item.ref] = item.seq
            except Unavailable:
                logger.warning("the log is not watched for now; reading on later")
                await asyncio.sleep(AGAIN_S)

    def close(self, ref: RunRef, seq: int) -> None:
        """The run was found at rest at that sequence."""
        if self.open.get(ref, 0) <= seq:
            self.open.pop(ref, None)
