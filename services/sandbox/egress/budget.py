"""How much a sandbox may still transfer, and how fast. Not what it is counted as."""

import asyncio
from collections.abc import Callable

from services.sandbox.egress.refusals import Reason, Refused


class Budget:
    """Bytes over the life of a sandbox and bytes per second, both ways together.

    Nothing beyond the limit is passed on. The rate may be exceeded by one second's worth at once.
    """

    def __init__(
        self, bytes_max: int, bytes_per_s: int, *, spent: int, clock: Callable[[], float]
    ) -> None:
        self._max = bytes_max
        self._rate = bytes_per_s
        self._clock = clock
        self._level = float(bytes_per_s)  # may go below zero: then everybody waits
        self._at = clock()
        self.spent = spent

    @property
    def left(self) -> int:
        """How many bytes may still be transferred."""
        return max(0, self._max - self.spent)

    async def spend(self, size: int) -> None:
        """Pay for some bytes before they are passed on; waits while that is too fast.

        Raises:
            Refused: so much is not left.
        """
        if size > self.left:
            self.spent = self._max
            raise Refused(Reason.BYTE_LIMIT)
        self.spent += size
        now = self._clock()
        self._level = min(self._rate, self._level + (now - self._at) * self._rate) - size
        self._at = now
        if self._level < 0:
            await asyncio.sleep(-self._level / self._rate)
