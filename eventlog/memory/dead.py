"""DEAD in memory: commands given up on. Not a queue: nothing takes them but a person."""

from itertools import count

from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint
from eventlog.memory.log import check_size
from eventlog.port import DeadLetter


class DeadStore:
    """The commands given up on, by sequence."""

    def __init__(self) -> None:
        self.letters: dict[int, DeadLetter] = {}
        self._serial = count(1)

    def put(self, ref: RunRef, data: bytes, reason: str) -> None:
        """Keep one."""
        seq = next(self._serial)
        self.letters[seq] = DeadLetter(seq, ref, reason, data)

    def newest(self, limit: int) -> list[DeadLetter]:
        """The newest ones first."""
        return list(self.letters.values())[::-1][:limit]

    def remove(self, seq: int) -> None:
        """Drop one, if it is there."""
        self.letters.pop(seq, None)


class MemoryDead:
    """`DeadLetters` for one client."""

    def __init__(self, client: Client, store: DeadStore) -> None:
        self._client = client
        self._store = store

    async def put(self, ref: RunRef, data: bytes, reason: str) -> None:
        """Keep it; returns when it is stored."""
        check_size(data)
        await self._client.call(FaultPoint.DEAD_PUT, lambda _: self._store.put(ref, data, reason))

    async def list(self, limit: int) -> list[DeadLetter]:
        """The newest ones first, at most `limit`."""
        return await self._client.call(FaultPoint.DEAD_LIST, lambda _: self._store.newest(limit))

    async def remove(self, seq: int) -> None:
        """It was sent again, or is not wanted."""
        await self._client.call(FaultPoint.DEAD_REMOVE, lambda _: self._store.remove(seq))
