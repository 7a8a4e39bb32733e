"""Taking messages from a durable pull consumer without end. Not the meaning of the messages.

nats-py has no such loop. One inbox holds up to `in_flight_max` credits, asked for again when half
of them are free. Whatever makes the count of credits doubtful (a reconnect, a missed heartbeat, a
consumer that is gone) is answered by a new inbox, so that the server drops the old requests and the
limit holds. There is no task: the loop runs when the next message is asked for.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from nats.aio.msg import Msg

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.jetstream.api import NS, call
from eventlog.jetstream.connection import Link, Subscription
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import ref_of

logger = logging.getLogger(__name__)

PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
"""The server says every so often that a waiting request is known, in seconds."""

SILENCE_S = 2.5 * HEARTBEAT_S
"""Silence after which a waiting request is taken for lost, in seconds."""

RETRY_S = 0.1
ACK_PENDING_MAX = 20_000
"""The most unanswered messages of one queue over all processes."""

PLAIN_ACK_TOKENS = 9
"""`$JS.ACK.<stream>.<consumer>.<delivered>...` has 9 tokens; with a domain 11 or more (ADR-15)."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which durable consumer to take from, and how answers work there."""

    kind: str
    durable: str
    filter: str
    ack_wait_s: float
    confirm: bool
    """Whether an ack waits until the server has carried it out."""
    idle_s: float | None = None
    """How long it stays when nobody takes from it; None: for good."""


class PulledDelivery:
    """One message, held until it is answered."""

    __slots__ = ("_pull", "_reply", "attempt", "data", "deadline", "ref")

    def __init__(self, pull: "Pull", msg: Msg, deadline: float) -> None:
        tokens = msg.reply.split(".")
        self._pull = pull
        self._reply = msg.reply
        self.ref: RunRef = ref_of(msg.subject)
        self.data: bytes = msg.data
        self.attempt: int = int(tokens[4 if len(tokens) == PLAIN_ACK_TOKENS else 6])
        self.deadline = deadline

    async def ack(self) -> None:
        """Done. When the server does not hear of it, the message comes again; that is normal."""
        await self._answer(b"+ACK", confirm=self._pull.source.confirm)

    async def retry(self, delay_s: float) -> None:
        """Deliver it again after a while."""
        body = b'-NAK {"delay": %d}' % max(1, int(delay_s * NS))
        await self._answer(body, confirm=False)

    async def progress(self) -> None:
        """Do not deliver it again yet."""
        self.deadline = self._pull.deadline()
        try:
            await self._pull.link.publish(self._reply, b"+WPI")
        except Unavailable:
            logger.debug("could not ask for more time for run %r", self.ref.run)

    async def _answer(self, body: bytes, *, confirm: bool) -> None:
        try:
            if confirm:
                await self._pull.link.request(self._reply, body)
            else:
                await self._pull.link.publish(self._reply, body)
        except Unavailable:
            logger.debug("an answer to a delivery was lost, run %r comes again", self.ref.run)
        finally:
            self._pull.release(self)


