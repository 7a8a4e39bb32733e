"""The routes that ask for jobs: a list, and one. Not their trees: those are folded from the log."""

from typing import Any, Literal, cast

from pydantic import Field

from domain.ids import TOKEN
from domain.state import Status
from gateway.deps import GatewayDeps
from gateway.looking import Looking
from gateway.models.runs import ForkedFrom, Job, Jobs
from gateway.operations import Asked, Operation
from gateway.parameters import Listing, Reading
from gateway.problems import Problem
from gateway.shapes import rest_of, source_of, tokens_of, url_of
from projections.queries.jobs import JobFilters, JobRow, job, jobs
from projections.queries.roots import paused_jobs, roots_of
from projections.rows import RunRow

TAG = "jobs"
VIEW = "jobs"

Wanted = Literal[
    "new", "running", "completed", "stopped", "failed", "cancelled", "waiting", "paused"
]


class JobsQuery(Listing):
    """Which jobs."""

    status: Wanted | None = None
    """Of the first run; also `waiting` (a run of it, for a person) and `paused`."""
    expert: str | None = Field(default=None, max_length=200)
    """Of the first run."""
    forked_from: str | None = Field(default=None, max_length=64)
    """The job of the run that the first run was forked from."""


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Jobs, and one job."""
    routes = JobRoutes(deps)
    return (
        Operation(
            "GET",
            "/v1/jobs",
            "list_jobs",
            "viewer",
            "Jobs, newest first, with what all their runs used",
            routes.list,
            Jobs,
            query=JobsQuery,
            problems=(409,),
            tag=TAG,
            description="A job is a run that somebody started, and all runs that came of it.",
        ),
        Operation(
            "GET",
            "/v1/jobs/{job}",
            "get_job",
            "viewer",
            "One job, with what all its runs used",
            routes.get,
            Job,
            query=Reading,
            problems=(409,),
            tag=TAG,
        ),
    )


class JobRoutes(Looking):
    """The handlers."""

    async def list(self, asked: Asked[JobsQuery, Any]) -> Jobs:
        """`GET /v1/jobs`: newest first.

        Raises:
            Problem: the view does not come to the position asked for.
            Rejected: the cursor is none of this list.
            Unavailable: the views cannot be read.
        """
        query, tenant = asked.query, asked.tenant
        await self.wait(query.position, VIEW)
        paused = query.status == "paused"
        filters = JobFilters(
            status=None if paused else query.status,
            expert=query.expert,
            forked_from=query.forked_from,
            among=await paused_jobs(self.reader, tenant) if paused else None,
        )
        page = await jobs(self.reader, tenant, filters, query.page)
        roots = await roots_of(self.reader, tenant, [one.job for one in page.items])
        return Jobs(
            jobs=[job_of(asked, one, roots.get(one.job)) for one in page.items],
            **rest_of(page),
        )

    async def get(self, asked: Asked[Reading, Any]) -> Job:
        """`GET /v1/jobs/{job}`.

        Raises:
            Problem: there is no such job, or the view does not come to the position asked for.
            Unavailable: the views cannot be read.
        """
        await self.wait(asked.query.position, VIEW)
        tenant, name = asked.tenant, asked.part("job")
        missing = Problem(404, "no_such_job", "There is no such job.")
        if TOKEN.fullmatch(name) is None:
            raise missing
        row = await job(self.reader, tenant, name)
        if row is None and await self.deps.backbone.log.find(tenant, name) is not None:
            await self.catch_up(VIEW)  # it is in the log: not "not found", only not shown yet
            row = await job(self.reader, tenant, name)
        if row is None:
            raise missing
        roots = await roots_of(self.reader, tenant, [name])
        return job_of(asked, row, roots.get(name))


def job_of(asked: Asked[Any, Any], row: JobRow, root: RunRow | None) -> Job:
    """A job as clients see it."""
    source = None if root is None else source_of(root)
    return Job(
        job=row.job,
        expert=row.expert,
        definition=row.definition,
        status=cast("Status", row.status),
        query=row.query,
        started_at_ms=row.started_at_ms,
        updated_at_ms=row.updated_at_ms,
        ended_at_ms=row.ended_at_ms,
        paused=root is not None and root.status == "running" and root.paused_at_ms is not None,
        runs=row.runs,
        running=row.running,
        waiting=row.waiting,
        steps=row.steps,
        tool_calls=row.tool_calls,
        usage=tokens_of(row),
        tokens_charged=row.tokens_charged,
        micro_usd_charged=row.money_charged,
        forked_from=None if source is None else ForkedFrom.model_validate(source),
        result=None if root is None else root.result,
        events_url=url_of(asked.request, f"/v1/jobs/{row.job}/events"),
    )
