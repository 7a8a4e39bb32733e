"""A worker inside a command that watches a run: loop and sandbox in this process. Not `serve`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from commands.desk import Desk
from domain.errors import IntegrityViolated
from domain.ids import RunRef
from eventlog.port import EventLog
from peritus.cli.loop import notice
from peritus.door import Door
from peritus.jobs import load_state
from peritus.keys import Keys
from peritus.lane import sandbox_lane, skill_lane
from peritus.project import Project
from peritus.runtime import Link, worker_parts, working
from peritus.settings import Settings
from services.loop.models.registry import ModelRegistry

LOOKED_AT_MAX = 20
"""Of how many other runs it is looked at whether they are open: the index may be behind."""


@asynccontextmanager
async def at_work(
    settings: Settings, project: Project, link: Link, models: ModelRegistry, keys: Keys
) -> AsyncGenerator[tuple[Desk, Door]]:
    """Be a worker of the project while the context is open.

    Raises:
        Unavailable: the store cannot be reached.
    """
    door = Door()
    skills = skill_lane(settings, project, link.backbone, keys.config)
    sandbox = sandbox_lane(settings, project, link.backbone, keys.config, skills=skills)
    parts = await worker_parts(
        settings, link, door, generate=models.generate, sandbox=sandbox, skills=skills
    )
    async with working(parts) as desk:
        yield desk, door


async def tell_others(link: Link, ref: RunRef) -> None:
    """Say that this process works on other open runs of the project too, as every worker does.

    Raises:
        Unavailable: the store is away.
    """
    listed = [other for other in await link.backbone.open_runs.list() if other.job != ref.job]
    log = link.backbone.log
    open_runs = sorted([x.run for x in listed[:LOOKED_AT_MAX] if await _is_open(log, x)])
    if open_runs:
        more = len(open_runs) + len(listed[LOOKED_AT_MAX:])
        names = ", ".join(open_runs[:3])
        notice(f"{more} more open here, which are carried on meanwhile: {names}")


async def _is_open(log: EventLog, ref: RunRef) -> bool:
    try:
        return not (await load_state(log, ref))[0].at_rest
    except IntegrityViolated:
        return True  # nobody can say


async def leave(door: Door, settings: Settings) -> None:
    """Finish what was begun for other runs, for a bounded time; the rest is taken up again."""
    if not await door.idle(settings.drain_s):
        notice("work on other open runs is left unfinished; `peritus resume` takes it up again")
