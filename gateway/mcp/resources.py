"""Runs, their events and their checkpoints as resources. Nothing is asked of a run by it.

Sizes are bounded: lists come in pages, events as lines up to a place to go on from.
"""

import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import mcp_types as types
import orjson
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from domain.envelope import decode, event_json
from domain.errors import Rejected
from domain.ids import RunRef
from eventlog.port import Cursor, EventLog
from gateway.mcp.deps import McpDeps
from gateway.mcp.open_calls import Ctx, is_modern
from gateway.mcp.results import META
from gateway.shapes import checkpoint_json, run_facts
from projections.queries import LIMIT_DEFAULT
from projections.rows import RunRow

RUNS = "peritus://runs"
URI = re.compile(
    r"peritus://runs(?:/(?P<run>[A-Za-z0-9_-]{1,64})(?:/(?P<part>events|checkpoints))?)?"
    r"(?:\?cursor=(?P<cursor>[A-Za-z0-9-]{1,80}))?"
)

PARTS = ("events", "checkpoints")

JSON = "application/json"
JSON_LINES = "application/jsonl"

EVENTS_MAX = 500
EVENT_BYTES_MAX = 1_000_000
CHECKPOINTS_MAX = 10_000
NAME_CHARS_MAX = 80

NOT_FOUND = -32002
"""What the protocol with a handshake answers for a resource that is not there."""

VIEW_WAIT_S = 2.0
"""How long a look at the views waits for what the log has already, in seconds."""

TEMPLATES = (
    ("runs", "peritus://runs{?cursor}", "Runs, newest first, a page at a time.", JSON),
    ("run", "peritus://runs/{run}", "One run: where it is, what it used, what it answered.", JSON),
    (
        "events",
        "peritus://runs/{run}/events{?cursor}",
        f"The events of a run as JSON lines, at most {EVENTS_MAX} after a cursor.",
        JSON_LINES,
    ),
    ("checkpoints", "peritus://runs/{run}/checkpoints", "The ends of a run's steps.", JSON),
)


class Page(NamedTuple):
    """Some events as JSON lines. `cursor` is where to go on; `more`: there are some now."""

    lines: bytes
    cursor: str
    more: bool


