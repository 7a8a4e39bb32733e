"""COMMANDS and its timers in memory. Not durable, but a server restart leaves them alone."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint, Faults, Kind
from eventlog.memory.log import check_size
from eventlog.memory.queue import Points, Queue, consuming
from eventlog.port import Delivery

_POINTS = Points(FaultPoint.COMMAND_DELIVER, FaultPoint.COMMAND_ACK)

TIMER_FLOOR_S = 0.25
"""The server's scheduler fires nothing sooner after it was armed, in seconds (scheduler.go)."""

DEDUP_WINDOW_S = 120.0
"""How long a message id is remembered, in seconds."""


@dataclass(slots=True)
class Timer:
    """A command that waits for its time."""

    ref: RunRef
    data: bytes
    due_ms: int
    handle: asyncio.TimerHandle | None = None


class CommandStore:
    """The queue of commands, the message ids seen lately, and the timers that wait."""

    def __init__(self, ack_wait_s: float, now_ms: Callable[[], int], faults: Faults) -> None:
        self.queue = Queue(ack_wait_s)
        self.timers: dict[tuple[RunRef, str], Timer] = {}
        self._now_ms = now_ms
        self._faults = faults
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def put(self, ref: RunRef, data: bytes, message_id: str | None) -> None:
        """Store it, unless this message id came within the window."""
        if message_id is None:
            self.queue.put(ref, data)
            return
        now = asyncio.get_running_loop().time()
        self._forget_before(now - DEDUP_WINDOW_S)
        if message_id not in self._seen:
            self._seen[message_id] = (now, self.queue.put(ref, data))

    def arm(self, ref: RunRef, timer: str, due_ms: int, data: bytes) -> None:
        """Deliver it at that time; replaces the timer of that name."""
        self._disarm(self.timers.get((ref, timer)))
        self.timers[ref, timer] = Timer(ref, data, due_ms)
        self._schedule(ref, timer)

    def disarm_all(self, tenant: str, job: str) -> None:
        """The timers of a job are gone."""
        for key in [key for key in self.timers if key[0][:2] == (tenant, job)]:
            self._disarm(self.timers.pop(key))

    def stop(self) -> None:
        """The server is away."""
        self.queue.stop()
        for timer in self.timers.values():
            self._disarm(timer)

    def start(self) -> None:
        """The server is back: ids are known only of what is still stored, overdue timers fire."""
        stored = self.queue.messages
        self._seen = OrderedDict((k, v) for k, v in self._seen.items() if v[1] in stored)
        self.queue.start()
        for ref, timer in list(self.timers):
            self._schedule(ref, timer)

    def _schedule(self, ref: RunRef, name: str) -> None:
        timer = self.timers[ref, name]
        delay_s = max(TIMER_FLOOR_S, (timer.due_ms - self._now_ms()) / 1000)
        delay_s += self._faults.at(FaultPoint.TIMER_FIRE).delay_s
        timer.handle = asyncio.get_running_loop().call_later(delay_s, self._fire, ref, name)

    def _fire(self, ref: RunRef, name: str) -> None:
        timer = self.timers.pop((ref, name))
        self.queue.put(ref, timer.data)

    def _disarm(self, timer: Timer | None) -> None:
        if timer is not None and timer.handle is not None:
            timer.handle.cancel()

    def _forget_before(self, when: float) -> None:
        while self._seen and next(iter(self._seen.values()))[0] <= when:
            self._seen.popitem(last=False)


class MemoryCommands:
    """`CommandQueue` for one client."""

    def __init__(self, client: Client, store: CommandStore) -> None:
        self._client = client
        self._store = store

    async def put(self, ref: RunRef, data: bytes, *, message_id: str | None = None) -> None:
        """Store a command; the same `message_id` within two minutes is stored once.

        Raises:
            Unavailable: it may not be stored; send it again with the same id.
        """
        check_size(data)

        def execute(kind: Kind) -> None:
            if kind is not Kind.VANISH:
                self._store.put(ref, data, message_id)

        await self._client.call(FaultPoint.COMMAND_PUT, execute)

    async def put_at(self, ref: RunRef, timer: str, due_ms: int, data: bytes) -> None:
        """Store a command that is delivered at `due_ms`; the same timer again replaces it."""
        check_size(data)
        await self._client.call(
            FaultPoint.COMMAND_PUT_AT, lambda _: self._store.arm(ref, timer, due_ms, data)
        )

    def consume(
        self, *, in_flight_max: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Take commands; never more unanswered than `in_flight_max`."""
        return consuming(self._client, self._store.queue, in_flight_max, _POINTS)
