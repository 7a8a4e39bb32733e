"""Finds runs for people: by the beginning of an id, by expert, newest first. Not for decisions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from domain.errors import NoSuchRun, Rejected
from domain.ids import RunRef
from eventlog.port import EventLog
from peritus.project import Project
from peritus.settings import Settings
from projections.queries import Filters, Page
from projections.rows import RunRow
from projections.where import Where, parse_where

if TYPE_CHECKING:
    from projections.queries.reader import Reader


def views_at(settings: Settings, project: Project) -> Where:
    """Where the views are kept.

    Raises:
        Rejected: the URL that is set names no such place.
    """
    if settings.views_url is not None:
        return parse_where(settings.views_url.get_secret_value(), schema=settings.prefix)
    return settings.views_path or project.state / "views.sqlite"


class Runs:
    """The runs of one tenant, as of the moment they are asked for."""

    def __init__(self, log: EventLog, tenant: str, views: Where) -> None:
        self._log = log
        self._tenant = tenant
        self._views = views

    async def find(self, name: str) -> RunRef:
        """The run of that id, or the only one whose id begins so.

        Raises:
            NoSuchRun: there is none.
            Rejected: several runs begin so.
            Unavailable: the log or the view is away.
        """
        exact = await self._log.find(self._tenant, name)
        if exact is not None:
            return exact
        async with await self._reader() as reader:
            row = await reader.run(self._tenant, name)
        if row is None:
            raise NoSuchRun(name)
        return row.ref

    async def newest_root(self, expert: str) -> RunRef:
        """The newest run of an expert that nobody delegated.

        Raises:
            Rejected: the expert never ran.
            Unavailable: the log or the view is away.
        """
        async with aclosing(self._each(Filters(expert=expert))) as rows:
            async for row in rows:
                if row.parent_run is None:
                    return row.ref
        message = f"expert {expert!r} has no run to continue; leave out --continue"
        raise Rejected("nothing_to_continue", message)

    async def page(self, filters: Filters, *, limit: int, before: int | None = None) -> Page:
        """The newest runs that match.

        Raises:
            Unavailable: the log or the view is away.
        """
        async with await self._reader() as reader:
            return await reader.runs(self._tenant, filters, limit=limit, before=before)

    async def of_job(self, job: str) -> list[RunRow]:
        """All runs of a job.

        Raises:
            Unavailable: the log or the view is away.
        """
        return await self.all(Filters(job=job))

    async def all(self, filters: Filters) -> list[RunRow]:
        """All runs that match, newest first.

        Raises:
            Unavailable: the log or the view is away.
        """
        async with aclosing(self._each(filters)) as rows:
            return [row async for row in rows]

    async def head_of(self, ref: RunRef, seq: int) -> str | None:
        """The digest of a run's last envelope, if the view saw it when it was appended at `seq`.

        Raises:
            Unavailable: the view is away.
        """
        from projections.queries.reader import Reader  # noqa: PLC0415 - as below

        async with Reader(self._views) as reader:
            place = await reader.position()
            if place is None or place.incarnation != self._log.incarnation or place.seq < seq:
                return None
            row = await reader.run(ref.tenant, ref.run)
        return row.head if row is not None and row.ref == ref else None

    async def _each(self, filters: Filters) -> AsyncGenerator[RunRow]:
        before: int | None = None
        async with await self._reader() as reader:
            while True:
                page = await reader.runs(self._tenant, filters, before=before)
                for row in page.runs:
                    yield row
                if page.before is None:
                    return
                before = page.before

    async def _reader(self) -> "Reader":
        # A new run looks nothing up, and what speaks to databases is long to import.
        from projections.queries.reader import Reader  # noqa: PLC0415
        from projections.runner import catch_up  # noqa: PLC0415
        from projections.views import RUNS  # noqa: PLC0415

        await catch_up(self._log, self._views, views=(RUNS,))
        return Reader(self._views)
