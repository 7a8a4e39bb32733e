"""One connection to a server: a task of its own opens it, serves its requests, and closes it.

No cancel scope crosses tasks (C11): requests are queued, and each runs in a task below the one that
owns the session. Who waits for an answer may leave at any time; the server is told, by that task.
Not which connections there are, and not when one is opened again: the pool knows that.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import mcp_types as types
from mcp.client import ClientSession, IncomingMessage, Transport

from domain.errors import Unavailable
from services.tool.mcp.asking import Asking
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.offers import Offer
from services.tool.mcp.seam import Lost, NoAnswer, NotOpened, Refused, Report, Server
from services.tool.mcp.session import PEER, Dispatcher, answered, begin
from services.tool.mcp.turns import CURRENT, OpenCall, Turns
from services.worker.patience import Patience
from services.worker.skills import Asks

logger = logging.getLogger(__name__)

T = TypeVar("T")

OVER_S = 1.0
"""How long an answer that says "closed" may be ahead of the end of the connection itself."""

SAID_CHARS_MAX = 4_000

CLOSED = "Connection closed"
"""What the SDK answers for a server that is gone; one that is there may use its code, too."""

IDLE = "it was not used for a while"

Ask = Callable[[ClientSession], Awaitable[T]]
"""Sends one request in a session, and gives its answer."""


class Job(Generic[T]):
    """A request that somebody waits for."""

    def __init__(self, ask: Ask[T], call: OpenCall | None) -> None:
        self.ask = ask
        self.call = call
        self.answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def fail(self, error: Exception) -> None:
        """Say why there is no answer; harmless where nobody waits any more."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def drop(self) -> None:
        """Nobody waits for it any more: the server is told."""
        self.answer.cancel()
        if self.task is not None:
            self.task.cancel()


