"""The routes that ask the views: runs, one run, its checkpoints. Not its events: see `events`."""

import asyncio
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response

from commands.checkpoints import checkpoints_of
from domain.ids import TOKEN
from domain.state import Status
from eventlog.port import Cursor
from gateway.deps import GatewayDeps
from gateway.problems import Problem
from gateway.shapes import checkpoint_json, json_answer, run_json
from projections.queries import HELD, LIMIT_DEFAULT, LIMIT_MAX, Filters
from projections.views import CheckpointRow, RunRow

LIST_PARAMETERS = ("status", "expert", "job", "limit", "cursor", "min_position")


class Reads:
    """The handlers; each sees only the tenant's runs (C18)."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps
        self._reader = deps.reader

    async def list(self, request: Request) -> Response:
        """`GET /v1/runs`: newest first.

        Raises:
            Problem: a parameter is wrong, or the view does not come to the position asked for.
            Unavailable: the view cannot be read.
        """
        parameters = request.query_params
        for name in parameters:
            if name not in LIST_PARAMETERS:
                detail = f"There is no such parameter; there are: {', '.join(LIST_PARAMETERS)}"
                raise Problem(422, "invalid", detail)
        status = parameters.get("status")
        statuses = (*get_args(Status), *HELD)
        if status is not None and status not in statuses:
            detail = f"status must be one of: {', '.join(statuses)}"
            raise Problem(422, "invalid", detail)
        filters = Filters(status, parameters.get("expert"), parameters.get("job"))
        await self._wait(request)
        page = await asyncio.to_thread(
            self._reader.runs,
            self._deps.tenant(request),
            filters,
            limit=_number(request, "limit", LIMIT_MAX) or LIMIT_DEFAULT,
            before=_number(request, "cursor"),
        )
        body = {
            "runs": [run_json(request, row) for row in page.runs],
            "next_cursor": None if page.before is None else str(page.before),
            "position": None if page.position is None else str(page.position),
        }
        return json_answer(body)

    async def get(self, request: Request) -> Response:
        """`GET /v1/runs/{id}`: one run, by its id or the only beginning of it.

        Raises:
            Problem: there is no such run, or the view does not come to the position asked for.
            Rejected: several runs begin so.
            Unavailable: the view cannot be read.
        """
        return json_answer(run_json(request, await self._row(request)))

    async def checkpoints(self, request: Request) -> Response:
        """`GET /v1/runs/{id}/checkpoints`: the ends of its steps, oldest first, a source's before.

        Raises:
            Problem: there is no such run, or the view does not come to the position asked for.
            Rejected: several runs begin so.
            Unavailable: the view cannot be read.
            IntegrityViolated: the log of a source is not what was written.
        """
        row = await self._row(request)
        found = await asyncio.to_thread(self._reader.checkpoints, row)
        past = await self._past(row)
        points = [checkpoint_json(point) for point in (*past, *found)]
        return json_answer({"run": row.run, "checkpoints": points})

    async def _past(self, row: RunRow) -> tuple[CheckpointRow, ...]:
        """The checkpoints that a fork has from its source."""
        if row.source_run is None:
            return ()
        found = await checkpoints_of(self._deps.backbone.log, row.ref)
        return tuple(
            CheckpointRow(
                row.tenant, one.job, one.run, one.step, one.version, one.at_ms, one.tokens
            )
            for one in found
            if one.run != row.run and one.step
        )

    async def _row(self, request: Request) -> RunRow:
        await self._wait(request)
        tenant, name = self._deps.tenant(request), request.path_params["run"]
        if TOKEN.fullmatch(name) is None:
            raise Problem.no_such_run()
        row = await asyncio.to_thread(self._reader.run, tenant, name)
        log = self._deps.backbone.log
        if row is None and await log.find(tenant, name) is not None:
            # It is in the log: a run that exists is never "not found", only not shown yet.
            await self._until(Cursor(log.incarnation, (await log.bounds())[1]))
            row = await asyncio.to_thread(self._reader.run, tenant, name)
        if row is None:
            raise Problem.no_such_run()
        return row

    async def _wait(self, request: Request) -> None:
        text = request.query_params.get("min_position")
        if text is None:
            return
        position = Cursor.parse(text)
        if position is None:
            raise Problem(422, "invalid", "min_position is not a position.")
        if position.incarnation != self._deps.backbone.log.incarnation:
            raise Problem(409, "reset", "min_position is of another life of the log.")
        await self._until(position)

    async def _until(self, position: Cursor) -> None:
        if not await self._reader.wait_for(position, self._deps.wait_s):
            raise Problem(503, "behind", "The view has not come to this position yet; try again.")


def _number(request: Request, name: str, largest: int | None = None) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) > 0):  # noqa: PLR2004
        raise Problem(422, "invalid", f"{name} must be a positive number.")
    return int(text) if largest is None else min(int(text), largest)
