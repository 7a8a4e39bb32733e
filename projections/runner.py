"""Keeps the views up with the log, from wherever they were left. Not the views themselves."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from domain.errors import Unavailable
from eventlog.port import Cursor, EventLog, Stored
from projections.pipe import Pipe
from projections.sqlite import Moved, ViewFile, Violation

logger = logging.getLogger(__name__)

BATCH_MAX = 500
"""Envelopes in one transaction: beyond, larger batches gain nothing."""

READ_AHEAD_MAX = 2_000
RETRY_S = 1.0
REBORN_POLL_S = 1.0
CATCH_UP_S = 30.0

Result = TypeVar("Result")
OnPosition = Callable[[Cursor], None]


class Reborn(Unavailable):
    """The log was made anew: every cursor into it is void."""


class Projection:
    """One writer of a view file."""

    def __init__(
        self,
        log: EventLog,
        file: ViewFile,
        thread: ThreadPoolExecutor,
        on_position: OnPosition = lambda _: None,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self._log = log
        self._file = file
        self._thread = thread
        self._on_position = on_position
        self._batch_max = batch_max
        self._position = Cursor("", 0)

    @property
    def position(self) -> Cursor:
        """How far the file has come, as this writer last saw it."""
        return self._position

    async def run(self) -> None:
        """Follow the log until cancelled; what is away is tried again."""
        while True:
            try:
                await self._follow(None)
            except* Unavailable as away:
                logger.warning("the projection waits: %s", away.exceptions[0])
                await asyncio.sleep(RETRY_S)
            except* Moved:
                logger.info("another writer has moved the view file; going on from its cursor")

    async def catch_up(self, seq: int) -> None:
        """Follow the log up to a sequence.

        Raises:
            Unavailable: the log or the file is away, or another writer throws the file back.
        """
        away: list[str] = []
        try:
            await self._follow(seq)
        except* (Unavailable, Moved) as errors:
            away = [str(error) for error in errors.exceptions]
        if away:
            msg = f"the view cannot be brought up to date: {away[0]}"
            raise Unavailable(msg)

    async def rebuild(self) -> None:
        """Throw the view away; the next `run` or `catch_up` makes it from the whole log.

        Raises:
            Unavailable: the file is locked, or cannot be written.
        """
        await self._begin(anew=True)

    async def _follow(self, until_seq: int | None) -> None:
        await self._begin(anew=False)
        if until_seq is not None and self._position.seq >= until_seq:
            return
        pipe: Pipe[Stored] = Pipe(READ_AHEAD_MAX)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(pipe, self._position.seq))
            watching = tasks.create_task(until_reborn(self._log, self._position.incarnation))
            while until_seq is None or self._position.seq < until_seq:
                await self._write(await pipe.take(self._batch_max))
            reading.cancel()
            watching.cancel()

    async def _read(self, pipe: Pipe[Stored], after_seq: int) -> None:
        async with self._log.follow(after_seq=after_seq) as items:
            async for stored in items:
                await pipe.put(stored)

    async def _begin(self, *, anew: bool) -> None:
        incarnation = self._log.incarnation
        seq = await self._call(lambda: self._file.begin(incarnation, anew=anew))
        self._moved(Cursor(incarnation, seq))

    async def _write(self, batch: list[Stored]) -> None:
        after = self._position
        seq, violations = await self._call(lambda: self._file.apply(batch, after=after))
        for violation in violations:
            _alarm(violation)
        self._moved(after._replace(seq=seq))

    def _moved(self, position: Cursor) -> None:
        self._position = position
        self._on_position(position)

    async def _call(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


@asynccontextmanager
async def open_projection(
    log: EventLog,
    db_path: Path,
    *,
    on_position: OnPosition = lambda _: None,
    batch_max: int = BATCH_MAX,
) -> AsyncGenerator[Projection]:
    """A projection with its file and its thread, for as long as the context is open.

    Raises:
        Unavailable: the file can be neither opened nor made.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="projection") as thread:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(thread, ViewFile, db_path)
        try:
            yield Projection(log, file, thread, on_position, batch_max)
        finally:
            thread.submit(file.close).result()


async def run_projection(
    log: EventLog, db_path: Path, *, on_position: OnPosition = lambda _: None
) -> None:
    """Keep the view file up with the log until cancelled.

    Raises:
        Unavailable: the file can be neither opened nor made.
    """
    async with open_projection(log, db_path, on_position=on_position) as projection:
        await projection.run()


async def catch_up(log: EventLog, db_path: Path, *, timeout_s: float = CATCH_UP_S) -> Cursor:
    """Bring the view file up to the log's end as it is now; where the file then is.

    Raises:
        Unavailable: the log or the file is away, or it took longer than `timeout_s`.
    """
    async with open_projection(log, db_path) as projection:
        try:
            async with asyncio.timeout(timeout_s):
                await projection.catch_up((await log.bounds())[1])
        except TimeoutError as error:
            msg = f"the view has come to {projection.position} only, after {timeout_s:g} s"
            raise Unavailable(msg) from error
        return projection.position


async def rebuild(log: EventLog, db_path: Path, *, timeout_s: float = CATCH_UP_S) -> Cursor:
    """Throw the views away and make them anew from the log.

    Raises:
        Unavailable: the log or the file is away, or it took longer than `timeout_s`.
    """
    async with open_projection(log, db_path) as projection:
        await projection.rebuild()
    return await catch_up(log, db_path, timeout_s=timeout_s)


async def until_reborn(log: EventLog, incarnation: str) -> None:
    """Watch over the log's life; a follower of an older one would wait for ever.

    Raises:
        Reborn: the log is another one now.
    """
    while log.incarnation == incarnation:  # noqa: ASYNC110 - a name, not something that tells
        await asyncio.sleep(REBORN_POLL_S)
    msg = f"the log {incarnation!r} was made anew as {log.incarnation!r}"
    raise Reborn(msg)


def _alarm(violation: Violation) -> None:
    logger.error(
        "RunIntegrityViolated: run %s at sequence %d: %s",
        violation.ref.run,
        violation.seq,
        violation.detail,
    )
