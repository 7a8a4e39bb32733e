"""The base skill as a worker offers it: seats for the tools, and a count of connections.

Not the tools, and not who may run what: admission is the keeper's.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

from domain.base_tools import base_tool
from domain.content import TextPart
from domain.decisions.tool_calls import ADD_FROM_CONFIG
from domain.errors import Unavailable
from domain.ids import RunRef, step_of
from domain.record import canonical
from domain.redaction import Redactor
from domain.sandbox import EGRESS_ROWS_MAX, EgressRow
from domain.tools import Safety
from services.sandbox.box import Box
from services.sandbox.due import Due
from services.sandbox.egress.tally import Tally
from services.sandbox.hosts import clean_row
from services.sandbox.live import Denials
from services.sandbox.merging import MERGE, Merging
from services.sandbox.quotas import within_quota
from services.sandbox.room import Seat
from services.sandbox.rooms import Rooms, Whose
from services.worker.toolbox import OnOutput, ToolBox, ToolCall, ToolResult

logger = logging.getLogger(__name__)

LOST = EgressRow(host="", port=0, verdict="failed", reason="counts_lost", connections=0)
"""The proxy died: what it had counted since the last outcome is not known."""


class Seats:
    """The seats of calls that are at work: taken by the tool box around the tools, used by them."""

    def __init__(self) -> None:
        self._taken: dict[tuple[RunRef, str], Seat] = {}

    @contextmanager
    def taken(self, call: ToolCall, seat: Seat) -> Generator[None]:
        """Have a call find its seat."""
        self._taken[call.ref, call.call] = seat
        try:
            yield
        finally:
            del self._taken[call.ref, call.call]

    @asynccontextmanager
    async def of(self, call: ToolCall) -> AsyncGenerator[Seat]:
        """The seat of a call."""
        yield self._taken[call.ref, call.call]


class KeptToolBox:
    """Fills the port `ToolBox`."""

    def __init__(
        self,
        rooms: Rooms,
        tools: ToolBox,
        seats: Seats,
        *,
        merging: Merging,
        denials: Denials,
        due: Due,
        redactor: Callable[[], Redactor],
    ) -> None:
        """`tools` sit on `seats`; what writes waits for snapshots that are `due`."""
        self._redactor = redactor
        self._rooms = rooms
        self._tools = tools
        self._seats = seats
        self._merging = merging
        self._denials = denials
        self._due = due

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            Unavailable: there is no sandbox or no workspace; the call did not run.
        """
        whose = Whose(call.ref, call.expert, call.definition, call.parent)
        allowance = await self._rooms.allowance(whose)
        writes = _may_write(call.tool) and not allowance.read_only
        async with self._rooms.suite(whose, allowance) as suite:
            if writes:
                await self._due.over(call.ref)
            box = self._rooms.box(suite, whose, allowance)
            box.on_denied = partial(self._denials.say, call.ref, call.call)
            seat = Seat(suite.room, call.ref.run, allowance.read_only, box.sandbox)
            try:
                with self._seats.taken(call, seat):
                    work = partial(self._run, call, seat, on_output)
                    if writes:
                        result = await within_quota(suite.room, allowance.limits, call.tool, work)
                    else:
                        result = await work()
            finally:
                if writes:
                    suite.writers.end(call.ref.run, step_of(call.call), call.parent)
            result = await _counted(box, result, call.ref, self._redactor())
            news = await self._rooms.news(suite, whose)
            return _with_news(result, news) if news else result

    async def _run(self, call: ToolCall, seat: Seat, on_output: OnOutput) -> ToolResult:
        if call.tool == MERGE:
            return await self._merging.call(call, seat.room, read_only=seat.read_only)
        return await self._tools.call(call, on_output)


def _with_news(result: ToolResult, news: str) -> ToolResult:
    """A result that also says what has become of the files since the model last saw any."""
    return replace(result, content=(*result.content, TextPart(text=f"\n[{news}]")))


def _may_write(tool: str) -> bool:
    known = base_tool(tool)
    if tool == ADD_FROM_CONFIG:
        return False
    return known is None or known.entry.safety is not Safety.READ_ONLY


async def _counted(box: Box, result: ToolResult, ref: RunRef, redactor: Redactor) -> ToolResult:
    """The result with the connections since the last one; all of them, where they are many."""
    try:
        tally = await box.take()
    except Unavailable:  # the call has run, whatever became of the proxy
        tally = Tally(lost=True)
    for use in tally.uses:
        logger.info(
            "secret %s was put into %d requests (%s, %d) to %s by run %s",
            *(use.secret, use.times, use.method, use.status, use.host, ref.run),
        )
    rows = tuple(clean_row(redactor, row) for row in tally.rows)
    rows = (*rows, LOST) if tally.lost else rows
    if not rows:
        return result
    full = canonical(rows) if len(rows) > EGRESS_ROWS_MAX else None
    return replace(result, egress=rows[:EGRESS_ROWS_MAX], full_egress=full)
