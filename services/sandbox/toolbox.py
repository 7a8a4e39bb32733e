"""The base skill as a worker offers it: seats, a count of connections, no secret in what comes out.

Not the tools, and not who may run what: admission is the keeper's.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

from domain.base_tools import base_tool
from domain.content import TextPart
from domain.ids import RunRef
from domain.record import canonical
from domain.redaction import Redactor, TextStream
from domain.sandbox import EGRESS_ROWS_MAX, EgressRow
from domain.tools import Safety
from services.sandbox.box import Box
from services.sandbox.live import Denials
from services.sandbox.merging import MERGE, Merging
from services.sandbox.room import Seat
from services.sandbox.rooms import Rooms, Suite, Whose
from services.sandbox.snapshotting import Snapshotting
from services.worker.toolbox import OnOutput, ToolBox, ToolCall, ToolFile, ToolResult

WITHHELD_FILE = "The file holds secret {name!r}, so it is not shown."


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
        snapshotting: Snapshotting,
        merging: Merging,
        denials: Denials,
        redactor: Callable[[], Redactor],
    ) -> None:
        """`tools` sit on `seats`; `redactor` is asked for with each call, as secrets get known."""
        self._rooms = rooms
        self._tools = tools
        self._seats = seats
        self._snapshotting = snapshotting
        self._merging = merging
        self._denials = denials
        self._redactor = redactor

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            Unavailable: there is no sandbox or no workspace; the call did not run.
        """
        whose = Whose(call.ref, call.expert, call.definition, call.parent)
        allowance = await self._rooms.allowance(whose)
        if _may_write(call.tool):
            self._snapshotting.begins(call.ref, call.call)
        async with self._rooms.suite(whose, allowance) as suite:
            box = self._rooms.box(suite, whose, allowance)
            box.on_denied = partial(self._denials.say, call.ref, call.call)
            seat = Seat(suite.room, call.ref.run, allowance.read_only, box.sandbox)
            with self._seats.taken(call, seat):
                result = await self._run(call, suite, on_output)
            return self._clean(await _counted(box, result))

    async def _run(self, call: ToolCall, suite: Suite, on_output: OnOutput) -> ToolResult:
        if call.tool == MERGE:
            return await self._merging.call(call, suite.room)
        stream = TextStream(self._redactor)

        async def hear(text: str) -> None:
            if shown := stream.feed(text):
                await on_output(shown)

        result = await self._tools.call(call, hear)
        if rest := stream.end():
            await on_output(rest)
        return result

    def _clean(self, result: ToolResult) -> ToolResult:
        """The result without secrets: every form of every value that is known here."""
        redactor = self._redactor()
        kept: list[ToolFile] = []
        notes: list[TextPart] = []
        for file in result.files:
            found = redactor.finds(file.data)
            if found is None:
                kept.append(replace(file, name=redactor.text(file.name)))
            else:
                notes.append(TextPart(text=WITHHELD_FILE.format(name=found)))
        whole = result.full_output
        return replace(
            result,
            content=(*redactor.value(result.content), *notes),
            full_output=None if whole is None else redactor.data(whole),
            files=tuple(kept),
            egress=redactor.value(result.egress),
            full_egress=None if result.full_egress is None else redactor.data(result.full_egress),
        )


def _may_write(tool: str) -> bool:
    known = base_tool(tool)
    return known is None or known.entry.safety is not Safety.READ_ONLY


async def _counted(box: Box, result: ToolResult) -> ToolResult:
    """The result with the connections since the last one; all of them, where they are many."""
    rows: tuple[EgressRow, ...] = (await box.take()).rows
    if not rows:
        return result
    full = canonical(rows) if len(rows) > EGRESS_ROWS_MAX else None
    return replace(result, egress=rows[:EGRESS_ROWS_MAX], full_egress=full)
