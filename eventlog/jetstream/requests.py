"""Request and reply between workers over core NATS. Not durable: COMMANDS is."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from domain.errors import PeritusError, Unavailable
from domain.ids import RunRef
from eventlog.jetstream.connection import Link
from eventlog.jetstream.subjects import Names, ref_of
from eventlog.jetstream.tasks import background
from eventlog.port import Answer, Topic

logger = logging.getLogger(__name__)

QUEUE = "answers"
FAILED_HEADER = "Peritus-Failed"
AT_ONCE_MAX = 256
"""Questions in work in one process; further ones are refused and take the durable way."""


class JetStreamRequests:
    """Questions and answers of one deployment."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

    async def ask(
        self, ref: RunRef, data: bytes, *, timeout_s: float, topic: Topic = "ask"
    ) -> bytes | None:
        """One answer, or None when nobody answered in time.

        Raises:
            TooLarge: the question is above the payload limit.
        """
        if not self._link.connected:
            return None
        try:
            answer = await self._link.request(
                self._names.run(topic, ref), data, timeout_s=timeout_s
            )
        except Unavailable:
            return None
        if answer.headers and FAILED_HEADER in answer.headers:
            return None
        return answer.data

    @asynccontextmanager
    async def serve(self, answer: Answer, *, topic: Topic = "ask") -> AsyncGenerator[None]:
        """Answer questions while the context is open; each question goes to one server.

        Answers still in work when it closes are cancelled: who asked takes the durable way.

        Raises:
            Unavailable: there is no connection.
        """
        at_work: set[asyncio.Task[None]] = set()
        async with background() as group:

            def take(msg: Msg) -> None:
                if len(at_work) < AT_ONCE_MAX:
                    task = group.create_task(self._reply(msg, answer))
                    at_work.add(task)
                    task.add_done_callback(at_work.discard)

            everyone = self._names.runs(topic, RunRef("*", "*", "*"))
            subscription = await self._link.subscribe(everyone, take, queue=QUEUE)
            try:
                await self._link.flush()
                yield
            finally:
                await self._link.unsubscribe(subscription)
                for task in at_work:
                    task.cancel()

    async def _reply(self, msg: Msg, answer: Answer) -> None:
        try:
            data, headers = await answer(ref_of(msg.subject), msg.data), None
        except PeritusError as failed:
            logger.info("a question about %r was not answered: %s", msg.subject, failed)
            data, headers = b"", {FAILED_HEADER: "1"}
        try:
            await self._link.publish(msg.reply, data, headers=headers)
        except PeritusError as lost:
            logger.info("an answer about %r was lost: %s", msg.subject, lost)
