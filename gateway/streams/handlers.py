"""The three streams: of a run, of a job, of all that a tenant has. Not how they are told."""

from typing import Any

from starlette.types import ASGIApp

from domain.ids import TOKEN, RunRef
from gateway.deps import GatewayDeps
from gateway.operations import Asked
from gateway.problems import Problem
from gateway.streams.feed import ANY, Feed
from gateway.streams.hub import Hub
from gateway.streams.places import find_place, root_of
from gateway.streams.queries import (
    JobStreamQuery,
    RunStreamQuery,
    TenantStreamQuery,
    wanted_names,
    wanted_types,
)
from gateway.streams.response import StreamAnswer


class Streams:
    """The handlers; each sees only the tenant's runs (C18)."""

    def __init__(self, deps: GatewayDeps, hub: Hub) -> None:
        self._log = deps.backbone.log
        self._hub = hub

    async def of_run(self, asked: Asked[RunStreamQuery, Any]) -> ASGIApp:
        """Stream a run from where the client left off, or from the start.

        Raises:
            Problem: there is no such run, or a parameter is wrong.
            Unavailable: the log is away.
        """
        query = asked.query
        types, prefixes = wanted_types(query.types)
        ref = await self._run(asked.tenant, asked.part("run"), query.job)
        feed = Feed(
            ref, root=ref, types=types, prefixes=prefixes, live=query.live, follow=query.follow
        )
        return await self._answer(asked, feed)

    async def of_job(self, asked: Asked[JobStreamQuery, Any]) -> ASGIApp:
        """Stream all runs of a job.

        Raises:
            Problem: there is no such job, or a parameter is wrong.
            Unavailable: the log is away.
        """
        query, job = asked.query, asked.part("job")
        types, prefixes = wanted_types(query.types)
        runs = wanted_names("run", query.run)
        root = await root_of(self._log, asked.tenant, job)
        if root is None:
            raise Problem(404, "no_such_job", "There is no such job.")
        feed = Feed(
            RunRef(asked.tenant, job, ANY),
            root=root,
            runs=runs,
            types=types,
            prefixes=prefixes,
            live=query.live,
            follow=query.follow,
        )
        return await self._answer(asked, feed)

    async def of_tenant(self, asked: Asked[TenantStreamQuery, Any]) -> ASGIApp:
        """Stream everything of the tenant, without end.

        Raises:
            Problem: a parameter is wrong.
            Unavailable: the log is away.
        """
        query = asked.query
        types, prefixes = wanted_types(query.types)
        feed = Feed(
            RunRef(asked.tenant, ANY, ANY),
            runs=wanted_names("run", query.run),
            jobs=wanted_names("job", query.job),
            types=types,
            prefixes=prefixes,
            live=query.live,
            follow=True,
        )
        return await self._answer(asked, feed)

    async def _answer(self, asked: Asked[Any, Any], feed: Feed) -> ASGIApp:
        hub, query = self._hub, asked.query
        if hub.viewers >= hub.bounds.viewers:
            detail = f"This gateway has {hub.viewers} streams open; try another, or later."
            raise Problem(503, "too_many_streams", detail)
        await hub.opened()
        given = asked.request.headers.get("last-event-id")
        place = await find_place(self._log, feed, given or query.after or query.last_event_id)
        return StreamAnswer(hub, feed, place)

    async def _run(self, tenant: str, name: str, job: str | None) -> RunRef:
        """The run named in the path; with its job it may be one that is not started yet."""
        if TOKEN.fullmatch(name):
            ref = await self._log.find(tenant, name)
            if ref is None and job is not None and TOKEN.fullmatch(job):
                ref = RunRef(tenant, job, name)
            if ref is not None:
                return ref
        raise Problem.no_such_run()
