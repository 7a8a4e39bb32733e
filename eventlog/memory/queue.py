"""A work queue as a JetStream consumer keeps it: deliveries, ack waits, room. Not a stream."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import NamedTuple

from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint, Kind
from eventlog.memory.inbox import Inbox
from eventlog.port import Delivery


class Points(NamedTuple):
    """The fault points of one queue."""

    deliver: FaultPoint
    ack: FaultPoint


class Message:
    """One message of a queue: ready, held by somebody, or put off."""

    __slots__ = ("attempt", "data", "due", "held", "ready", "ref", "timer")

    def __init__(self, ref: RunRef, data: bytes) -> None:
        self.ref = ref
        self.data = data
        self.attempt = 0
        self.ready = True
        self.due = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.held: Held | None = None


class Queue:
    """The messages nobody has acknowledged, and the subscriptions that take them, turn by turn."""

    def __init__(self, ack_wait_s: float) -> None:
        self.messages: dict[int, Message] = {}
        self._ack_wait_s = ack_wait_s
        self._ready: deque[int] = deque()
        self._takers: deque[Subscription] = deque()
        self._serial = count(1)

    def put(self, ref: RunRef, data: bytes) -> int:
        """Store a message and hand it to whoever has room; its number."""
        key = next(self._serial)
        self.messages[key] = Message(ref, data)
        self._ready.append(key)
        self.dispatch()
        return key

    def attach(self, taker: "Subscription") -> None:
        """This one takes messages from now on."""
        if taker not in self._takers:
            self._takers.append(taker)
            self.dispatch()

    def detach(self, taker: "Subscription") -> None:
        """This one takes no more; what it holds comes back by itself."""
        if taker in self._takers:
            self._takers.remove(taker)

    def dispatch(self) -> None:
        """Deliver while there is something ready and somebody has room."""
        while self._ready:
            if self._ready[0] not in self.messages:
                self._ready.popleft()
                continue
            taker = self._next_taker()
            if taker is None:
                return
            self._deliver(self._ready.popleft(), taker)

    def ack(self, key: int) -> None:
        """It is done, whichever of its deliveries says so, however late."""
        message = self.messages.pop(key, None)
        if message is not None:
            self._release(message)
            self.dispatch()

    def retry(self, key: int, delay_s: float) -> None:
        """Deliver it again after a while."""
        message = self.messages.get(key)
        if message is None or message.ready:
            return
        self._release(message)
        self._ready_in(key, message, delay_s)
        self.dispatch()

    def progress(self, key: int) -> None:
        """Somebody is still at it: the ack wait starts again."""
        message = self.messages.get(key)
        if message is not None and message.held is not None:
            self._cancel(message)
            self._ready_in(key, message, self._ack_wait_s)

    def repeat(self, key: int) -> None:
        """Deliver it once more although it is held."""
        message = self.messages.get(key)
        if message is not None and not message.ready:
            self._cancel(message)
            self._make_ready(key)

    def clear(self) -> None:
        """Everything is gone: the stream was in memory and the server died."""
        for message in self.messages.values():
            self._release(message)
        self.messages.clear()
        self._ready.clear()

    def forget(self, tenant: str, job: str) -> None:
        """The messages of a job are gone, whoever holds them."""
        for key in [k for k, one in self.messages.items() if one.ref[:2] == (tenant, job)]:
            self.ack(key)

    def stop(self) -> None:
        """The server is away: no time passes for it."""
        for message in self.messages.values():
            self._cancel(message)

    def start(self) -> None:
        """The server is back with what it had on disk."""
        now = asyncio.get_running_loop().time()
        for key, message in self.messages.items():
            if not message.ready:
                self._ready_in(key, message, message.due - now)

    def _next_taker(self) -> "Subscription | None":
        for _ in range(len(self._takers)):
            taker = self._takers[0]
            self._takers.rotate(-1)
            if taker.has_room:
                return taker
        return None

    def _deliver(self, key: int, taker: "Subscription") -> None:
        message = self.messages[key]
        self._release(message)
        message.ready = False
        message.attempt += 1
        message.held = Held(self, key, message, taker)
        self._ready_in(key, message, self._ack_wait_s)
        taker.take(message.held)

    def _ready_in(self, key: int, message: Message, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        message.due = loop.time() + max(delay_s, 0.0)
        message.timer = loop.call_at(message.due, self._lapse, key)

    def _lapse(self, key: int) -> None:
        message = self.messages.get(key)
        if message is not None:
            self._release(message)
            self._make_ready(key)
            self.dispatch()

    def _make_ready(self, key: int) -> None:
        self.messages[key].ready = True
        self._ready.appendleft(key)

    def _cancel(self, message: Message) -> None:
        if message.timer is not None:
            message.timer.cancel()
            message.timer = None

    def _release(self, message: Message) -> None:
        self._cancel(message)
        if message.held is not None:
            message.held.close()
            message.held = None


class Held:
    """One delivery in a client's hands."""

    __slots__ = ("_attempt", "_key", "_message", "_open", "_queue", "_taker")

    def __init__(self, queue: Queue, key: int, message: Message, taker: "Subscription") -> None:
        self._queue = queue
        self._key = key
        self._message = message
        self._attempt = message.attempt
        self._taker = taker
        self._open = True
        taker.unanswered += 1

    @property
    def ref(self) -> RunRef:
        """The run it is about."""
        return self._message.ref

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return self._message.data

    @property
    def attempt(self) -> int:
        """How often it has been delivered, from 1."""
        return self._attempt

    async def ack(self) -> None:
        """Done: the outcome is stored."""
        await self._answer(lambda: self._queue.ack(self._key))

    async def retry(self, delay_s: float) -> None:
        """Not now: deliver it again after a while."""
        await self._answer(lambda: self._queue.retry(self._key, delay_s))

    async def progress(self) -> None:
        """Still at it: do not deliver it again yet."""
        taker = self._taker
        await taker.client.tell(taker.points.ack, lambda: self._queue.progress(self._key))

    async def _answer(self, answer: Callable[[], None]) -> None:
        taker = self._taker
        self.close()
        await taker.client.tell(taker.points.ack, answer)
        self._queue.dispatch()

    def close(self) -> None:
        """Its room is free again."""
        if self._open:
            self._open = False
            self._taker.unanswered -= 1

    def give_back(self) -> None:
        """Nobody looked at it: let another one have it at once."""
        self._queue.retry(self._key, 0.0)

    def repeat(self) -> None:
        """Have it delivered once more."""
        self._queue.repeat(self._key)


