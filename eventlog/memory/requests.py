"""Request and reply in memory: each question goes to one server, in turn. Not durable."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass

from domain.errors import PeritusError
from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.faults import Crashed, FaultPoint, Kind
from eventlog.memory.inbox import Inbox
from eventlog.memory.log import check_size
from eventlog.port import Answer, Topic

_LOST = (Kind.DROP, Kind.VANISH, Kind.REFUSE)


@dataclass(slots=True, eq=False)
class Question:
    """One question on its way, and where its answer goes."""

    ref: RunRef
    data: bytes
    topic: Topic
    answer: asyncio.Future[bytes]

    def settle(self, data: bytes) -> None:
        """The answer arrives; too late is nothing."""
        if not self.answer.done():
            self.answer.set_result(data)


class Desk:
    """The servers that answer now, taken in turn."""

    def __init__(self) -> None:
        self.servers: deque[Server] = deque()

    def post(self, question: Question) -> None:
        """Hand it to one server of its topic, if there is one; they take turns."""
        for server in self.servers:
            if server.topic == question.topic:
                server.inbox.put(question)
                self.servers.remove(server)
                self.servers.append(server)
                return

    def serves(self, topic: Topic) -> bool:
        """Whether somebody answers questions of a topic."""
        return any(server.topic == topic for server in self.servers)


class Server:
    """One `serve` of one client."""

    def __init__(self, client: Client, desk: Desk, answer: Answer, topic: Topic) -> None:
        self.topic = topic
        self.inbox: Inbox[Question] = Inbox(client)
        self._client = client
        self._desk = desk
        self._answer = answer
        self._tasks: dict[asyncio.Task[None], None] = {}

    def attach(self) -> None:
        """Take questions."""
        if self not in self._desk.servers:
            self._desk.servers.append(self)

    def detach(self) -> None:
        """The server no longer knows of it."""
        if self in self._desk.servers:
            self._desk.servers.remove(self)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Answer questions from now on, each in a task of its own."""
        self._keep(group.create_task(self._run(group)))

    def stop(self) -> None:
        """Answer no more; answers under way are dropped."""
        for task in list(self._tasks):
            task.cancel()

    async def _run(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._keep(group.create_task(self._reply(await self.inbox.get())))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _reply(self, question: Question) -> None:
        client = self._client
        with suppress(PeritusError):
            data = await self._answer(question.ref, question.data)
            if client.quiet:
                question.settle(data)
                return
            fault = await client.leave(FaultPoint.REPLY)
            if fault.kind not in (*_LOST, Kind.LOST_ACK):
                client.later(fault.delay_s, question.settle, data)
            client.arrive(FaultPoint.REPLY, fault)


class MemoryRequests:
    """`Requests` for one client."""

    def __init__(self, client: Client, desk: Desk) -> None:
        self._client = client
        self._desk = desk

    async def ask(
        self, ref: RunRef, data: bytes, *, timeout_s: float, topic: Topic = "ask"
    ) -> bytes | None:
        """One answer, or None when nobody answered in time."""
        client = self._client
        client.alive()
        check_size(data)
        question = Question(ref, data, topic, asyncio.get_running_loop().create_future())
        if client.quiet:
            if not self._desk.serves(topic):
                await asyncio.sleep(0)
                return None
            self._desk.post(question)
        else:
            fault = await client.leave(FaultPoint.REQUEST)
            if not self._desk.serves(topic) and fault.kind is Kind.NONE:
                await client.sleep(fault.delay_s)
                return None
            if fault.kind not in _LOST:
                client.later(fault.delay_s, self._desk.post, question)
            client.arrive(FaultPoint.REQUEST, fault)
        try:
            async with asyncio.timeout(timeout_s):
                return await client.wait(question.answer)
        except TimeoutError:
            return None

    def serve(self, answer: Answer, *, topic: Topic = "ask") -> AbstractAsyncContextManager[None]:
        """Answer questions while the context is open; each question goes to one server."""
        return self._serve(answer, topic)

    @asynccontextmanager
    async def _serve(self, answer: Answer, topic: Topic) -> AsyncGenerator[None]:
        server = Server(self._client, self._desk, answer, topic)
        key = self._client.register(server)
        try:
            async with asyncio.TaskGroup() as tasks:
                server.start(tasks)
                try:
                    yield
                finally:
                    server.stop()
        except BaseExceptionGroup as failed:
            if len(failed.exceptions) == 1 or failed.split(Crashed)[1] is None:
                raise failed.exceptions[0] from None
            raise
        finally:
            self._client.unregister(key)