class Connection:
    """A session with a server, from `start` until `ended` says why it is over."""

    def __init__(self, server: Server, turns: Turns, asks: Asks, bounds: Bounds) -> None:
        self.server = server
        self.turns = turns
        self.asks = asks
        self.bounds = bounds
        self.offer = Offer()
        """What it offers, as far as it was asked."""
        self.changed: set[str] = set()
        """The parts of that which are to be asked for again before they are relied on."""
        self.listing = asyncio.Lock()
        self.ended = ""
        """Why it is over; empty while it is not."""
        self.failed = False
        """Whether it ended because something is wrong with the server."""
        self.doubtful = False
        """Whether somebody left without an answer: it may hang."""
        self._asking = Asking(server, turns, asks)
        self._report = Report(say=turns.say)
        self._jobs: asyncio.Queue[Job[Any] | None] = asyncio.Queue()
        self._open: set[Job[Any]] = set()
        self._opened: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._bound: asyncio.Timeout | None = None
        self._problem: Exception | None = None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to open it."""
        self._task = tasks.create_task(self._run(), name=f"mcp {self.server.name}")
        self._task.add_done_callback(self._finish)  # also of one that was cancelled before it began

    async def opened(self) -> ClientSession:
        """The session, for what was agreed on when it began.

        Raises:
            NotOpened: there is none.
            Unavailable: the server could not be started or reached now.
        """
        return await asyncio.shield(self._opened)

    async def request(self, ask: Ask[T], timeout_s: float, call: OpenCall | None = None) -> T:
        """Have the server answer a request; leaving tells it that nobody waits any more.

        Raises:
            NotOpened: the connection is over; the request was not sent.
            Lost: the connection ended while the server had the request.
            NoAnswer: it did not answer in time.
            Refused: it answered with an error.
            Unreadable: its answer is none.
        """
        if self.ended:
            raise NotOpened(self.ended)
        job = Job(ask, call)
        self._jobs.put_nowait(job)
        try:
            patience = None if call is None else call.call.patience
            async with (patience or Patience(timeout_s)).scope():
                return await job.answer
        except TimeoutError:
            message = f"it did not answer within {timeout_s:g} s"
            raise NoAnswer(message) from None
        finally:
            if not job.answer.done() or job.answer.cancelled():
                self.doubtful = True
                job.drop()

    async def ping(self) -> bool:
        """Whether it is still there."""
        try:
            await self.request(_ping, self.bounds.ping_s)
        except (NotOpened, Lost, NoAnswer):
            return False
        except Refused:  # it does not know the request, but it is there
            return True
        return True

    async def close(self, why: str) -> None:
        """End it and all it started; returns when nothing of it is left."""
        self._end(why)
        self._jobs.put_nowait(None)
        if self._task is None:
            return
        self._hurry(self._task)
        limit = self.bounds.close_s + 3 * self.bounds.grace_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._gone.wait()
        if not self._gone.is_set():
            self._task.cancel()
            await self._gone.wait()

    def _hurry(self, task: "asyncio.Task[None]") -> None:
        """Have the opening end, if it is still under way; what is being undone is let be."""
        if self._bound is None:
            task.cancel()
        elif not self._opened.done() and self._problem is None and not self._bound.expired():
            self._bound.reschedule(asyncio.get_running_loop().time())

    async def gone(self) -> None:
        """Wait until nothing of it is left, once it has ended or is ending."""
        await self._gone.wait()

    async def _run(self) -> None:
        """Open it, serve it, close it: all in this task."""
        try:
            async with asyncio.timeout(self.bounds.open_s) as bound:
                self._bound = bound
                await self._hold(self.server.connect(self._report), bound)
        except TimeoutError:
            late = f"it did not begin a session within {self.bounds.open_s:g} s"
            self._problem = NotOpened(late if not self._opened.done() else "it was slow to close")
        except (NotOpened, Unavailable) as error:
            self._problem = error
        except Exception as error:  # noqa: BLE001 - the boundary to the SDK and to transports
            logger.info("connection to %s broke: %r", self.server.name, error)
            self._problem = NotOpened(f"its connection broke: {type(error).__name__}")

    async def _hold(self, transport: Transport, bound: asyncio.Timeout) -> None:
        async with transport as (reading, writing):
            session = ClientSession(
                dispatcher=Dispatcher(reading, writing, self._on_over, self.bounds, self._report),
                client_info=PEER,
                elicitation_callback=self._asking.elicit,
                sampling_callback=self._asking.sample if self.server.sampling else None,
                list_roots_callback=self._asking.roots if self.server.folder else None,
                logging_callback=self._on_log,
                message_handler=self._on_message,
            )
            async with session:  # an error that leaves it would be one of a group
                try:
                    await begin(session, self.server.handshake)
                except NotOpened as error:
                    self._problem = error
                    return
                bound.reschedule(None)
                self._opened.set_result(session)
                await self._serve(session, bound)

    async def _serve(self, session: ClientSession, bound: asyncio.Timeout) -> None:
        """Run what is asked for until the connection is to end.

        Whoever waits for what is ended here hears why in `_finish`.
        """
        async with asyncio.TaskGroup() as tasks:
            while job := await self._next():
                if not job.answer.done():
                    self._open.add(job)
                    job.task = tasks.create_task(self._do(session, job))
            bound.reschedule(asyncio.get_running_loop().time() + self.bounds.close_s)
            left = [job.task for job in self._open if job.task is not None]
            if left and self._over.is_set():  # the last the server said may be an answer
                await asyncio.wait(left, timeout=OVER_S)
            for task in left:
                task.cancel()

    async def _next(self) -> Job[Any] | None:
        """The next request; None when there is to be none."""
        while not self.ended and not self._over.is_set():
            try:
                async with asyncio.timeout(self.bounds.idle_s):
                    return await self._jobs.get()
            except TimeoutError:
                if not self._open:
                    self._end(IDLE)
        return None

    async def _do(self, session: ClientSession, job: Job[Any]) -> None:
        CURRENT.set(job.call)
        try:
            value = await job.ask(session)
        except Refused as error:
            if await self._is_over(error):
                return  # it stays open: `_finish` says what became of it
            # A transport may say so of one request, while the connection goes on.
            lost = self._report.tells_lost and error.code == types.CONNECTION_CLOSED
            job.fail(Lost(str(error)) if lost else error)
        except asyncio.CancelledError:
            if job.answer.done():  # dropped by whoever waited
                self._open.discard(job)
            raise
        except Exception as error:  # noqa: BLE001 - it is raised again where the answer is awaited
            job.fail(error)
        else:
            if not job.answer.done():
                job.answer.set_result(value)
        self._open.discard(job)

    async def _is_over(self, error: Refused) -> bool:
        if error.code != types.CONNECTION_CLOSED or str(error) != CLOSED:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OVER_S):
                await self._over.wait()
        return self._over.is_set()

    def _on_over(self) -> None:
        self._over.set()
        self._jobs.put_nowait(None)

    async def _on_log(self, params: types.LoggingMessageNotificationParams) -> None:
        text = params.data if isinstance(params.data, str) else json.dumps(params.data)
        self.turns.say(f"[{params.level}] {text[:SAID_CHARS_MAX]}\n")

    async def _on_message(self, message: IncomingMessage) -> None:
        match message:
            case types.ToolListChangedNotification():
                self.changed.add("tools")
            case types.PromptListChangedNotification():
                self.changed.add("prompts")
            case types.ResourceListChangedNotification():
                self.changed.add("resources")
            case _:
                pass

    def _end(self, why: str, *, failed: bool = False) -> None:
        if not self.ended:
            self.ended, self.failed = why, failed

    def _finish(self, task: "asyncio.Task[None]") -> None:
        """Have everybody who waits hear that it is over, and why."""
        del task
        problem = self._problem
        why = self._report.ended or (str(problem) if problem else "its connection ended")
        if self._report.detail:
            why = f"{why}; {self._report.detail}"
        self._end(why, failed=True)
        if not self._opened.done():
            if isinstance(problem, Unavailable):
                self._opened.set_exception(problem)
            else:
                self._opened.set_exception(NotOpened(self.ended))
            self._opened.exception()  # it may be that nobody waits
        while not self._jobs.empty():
            waiting = self._jobs.get_nowait()
            if waiting is not None:
                waiting.fail(NotOpened(self.ended))
        lost = NotOpened(self.ended) if self._report.not_run else Lost(self.ended)
        for job in self._open:
            job.fail(lost)
        self._open.clear()
        self._gone.set()


async def _ping(session: ClientSession) -> types.EmptyResult:
    return await answered(session.send_ping())