class Subscription:
    """One `consume` of one client: takes deliveries while it has room for them."""

    def __init__(self, client: Client, queue: Queue, in_flight_max: int, points: Points) -> None:
        self.client = client
        self.points = points
        self.unanswered = 0
        self._queue = queue
        self._in_flight_max = in_flight_max
        self._inbox: Inbox[Held] = Inbox(client)

    @property
    def has_room(self) -> bool:
        """Whether it may be given one more."""
        return self.unanswered < self._in_flight_max

    def attach(self) -> None:
        """Ask the server for messages."""
        self._queue.attach(self)

    def detach(self) -> None:
        """The server no longer knows of it."""
        self._queue.detach(self)

    def take(self, held: Held) -> None:
        """The server sends this delivery."""
        if self.client.quiet:
            self._inbox.put(held)
            return
        fault = self.client.faults.at(self.points.deliver)
        if fault.kind in (Kind.DROP, Kind.REFUSE, Kind.VANISH, Kind.LOST_ACK):
            return
        self.client.later(fault.delay_s, self._inbox.put, held)
        if fault.kind is Kind.DUPLICATE:
            held.repeat()

    def close(self) -> None:
        """Give back what nobody looked at; what is in hand comes back after its ack wait."""
        for held in self._inbox.drain():
            held.give_back()

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        held = await self._inbox.get()
        if not self.client.quiet:
            await self.client.pass_by(self.points.deliver)
        return held


@asynccontextmanager
async def consuming(
    client: Client, queue: Queue, in_flight_max: int, points: Points
) -> AsyncGenerator[AsyncIterator[Delivery]]:
    """Take messages of a queue while the context is open; outlives server restarts."""
    subscription = Subscription(client, queue, in_flight_max, points)
    key = client.register(subscription)
    try:
        yield subscription
    finally:
        client.unregister(key)
        if not client.dead:
            subscription.close()
