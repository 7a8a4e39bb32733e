"""EVENTS in memory: the stored envelopes and one client's view of them. Not durable."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from operator import attrgetter

from domain.errors import AppendUnknown, Conflict, TooLarge, Unavailable
from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint, Kind
from eventlog.port import PAGE_MAX, PAYLOAD_BYTES_MAX, Page, Stored, matches

_SEQ = attrgetter("seq")


class LogStore:
    """All envelopes in the order they were stored; sequences count from 1 without a gap."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.all: list[Stored] = []
        self.gone: set[int] = set()
        """The sequences that were purged; `all` still has them, so that it counts without a gap."""
        self._runs: dict[RunRef, list[Stored]] = {}
        self._refs: dict[tuple[str, str], RunRef] = {}
        self._followers: dict[int, Follower] = {}
        self._serial = count()

    def append(self, ref: RunRef, data: bytes, expected_seq: int) -> int:
        """Store it if the run's last message is the expected one.

        Raises:
            Conflict: it is not; the text names the sequence it really is.
        """
        run = self._runs.get(ref)
        last_seq = run[-1].seq if run else 0
        if last_seq != expected_seq:
            msg = f"wrong last sequence: {last_seq}"
            raise Conflict(msg)
        stored = Stored(len(self.all) + 1, ref, data)
        self.all.append(stored)
        if run is None:
            self._runs[ref] = [stored]
            self._refs[ref.tenant, ref.run] = ref
        else:
            run.append(stored)
        for follower in self._followers.values():
            follower.see(ref)
        return stored.seq

    def load(self, ref: RunRef, after_seq: int, *, stale: bool) -> list[Stored]:
        """The run's envelopes after a sequence; a stale read does not know the last one."""
        run = self._runs.get(ref, [])
        end = len(run) - 1 if stale and run else len(run)
        return run[bisect_right(run, after_seq, key=_SEQ) : end]

    def page(self, pattern: RunRef, after_seq: int, limit: int) -> Page:
        """At most `limit` envelopes after a sequence that match, and whether there are more."""
        found = [
            stored
            for ref, run in self._runs.items()
            if matches(pattern, ref)
            for stored in run[bisect_right(run, after_seq, key=_SEQ) :]
        ]
        found.sort(key=_SEQ)
        return Page(found[:limit], more=len(found) > limit)

    def find(self, tenant: str, run: str) -> RunRef | None:
        """The full name of a run, if it exists."""
        return self._refs.get((tenant, run))

    def bounds(self) -> tuple[int, int]:
        """First and last sequence that is there."""
        first, last = 1, len(self.all)
        while first <= last and first in self.gone:
            first += 1
        while last >= first and last in self.gone:
            last -= 1
        return first, last

    def runs(self, tenant: str, job: str) -> dict[RunRef, int]:
        """The runs of a job, and how many envelopes each has."""
        return {
            ref: len(stored)
            for ref, stored in self._runs.items()
            if stored and ref[:2] == (tenant, job)
        }

    def purge(self, pattern: RunRef, before_seq: int) -> None:
        """Remove the envelopes of runs that match, up to a sequence."""
        for ref in [ref for ref in self._runs if matches(pattern, ref)]:
            stored = self._runs[ref]
            end = bisect_right(stored, before_seq - 1, key=_SEQ)
            self.gone.update(one.seq for one in stored[:end])
            del stored[:end]
            if not stored:
                del self._runs[ref], self._refs[ref.tenant, ref.run]

    def add(self, follower: "Follower") -> int:
        """Tell this one of what is stored from now on; its number."""
        key = next(self._serial)
        self._followers[key] = follower
        return key

    def discard(self, key: int) -> None:
        """Tell it no more."""
        self._followers.pop(key, None)

    def remake(self, incarnation: str) -> None:
        """Begin another life: everything stored is gone and sequences start again."""
        self.incarnation = incarnation
        self.all.clear()
        self.gone.clear()
        self._runs.clear()
        self._refs.clear()
        for follower in self._followers.values():
            follower.fail()


