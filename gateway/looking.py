"""What all routes that ask the views share: positions, runs by their name. Not the routes."""

from domain.ids import TOKEN
from eventlog.port import Cursor
from gateway.deps import GatewayDeps
from gateway.problems import Problem
from projections.queries.reader import RUNS
from projections.rows import RunRow


class Looking:
    """Questions to the views; each sees only the tenant's (C18)."""

    def __init__(self, deps: GatewayDeps) -> None:
        self.deps = deps
        self.reader = deps.reader

    async def wait(self, position: Cursor | None, *views: str) -> None:
        """Wait until these views, and that of runs, are where the client asks them to be.

        Raises:
            Problem: they do not come there in time, or it is of another life of the log.
            Unavailable: the views cannot be read.
        """
        if position is None:
            return
        if position.incarnation != self.deps.backbone.log.incarnation:
            raise Problem(409, "reset", "min_position is of another life of the log.")
        await self._until(position, *views)

    async def row(self, tenant: str, name: str) -> RunRow:
        """A run, by its id or the only beginning of it.

        Raises:
            Problem: there is no such run, or the view does not come to where it is.
            Rejected: several runs begin so.
            Unavailable: the view cannot be read.
        """
        if TOKEN.fullmatch(name) is None:
            raise Problem.no_such_run()
        row = await self.reader.run(tenant, name)
        log = self.deps.backbone.log
        if row is None and await log.find(tenant, name) is not None:
            # It is in the log: a run that exists is never "not found", only not shown yet.
            await self.catch_up()
            row = await self.reader.run(tenant, name)
        if row is None:
            raise Problem.no_such_run()
        return row

    async def catch_up(self, *views: str) -> None:
        """Wait until these views, and that of runs, show all that is in the log now.

        Raises:
            Problem: they do not come there in time.
            Unavailable: they cannot be read, or the log is away.
        """
        log = self.deps.backbone.log
        await self._until(Cursor(log.incarnation, (await log.bounds())[1]), *views)

    async def _until(self, position: Cursor, *views: str) -> None:
        wanted = (RUNS, *views)
        if not await self.reader.wait_for(position, self.deps.wait_s, views=wanted):
            raise Problem(503, "behind", "The view has not come to this position yet; try again.")
