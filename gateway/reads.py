"""The routes that ask for runs: a list, one run, its checkpoints. Not its events: see `events`."""

from typing import Any, Literal

from pydantic import Field

from commands.checkpoints import checkpoints_of
from gateway.deps import GatewayDeps
from gateway.looking import Looking
from gateway.models.runs import Checkpoints, Run, Runs
from gateway.operations import Asked, Operation
from gateway.parameters import Listing, Reading, number_of
from gateway.shapes import checkpoint_of, run_of, told
from projections.queries import Filters
from projections.rows import CheckpointRow, RunRow

Wanted = Literal[
    "new", "running", "completed", "stopped", "failed", "cancelled", "waiting", "paused"
]


class RunsQuery(Listing):
    """Which runs."""

    status: Wanted | None = None
    """Also `waiting` (for a person) and `paused`: both are running."""
    expert: str | None = Field(default=None, max_length=200)
    job: str | None = Field(default=None, max_length=64)


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Runs, one run, its checkpoints."""
    reads = Reads(deps)
    return (
        Operation(
            "GET",
            "/v1/runs",
            "list_runs",
            "viewer",
            "Runs, newest first",
            reads.list,
            Runs,
            query=RunsQuery,
        ),
        Operation(
            "GET",
            "/v1/runs/{run}",
            "get_run",
            "viewer",
            "One run, by its id or the only beginning of it",
            reads.get,
            Run,
            query=Reading,
            problems=(409,),
        ),
        Operation(
            "GET",
            "/v1/runs/{run}/checkpoints",
            "list_checkpoints",
            "viewer",
            "The ends of its steps, those a fork has from its source first",
            reads.checkpoints,
            Checkpoints,
            query=Reading,
            problems=(409,),
        ),
    )


class Reads(Looking):
    """The handlers."""

    async def list(self, asked: Asked[RunsQuery, Any]) -> Runs:
        """`GET /v1/runs`: newest first.

        Raises:
            Problem: the cursor is wrong, or the view does not come to the position asked for.
            Unavailable: the view cannot be read.
        """
        query = asked.query
        await self.wait(query.position)
        page = await self.reader.runs(
            asked.tenant,
            Filters(query.status, query.expert, query.job),
            limit=query.page.limit,
            before=number_of(query.cursor),
        )
        return Runs(
            runs=[run_of(asked.request, row) for row in page.runs],
            next_cursor=None if page.before is None else str(page.before),
            position=told(page.position),
        )

    async def get(self, asked: Asked[Reading, Any]) -> Run:
        """`GET /v1/runs/{id}`: one run, by its id or the only beginning of it.

        Raises:
            Problem: there is no such run, or the view does not come to the position asked for.
            Rejected: several runs begin so.
            Unavailable: the view cannot be read.
        """
        await self.wait(asked.query.position)
        return run_of(asked.request, await self.row(asked.tenant, asked.part("run")))

    async def checkpoints(self, asked: Asked[Reading, Any]) -> Checkpoints:
        """`GET /v1/runs/{id}/checkpoints`: the ends of its steps, oldest first, a source's before.

        Raises:
            Problem: there is no such run, or the view does not come to the position asked for.
            Rejected: several runs begin so.
            Unavailable: the view cannot be read.
            IntegrityViolated: the log of a source is not what was written.
        """
        await self.wait(asked.query.position)
        row = await self.row(asked.tenant, asked.part("run"))
        found = await self.reader.checkpoints(row)
        past = await self._past(row)
        points = [checkpoint_of(point) for point in (*past, *found)]
        return Checkpoints(run=row.run, checkpoints=points)

    async def _past(self, row: RunRow) -> tuple[CheckpointRow, ...]:
        """The checkpoints that a fork has from its source."""
        if row.source_run is None:
            return ()
        found = await checkpoints_of(self.deps.backbone.log, row.ref)
        return tuple(
            CheckpointRow(
                row.tenant, one.job, one.run, one.step, one.version, one.at_ms, one.tokens
            )
            for one in found
            if one.run != row.run and one.step
        )
