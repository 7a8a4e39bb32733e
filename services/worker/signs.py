"""Signs of life: this epoch's lease, and who else lives. Not a lock: the log is the fence."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from domain.errors import Unavailable
from domain.record import Record, canonical
from eventlog.port import RENEW_S, Leases

logger = logging.getLogger(__name__)

DOUBTED_MAX = 10_000
"""How many epochs without a lease are remembered."""


class Sign(Record):
    """What a living epoch says of itself: its services, and the unclaimed work it is at."""

    services: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()  # `<run>/<call>.<attempt>`


@dataclass
class Signs:
    """Renews this epoch's lease and tells which epochs are gone."""

    leases: Leases
    epoch: str
    services: tuple[str, ...]
    holds: Callable[[], tuple[str, ...]]
    certainly_dead: Callable[[str], bool]  # an end known without waiting for a lease
    renew_s: float = RENEW_S
    _live: dict[str, Sign] = field(default_factory=dict[str, Sign])
    _settled: bool = False
    _begun: int = 0  # looks
    _looked: int = 0  # the newest look that is over
    _doubted: dict[str, int] = field(default_factory=dict[str, int])
    """Epochs without a lease, and how many looks had begun when they were first asked for."""

    async def renew(self) -> None:
        """Say once that this epoch lives.

        Raises:
            Unavailable: it could not be said.
        """
        sign = Sign(services=self.services, holds=self.holds())
        await self.leases.renew(self.epoch, canonical(sign))

    async def run(self) -> None:
        """Renew until cancelled; the lease is dropped at the end, so that others need not wait."""
        try:
            while True:
                try:
                    await self.renew()
                except Unavailable:
                    logger.warning("the lease of this worker could not be renewed; trying on")
                await asyncio.sleep(self.renew_s)
        finally:
            await self._drop()

    async def _drop(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self.leases.drop(self.epoch)
        except (Unavailable, TimeoutError):
            logger.info("the lease of this worker will run out by itself")

    async def look(self) -> None:
        """Learn who lives now.

        Raises:
            Unavailable: the leases could not be read; nobody is presumed dead.
        """
        self._begun += 1
        this = self._begun
        live = await self.leases.live()
        self._settled = await self.leases.settled()
        self._live = {epoch: _read(data) for epoch, data in live.items()}
        self._looked = max(this, self._looked)
        for epoch in self._doubted.keys() & live.keys():
            del self._doubted[epoch]
        while len(self._doubted) > DOUBTED_MAX:
            del self._doubted[next(iter(self._doubted))]

    def gone(self, epoch: str) -> bool:
        """Whether an epoch has ended: proven, or its lease lapsed in a settled bucket.

        One that was born since the last look may hold work already; so it takes a look that began
        after the first question about it.
        """
        if self.certainly_dead(epoch):
            return True
        if not self._settled or epoch in self._live:
            return False
        return self._looked > self._doubted.setdefault(epoch, self._begun)

    def serves(self, service: str) -> bool:
        """Whether some living epoch offers that service."""
        return any(
            service in sign.services
            for epoch, sign in self._live.items()
            if not self.certainly_dead(epoch)
        )

    def at(self, epoch: str, name: str) -> bool:
        """Whether an epoch said that it is at that work, or said nothing we can read."""
        sign = self._live.get(epoch)
        return sign is None or name in sign.holds or not sign.services

    def held(self) -> frozenset[str]:
        """The unclaimed work that living epochs say they are at."""
        return frozenset(
            name
            for epoch, sign in self._live.items()
            if not self.certainly_dead(epoch)
            for name in sign.holds
        )


def _read(data: bytes) -> Sign:
    """What an epoch says of itself; nothing, when a newer release says it in another shape."""
    try:
        return Sign.model_validate_json(data)
    except ValidationError:
        return Sign()
