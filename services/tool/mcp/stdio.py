"""The transport of a server that is a process: a message a line, either way. Not the protocol.

One task reads both of its streams, one writes, one waits for its end. Whoever opened the transport
closes it in the same task: input ended, then SIGTERM, then SIGKILL, each after a bounded wait.
"""

import asyncio
import codecs
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio
from mcp.client import Transport
from mcp.shared.message import SessionMessage
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from services.tool.mcp.beside import beside
from services.tool.mcp.bounds import MIB, Bounds
from services.tool.mcp.light import NAME_CHARS_MAX
from services.tool.mcp.lines import VALUES_MAX, Lines, TooLong, has_too_many_values
from services.tool.mcp.pace import Pace
from services.tool.mcp.seam import Report
from services.worker.process import Chunk, Process

TAIL_CHARS = 2_000
"""How much of the end of stderr stands in a message about a server."""

SHOWN_CHARS = 200
"""How much of a line that is no message is shown."""

DROPPED_KEPT = 256

SLOW_S, REST = 0.01, 3
"""What nobody asked for and took so long to take apart is followed by a pause, so many times as
long: nothing else goes on here meanwhile."""

CLOSED = (anyio.BrokenResourceError, anyio.ClosedResourceError)


def over_process(
    start: Callable[[], Awaitable[Process]], bounds: Bounds, report: Report
) -> Transport:
    """A transport over a process that is started for it, and ended with it."""
    return _over_process(start, bounds, report)


@asynccontextmanager
async def _over_process(
    start: Callable[[], Awaitable[Process]], bounds: Bounds, report: Report
) -> AsyncGenerator[Any]:
    process = await start()
    try:
        with _Line(process, bounds, report) as line:
            async with beside() as tasks:
                reader = tasks.create_task(line.read(), name="mcp reads")
                writer = tasks.create_task(line.write(), name="mcp writes")
                watcher = tasks.create_task(line.watch(), name="mcp watches")
                try:
                    yield line.theirs
                finally:
                    line.close()
                    await _wind_down(process, writer, bounds)
                    # All of it is dead: so its output ends, and what was open for it is closed.
                    await asyncio.wait([reader, watcher], timeout=bounds.grace_s)
                    reader.cancel()
                    watcher.cancel()
    finally:
        await process.stop(bounds.grace_s)


async def _wind_down(process: Process, writer: "asyncio.Task[None]", bounds: Bounds) -> None:
    """End a server as the protocol has it, while its output is still read."""
    try:
        writer.cancel()  # it may wait for a server that does not read
        await asyncio.wait([writer])
        await process.close_stdin()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(bounds.grace_s):
                await process.wait()
    finally:
        await process.stop(bounds.grace_s)


class _Ended(Exception):
    """The connection is not to be gone on with; the message says why."""