class Resources:
    """The handlers; each sees only the tenant's runs (C18)."""

    def __init__(self, deps: McpDeps) -> None:
        self._deps = deps

    async def list_runs(
        self, ctx: Ctx, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """`resources/list`: the runs, newest first."""
        del ctx
        cursor = None if params is None else params.cursor
        rows, following = await self._rows(cursor)
        found = [_resource(row) for row in rows]
        if cursor is None:
            found.insert(0, types.Resource(name="runs", uri=RUNS, mime_type=JSON))
        return types.ListResourcesResult(resources=found, next_cursor=following)

    async def templates(
        self, ctx: Ctx, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        """`resources/templates/list`."""
        del ctx, params
        found = [
            types.ResourceTemplate(name=name, uri_template=uri, description=text, mime_type=kind)
            for name, uri, text, kind in TEMPLATES
        ]
        return types.ListResourceTemplatesResult(resource_templates=found)

    async def read(
        self, ctx: Ctx, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """`resources/read`.

        Raises:
            MCPError: there is no such resource.
            Unavailable: not now.
        """
        uri = str(params.uri)
        found = URI.fullmatch(uri)
        if found is None:
            raise self._none(ctx, uri)
        cursor = found["cursor"]
        if found["run"] is None:
            rows, following = await self._rows(cursor)
            body = {"runs": [run_facts(row) for row in rows], "next_cursor": following}
            return _contents(uri, JSON, orjson.dumps(body))
        ref = await self._deps.backbone.log.find(self._deps.tenant, found["run"])
        if ref is None:
            raise self._none(ctx, uri)
        if found["part"] == "events":
            page = await events_page(self._deps.backbone.log, ref, cursor)
            meta = {f"{META}cursor": page.cursor, f"{META}more": page.more}
            return _contents(uri, JSON_LINES, page.lines, meta)
        row = await self._row(ref)
        if row is None:
            raise self._none(ctx, uri)
        if found["part"] is None:
            return _contents(uri, JSON, orjson.dumps(run_facts(row)))
        steps = await self._deps.reader.checkpoints(row)
        shown = [checkpoint_json(step) for step in steps[-CHECKPOINTS_MAX:]]
        body = {"run": ref.run, "checkpoints": shown}
        return _contents(uri, JSON, orjson.dumps(body))

    async def _rows(self, cursor: str | None) -> tuple[list[RunRow], str | None]:
        if cursor is not None and not (cursor.isdecimal() and 0 < len(cursor) < 19):  # noqa: PLR2004
            raise MCPError(INVALID_PARAMS, "The cursor is not one of ours.")
        await self._seen()
        page = await self._deps.reader.runs(
            self._deps.tenant,
            limit=LIMIT_DEFAULT,
            before=None if cursor is None else int(cursor),
        )
        return list(page.runs), None if page.before is None else str(page.before)

    async def _row(self, ref: RunRef) -> RunRow | None:
        await self._seen()
        return await self._deps.reader.run(ref.tenant, ref.run)

    async def _seen(self) -> None:
        """Let the views come to where the log is now, if they do so soon."""
        log = self._deps.backbone.log
        position = Cursor(log.incarnation, (await log.bounds())[1])
        await self._deps.reader.wait_for(position, VIEW_WAIT_S)

    def _none(self, ctx: Ctx, uri: str) -> MCPError:
        code = INVALID_PARAMS if is_modern(ctx) else NOT_FOUND
        return MCPError(code, "There is no such resource.", {"uri": uri})


async def events_page(log: EventLog, ref: RunRef, after: str | None) -> Page:
    """The events of a run after a cursor.

    Raises:
        Rejected: the cursor is not one of this log.
        Unavailable: the log is away.
        IntegrityViolated: the stored history cannot be read.
    """
    place = Cursor(log.incarnation, 0, -1) if after is None else Cursor.parse(after)
    if place is None or place.incarnation != log.incarnation:
        raise Rejected("bad_cursor", "the cursor is not one of this log; read from the start")
    lines = bytearray()
    count = 0
    async for cursor, line in _lines(log, ref, place):
        if count == EVENTS_MAX or (count and len(lines) + len(line) > EVENT_BYTES_MAX):
            return Page(bytes(lines), str(place), more=True)
        lines += line
        place, count = cursor, count + 1
    return Page(bytes(lines), str(place), more=False)


async def _lines(log: EventLog, ref: RunRef, after: Cursor) -> AsyncIterator[tuple[Cursor, bytes]]:
    for stored in await log.load(ref, after_seq=max(0, after.seq - 1)):
        envelope = decode(stored.data)
        for index, event in enumerate(envelope.events):
            cursor = Cursor(log.incarnation, stored.seq, index)
            if (cursor.seq, cursor.event) <= (after.seq, after.event):
                continue
            facts: dict[str, Any] = {
                "cursor": str(cursor),
                "run": ref.run,
                "job": ref.job,
                "version": envelope.version + index,
                "at_ms": envelope.at_ms,
                "event": event_json(event),
            }
            yield cursor, orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE)


def _resource(row: RunRow) -> types.Resource:
    return types.Resource(
        name=f"{row.expert} {row.run}",
        uri=f"{RUNS}/{row.run}",
        description=f"{row.status}: {row.query}"[:NAME_CHARS_MAX],
        mime_type=JSON,
    )


def _contents(
    uri: str, kind: str, data: bytes, meta: dict[str, Any] | None = None
) -> types.ReadResourceResult:
    text = types.TextResourceContents(
        uri=uri, mime_type=kind, text=data.decode("utf-8", "replace"), _meta=meta
    )
    return types.ReadResourceResult(contents=[text])
