"""The base skill as a worker offers it: seats for the tools, and a count of connections.

Not the tools, and not who may run what: admission is the keeper's.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from domain.base_tools import base_tool
from domain.decisions.tool_calls import ADD_FROM_CONFIG
from domain.ids import RunRef, step_of
from domain.redaction import Redactor
from domain.tools import Safety
from services.sandbox.counting import counted
from services.sandbox.due import Due
from services.sandbox.live import Denials
from services.sandbox.merging import MERGE, Merging
from services.sandbox.quotas import within_quota
from services.sandbox.room import Seat
from services.sandbox.rooms import Rooms, Whose
from services.worker.toolbox import OnOutput, ToolBox, ToolCall, ToolResult


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
        remote: ToolBox,
    ) -> None:
        """`tools` sit on `seats`; what writes waits for snapshots that are `due`.

        `remote` has the tools of skills that are processes.
        """
        self._remote = remote
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
        if call.remote:
            return await self._remote.call(call, on_output)
        whose = Whose(call.ref, call.expert, call.definition, call.parent)
        allowance = await self._rooms.allowance(whose)
        writes = _may_write(call.tool) and not allowance.read_only
        async with self._rooms.suite(whose, allowance) as suite:
            if writes:
                await self._due.over(call.ref)
            box = self._rooms.box(suite, call.ref, allowance)
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
            result = await counted(box, result, call.ref, self._redactor())
            return await self._rooms.told(suite, whose, result)

    async def _run(self, call: ToolCall, seat: Seat, on_output: OnOutput) -> ToolResult:
        if call.tool == MERGE:
            return await self._merging.call(call, seat.room, read_only=seat.read_only)
        return await self._tools.call(call, on_output)


def _may_write(tool: str) -> bool:
    known = base_tool(tool)
    if tool == ADD_FROM_CONFIG:
        return False
    return known is None or known.entry.safety is not Safety.READ_ONLY
