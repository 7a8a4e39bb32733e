"""Tells webhooks of events: in order, each at least once, and none is left out. Not HTTP itself.

Of all processes that do this one tells a hook at a time: whoever writes its place in the registry.
The place is written after each delivery, by compare and set, so a process that was overtaken stops
at its next one. What a process had delivered and not written down is delivered again, with the
same id.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from domain.envelope import Envelope, decode, event_json
from domain.errors import Conflict, IntegrityViolated, Unavailable
from domain.events import Event
from eventlog.owners import Owners, Whose
from eventlog.port import Backbone, Cursor, Stored
from gateway.webhooks.hooks import Hook, Hooks, Kept, Place
from gateway.webhooks.signing import DELIVERY, EVENT, SIGNATURE, signature

logger = logging.getLogger(__name__)

OK, MULTIPLE, GONE = 200, 300, 410


class Post(Protocol):
    """Sends one request, and follows no redirect."""

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer.

        Raises:
            Unavailable: there is none; the message says why.
        """
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things take, in seconds."""

    poll_s: float = 1.0  # how soon new events are seen
    look_s: float = 5.0  # how soon hooks are
    retry_s: float = 1.0  # before the second try; then twice as long each time
    retry_max_s: float = 300.0
    give_up_s: float = 86_400.0  # since the first failure: then the hook is disabled
    lease_s: float = 30.0  # how long a hook is a process's without a sign of it
    renew_s: float = 10.0


class Lost(Exception):
    """Another process tells this hook now, or it is gone."""


@dataclass(slots=True)
class Sender:
    """Tells all hooks of a deployment. `jitter` is a number from 0 to 1, another each time."""

    backbone: Backbone
    hooks: Hooks
    post: Post
    holder: str
    now_ms: Callable[[], int]
    jitter: Callable[[], float]
    patience: Patience = Patience()
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, asyncio.Task[None]])

    async def run(self) -> None:
        """Tell hooks until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    await self._look(tasks)
                except Unavailable as away:
                    logger.warning("webhooks wait: %s", away)
                await asyncio.sleep(self.patience.look_s)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        """Begin with hooks that nobody tells, end with those that are gone."""
        there = {kept.hook.id: kept for kept in await self.hooks.list()}
        for name, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[name]
            elif name not in there:
                task.cancel()
        for name, kept in there.items():
            if name not in self._tasks and self._free(kept.place):
                self._tasks[name] = tasks.create_task(self._serve(kept), name=f"webhook {name}")

    def _free(self, place: Place) -> bool:
        mine = place.holder in ("", self.holder)
        return not place.disabled and (mine or place.until_ms < self.now_ms())

    async def _serve(self, kept: Kept) -> None:
        """Tell one hook until it is another process's, disabled, or gone."""
        turn = Turn(self, kept, Owners(self.backbone.log))
        try:
            await turn.take()
            while True:
                if not await turn.page():
                    await turn.wait(self.patience.poll_s)
        except Lost:
            logger.info("webhook %s is no longer told from here", kept.hook.id)
        except Unavailable as away:
            logger.warning("webhook %s waits: %s", kept.hook.id, away)


