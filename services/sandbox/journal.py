"""What this worker has begun and what came of it, fsynced: the claim of a base-tool call (rule 6).

One file for each life of a worker, in JSON lines, outside workspaces and snapshots:

    {"format": 1, "place": P, "epoch": E}             the first line: this life, unbroken from here;
                                                      again at each start in the same process
    {"begin": [tenant, job, run, call], "attempt": 1} durable before the call starts
    {"end": [tenant, job, run, call], "result": {…}}  durable before the result is reported

Absence of a call from the file of an epoch proves that this epoch did not begin it. A line that was
cut off by a crash was never durable, so nothing that depends on it has happened.
"""

import asyncio
import logging
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

import orjson
from pydantic import ValidationError

from domain.commands import RecordToolResult
from domain.errors import Unavailable
from domain.ids import RunRef

logger = logging.getLogger(__name__)

FORMAT = 1

ENTRIES_MAX = 200_000
"""How many calls a worker remembers by name. The oldest that are over are forgotten first."""


class JournalStore(Protocol):
    """Where journals lie: append-only, by epoch."""

    async def append(self, epoch: str, data: bytes) -> None:
        """Add to the journal of an epoch; durable when it returns.

        Raises:
            OSError: it is not.
        """
        ...

    async def read(self, epoch: str) -> bytes | None:
        """The journal of an epoch; None when this place has none.

        Raises:
            OSError: there is one, and it cannot be read.
        """
        ...


class Name(NamedTuple):
    """A call of a run."""

    ref: RunRef
    call: str


class Entry(NamedTuple):
    """A call that was begun; `result` None: it did not end, or its result is not kept any more."""

    over: bool
    result: RecordToolResult | None


class Journal:
    """The journal of this life, and what earlier lives at this place left."""

    def __init__(self, store: JournalStore, place: str, epoch: str) -> None:
        self._store = store
        self._epoch = epoch
        self._entries: OrderedDict[Name, Entry] = OrderedDict()
        self._earlier: dict[str, dict[Name, Entry] | None] = {}
        header = {"format": FORMAT, "place": place, "epoch": epoch}
        self._pending: list[bytes] = [orjson.dumps(header) + b"\n"]
        self._asked = 1
        self._written = 0
        self._turn = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._began_before: bool | None = None

    async def open(self) -> None:
        """Begin this life: from here on, what is not in the journal did not happen here.

        Raises:
            Unavailable: the disk does not take it.
        """
        async with self._opening:
            if self._began_before is None:
                self._began_before = await self._load(self._epoch)
        await self._write(())

    def lives(self, earlier: tuple[str, ...]) -> tuple[str, ...]:
        """The epochs to ask for a call that `find` does not know.

        This one is among them when its worker was started twice in one process.
        """
        others = tuple(epoch for epoch in earlier if epoch != self._epoch)
        return (self._epoch, *others) if self._began_before else others

    def find(self, name: Name) -> Entry | None:
        """What this life knows of a call; None: it has not begun it."""
        return self._entries.get(name)

    async def earlier(self, epoch: str) -> dict[Name, Entry] | None:
        """What an earlier life at this place did; None when its journal is not here, or broken."""
        if epoch not in self._earlier:
            await self._load(epoch)
        return self._earlier[epoch]

    async def _load(self, epoch: str) -> bool:
        """Read a journal; whether there is one."""
        try:
            data = await self._store.read(epoch)
        except OSError:
            logger.exception("the journal of %s cannot be read; what it claims is unknown", epoch)
            data = b""
        self._earlier[epoch] = None if data is None else _read(data, epoch)
        return data is not None

    async def begin(self, name: Name, attempt: int) -> None:
        """Claim a call; nothing of it may start before this returns.

        Raises:
            Unavailable: the disk does not take it; the call must not start.
        """
        await self._write(({"begin": [*name.ref, name.call], "attempt": attempt},))
        self._entries[name] = Entry(over=False, result=None)

    async def end(self, name: Name, result: RecordToolResult) -> None:
        """Keep what a call came to until the log has it.

        Raises:
            Unavailable: the disk does not take it.
        """
        body = result.model_dump(mode="json")
        self._entries[name] = Entry(over=True, result=result)
        await self._write(({"end": [*name.ref, name.call], "result": body},))

    def settle(self, name: Name) -> None:
        """The log has the result: only that the call is over is remembered."""
        if name in self._entries:
            self._entries[name] = Entry(over=True, result=None)
            self._entries.move_to_end(name)
        while len(self._entries) > ENTRIES_MAX:
            oldest = next(iter(self._entries))
            if not self._entries[oldest].over:
                return
            del self._entries[oldest]

    async def _write(self, lines: tuple[dict[str, Any], ...]) -> None:
        """One write and one fsync for all that ask at the same time."""
        self._pending.extend(orjson.dumps(line) + b"\n" for line in lines)
        self._asked += len(lines)
        await asyncio.shield(self._flush(self._asked))  # a write that began goes on to its end

    async def _flush(self, upto: int) -> None:
        async with self._turn:
            if self._written >= upto:
                return
            batch, self._pending = self._pending, []
            try:
                await self._store.append(self._epoch, b"".join(batch))
            except OSError as error:
                self._pending = batch + self._pending
                message = f"the journal cannot be written: {error}"
                raise Unavailable(message) from error
            self._written += len(batch)


def _read(data: bytes, epoch: str) -> dict[Name, Entry] | None:
    """The calls of a journal; None when its beginning is not that of this epoch."""
    lines = data.split(b"\n")[:-1]  # what comes after the last line end was never durable
    try:
        header = orjson.loads(lines[0])
        if header["format"] != FORMAT or header["epoch"] != epoch:
            return None
        found: dict[Name, Entry] = {}
        for line in lines[1:]:
            said = orjson.loads(line)
            if "format" in said:
                continue  # the same process, started again
            tenant, job, run, call = said.get("begin") or said["end"]
            name = Name(RunRef(tenant, job, run), call)
            result = said.get("result")
            kept = None if result is None else RecordToolResult.model_validate(result)
            found[name] = Entry(over=kept is not None, result=kept)
    except (IndexError, KeyError, ValueError, TypeError, ValidationError):
        logger.exception("the journal of %s cannot be read; what it claims is unknown", epoch)
        return None
    return found
