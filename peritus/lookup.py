"""Finds runs for people: by the beginning of an id, by expert, newest first. Not for decisions."""

from pathlib import Path

from domain.errors import NoSuchRun, Rejected
from domain.ids import RunRef
from eventlog.port import EventLog
from peritus.project import Project
from peritus.settings import Settings
from projections.queries import Filters, Page, Reader
from projections.runner import catch_up
from projections.views import RunRow


def views_path(settings: Settings, project: Project) -> Path:
    """The file of the views."""
    return settings.views_path or project.state / "views.sqlite"


class Runs:
    """The runs of one tenant, as of the moment they are asked for."""

    def __init__(self, log: EventLog, tenant: str, views: Path) -> None:
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
        row = (await self._reader()).run(self._tenant, name)
        if row is None:
            raise NoSuchRun(name)
        return row.ref

    async def newest_root(self, expert: str) -> RunRef:
        """The newest run of an expert that nobody delegated.

        Raises:
            Rejected: the expert never ran.
            Unavailable: the log or the view is away.
        """
        before: int | None = None
        reader = await self._reader()
        while True:
            page = reader.runs(self._tenant, Filters(expert=expert), before=before)
            for row in page.runs:
                if row.parent_run is None:
                    return row.ref
            if page.before is None:
                message = f"expert {expert!r} has no run to continue; leave out --continue"
                raise Rejected("nothing_to_continue", message)
            before = page.before

    async def page(self, filters: Filters, *, limit: int, before: int | None = None) -> Page:
        """The newest runs that match.

        Raises:
            Unavailable: the log or the view is away.
        """
        return (await self._reader()).runs(self._tenant, filters, limit=limit, before=before)

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
        reader = await self._reader()
        found: list[RunRow] = []
        before: int | None = None
        while True:
            page = reader.runs(self._tenant, filters, before=before)
            found.extend(page.runs)
            if page.before is None:
                return found
            before = page.before

    async def head_of(self, ref: RunRef, seq: int) -> str | None:
        """The digest of a run's last envelope, if the view saw it when it was appended at `seq`.

        Raises:
            Unavailable: the view is away.
        """
        reader = Reader(self._views)
        position = reader.position()
        if position is None or position.incarnation != self._log.incarnation or position.seq < seq:
            return None
        row = reader.run(ref.tenant, ref.run)
        return row.head if row is not None and row.ref == ref else None

    async def _reader(self) -> Reader:
        await catch_up(self._log, self._views)
        return Reader(self._views)