class Pull:
    """The messages of one consumer, as an endless async iterator."""

    def __init__(self, streams: Streams, source: Source, in_flight_max: int) -> None:
        self.link: Link = streams.link
        self.source = source
        self._streams = streams
        self._max = in_flight_max
        self._stream: str = streams.names.stream(source.kind)
        self._held: set[PulledDelivery] = set()
        self._ready: deque[PulledDelivery] = deque()
        self._asked = 0
        self._heard = False
        self._fresh = False
        self._declared = False
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._wake = asyncio.Event()
        self._time = asyncio.get_running_loop().time

    def __aiter__(self) -> "Pull":
        """Itself."""
        return self

    async def __anext__(self) -> PulledDelivery:
        """The next message, however long it takes."""
        while True:
            try:
                if not self._fresh:
                    await self._begin()
                await self._top_up()
            except Unavailable as away:
                logger.debug("queue %s: %s", self.source.durable, away)
                self._fresh = False
                await asyncio.sleep(RETRY_S)
                continue
            while self._ready:
                delivery = self._ready.popleft()
                if delivery.deadline > self._time():
                    return delivery
                self.release(delivery)
            await self._wait()

    async def declare(self) -> None:
        """The consumer exists; its stream too.

        Raises:
            Unavailable: the server is away.
        """
        await self._streams.ensure(self.source.kind)
        name = self.source.durable
        config = {
            "durable_name": name,
            "name": name,
            "filter_subject": self.source.filter,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "ack_wait": int(self.source.ack_wait_s * NS),
            "max_deliver": -1,
            "max_ack_pending": ACK_PENDING_MAX,
        }
        if self.source.idle_s is not None:
            config["inactive_threshold"] = int(self.source.idle_s * NS)
        await call(
            self.link,
            f"CONSUMER.CREATE.{self._stream}.{name}.{self.source.filter}",
            {"stream_name": self._stream, "config": config},
        )
        self._declared = True

    def deadline(self) -> float:
        """Until when a message delivered or renewed now is ours."""
        return self._time() + self.source.ack_wait_s

    def release(self, delivery: PulledDelivery) -> None:
        """It is not held any more."""
        self._held.discard(delivery)
        self._wake.set()

    def doubt(self) -> None:
        """The server may not know our requests any more, nor our consumer."""
        self._fresh = False
        self._declared = False
        self._wake.set()

    async def end(self) -> None:
        """Take no more, and give back what nobody has looked at."""
        if self._subscription is not None:
            await self.link.unsubscribe(self._subscription, drain=True)
            self._subscription = None
        while self._ready:
            await self._ready.popleft().retry(0.0)

    async def _begin(self) -> None:
        self._fresh = True
        self._asked = 0
        if self._subscription is not None:
            await self.link.unsubscribe(self._subscription)
        if not self._declared:
            await self.declare()
        self._inbox = self.link.inbox()
        self._subscription = await self.link.subscribe(
            self._inbox, self._received, doubt=self.doubt
        )

    async def _top_up(self) -> None:
        free = self._max - len(self._held) - self._asked
        if free <= 0 or (self._asked and 2 * free < self._max):
            return
        self._asked += free
        body = orjson.dumps(
            {
                "batch": free,
                "expires": int(PULL_EXPIRES_S * NS),
                "idle_heartbeat": int(HEARTBEAT_S * NS),
            }
        )
        verb = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.source.durable}"
        await self.link.publish(verb, body, reply=self._inbox)

    async def _wait(self) -> None:
        self._wake.clear()
        self._heard = False
        try:
            async with asyncio.timeout(SILENCE_S):
                await self._wake.wait()
        except TimeoutError:
            if self._asked and not self._heard:
                self.doubt()
            now = self._time()
            self._held = {delivery for delivery in self._held if delivery.deadline > now}

    def _received(self, msg: Msg) -> None:
        self._heard = True
        headers = msg.headers
        status = headers.get("Status") if headers and not msg.data else None
        if status is None or msg.reply:
            self._asked = max(0, self._asked - 1)
            delivery = PulledDelivery(self, msg, self.deadline())
            self._held.add(delivery)
            self._ready.append(delivery)
            self._wake.set()
        elif status == "408" and headers is not None and "Nats-Pending-Messages" in headers:
            self._asked = max(0, self._asked - int(headers["Nats-Pending-Messages"]))
            self._wake.set()
        elif status != "100":
            self.doubt()


@asynccontextmanager
async def pull(streams: Streams, source: Source, in_flight_max: int) -> AsyncGenerator[Pull]:
    """Take messages while the context is open.

    Raises:
        Unavailable: the consumer could not be declared.
    """
    taking = Pull(streams, source, in_flight_max)
    await taking.declare()
    streams.link.on_up.append(taking.doubt)
    try:
        yield taking
    finally:
        streams.link.on_up.remove(taking.doubt)
        await taking.end()
