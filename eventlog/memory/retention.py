"""What removes for good, in memory. Not who may, or when."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.commands import CommandStore
from eventlog.memory.dead import DeadStore
from eventlog.memory.faults import FaultPoint, Kind
from eventlog.memory.kept import BlobTimes
from eventlog.memory.log import LogStore
from eventlog.memory.queue import Queue
from eventlog.port import Lane, StoredBlob


@dataclass(frozen=True, slots=True)
class Stores:
    """All that a job may have something in."""

    log: LogStore
    snapshots: dict[RunRef, list[bytes]]
    open_runs: dict[RunRef, None]
    work: Mapping[Lane, Queue]
    commands: CommandStore
    dead: DeadStore
    blobs: dict[tuple[str, str], bytes]
    blob_times: BlobTimes

    def forget(self, tenant: str, job: str) -> None:
        """Remove what is kept of a job beside the log."""
        mine = (tenant, job)
        for kept in (self.snapshots, self.open_runs):
            for ref in [ref for ref in kept if ref[:2] == mine]:
                del kept[ref]
        for queue in (*self.work.values(), self.commands.queue):
            queue.forget(tenant, job)
        self.commands.disarm_all(tenant, job)
        letters = self.dead.letters
        for seq in [seq for seq, letter in letters.items() if letter.ref[:2] == mine]:
            del letters[seq]


class MemoryRetention:
    """`Retention` for one client."""

    def __init__(self, client: Client, stores: Stores) -> None:
        self._client = client
        self._stores = stores

    async def runs(self, tenant: str, job: str) -> dict[RunRef, int]:
        """The runs of a job that have envelopes, and how many."""
        return await self._client.call(
            FaultPoint.RETENTION_READ, lambda _: self._stores.log.runs(tenant, job)
        )

    async def purge(self, pattern: RunRef, *, before_seq: int) -> None:
        """Remove the envelopes of a run, or of those that match, up to a sequence, not that one."""

        def execute(kind: Kind) -> None:
            if kind is not Kind.VANISH:
                self._stores.log.purge(pattern, before_seq)

        await self._client.call(FaultPoint.RETENTION_REMOVE, execute)

    async def forget(self, tenant: str, job: str) -> None:
        """Remove what is kept of a job beside EVENTS."""

        def execute(kind: Kind) -> None:
            if kind is not Kind.VANISH:
                self._stores.forget(tenant, job)

        await self._client.call(FaultPoint.RETENTION_REMOVE, execute)

    async def waiting(self) -> AsyncIterator[tuple[str, bytes]]:
        """Every command, timer and dead letter that is stored now, with its tenant."""
        stores = self._stores

        def execute(kind: Kind) -> list[tuple[str, bytes]]:
            del kind
            queued = [(one.ref, one.data) for one in stores.commands.queue.messages.values()]
            timers = [(one.ref, one.data) for one in stores.commands.timers.values()]
            letters = [(one.ref, one.data) for one in stores.dead.letters.values()]
            return [(ref.tenant, data) for ref, data in (*queued, *timers, *letters)]

        for one in await self._client.call(FaultPoint.RETENTION_READ, execute):
            yield one

    async def blobs(self) -> list[tuple[str, str]]:
        """Tenant and digest of every blob."""
        return await self._client.call(
            FaultPoint.RETENTION_READ, lambda _: sorted(self._stores.blobs)
        )

    async def blob(self, tenant: str, digest: str) -> StoredBlob | None:
        """One of them as it is now, if it is still there."""

        def execute(kind: Kind) -> StoredBlob | None:
            del kind
            data = self._stores.blobs.get((tenant, digest))
            if data is None:
                return None
            revision, stored_ms = self._stores.blob_times.of(tenant, digest)
            return StoredBlob(tenant, digest, len(data), stored_ms, (revision,))

        return await self._client.call(FaultPoint.RETENTION_READ, execute)

    async def remove_blob(self, blob: StoredBlob) -> None:
        """Remove this storing of a blob; one that was put again since stays."""

        def execute(kind: Kind) -> None:
            now = self._stores.blob_times.of(blob.tenant, blob.digest)[0]
            if kind is not Kind.VANISH and blob.revisions == (now,):
                self._stores.blobs.pop((blob.tenant, blob.digest), None)

        await self._client.call(FaultPoint.RETENTION_REMOVE, execute)
