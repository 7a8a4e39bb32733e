"""LIMITS in memory: the newest note of each scope, and who watches. Gone with a server restart."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count

from domain.errors import Conflict
from domain.rate import Scope
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint, Kind
from eventlog.memory.inbox import Inbox
from eventlog.memory.log import check_size
from eventlog.newest import LIFE, Noted


class LimitStore:
    """The notes of one server; sequences start again when it does."""

    def __init__(self) -> None:
        self.notes: dict[Scope, Noted] = {}
        self.watchers: list[Watcher] = []
        self._serial = count(1)

    def note(self, scope: Scope, data: bytes, expected_seq: int) -> int:
        """Note it if the last note is the expected one; its sequence.

        Raises:
            Conflict: it is not.
        """
        last = self.notes.get(scope)
        last_seq = last.revision if last else 0
        if last_seq != expected_seq:
            msg = f"wrong last sequence: {last_seq}"
            raise Conflict(msg)
        noted = self.notes[scope] = Noted(scope, next(self._serial), data)
        for watcher in self.watchers:
            watcher.hear(noted)
        return noted.revision

    def lose(self) -> None:
        """All is gone."""
        self.notes.clear()

    def restart(self) -> None:
        """It was in memory: all is gone, and it counts from 1 again."""
        self.lose()
        self._serial = count(1)


class Watcher:
    """One subscription of one client: what is lost on the way to it, it never hears of."""

    def __init__(self, client: Client, store: LimitStore, seen: Callable[[Noted], Noted]) -> None:
        self._client = client
        self._store = store
        self._seen = seen
        self._inbox: Inbox[Noted | None] = Inbox(client)

    def attach(self) -> None:
        """Listen; what was said before may be missed."""
        if self not in self._store.watchers:
            self._store.watchers.append(self)
            self._inbox.put(None)

    def detach(self) -> None:
        """The server no longer knows of it."""
        if self in self._store.watchers:
            self._store.watchers.remove(self)

    def hear(self, noted: Noted) -> None:
        """Something was noted."""
        self._inbox.put(self._seen(noted))

    def __aiter__(self) -> AsyncIterator[Noted | None]:
        return self

    async def __anext__(self) -> Noted | None:
        while True:
            noted = await self._inbox.get()
            if self._client.quiet or noted is None:
                return noted
            fault = await self._client.leave(FaultPoint.LIMIT_DELIVER)
            await self._client.sleep(fault.delay_s)
            self._client.arrive(FaultPoint.LIMIT_DELIVER, fault)
            if fault.kind is Kind.DUPLICATE:
                self._inbox.put(noted)
            if fault.kind is not Kind.DROP:
                return noted


class MemoryLimits:
    """`Limits` for one client. Itself an attachment: what was read before a reconnect is old."""

    def __init__(self, client: Client, store: LimitStore) -> None:
        self._client = client
        self._store = store
        self._life = 0
        client.register(self)

    def attach(self) -> None:
        """The server is there."""

    def detach(self) -> None:
        """It may count from 1 again when it is back."""
        self._life += LIFE

    async def note(self, scope: Scope, data: bytes, *, expected: int) -> int:
        """Note something instead of the note of the expected revision; its own revision.

        Raises:
            Conflict: the last note is another one, or that was read before a reconnect.
            Unavailable: it may be noted, or be noted yet.
        """
        check_size(data)
        life = self._life
        if 0 < expected < life:
            msg = f"revision {expected} was read before a reconnect"
            raise Conflict(msg)
        return life + await self._client.call(
            FaultPoint.LIMIT_NOTE, lambda _: self._store.note(scope, data, expected % LIFE)
        )

    async def last(self, scope: Scope) -> Noted | None:
        """What is noted of a scope.

        Raises:
            Unavailable: the store is away.
        """
        return (await self.all()).get(scope)

    async def all(self) -> dict[Scope, Noted]:
        """What is noted of every scope.

        Raises:
            Unavailable: the store is away.
        """
        life = self._life
        notes = await self._client.call(
            FaultPoint.LIMIT_READ, lambda _: [*self._store.notes.values()]
        )
        return {noted.scope: noted._replace(revision=life + noted.revision) for noted in notes}

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[Noted | None]]:
        """The newest note of each scope that changes; None: some may be missed."""
        return self._watch()

    def _seen(self, noted: Noted) -> Noted:
        return noted._replace(revision=self._life + noted.revision)

    @asynccontextmanager
    async def _watch(self) -> AsyncGenerator[AsyncIterator[Noted | None]]:
        watcher = Watcher(self._client, self._store, self._seen)
        key = self._client.register(watcher)
        try:
            yield watcher
        finally:
            self._client.unregister(key)
