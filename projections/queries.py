"""Questions to the views, always within one tenant. Not a writer, and never asked by decisions."""

import asyncio
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from domain.errors import Rejected, Unavailable
from eventlog.port import Cursor
from projections.sqlite import (
    BUSY_S,
    CHECKPOINT_COLUMNS,
    RUN_COLUMNS,
    read_place,
)
from projections.views import CheckpointRow, RunRow

HELD = {"waiting": "waiting != ?", "paused": "paused_at_ms != ?"}
"""What is no status of a run by itself: a condition that its columns meet."""

LIMIT_DEFAULT = 50
LIMIT_MAX = 500

POLL_S = 0.02
"""How often a waiting query looks at the position, in seconds."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which runs are meant; None is any.

    Beside the statuses there are, `waiting` means running and waiting for a person, and `paused`
    running and paused.
    """

    status: str | None = None
    expert: str | None = None
    job: str | None = None
    source_job: str | None = None  # forks of runs of that job


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs, newest first. `before` asks for the next page; None: there is none."""

    runs: tuple[RunRow, ...] = ()
    before: int | None = None
    position: Cursor | None = None


class Reader:
    """Reads a view file; blocking, for milliseconds. An absent file is an empty view."""

    def __init__(self, db_path: Path) -> None:
        self._path = db_path

    def position(self) -> Cursor | None:
        """How far the view has come; None before it was ever made.

        Raises:
            Unavailable: the file cannot be read.
        """
        with self._read() as db:
            return None if db is None else read_place(db)

    async def wait_for(self, position: Cursor, timeout_s: float) -> bool:
        """Wait until the view has come to a position of the same log; False if it did not.

        Raises:
            Unavailable: the file cannot be read.
        """
        try:
            async with asyncio.timeout(timeout_s):
                # Whoever writes the file may be another process, so there is no event to wait for.
                while not _includes(await asyncio.to_thread(self.position), position):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        return True

    def runs(
        self,
        tenant: str,
        filters: Filters | None = None,
        *,
        limit: int = LIMIT_DEFAULT,
        before: int | None = None,
    ) -> Page:
        """The newest runs that match, at most `limit`, older than `before` if given.

        Raises:
            Unavailable: the file cannot be read.
        """
        filters = filters or Filters()
        held = HELD.get(filters.status or "")
        status = filters.status if held is None else "running"
        wanted = {"status": status, "expert": filters.expert, "job": filters.job}
        wanted["source_job"] = filters.source_job
        terms = {"tenant = ?": tenant, "first_seq < ?": before}
        terms |= {f"{name} = ?": value for name, value in wanted.items()}
        terms |= {} if held is None else {held: ""}
        given = {term: value for term, value in terms.items() if value is not None}
        limit = max(1, min(limit, LIMIT_MAX))
        query = (
            f"SELECT {RUN_COLUMNS} FROM runs WHERE {' AND '.join(given)}"  # noqa: S608 - no input
            " ORDER BY first_seq DESC LIMIT ?"
        )
        with self._read() as db:
            if db is None:
                return Page()
            found = db.execute(query, (*given.values(), limit + 1)).fetchall()
            rows = tuple(RunRow(*values) for values in found[:limit])
            more = rows[-1].first_seq if len(found) > limit else None
            return Page(rows, more, read_place(db))

    def run(self, tenant: str, name: str) -> RunRow | None:
        """The run of that id, or the only one whose id begins so.

        Raises:
            Rejected: several runs begin so.
            Unavailable: the file cannot be read.
        """
        query = (
            f"SELECT {RUN_COLUMNS} FROM runs WHERE tenant = ? AND run >= ? AND run < ?"  # noqa: S608
            " ORDER BY run, first_seq DESC LIMIT 2"
        )
        if not name:
            return None
        with self._read() as db:
            if db is None:
                return None
            found = db.execute(query, (tenant, name, name + "\x7f")).fetchall()
        rows = [RunRow(*values) for values in found]
        if len(rows) > 1 and rows[0].run != name:
            raise Rejected("ambiguous_run", f"several runs begin with {name!r}; give more of it")
        return rows[0] if rows else None

    def checkpoints(self, row: RunRow) -> tuple[CheckpointRow, ...]:
        """The ends of a run's steps, oldest first.

        Raises:
            Unavailable: the file cannot be read.
        """
        query = (
            f"SELECT {CHECKPOINT_COLUMNS} FROM checkpoints"  # noqa: S608 - no input
            " WHERE tenant = ? AND job = ? AND run = ? ORDER BY version"
        )
        with self._read() as db:
            found = [] if db is None else db.execute(query, row.ref).fetchall()
        return tuple(CheckpointRow(*values) for values in found)

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection | None]:
        """One consistent look at the file; None while there is no view of this schema in it."""
        if not self._path.exists():
            yield None
            return
        try:
            db = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
            )
            try:
                db.execute("PRAGMA query_only = ON")
                db.execute("BEGIN")
                yield None if read_place(db) is None else db
            finally:
                db.close()
        except sqlite3.Error as error:
            msg = f"the view cannot be read: {error}"
            raise Unavailable(msg) from error


def _includes(position: Cursor | None, wanted: Cursor) -> bool:
    return (
        position is not None
        and position.incarnation == wanted.incarnation
        and position.seq >= wanted.seq
    )
