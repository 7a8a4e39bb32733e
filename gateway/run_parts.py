"""The routes that ask what a run is made of: its steps, its calls, what it did. Not the runs."""

from typing import Any

from pydantic import Field

from gateway.deps import GatewayDeps
from gateway.looking import Looking
from gateway.models.runs import Activities, Activity, Call, Calls, Step, Steps
from gateway.operations import Asked, Operation
from gateway.parameters import Listing
from gateway.problems import Problem
from gateway.shapes import rest_of, tokens_of
from projections.queries.activities import ActivityRow, activities_of
from projections.queries.steps import CallFilters, CallRow, StepRow, calls_of, steps_of


class CallsQuery(Listing):
    """Which calls."""

    status: str | None = Field(default=None, max_length=64)
    """`requested`, `waiting`, `claimed`, or an outcome."""
    tool: str | None = Field(default=None, max_length=200)


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Steps, calls and activities."""
    parts = RunParts(deps)
    return (
        Operation(
            "GET",
            "/v1/runs/{run}/steps",
            "list_steps",
            "viewer",
            "The steps of a run, in order",
            parts.steps,
            Steps,
            query=Listing,
            problems=(409,),
        ),
        Operation(
            "GET",
            "/v1/runs/{run}/calls",
            "list_calls",
            "viewer",
            "The tool calls of a run, in the order they were asked for",
            parts.calls,
            Calls,
            query=CallsQuery,
            problems=(409,),
        ),
        Operation(
            "GET",
            "/v1/runs/{run}/activities",
            "list_run_activities",
            "viewer",
            "What a run did, as people say it, oldest first",
            parts.activities_of_run,
            Activities,
            query=Listing,
            problems=(409,),
        ),
        Operation(
            "GET",
            "/v1/jobs/{job}/activities",
            "list_job_activities",
            "viewer",
            "What all runs of a job did, oldest first",
            parts.activities_of_job,
            Activities,
            query=Listing,
            problems=(409,),
            tag="jobs",
        ),
    )


class RunParts(Looking):
    """The handlers."""

    async def steps(self, asked: Asked[Listing, Any]) -> Steps:
        """`GET /v1/runs/{run}/steps`.

        Raises:
            Problem: there is no such run, or the view does not come to the position asked for.
            Rejected: several runs begin so, or the cursor is none of this list.
            Unavailable: the views cannot be read.
        """
        await self.wait(asked.query.position, "steps")
        row = await self.row(asked.tenant, asked.part("run"))
        found = await steps_of(self.reader, asked.tenant, row.job, row.run, asked.query.page)
        return Steps(steps=[step_of(one) for one in found.items], **rest_of(found))

    async def calls(self, asked: Asked[CallsQuery, Any]) -> Calls:
        """`GET /v1/runs/{run}/calls`.

        Raises:
            Problem: there is no such run, or the view does not come to the position asked for.
            Rejected: several runs begin so, or the cursor is none of this list.
            Unavailable: the views cannot be read.
        """
        query = asked.query
        await self.wait(query.position, "calls")
        row = await self.row(asked.tenant, asked.part("run"))
        found = await calls_of(
            self.reader,
            asked.tenant,
            row.job,
            row.run,
            filters=CallFilters(query.status, query.tool),
            asked=query.page,
        )
        return Calls(calls=[call_of(one) for one in found.items], **rest_of(found))

    async def activities_of_run(self, asked: Asked[Listing, Any]) -> Activities:
        """`GET /v1/runs/{run}/activities`.

        Raises:
            Problem: there is no such run, or the view does not come to the position asked for.
            Rejected: several runs begin so, or the cursor is none of this list.
            Unavailable: the views cannot be read.
        """
        await self.wait(asked.query.position, "activities")
        row = await self.row(asked.tenant, asked.part("run"))
        return await self._activities(asked, row.job, row.run)

    async def activities_of_job(self, asked: Asked[Listing, Any]) -> Activities:
        """`GET /v1/jobs/{job}/activities`.

        Raises:
            Problem: there is no such job, or the view does not come to the position asked for.
            Rejected: the cursor is none of this list.
            Unavailable: the views cannot be read.
        """
        await self.wait(asked.query.position, "activities")
        job = asked.part("job")
        try:
            root = await self.row(asked.tenant, job)
        except Problem as problem:
            raise _of_job(problem) from None
        if root.run != job:  # a run whose name begins so is no job of that name
            raise _of_job(Problem.no_such_run())
        return await self._activities(asked, job, None)

    async def _activities(
        self, asked: Asked[Listing, Any], job: str, run: str | None
    ) -> Activities:
        found = await activities_of(self.reader, asked.tenant, job, run, asked.query.page)
        return Activities(activities=[activity_of(one) for one in found.items], **rest_of(found))


def _of_job(problem: Problem) -> Problem:
    if problem.code == "no_such_run":
        return Problem(404, "no_such_job", "There is no such job.")
    return problem


def step_of(row: StepRow) -> Step:
    """A step as clients see it."""
    return Step(
        run=row.run,
        step=row.step,
        attempts=row.attempts,
        provider=row.provider,
        model=row.model,
        started_at_ms=row.started_at_ms,
        generated_at_ms=row.generated_at_ms,
        ended_at_ms=row.ended_at_ms,
        stop_reason=row.stop_reason,
        calls=row.calls,
        failures=row.failures,
        usage=tokens_of(row),
        tokens_charged=row.tokens_charged,
        micro_usd_charged=row.money_charged,
    )


def call_of(row: CallRow) -> Call:
    """A call as clients see it."""
    return Call(
        run=row.run,
        call=row.call,
        step=row.step,
        tool=row.tool,
        skill=row.skill,
        status=row.status,
        lane=row.lane,
        safety=row.safety,
        requested_at_ms=row.requested_at_ms,
        claimed_at_ms=row.claimed_at_ms,
        ended_at_ms=row.ended_at_ms,
        duration_ms=row.duration_ms,
        arguments=row.arguments,
        result=row.result,
        is_error=row.is_error,
        child_run=row.child,
        attempts=row.attempts,
    )


def activity_of(row: ActivityRow) -> Activity:
    """An activity as clients see it."""
    return Activity(
        id=row.id,
        run=row.run,
        job=row.job,
        expert=row.expert,
        delegated_by=row.delegated_by,
        type=row.type,
        status=row.status or None,
        call=row.call,
        summary=row.summary,
        reasoning=row.reasoning,
        at_ms=row.at_ms,
        ended_at_ms=row.ended_at_ms,
    )
