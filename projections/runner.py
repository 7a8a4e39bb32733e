"""Keeps the views up with the log, from wherever they were left. Not the views themselves."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from domain.errors import Unavailable
from eventlog.port import Cursor, EventLog, Stored
from projections.generation import Violation
from projections.pipe import Pipe
from projections.seeing import see
from projections.store import Moved, Standing, Store, open_store
from projections.view import AnyView, Seen
from projections.views import ALL
from projections.where import Where

logger = logging.getLogger(__name__)

BATCH_MAX = 500
"""Envelopes in one transaction: beyond, larger batches gain nothing."""

READ_AHEAD_MAX = 2_000
RETRY_S = 1.0
REBORN_POLL_S = 1.0

LOOK_S = 5.0
"""How often a service looks whether there is something to be built, in seconds."""

CATCH_UP_S = 30.0

MOVES_MAX = 5
"""How often views may be moved by somebody else while they are brought up to date."""

OnPosition = Callable[[Cursor], None]


class Switched(Moved):
    """Views were built anew, and are read from now on: begin again from their places."""


class Reborn(Unavailable):
    """The log was made anew: every cursor into it is void."""


class Projection:
    """One writer of some views."""

    def __init__(
        self,
        log: EventLog,
        store: Store,
        on_position: OnPosition = lambda _: None,
        batch_max: int = BATCH_MAX,
        look_s: float = LOOK_S,
    ) -> None:
        self._log = log
        self._store = store
        self._on_position = on_position
        self._batch_max = batch_max
        self._look_s = look_s
        self._position = Cursor("", 0)

    @property
    def position(self) -> Cursor:
        """How far all live views have come, as this writer last saw it."""
        return self._position

    async def run(self) -> None:
        """Follow the log until cancelled; what is away is tried again."""
        while True:
            try:
                await self._follow(None)
            except* Unavailable as away:
                logger.warning("the projection waits: %s", away.exceptions[0])
                await asyncio.sleep(RETRY_S)
            except* Moved as moved:
                logger.info("the views were moved (%s); going on", moved.exceptions[0])
            _heed_cancellation()

    async def catch_up(self, seq: int) -> None:
        """Follow the log up to a sequence, and build what is being built.

        Raises:
            Unavailable: the log or the store is away, or other writers throw it back again.
        """
        moves = 0
        while True:
            away, moved = "", ""
            try:
                await self._follow(seq)
            except* Unavailable as errors:
                away = str(errors.exceptions[0])
            except* Switched as errors:
                moved = str(errors.exceptions[0])
            except* Moved as errors:
                moved, moves = str(errors.exceptions[0]), moves + 1
            _heed_cancellation()
            if away or moves > MOVES_MAX:
                msg = f"the views cannot be brought up to date: {away or moved}"
                raise Unavailable(msg)
            if not moved:
                return
            logger.info("the views were moved (%s); going on", moved)

    async def rebuild(self, views: Iterable[str]) -> None:
        """Begin to build views anew; the next `run` or `catch_up` makes them from the whole log.

        Raises:
            Unavailable: the store is locked, or cannot be written.
        """
        end = (await self._log.bounds())[1]
        await self._store.rebuild(self._log.incarnation, views, goal=end)

    async def _follow(self, until_seq: int | None) -> None:
        incarnation = self._log.incarnation
        end = (await self._log.bounds())[1]
        standing = await self._store.begin(incarnation, goal=end)
        self._moved(Cursor(incarnation, min((one.seq for one in standing.live), default=0)))
        async with asyncio.TaskGroup() as tasks:
            watching = (
                tasks.create_task(until_reborn(self._log, incarnation)),
                tasks.create_task(self._look_around(standing)),
            )
            keeping: list[asyncio.Task[None]] = []
            if standing.building:
                keeping.append(tasks.create_task(self._build(tasks, standing)))
            if standing.live:
                keeping.append(tasks.create_task(self._keep(tasks, standing, until_seq)))
            if keeping:
                await asyncio.wait(keeping)
            if keeping or until_seq is not None:
                for one in watching:
                    one.cancel()

    async def _keep(
        self,
        tasks: asyncio.TaskGroup,
        standing: Standing,
        until_seq: int | None,
    ) -> None:
        """Keep the live views up with the log; until a sequence, if one is given."""
        after = self._position
        if until_seq is not None and after.seq >= until_seq:
            return
        pipe, reading = self._read(tasks, after.seq)
        while until_seq is None or self._position.seq < until_seq:
            batch = await self._take(pipe)
            _alarm(await self._store.apply(standing, batch))
            self._moved(after._replace(seq=min(one.seq for one in standing.live)))
        reading.cancel()

    async def _look_around(self, standing: Standing) -> None:
        """While nothing is written, nothing else would tell that somebody asks for a rebuild.

        Raises:
            Moved: there is something to be built.
        """
        while True:
            await asyncio.sleep(self._look_s)
            await self._store.apply(standing, ())

    async def _build(self, tasks: asyncio.TaskGroup, standing: Standing) -> None:
        """Build views anew beside those that are read, and have them switched to.

        Raises:
            Switched: some are read from now on.
        """
        _, switched = await self._store.build(standing, ())
        pipe, _ = self._read(tasks, min(one.seq for one in standing.building))
        while not switched:
            batch = await self._take(pipe)
            violations, switched = await self._store.build(standing, batch)
            _alarm(violations)
        msg = f"built: {', '.join(switched)}"
        raise Switched(msg)

    def _read(
        self, tasks: asyncio.TaskGroup, after_seq: int
    ) -> tuple[Pipe[Stored], asyncio.Task[None]]:
        """The log from there on, read ahead while a batch is written."""
        pipe: Pipe[Stored] = Pipe(READ_AHEAD_MAX)
        return pipe, tasks.create_task(self._fill(pipe, after_seq))

    async def _fill(self, pipe: Pipe[Stored], after_seq: int) -> None:
        async with self._log.follow(after_seq=after_seq) as items:
            async for stored in items:
                await pipe.put(stored)

    async def _take(self, pipe: Pipe[Stored]) -> list[Seen]:
        batch = await pipe.take(self._batch_max)
        return await asyncio.to_thread(lambda: [see(stored) for stored in batch])

    def _moved(self, position: Cursor) -> None:
        self._position = position
        self._on_position(position)


@asynccontextmanager
async def open_projection(
    log: EventLog,
    where: Where,
    *,
    views: Sequence[AnyView] = ALL,
    on_position: OnPosition = lambda _: None,
    batch_max: int = BATCH_MAX,
    look_s: float = LOOK_S,
) -> AsyncGenerator[Projection]:
    """A projection with its connections, for as long as the context is open.

    Raises:
        Unavailable: the file can be neither opened nor made.
        Rejected: there is no driver for the database.
    """
    async with open_store(where, views) as store:
        yield Projection(log, store, on_position, batch_max, look_s)


async def run_projection(
    log: EventLog, where: Where, *, on_position: OnPosition = lambda _: None
) -> None:
    """Keep all views up with the log until cancelled.

    Raises:
        Unavailable: the file can be neither opened nor made.
        Rejected: there is no driver for the database.
    """
    async with open_projection(log, where, on_position=on_position) as projection:
        await projection.run()


async def catch_up(
    log: EventLog,
    where: Where,
    *,
    views: Sequence[AnyView] = ALL,
    timeout_s: float | None = CATCH_UP_S,
) -> Cursor:
    """Bring views up to the log's end as it is now; where they then are.

    Raises:
        Unavailable: the log or the store is away, or it took longer than `timeout_s`.
        Rejected: there is no driver for the database.
    """
    async with open_projection(log, where, views=views) as projection:
        try:
            async with asyncio.timeout(timeout_s):
                await projection.catch_up((await log.bounds())[1])
        except TimeoutError as error:
            msg = f"the views have come to {projection.position} only, after {timeout_s:g} s"
            raise Unavailable(msg) from error
        return projection.position


async def rebuild(
    log: EventLog,
    where: Where,
    *,
    names: Iterable[str] | None = None,
    timeout_s: float | None = CATCH_UP_S,
) -> Cursor:
    """Make views anew from the log, all if none are named; the ones there are stay until then.

    Raises:
        Unavailable: the log or the store is away, or it took longer than `timeout_s`.
        Rejected: there is no driver for the database.
    """
    wanted = None if names is None else set(names)
    views = tuple(view for view in ALL if wanted is None or view.name in wanted)
    async with open_projection(log, where, views=views) as projection:
        await projection.rebuild(view.name for view in views)
    return await catch_up(log, where, views=views, timeout_s=timeout_s)


async def until_reborn(log: EventLog, incarnation: str) -> None:
    """Watch over the log's life; a follower of an older one would wait for ever.

    Raises:
        Reborn: the log is another one now.
    """
    while log.incarnation == incarnation:  # noqa: ASYNC110 - a name, not something that tells
        await asyncio.sleep(REBORN_POLL_S)
    msg = f"the log {incarnation!r} was made anew as {log.incarnation!r}"
    raise Reborn(msg)


def _heed_cancellation() -> None:
    """A task group whose tasks fail as it is cancelled tells of the failure alone, in Python 3.11.

    Raises:
        CancelledError: it was cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _alarm(violations: Iterable[Violation]) -> None:
    for violation in violations:
        logger.error(
            "RunIntegrityViolated: run %s at sequence %d: %s",
            violation.ref.run,
            violation.seq,
            violation.detail,
        )
