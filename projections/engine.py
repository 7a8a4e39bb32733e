"""Connections to where views are kept, for one writer or for readers. Not what is kept there."""

import logging
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeoutError,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from domain.errors import Rejected, Unavailable
from projections.where import Postgres, Where

logger = logging.getLogger(__name__)

BUSY_S = 5.0
"""How long another process may hold the file, in seconds."""

WAL_TRIES_MAX = 100

MISTAKES = (ProgrammingError, IntegrityError, DataError, NotSupportedError)
"""What is wrong with what we asked, and is so again the next time."""

Use = Literal["write", "read"]

# No error of these engines shows parameters: they are what people and tools have said (C15).


def prepare(where: Where) -> None:
    """Make the file, if it is one and is not there; what is no database is replaced. Blocking.

    Raises:
        Unavailable: the file can be neither opened nor made.
    """
    if isinstance(where, Postgres):
        return
    where.parent.mkdir(parents=True, exist_ok=True)
    try:
        _use_wal(where)
    except sqlite3.OperationalError as error:
        msg = f"the view file {str(where)!r} cannot be opened: {error}"
        raise Unavailable(msg) from error
    except sqlite3.DatabaseError:
        logger.warning("%s is not a database; it is made anew from the log", where)
        for suffix in ("", "-wal", "-shm"):
            where.with_name(where.name + suffix).unlink(missing_ok=True)
        _use_wal(where)


def open_engine(where: Where, use: Use) -> AsyncEngine:
    """Connections that begin transactions as writers, or as readers, need it.

    Raises:
        Rejected: there is no driver for it.
    """
    return _postgres(where, use) if isinstance(where, Postgres) else _sqlite(where, use)


@asynccontextmanager
async def speaking(what: str) -> AsyncGenerator[None]:
    """Say in our words what a database says.

    Raises:
        Unavailable: it is away, locked, or full.
    """
    try:
        yield
    except MISTAKES:
        raise
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        msg = f"{what}: {cause}"
        raise Unavailable(msg) from error


def _sqlite(path: Path, use: Use) -> AsyncEngine:
    # A reader makes no file; and opens it each time, for whoever writes may have replaced it.
    query = {"mode": "rw" if use == "read" else "rwc", "uri": "true"}
    url = URL.create("sqlite+aiosqlite", database=path.absolute().as_uri(), query=query)
    given: dict[str, Any] = {"timeout": BUSY_S, "isolation_level": None}
    pool: dict[str, Any] = {"poolclass": NullPool} if use == "read" else {}
    engine = create_async_engine(url, connect_args=given, hide_parameters=True, **pool)
    pragma = "query_only = ON" if use == "read" else "synchronous = NORMAL"
    # NORMAL: the log is the record; this can be made anew.

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if use == "write" else "BEGIN")

    return engine


def _postgres(where: Postgres, use: Use) -> AsyncEngine:
    try:
        import_module("psycopg")  # of the extra `postgres`: for those who keep views there
    except ImportError as error:
        message = "PERITUS_VIEWS_URL names PostgreSQL: pip install 'peritus[postgres]'"
        raise Rejected("missing_package", message) from error
    url = make_url(where.url).set(drivername="postgresql+psycopg")
    level = "REPEATABLE READ" if use == "read" else "READ COMMITTED"
    engine = create_async_engine(
        url, isolation_level=level, pool_pre_ping=True, hide_parameters=True
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's
        before = connection.autocommit
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f'SET search_path TO "{where.schema}"')
        cursor.close()
        connection.autocommit = before

    return engine


def _use_wal(path: Path) -> None:
    """Turn the file to WAL; unlike all else this does not wait by itself while another does so."""
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        for attempt in range(WAL_TRIES_MAX):
            try:
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if attempt == WAL_TRIES_MAX - 1:
                    raise
                time.sleep(BUSY_S / WAL_TRIES_MAX)
            else:
                return
    finally:
        db.close()
