"""Slows down whoever reads what nobody asked for, so that a flood costs its sender time, not us."""

import asyncio

SLICE_S = 0.1


class Pace:
    """Lets so much through in a second, and has the next wait."""

    def __init__(self, per_s: int) -> None:
        self._per_slice = max(1, int(per_s * SLICE_S))
        self._begun = float("-inf")
        self._taken = 0

    async def step(self, size: int = 1) -> None:
        """Count some more; waits when there were too many lately."""
        now = asyncio.get_running_loop().time()
        if now - self._begun >= SLICE_S:
            self._begun, self._taken = now, 0
        self._taken += size
        if self._taken > self._per_slice:
            await asyncio.sleep(self._begun + SLICE_S - now)