class Follower:
    """One reader of the log: catches up from the list itself, so there is no gap to live."""

    def __init__(
        self, client: Client, store: LogStore, after_seq: int, pattern: tuple[str, str, str]
    ) -> None:
        self._client = client
        self._store = store
        self._seq = after_seq
        self._pattern = pattern
        self._any = pattern == ("*", "*", "*")
        self._waiter: asyncio.Future[None] | None = None
        self._failed = False

    def see(self, ref: RunRef) -> None:
        """Something was stored for this run."""
        if self._waiter is not None and (self._any or matches(self._pattern, ref)):
            self._wake()

    def fail(self) -> None:
        """The log this one reads is gone."""
        self._failed = True
        self._wake()

    def __aiter__(self) -> AsyncIterator[Stored]:
        return self

    async def __anext__(self) -> Stored:
        client = self._client
        client.alive()
        while True:
            if self._failed:
                msg = "the log was made anew"
                raise Unavailable(msg)
            stored = self._next()
            if stored is not None:
                break
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await client.wait(self._waiter)
            finally:
                self._waiter = None
        if not client.quiet:
            fault = await client.leave(FaultPoint.FOLLOW_DELIVER)
            await client.sleep(fault.delay_s)
            if fault.kind in (Kind.DROP, Kind.REFUSE, Kind.LOST_ACK):
                self._failed = True
                msg = "the store stayed away"
                raise Unavailable(msg)
            client.arrive(FaultPoint.FOLLOW_DELIVER, fault)
        self._seq = stored.seq
        return stored

    def _next(self) -> Stored | None:
        everything = self._store.all
        for index in range(self._seq, len(everything)):
            stored = everything[index]
            if stored.seq in self._store.gone:
                continue
            if self._any or matches(self._pattern, stored.ref):
                return stored
            self._seq = stored.seq
        return None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class MemoryLog:
    """`EventLog` for one client."""

    def __init__(self, client: Client, store: LogStore) -> None:
        self._client = client
        self._store = store

    @property
    def incarnation(self) -> str:
        """Names this log's life."""
        return self._store.incarnation

    async def append(self, ref: RunRef, data: bytes, *, expected_seq: int) -> int:
        """Store one envelope after the run's message at `expected_seq`; its sequence.

        Raises:
            Conflict: the run's last message is another one.
            AppendUnknown: no answer came; it may be stored.
            TooLarge: the message is above the server's payload limit.
            Unavailable: the store refused or is away, and nothing was stored.
        """
        check_size(data)
        return await self._client.call(
            FaultPoint.APPEND,
            lambda _: self._store.append(ref, data, expected_seq),
            unknown=AppendUnknown,
        )

    async def load(self, ref: RunRef, *, after_seq: int = 0) -> list[Stored]:
        """The run's envelopes after a sequence, in order.

        Raises:
            Unavailable: the store is away.
        """
        return await self._client.call(
            FaultPoint.LOAD,
            lambda kind: self._store.load(ref, after_seq, stale=kind is Kind.STALE),
        )

    async def read(
        self,
        *,
        after_seq: int,
        tenant: str = "*",
        job: str = "*",
        run: str = "*",
        limit: int = PAGE_MAX,
    ) -> Page:
        """The next stored envelopes after a sequence that match: one page of what there is now.

        Raises:
            Unavailable: the store is away.
        """
        pattern = RunRef(tenant, job, run)
        return await self._client.call(
            FaultPoint.LOAD, lambda _: self._store.page(pattern, after_seq, min(limit, PAGE_MAX))
        )

    async def find(self, tenant: str, run: str) -> RunRef | None:
        """The full name of a run whose job is not known; None when no such run exists."""
        return await self._client.call(FaultPoint.FIND, lambda _: self._store.find(tenant, run))

    async def bounds(self) -> tuple[int, int]:
        """First and last sequence of the whole log; (1, 0) when it is empty."""
        return await self._client.call(FaultPoint.BOUNDS, lambda _: self._store.bounds())

    def follow(
        self, *, after_seq: int, tenant: str = "*", job: str = "*", run: str = "*"
    ) -> AbstractAsyncContextManager[AsyncIterator[Stored]]:
        """Every stored envelope after a sequence that matches: catch-up, then live, in order.

        Raises (from the iterator):
            Unavailable: the store stayed away; open it again from the last sequence seen.
        """
        return self._follow(after_seq, (tenant, job, run))

    @asynccontextmanager
    async def _follow(
        self, after_seq: int, pattern: tuple[str, str, str]
    ) -> AsyncGenerator[AsyncIterator[Stored]]:
        self._client.alive()
        follower = Follower(self._client, self._store, after_seq, pattern)
        key = self._store.add(follower)
        try:
            yield follower
        finally:
            self._store.discard(key)


def check_size(data: bytes) -> None:
    """Refuse what no server would take.

    Raises:
        TooLarge: it is above `PAYLOAD_BYTES_MAX`.
    """
    if len(data) > PAYLOAD_BYTES_MAX:
        msg = f"{len(data)} bytes are more than {PAYLOAD_BYTES_MAX}"
        raise TooLarge(msg)