@dataclass(slots=True)
class Turn:
    """A process's turn at one hook."""

    sender: Sender
    kept: Kept
    owners: Owners
    _renewed_ms: int = 0

    @property
    def place(self) -> Place:
        """Where it is, perhaps further than what is written down."""
        return self.kept.place

    async def take(self) -> None:
        """Be the one who tells it.

        Raises:
            Lost: somebody else is.
        """
        here = self.sender.backbone.log.incarnation
        place = self.place
        if place.incarnation != here:  # the log was made anew: from its beginning
            place = place.model_copy(update={"incarnation": here, "seq": 1, "event": 0})
        await self._write(place)

    async def page(self) -> bool:
        """Tell it of the next stored envelopes; whether there may be more.

        Raises:
            Lost: it is somebody else's, disabled, or gone.
            Unavailable: the log or the registry is away.
        """
        log, place = self.sender.backbone.log, self.place
        page = await log.read(after_seq=place.seq - 1, tenant=self.kept.hook.tenant)
        for stored in page.envelopes:
            await self._tell(stored)
            self._step(seq=stored.seq + 1, event=0)
            await self._renew()
        return page.more

    async def wait(self, seconds: float) -> None:
        """Let time pass, and stay the one who tells it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, self.sender.patience.renew_s))
            await self._renew()
        await self._renew()

    async def _tell(self, stored: Stored) -> None:
        try:
            envelope = decode(stored.data)
        except IntegrityViolated as damaged:
            logger.warning("webhook %s: %s", self.kept.hook.id, damaged)
            return
        first = self.place.event if stored.seq == self.place.seq else 0
        for index, event in enumerate(envelope.events):
            if index < first or not self.kept.hook.wants(event.type):
                continue
            whose = await self._whose(envelope)
            cursor = Cursor(self.place.incarnation, stored.seq, index)
            told: dict[str, Any] = {
                "run": stored.ref.run,
                "job": stored.ref.job,
                "expert": whose.expert,
                "parent": whose.parent,
                "version": envelope.version + index,
                "at_ms": envelope.at_ms,
                "event": event_json(event),
            }
            await self._deliver(cursor, event, orjson.dumps(told))
            done = {"failing_since_ms": None, "failures": 0, "problem": ""}
            where = {"seq": stored.seq, "event": index + 1}
            await self._write(self.place.model_copy(update=done | where))

    async def _whose(self, envelope: Envelope) -> Whose:
        try:
            return self.owners.known(envelope) or await self.owners.of(envelope)
        except IntegrityViolated:
            return Whose()  # the beginning of its run cannot be read

    async def _deliver(self, cursor: Cursor, event: Event, body: bytes) -> None:
        """Have it received, or the hook disabled."""
        self._step(seq=cursor.seq, event=cursor.event)
        hook, patience = self.kept.hook, self.sender.patience
        while True:
            problem = await self._try(hook, cursor, event, body)
            if problem is None:
                return
            now_ms = self.sender.now_ms()
            since_ms = self.place.failing_since_ms or now_ms
            failures = self.place.failures + 1
            over = now_ms - since_ms >= patience.give_up_s * 1000 or problem == str(GONE)
            failed = {
                "failing_since_ms": since_ms,
                "failures": failures,
                "problem": problem,
                "disabled": problem if over else "",
            }
            await self._write(self.place.model_copy(update=failed))
            if over:
                logger.error("webhook %s is disabled: %s", hook.id, problem)
                raise Lost
            wait_s = min(patience.retry_max_s, patience.retry_s * 2 ** min(failures - 1, 20))
            await self.wait(wait_s * (0.5 + 0.5 * self.sender.jitter()))

    async def _try(self, hook: Hook, cursor: Cursor, event: Event, body: bytes) -> str | None:
        """What went wrong, if anything did."""
        headers = headers_of(hook, str(cursor), event.type, self.sender.now_ms(), body)
        try:
            status = await self.sender.post(hook.url, headers, body)
        except Unavailable as failed:
            return str(failed)
        return None if OK <= status < MULTIPLE else str(status)

    def _step(self, **where: int) -> None:
        """Go on without writing it down."""
        place = self.place.model_copy(update=where)
        self.kept = self.kept.model_copy(update={"place": place})

    async def _renew(self) -> None:
        if self.sender.now_ms() - self._renewed_ms >= self.sender.patience.renew_s * 1000:
            await self._write(self.place)

    async def _write(self, place: Place) -> None:
        """Write the place down as this process's.

        Raises:
            Lost: another one has it, or the hook is gone.
            Unavailable: the registry is away.
        """
        now_ms = self.sender.now_ms()
        until_ms = now_ms + int(self.sender.patience.lease_s * 1000)
        place = place.model_copy(update={"holder": self.sender.holder, "until_ms": until_ms})
        hooks, hook = self.sender.hooks, self.kept.hook
        if self.kept.revision == 0 and await hooks.get(hook.tenant, hook.id) is None:
            raise Lost
        try:
            self.kept = await hooks.move(self.kept, place)
        except Conflict as conflict:
            raise Lost from conflict
        except Unavailable:
            found = await hooks.get(hook.tenant, hook.id)
            if found is None or found.place != place:
                raise
            self.kept = found
        self._renewed_ms = now_ms


def headers_of(hook: Hook, delivery: str, kind: str, now_ms: int, body: bytes) -> dict[str, str]:
    """The headers of a delivery."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "peritus-webhook/1",
        EVENT: kind,
        DELIVERY: delivery,
        SIGNATURE: signature(hook.secret, now_ms // 1000, body),
    }


async def send_test(hook: Hook, post: Post, delivery: str, now_ms: int) -> int:
    """Send something that is no event of any run; the status of the answer.

    Raises:
        Unavailable: there is none.
    """
    body = orjson.dumps({"event": {"type": "webhook.test.v1", "hook": hook.id}, "at_ms": now_ms})
    return await post(hook.url, headers_of(hook, delivery, "webhook.test.v1", now_ms, body), body)
