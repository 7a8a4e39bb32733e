"""REGISTRY in memory: the newest value of each name. Not durable beyond this process."""

from itertools import count

from domain.errors import Conflict
from eventlog.jetstream.subjects import token
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint
from eventlog.memory.log import check_size
from eventlog.newest import Entry


class RegistryStore:
    """The values of one server; it was on disk, so a restart takes nothing."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, str], Entry] = {}
        self._serial = count(1)

    def put(self, key: tuple[str, str, str], data: bytes, expected: int) -> int:
        """Store it if the value there is the expected one; its revision.

        Raises:
            Conflict: it is not.
        """
        there = self.entries.pop(key, None)
        revision = there.revision if there else 0
        if revision != expected:
            if there:
                self.entries[key] = there
            msg = f"wrong last sequence: {revision}"
            raise Conflict(msg)
        entry = self.entries[key] = Entry(*key, next(self._serial), data)
        return entry.revision


class MemoryRegistry:
    """`Registry` for one client."""

    def __init__(self, client: Client, store: RegistryStore) -> None:
        self._client = client
        self._store = store

    async def put(self, kind: str, tenant: str, name: str, data: bytes, *, expected: int) -> int:
        """Store a value instead of that of the expected revision (0: there is none); its own.

        Raises:
            Conflict: the value there is another one, or there is none.
            Rejected: kind, tenant or name cannot be one.
            TooLarge: it is above the payload limit.
            Unavailable: it may be stored, or be stored yet.
        """
        check_size(data)
        key = _key(kind, tenant, name)
        return await self._client.call(
            FaultPoint.REGISTRY_PUT, lambda _: self._store.put(key, data, expected)
        )

    async def get(self, kind: str, tenant: str, name: str) -> Entry | None:
        """The value of a name; None when there is none. `*` as the tenant: whoever's.

        Raises:
            Rejected: kind, tenant or name cannot be one.
            Unavailable: the store is away.
        """
        token(name)
        found = await self.list(kind, tenant)
        return next((entry for entry in reversed(found) if entry.name == name), None)

    async def list(self, kind: str, tenant: str = "*") -> list[Entry]:
        """All of a kind and a tenant, or of all tenants, the longest unchanged first.

        Raises:
            Rejected: kind or tenant cannot be one.
            Unavailable: the store is away.
        """
        token(kind)
        if tenant != "*":
            token(tenant)
        return await self._client.call(
            FaultPoint.REGISTRY_READ,
            lambda _: [
                entry
                for entry in self._store.entries.values()
                if entry.kind == kind and tenant in ("*", entry.tenant)
            ],
        )

    async def remove(self, kind: str, tenant: str, name: str) -> None:
        """No value has that name any more; it may never have had one.

        Raises:
            Rejected: kind, tenant or name cannot be one.
            Unavailable: it may still be there.
        """
        key = _key(kind, tenant, name)
        await self._client.call(
            FaultPoint.REGISTRY_REMOVE, lambda _: self._store.entries.pop(key, None)
        )


def _key(kind: str, tenant: str, name: str) -> tuple[str, str, str]:
    return token(kind), token(tenant), token(name)