class _Line:
    """What runs over the pipes of one server."""

    def __init__(self, process: Process, bounds: Bounds, report: Report) -> None:
        self._process = process
        self._bounds = bounds
        self._report = report
        self._lines = Lines(bounds.line_bytes_max)
        self._pace = Pace(bounds.unasked_per_s)
        self._pace_of_stderr = Pace(bounds.stderr_bytes_per_s)
        self._to_session, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        writing, self._from_session = anyio.create_memory_object_stream[SessionMessage](0)
        self.theirs = (reading, writing)
        self._stderr = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail = ""
        self._garbage = 0
        self._asked: set[str] = set()
        """Requests of the server that have no answer of ours."""
        self._answered = asyncio.Event()
        self._sent: set[str] = set()
        """Requests of ours that have no answer of the server."""
        self._dropped: deque[str] = deque(maxlen=DROPPED_KEPT)
        """Those that nobody waits for any more: a late answer to one is nothing special."""
        self._heard = True
        """Whether somebody still hears the server: else its output is only read away."""
        self._read = asyncio.Event()
        self._ended = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (*self.theirs, self._to_session, self._from_session):
            stream.close()

    def close(self) -> None:
        """Nobody hears the server any more: what it still prints is read away."""
        garbage = f"{self._garbage} of its lines were no messages" if self._garbage else ""
        tail = f"the end of its stderr: {self._tail.strip()}" if self._tail.strip() else ""
        self._report.detail = "; ".join(part for part in (garbage, tail) if part)
        self._heard = False
        self._answered.set()
        self._to_session.close()
        self._from_session.close()  # what the session still wants to say is not waited for

    async def read(self) -> None:
        """Read all the server prints, until it ends; a session hears its messages."""
        try:
            async for chunk in self._process.output():
                try:
                    await self._take(chunk)
                except (_Ended, TooLong) as error:
                    self._end(str(error) or self._too_long())
        except (OSError, ValueError) as error:
            self._end(f"its output cannot be read: {error}")
        self._read.set()
        with contextlib.suppress(TimeoutError):  # most often because it ended, which tells more
            async with asyncio.timeout(self._bounds.grace_s):
                await self._ended.wait()
        self._end("it closed its output")

    async def write(self) -> None:
        """Write what the session says, until it says no more or the server does not read."""
        try:
            async for item in self._from_session:
                self._note(item.message)
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                await self._process.write(text.encode() + b"\n")
        except OSError:
            await self._settled()
            self._end("it does not read its input any more")
        except ValueError as error:
            self._end(f"a message to it cannot be written: {error}")
        except CLOSED:
            pass  # the connection is over, which somebody else has said

    async def watch(self) -> None:
        """Wait for the end of the process, and say it once what it printed was read."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._bounds.grace_s):
                await self._read.wait()
        self._end(f"it ended with exit code {code}")
        self._ended.set()

    async def _settled(self) -> None:
        """Let a server that ended say so by itself: its exit code tells more than a broken pipe."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._bounds.grace_s):
                await self._ended.wait()

    async def _take(self, chunk: Chunk) -> None:
        if chunk.stream == "stderr":
            text = self._stderr.decode(chunk.data)
            self._tail = (self._tail + text)[-TAIL_CHARS:]
            self._report.say(text)
            await self._pace_of_stderr.step(len(chunk.data))
            return
        if self._heard:
            for line in self._lines.feed(chunk.data):
                if line.strip():
                    await self._hear(line)

    async def _hear(self, line: bytes) -> None:
        """Pass a line on as a message, if it is one that may come now.

        Raises:
            _Ended: the connection is not to be gone on with.
        """
        if has_too_many_values(line):
            too_many = f"it sent a message of more than {VALUES_MAX} values"
            raise _Ended(too_many)
        begun = asyncio.get_running_loop().time()
        message = _message(line)
        took_s = asyncio.get_running_loop().time() - begun
        if took_s > SLOW_S and not isinstance(message, JSONRPCResponse | JSONRPCError):
            await asyncio.sleep(took_s * REST)
        if message is None or not self._expected(message):
            await self._pace.step()
            self._garbage += 1
            shown = line[:SHOWN_CHARS].decode("utf-8", "replace")
            self._report.say(f"[not a message] {shown}\n")
            return
        if isinstance(message, JSONRPCRequest):
            await self._room()
            self._asked.add(str(message.id))
        if not isinstance(message, JSONRPCResponse | JSONRPCError):
            await self._pace.step()
        try:
            await self._to_session.send(SessionMessage(message))
        except CLOSED:
            self._heard = False

    def _expected(self, message: JSONRPCMessage) -> bool:
        """Whether a message means anything: answers to nothing, and second ones, do not."""
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            if str(message.id) in self._dropped:
                self._dropped.remove(str(message.id))
                return True
            known = str(message.id) in self._sent
            self._sent.discard(str(message.id))
            return known
        if isinstance(message, JSONRPCRequest):
            name = str(message.id)
            return len(name) <= NAME_CHARS_MAX and name not in self._asked
        if message.method == "notifications/cancelled":  # and so is never answered
            self._asked.discard(str((message.params or {}).get("requestId")))
        return True

    async def _room(self) -> None:
        """Wait until the server has taken answers, when it asked too much at once.

        Raises:
            _Ended: it does not.
        """
        try:
            async with asyncio.timeout(self._bounds.stuck_s):
                while self._heard and len(self._asked) >= self._bounds.asked_at_once_max:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            message = f"it left {len(self._asked)} requests of its own unanswered, and asks on"
            raise _Ended(message) from None

    def _note(self, message: JSONRPCMessage) -> None:
        """Keep the account of what waits for an answer."""
        match message:
            case JSONRPCRequest():
                self._sent.add(str(message.id))
            case JSONRPCResponse() | JSONRPCError():
                self._asked.discard(str(message.id))
                self._answered.set()
            case JSONRPCNotification() if message.method == "notifications/cancelled":
                dropped = str((message.params or {}).get("requestId"))
                if dropped in self._sent:
                    self._sent.discard(dropped)
                    self._dropped.append(dropped)
            case _:
                pass

    def _too_long(self) -> str:
        limit = self._bounds.line_bytes_max
        size = f"{limit // MIB} MiB" if limit >= MIB else f"{limit} bytes"
        return f"it sent a message of more than {size}"

    def _end(self, why: str) -> None:
        """Have the session see the end of the connection; the first reason stands."""
        if self._heard and not self._report.ended:
            self._report.ended = why
        self.close()


def _message(line: bytes) -> JSONRPCMessage | None:
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except (ValueError, RecursionError):
        return None
