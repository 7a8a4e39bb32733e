"""What this worker has begun and what came of it, fsynced: the claim of a base-tool call (rule 6).

One file for each life of a worker, in JSON lines, outside workspaces and snapshots:

    {"format": 1, "place": P, "epoch": E}             the first line: this life, unbroken from here;
                                                      again at each start in the same process
    {"begin": [tenant, job, run, call], "attempt": 1} durable before the call starts
    {"end": [tenant, job, run, call], "result": {…}}  durable before the result is reported

Absence of a call from the file of an epoch proves that this epoch did not begin it. A line that was
cut off by a crash was never durable, so nothing that depends on it has happened.

A life that was taken for gone may only have been stopped, and go on. So there is a fence for each
job of the place, which only grows: who takes the job over writes the number of its placement there
before it reads any journal, and who begins a call reads it after its line is in the journal. Of two
lives at least one sees the other: the call does not start, or it counts as begun.

    {"run": the one that decides who holds the job, "number": N, "epoch": E}
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


class Fenced(Exception):
    """Another life of this place holds the job by now: the call must not start here."""


class JournalStore(Protocol):
    """Where journals and fences lie, for all processes of a place: append-only."""

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

    async def fence(self, ref: RunRef, data: bytes) -> None:
        """Add to the fence of a run's job; every process that reads it later sees that.

        Raises:
            OSError: it may not be there.
        """
        ...

    async def fences(self, ref: RunRef) -> bytes:
        """The fence of a run's job: what `fence` has added so far.

        Raises:
            OSError: it cannot be read.
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


class _Read(NamedTuple):
    """What was read of an earlier life: after how many fences, how much; size -1: nothing there."""

    fences: int
    size: int
    entries: dict[Name, Entry] | None


class Journal:
    """The journal of this life, and what earlier lives at this place left."""

    def __init__(self, store: JournalStore, place: str, epoch: str) -> None:
        self._store = store
        self._epoch = epoch
        self._entries: OrderedDict[Name, Entry] = OrderedDict()
        self._earlier: dict[str, _Read] = {}
        self._fences = 0
        self._pending: list[bytes] = [header(place, epoch)]
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
                self._began_before = (await self._load(self._epoch)).size >= 0
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

    async def take(self, ref: RunRef, number: int) -> None:
        """Hold a job from here on, by the word of the run that decides: lower numbers are out.

        Raises:
            Unavailable: the disk does not take it; nothing of the job may start here.
        """
        if number <= 1:
            return  # nobody held it before
        line = {"run": ref.run, "number": number, "epoch": self._epoch}
        try:
            if _height(await self._store.fences(ref), ref) < number:
                await self._store.fence(ref, b"\n" + orjson.dumps(line) + b"\n")
                self._fences += 1
        except OSError as error:
            message = f"the fence of job {ref.job} cannot be written: {error}"
            raise Unavailable(message) from error

    async def fenced(self, ref: RunRef, number: int) -> bool:
        """Whether another life took a run's job over since it was placed with a number.

        Raises:
            Unavailable: the disk does not tell.
        """
        try:
            return _height(await self._store.fences(ref), ref) > number
        except OSError as error:
            message = f"the fence of job {ref.job} cannot be read: {error}"
            raise Unavailable(message) from error

    async def earlier(self, epoch: str) -> dict[Name, Entry] | None:
        """What an earlier life at this place did; None when its journal is not here, or broken.

        It is read anew after each fence: that life may have gone on until then.
        """
        known = self._earlier.get(epoch)
        if known is None or (known.fences != self._fences and epoch != self._epoch):
            known = await self._load(epoch)
        return known.entries

    async def _load(self, epoch: str) -> "_Read":
        """Read a journal; one of the same length is the same."""
        fences, before = self._fences, self._earlier.get(epoch)
        try:
            data = await self._store.read(epoch)
        except OSError:
            logger.exception("the journal of %s cannot be read; what it claims is unknown", epoch)
            data = b""
        size = -1 if data is None else len(data)
        if before is not None and before.size == size:
            found = before._replace(fences=fences)
        else:
            found = _Read(fences, size, None if data is None else _read(data, epoch))
        self._earlier[epoch] = found
        return found

    async def begin(self, name: Name, attempt: int, number: int) -> None:
        """Claim a call of a job that was placed here; nothing of it may start before this returns.

        Raises:
            Unavailable: the disk does not take it; the call must not start.
            Fenced: another life holds the job; the call must not start.
        """
        await self._write(({"begin": [*name.ref, name.call], "attempt": attempt},))
        if await self.fenced(name.ref, number):
            raise Fenced
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
        problem = await asyncio.shield(self._flush(self._asked))  # what began goes on to its end
        if problem is not None:
            message = f"the journal cannot be written: {problem}"
            raise Unavailable(message) from problem

    async def _flush(self, upto: int) -> OSError | None:
        """What kept it from being written; not raised, since whoever waited may be gone."""
        async with self._turn:
            if self._written >= upto:
                return None
            batch, self._pending = self._pending, []
            try:
                await self._store.append(self._epoch, b"".join(batch))
            except OSError as error:
                self._pending = batch + self._pending
                return error
            self._written += len(batch)
            return None


def header(place: str, epoch: str) -> bytes:
    """The first line of a journal; alone it says that its epoch has begun nothing."""
    return orjson.dumps({"format": FORMAT, "place": place, "epoch": epoch}) + b"\n"


def _height(data: bytes, ref: RunRef) -> int:
    """The highest number in a fence that counts for a run: its job's root run's, or its own."""
    numbers = [0]
    for line in data.split(b"\n")[:-1]:
        if not line:  # each begins anew, whatever a power cut left of the one before
            continue
        try:
            said = orjson.loads(line)
            if said["run"] in {ref.job, ref.run}:
                numbers.append(int(said["number"]))
        except (ValueError, KeyError, TypeError):
            logger.warning("a line of the fence of job %s cannot be read", ref.job)
    return max(numbers)


def _read(data: bytes, epoch: str) -> dict[Name, Entry] | None:
    """The calls of a journal; None when its beginning is not that of this epoch."""
    lines = data.split(b"\n")[:-1]  # what comes after the last line end was never durable
    try:
        first = orjson.loads(lines[0])
        if first["format"] != FORMAT or first["epoch"] != epoch:
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
