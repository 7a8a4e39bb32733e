"""The processes that runs keep beside their calls, by handle. Not the tools that use them.

They belong to a room and end with it, or with the worker: a handle is then unknown, and says so.
Their output is read all the time into a ring, so that no process ever waits for a model.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.errors import Unavailable
from domain.redaction import DataStream, Redactor
from services.sandbox.failures import Code, ToolError
from services.sandbox.port import Command
from services.sandbox.room import Room, Seat
from services.worker.process import Process

RUNNING_MAX = 8
"""How many processes of one run run at once."""

KEPT_MAX = 32
"""How many of one run are known, with those that have ended; the oldest of these are forgotten."""

RING_BYTES_MAX = 1024 * 1024
"""How much of the end of what a process printed is kept, in bytes."""


class Ring:
    """The last bytes of a stream without end; `total` counts them all."""

    def __init__(self, bytes_max: int = RING_BYTES_MAX) -> None:
        self._max = bytes_max
        self._kept = bytearray()
        self.total = 0

    @property
    def start(self) -> int:
        """The offset of the first byte that is kept."""
        return self.total - len(self._kept)

    def add(self, data: bytes) -> None:
        """Take in what comes next, at the cost of what came first."""
        self.total += len(data)
        self._kept += data
        if len(self._kept) > 2 * self._max:  # so that a byte is moved once, not every time
            del self._kept[: -self._max]

    def read(self, offset: int, bytes_max: int) -> tuple[int, bytes]:
        """Bytes from an offset on, or from the first one kept; and where they begin."""
        begin = min(max(offset, self.start), self.total)
        at = begin - self.start
        return begin, bytes(self._kept[at : at + bytes_max])


@dataclass(eq=False)
class Kept:
    """A process with a handle. `exit_code` is None while it runs, and when it was `lost`."""

    handle: str
    label: str
    process: Process
    output: Ring = field(default_factory=Ring)
    exit_code: int | None = None
    lost: bool = False  # nobody can say how it ended
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # of who writes to it
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.exit_code is None and not self.lost

    async def follow(self, redactor: Callable[[], Redactor]) -> None:
        """Read what it prints until it has ended.

        Each of its streams is cleaned by itself, before it is kept: whoever reads chooses where.
        """
        streams: dict[str, DataStream] = {}
        try:
            async for chunk in self.process.output():
                stream = streams.setdefault(chunk.stream, DataStream(redactor))
                self.output.add(stream.feed(chunk.data))
                await self._tell()
            for stream in streams.values():
                self.output.add(stream.end())
            self.exit_code = await self.process.wait()
        except (OSError, Unavailable):
            self.lost = True
        except asyncio.CancelledError:
            await self.process.stop(grace_s=0)
            raise
        finally:
            await self._tell()

    async def more_than(self, offset: int, timeout_s: float) -> None:
        """Wait until there is output beyond an offset, or it has ended, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s), self.news:
                await self.news.wait_for(lambda: self.output.total > offset or not self.running)
        except TimeoutError:
            pass

    async def ended(self) -> None:
        """Wait until it has ended and everything it printed is read."""
        async with self.news:
            await self.news.wait_for(lambda: not self.running)

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()


@dataclass(eq=False)
class _Household:
    """The processes of one run in a room, and the handles of those that just start."""

    room: Room
    kept: dict[str, Kept] = field(default_factory=dict[str, Kept])
    starting: set[str] = field(default_factory=set[str])


class Processes:
    """Every process that stays, of every room of this worker; `tasks` reads what they print."""

    def __init__(
        self, tasks: asyncio.TaskGroup, redactor: Callable[[], Redactor] = Redactor
    ) -> None:
        """`redactor` knows the values that must not be in what is kept (C15)."""
        self._tasks = tasks
        self.redactor = redactor
        self._households: dict[tuple[int, str], _Household] = {}

    async def start(self, seat: Seat, handle: str, label: str, command: Command) -> Kept:
        """Start a process of the seat's run; the one of that handle, if it was started before.

        Raises:
            ToolError: as many as are allowed run already.
            SandboxUnavailable: it did not start.
        """
        household = self._households.setdefault(_key(seat), _Household(seat.room))
        known = household.kept.get(handle)
        if known is not None:
            return known
        running = sum(one.running for one in household.kept.values()) + len(household.starting)
        if running >= RUNNING_MAX:
            message = f"{running} processes run already, and no more may; stop one first"
            raise ToolError(Code.TOO_MANY, message, running=running)
        household.starting.add(handle)
        try:
            sandbox = await seat.sandbox()
            kept = Kept(handle, label, await sandbox.start(command))
            household.kept[handle] = kept
            self._tasks.create_task(kept.follow(self.redactor), name=f"process {handle}")
        finally:
            household.starting.discard(handle)
        _forget_oldest(household.kept)
        return kept

    def find(self, seat: Seat, handle: str) -> Kept:
        """The process of a handle.

        Raises:
            ToolError: the seat's run has none of that handle here.
        """
        household = self._households.get(_key(seat))
        found = None if household is None else household.kept.get(handle)
        if found is None:
            message = (
                f"there is no process {handle!r}: this run never started one, or it ended together "
                "with the sandbox or the worker that held it; listProcesses says what there is, "
                "startProcess starts it again"
            )
            raise ToolError(Code.NO_PROCESS, message)
        return found

    def of(self, seat: Seat) -> list[Kept]:
        """The processes of the seat's run, in the order they were started."""
        household = self._households.get(_key(seat))
        return [] if household is None else list(household.kept.values())

    def busy(self, room: Room) -> bool:
        """Whether a process of a room runs, or is about to."""
        return any(
            one.starting or any(kept.running for kept in one.kept.values())
            for one in self._households.values()
            if one.room is room
        )

    def runs(self, room: Room) -> list[str]:
        """The runs that have processes in a room."""
        return [run for (_, run), one in self._households.items() if one.room is room]

    async def leave(self, room: Room, run: str | None = None) -> None:
        """Stop every process of a room, or of one run in it, and forget them."""
        for key, household in list(self._households.items()):
            if household.room is room and run in {None, key[1]}:
                del self._households[key]
                async with asyncio.TaskGroup() as group:
                    for kept in household.kept.values():
                        group.create_task(_stop(kept))


async def _stop(kept: Kept) -> None:
    if kept.running:
        await kept.process.stop()
        await kept.ended()


def _key(seat: Seat) -> tuple[int, str]:
    return id(seat.room), seat.run


def _forget_oldest(kept: dict[str, Kept]) -> None:
    over = [handle for handle, one in kept.items() if not one.running]
    for handle in over[: max(0, len(kept) - KEPT_MAX)]:
        del kept[handle]
