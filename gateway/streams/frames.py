"""The bytes of every frame of a stream. Not when they are sent: `viewer` knows that."""

from collections.abc import Mapping
from typing import Any

import orjson

from domain.ids import RunRef
from eventlog.port import Cursor

RETRY_MS = 1_000
"""How long a client waits before it reconnects, in milliseconds."""

RETRY_BROKEN_MS = 60_000
"""The same after a problem: history that nobody can read is not better in a second."""


def frame(
    event: str, data: Mapping[str, Any], cursor: Cursor | None = None, *, retry_ms: int = 0
) -> bytes:
    """One frame; only what can be resumed from has an id. JSON is one line, so data is one."""
    head = b"" if cursor is None else b"id: %s\n" % str(cursor).encode()
    retry = b"retry: %d\n" % retry_ms if retry_ms else b""
    return b"%sevent: %s\n%sdata: %s\n\n" % (head, event.encode(), retry, orjson.dumps(data))


def hello(names: Mapping[str, str], cursor: Cursor) -> bytes:
    """The first frame, always: a client that is cut after it has a place to resume from (C9)."""
    return frame("hello", {**names, "cursor": str(cursor)}, cursor, retry_ms=RETRY_MS)


def reset(names: Mapping[str, str], reason: str, cursor: Cursor) -> bytes:
    """The place that was asked for cannot be honoured: all is told from the start."""
    return frame("reset", {**names, "reason": reason, "cursor": str(cursor)}, cursor)


def heartbeat(cursor: Cursor) -> bytes:
    """The stream lives, and everything up to here was told or is not wanted."""
    return frame("heartbeat", {"cursor": str(cursor)}, cursor)


def goodbye(reason: str, cursor: Cursor) -> bytes:
    """The gateway cuts the stream; it goes on from here."""
    return frame("goodbye", {"reason": reason, "cursor": str(cursor)}, cursor)


def end(ref: RunRef, status: str, cursor: Cursor) -> bytes:
    """A turn is over, and all of it was told."""
    return frame("end", {"run": ref.run, "job": ref.job, "status": status}, cursor)


def problem(code: str, detail: str, cursor: Cursor | None, **more: str) -> bytes:
    """Something cannot be told. With an id the stream can be resumed behind it."""
    data = {"code": code, "detail": detail, **more}
    return frame("problem", data, cursor, retry_ms=RETRY_BROKEN_MS)
