"""What a server asks us for is light, and is not asked faster than it takes our answers.

A question is kept as long as nobody has answered it, and a server may ask many. So each is bounded,
and so is their number, whatever carries them; beside the bounds on how much is read at once.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self, cast

from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from services.tool.mcp.bounds import Bounds
from services.tool.mcp.pace import Pace
from services.tool.mcp.seam import Report

QUESTION_VALUES_MAX = 10_000
QUESTION_CHARS_MAX = 1_000_000
NAME_CHARS_MAX = 1_000
"""Of an id, or of the name of a method."""

WAITING_MAX = 256
"""Questions of one server that have no answer. A transport may take fewer at once."""


class Light:
    """The stream a session reads, as the transport has it, with what a server asks bounded."""

    def __init__(self, inner: Any, bounds: Bounds, report: Report) -> None:  # noqa: ANN401 - each transport has its own kind
        self._inner = inner
        self._stuck_s = bounds.stuck_s
        self._pace = Pace(bounds.unasked_per_s)
        self._report = report
        self._waiting: Counter[str] = Counter()
        self._answered = asyncio.Event()

    @property
    def last_context(self) -> Any:  # noqa: ANN401
        """What the transport says of the latest message, if it does."""
        return getattr(self._inner, "last_context", None)

    def answered(self, name: object) -> None:
        """A question has its answer, or needs none any more."""
        key = str(name)
        if self._waiting[key] > 1:
            self._waiting[key] -= 1
        else:
            del self._waiting[key]
        self._answered.set()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._inner.__aexit__(*raised)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        while True:
            item = await anext(self._inner)
            message = getattr(item, "message", None)
            if isinstance(message, JSONRPCNotification | JSONRPCRequest):
                await self._pace.step()
                if len(message.method) > NAME_CHARS_MAX:
                    continue
            if isinstance(message, JSONRPCNotification):
                if message.method == "notifications/cancelled":
                    self.answered((message.params or {}).get("requestId"))
            elif isinstance(message, JSONRPCRequest):
                if len(str(message.id)) > NAME_CHARS_MAX:
                    continue
                await self._room()
                self._waiting[str(message.id)] += 1
                if is_heavy(message.params):
                    message.params = None  # the session answers that something is missing
            return item

    async def _room(self) -> None:
        try:
            async with asyncio.timeout(self._stuck_s):
                while self._waiting.total() >= WAITING_MAX:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            why = f"it left answers to {WAITING_MAX} of its own requests, and asks on"
            self._report.ended = self._report.ended or why
            raise StopAsyncIteration from None


class Answers:
    """The stream a session writes to, as the transport has it, which says what has left."""

    def __init__(self, inner: Any, questions: Light) -> None:  # noqa: ANN401 - as above
        self._inner = inner
        self._questions = questions

    async def send(self, item: SessionMessage) -> None:
        """Hand a message to the transport; waits until it is taken."""
        await self._inner.send(item)
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._questions.answered(item.message.id)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._inner.__aexit__(*raised)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else such a stream has
        return getattr(self._inner, name)


def is_heavy(params: Mapping[str, Any] | None) -> bool:
    """Whether a question has more values or text than any that could be put to somebody."""
    values, chars, todo = 0, 0, list[object]([params])
    while todo:
        value = todo.pop()
        values += 1
        if isinstance(value, str):
            chars += len(value)
        elif isinstance(value, dict):
            table = cast("dict[str, object]", value)
            chars += sum(map(len, table))
            todo.extend(table.values())
        elif isinstance(value, list):
            todo.extend(cast("list[object]", value))
        if values + len(todo) > QUESTION_VALUES_MAX or chars > QUESTION_CHARS_MAX:
            return True
    return False
