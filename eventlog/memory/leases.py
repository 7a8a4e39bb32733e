"""LEASES in memory: signs of life that lapse. Not a lock."""

import asyncio

from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint, Kind
from eventlog.memory.log import check_size


class LeaseStore:
    """Who said when that it lives; as old as the bucket, which a server restart makes anew."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._born: float | None = None
        self._said: dict[str, tuple[float, bytes]] = {}

    def open(self) -> None:
        """Somebody connects: the bucket exists from here on."""
        if self._born is None:
            self._born = _now()

    def renew(self, epoch: str, data: bytes) -> None:
        """This epoch lives."""
        self._said[epoch] = (_now(), data)

    def drop(self, epoch: str) -> None:
        """This epoch ended."""
        self._said.pop(epoch, None)

    def live(self) -> dict[str, bytes]:
        """Whose word still counts."""
        since = _now() - self.lease_s
        self._said = {k: v for k, v in self._said.items() if v[0] > since}
        return {epoch: data for epoch, (_, data) in self._said.items()}

    def settled(self) -> bool:
        """Whether the bucket is older than a lease."""
        return self._born is not None and _now() - self._born >= self.lease_s

    def restart(self) -> None:
        """The bucket was in memory: it is made anew."""
        self._said.clear()
        self._born = _now()


class MemoryLeases:
    """`Leases` for one client."""

    def __init__(self, client: Client, store: LeaseStore) -> None:
        self._client = client
        self._store = store

    async def renew(self, epoch: str, data: bytes) -> None:
        """Say that this epoch lives, for a lease from now.

        Raises:
            Unavailable: nobody may have heard it.
        """
        check_size(data)
        self._store.open()

        def execute(kind: Kind) -> None:
            if kind is not Kind.VANISH:
                self._store.renew(epoch, data)

        await self._client.call(FaultPoint.LEASE_RENEW, execute)

    async def drop(self, epoch: str) -> None:
        """This epoch ends by its own will."""
        await self._client.call(FaultPoint.LEASE_DROP, lambda _: self._store.drop(epoch))

    async def live(self) -> dict[str, bytes]:
        """The epochs with a lease now, and what they said of themselves."""
        self._store.open()
        return await self._client.call(FaultPoint.LEASE_LIVE, lambda _: self._store.live())

    async def settled(self) -> bool:
        """Whether the bucket is older than a lease, so that a missing lease means a dead epoch."""
        self._store.open()
        return await self._client.call(FaultPoint.LEASE_LIVE, lambda _: self._store.settled())


def _now() -> float:
    return asyncio.get_running_loop().time()
