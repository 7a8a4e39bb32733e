"""The views in SQLite, with the cursor in the same transaction. Not the folding: `views` does that.

Several processes may keep one file: a batch is folded onto what the file holds when its transaction
begins, so whatever somebody else has done since is seen, and nothing is applied twice.
"""

import logging
import sqlite3
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import NamedTuple

from domain.errors import PeritusError, Unavailable
from domain.ids import RunRef
from eventlog.port import Cursor, Stored
from projections.views import CheckpointRow, RunRow, project

logger = logging.getLogger(__name__)

SCHEMA = 3
"""Another number in the file: its tables are dropped and made anew from the log."""

BUSY_S = 5.0
"""How long another process may hold the file, in seconds."""

WAL_TRIES_MAX = 100

RUN_COLUMNS = ", ".join(field.name for field in fields(RunRow))
CHECKPOINT_COLUMNS = ", ".join(field.name for field in fields(CheckpointRow))

_TABLES = (
    "CREATE TABLE place (schema INTEGER NOT NULL, incarnation TEXT NOT NULL, seq INTEGER NOT NULL)",
    f"CREATE TABLE runs ({RUN_COLUMNS}, PRIMARY KEY (tenant, job, run)) WITHOUT ROWID",
    "CREATE INDEX runs_newest ON runs (tenant, first_seq)",
    "CREATE INDEX runs_by_name ON runs (tenant, run)",
    f"CREATE TABLE checkpoints ({CHECKPOINT_COLUMNS}, PRIMARY KEY (tenant, job, run, version))"
    " WITHOUT ROWID",
)


class Moved(PeritusError):
    """The file is no longer where this writer left it: begin again from its cursor."""


class Violation(NamedTuple):
    """A run whose stored history is not what was written."""

    ref: RunRef
    seq: int
    detail: str


class ViewFile:
    """One writer's connection. Blocking: give it a thread of its own."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; what is no database is replaced.

        Raises:
            Unavailable: the file can be neither opened nor made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _open(path)
        except sqlite3.OperationalError as error:
            msg = f"the view file {str(path)!r} cannot be opened: {error}"
            raise Unavailable(msg) from error
        except sqlite3.DatabaseError:
            logger.warning("%s is not a database; it is made anew from the log", path)
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._db = _open(path)

    def begin(self, incarnation: str, *, anew: bool = False) -> int:
        """The sequence to go on from; empty tables if the file is of another log or schema.

        Raises:
            Unavailable: the file is locked, or cannot be written.
        """
        with self._transaction():
            place = None if anew else read_place(self._db)
            if place is not None and place.incarnation == incarnation:
                return place.seq
            for name in _table_names(self._db):
                self._db.execute(f'DROP TABLE "{name}"')
            for statement in _TABLES:
                self._db.execute(statement)
            self._db.execute("INSERT INTO place VALUES (?, ?, 0)", (SCHEMA, incarnation))
            return 0

    def apply(self, batch: Sequence[Stored], *, after: Cursor) -> tuple[int, list[Violation]]:
        """Fold a batch that begins after a cursor and keep the new one: all of it, or nothing.

        What lies at or below the file's cursor is left out.

        Raises:
            Moved: the file is of another log, or before that cursor.
            Unavailable: the file is locked, or cannot be written.
        """
        with self._transaction():
            place = read_place(self._db)
            if place is None or place.incarnation != after.incarnation or place.seq < after.seq:
                msg = f"the view file is at {place}, not at {after}"
                raise Moved(msg)
            fresh = [stored for stored in batch if stored.seq > place.seq]
            if not fresh:
                return place.seq, []
            violations = self._fold(fresh)
            seq = fresh[-1].seq
            self._db.execute("UPDATE place SET seq = ?", (seq,))
            return seq, violations

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _fold(self, batch: Iterable[Stored]) -> list[Violation]:
        rows: dict[RunRef, RunRow] = {}
        checkpoints: list[CheckpointRow] = []
        violations: list[Violation] = []
        for stored in batch:
            row, ended, violation = project(rows.get(stored.ref) or self._row(stored.ref), stored)
            rows[stored.ref] = row
            checkpoints.extend(ended)
            if violation is not None:
                violations.append(Violation(stored.ref, stored.seq, violation))
        self._put("runs", rows.values())
        self._put("checkpoints", checkpoints)
        return violations

    def _row(self, ref: RunRef) -> RunRow | None:
        query = f"SELECT {RUN_COLUMNS} FROM runs WHERE tenant = ? AND job = ? AND run = ?"  # noqa: S608
        found = self._db.execute(query, ref).fetchone()
        return None if found is None else RunRow(*found)

    def _put(self, table: str, rows: Iterable[RunRow | CheckpointRow]) -> None:
        values = [astuple(row) for row in rows]
        if values:
            marks = ", ".join("?" * len(values[0]))
            statement = f"INSERT OR REPLACE INTO {table} VALUES ({marks})"  # noqa: S608 - no input
            self._db.executemany(statement, values)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            msg = f"the view file cannot be written: {error}"
            raise Unavailable(msg) from error


def read_place(db: sqlite3.Connection) -> Cursor | None:
    """How far the views of a file have come; None when they are not of this release's schema."""
    if "place" not in _table_names(db):
        return None
    found = db.execute("SELECT * FROM place").fetchone()
    if found is None or found[0] != SCHEMA:
        return None
    return Cursor(found[1], found[2])


def _table_names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _use_wal(db: sqlite3.Connection) -> None:
    """Turn the file to WAL; unlike all else this does not wait by itself while another does so."""
    for attempt in range(WAL_TRIES_MAX):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if attempt == WAL_TRIES_MAX - 1:
                raise
            time.sleep(BUSY_S / WAL_TRIES_MAX)
        else:
            return


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _use_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")  # the log is the record; this can be made anew
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db
