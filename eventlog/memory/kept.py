"""BLOBS, SNAPSHOTS and OPEN in memory: what is kept by name. Not the log."""

from collections.abc import Callable
from itertools import count

from domain.errors import IntegrityViolated, NoSuchBlob
from domain.ids import RunRef
from domain.record import digest_of
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint, Kind
from eventlog.memory.log import check_size


class BlobTimes:
    """When each blob was put last, and a number for each time."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._serial = count(1)
        self._puts: dict[tuple[str, str], tuple[int, int]] = {}

    def put(self, tenant: str, digest: str) -> None:
        """It was put now."""
        self._puts[tenant, digest] = (next(self._serial), self._now_ms())

    def of(self, tenant: str, digest: str) -> tuple[int, int]:
        """Number and time of the last put."""
        return self._puts.get((tenant, digest), (0, 0))


class MemoryBlobs:
    """`Blobs` for one client."""

    def __init__(
        self, client: Client, store: dict[tuple[str, str], bytes], times: BlobTimes
    ) -> None:
        self._client = client
        self._store = store
        self._times = times

    async def put(self, tenant: str, data: bytes) -> str:
        """Store content and return its digest; twice is fine.

        Raises:
            Unavailable: it is not stored.
        """
        digest = digest_of(data)

        def execute(kind: Kind) -> str:
            if kind is not Kind.VANISH:
                self._store.setdefault((tenant, digest), data)
                self._times.put(tenant, digest)
            return digest

        return await self._client.call(FaultPoint.BLOB_PUT, execute)

    async def get(self, tenant: str, digest: str) -> bytes:
        """The content of that digest, checked against it.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: there is no such blob, or its bytes are not what was stored.
        """
        data = await self._client.call(
            FaultPoint.BLOB_GET, lambda _: self._store.get((tenant, digest))
        )
        if data is None:
            msg = f"no blob {digest!r}"
            raise NoSuchBlob(msg)
        if digest_of(data) != digest:
            msg = f"blob {digest!r} has other bytes"
            raise IntegrityViolated(msg)
        return data


class MemorySnapshots:
    """`Snapshots` for one client; the store keeps the one before the last for stale reads."""

    def __init__(self, client: Client, store: dict[RunRef, list[bytes]]) -> None:
        self._client = client
        self._store = store

    async def put(self, ref: RunRef, data: bytes) -> None:
        """Keep this one, drop the older."""
        check_size(data)

        def execute(kind: Kind) -> None:
            if kind is not Kind.VANISH:
                self._store[ref] = [*self._store.get(ref, [])[-1:], data]

        await self._client.call(FaultPoint.SNAPSHOT_PUT, execute)

    async def get(self, ref: RunRef) -> bytes | None:
        """The newest one, if any."""

        def execute(kind: Kind) -> bytes | None:
            kept = self._store.get(ref, [])
            if kind is Kind.STALE:
                kept = kept[:-1]
            return kept[-1] if kept and kind is not Kind.VANISH else None

        return await self._client.call(FaultPoint.SNAPSHOT_GET, execute)


class MemoryOpenRuns:
    """`OpenRuns` for one client."""

    def __init__(self, client: Client, store: dict[RunRef, None]) -> None:
        self._client = client
        self._store = store

    async def add(self, ref: RunRef) -> None:
        """Durable before the run's first append."""

        def execute(kind: Kind) -> None:
            if kind is not Kind.VANISH:
                self._store[ref] = None

        await self._client.call(FaultPoint.OPEN_ADD, execute)

    async def remove(self, ref: RunRef) -> None:
        """The run is at rest and its end is where it must be."""

        def execute(kind: Kind) -> None:
            if kind is not Kind.VANISH:
                self._store.pop(ref, None)

        await self._client.call(FaultPoint.OPEN_REMOVE, execute)

    async def list(self) -> list[RunRef]:
        """All of them."""
        return await self._client.call(FaultPoint.OPEN_LIST, lambda _: list(self._store))
