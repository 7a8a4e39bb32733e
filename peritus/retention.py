"""Puts together what deletes and exports jobs in this process. Not when, and not which."""

import asyncio
from importlib.metadata import version
from typing import IO

from commands.delete_job import Deleted, Deleter
from commands.runs import RunStore
from commands.survey import JobName, Survey
from domain.events import Principal
from eventlog.port import Backbone
from peritus.ids import new_id, now_ms
from services.retention.exporting import Origin, export_job
from services.retention.service import RetentionService
from services.worker.epoch import this_epoch


def deleter(backbone: Backbone) -> Deleter:
    """Deletes jobs of this deployment in the name of this process."""
    runs = RunStore(backbone, epoch=str(this_epoch()), now_ms=now_ms, new_id=new_id)
    return Deleter(backbone, runs, Survey(backbone.log), new_id)


def retention(backbone: Backbone, days: float | None) -> RetentionService:
    """Looks after what is to be deleted; `days` None: only after what was begun."""
    return RetentionService(deleter(backbone), now_ms, days)


def origin() -> Origin:
    """Who writes an export, and when."""
    return Origin(version("peritus"), now_ms())


class Retainer:
    """Fills the gateway's port; one deletion at a time, which read the log where the last ended."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._deleter = deleter(backbone)
        self._turn = asyncio.Lock()

    async def delete(self, name: JobName, by: Principal) -> Deleted:
        """Delete a job, or go on with that.

        Raises:
            Rejected: `no_such_job`, `not_at_rest`, or `has_forks`.
            Unavailable: not now, or not all of it yet.
            IntegrityViolated: it is damaged.
        """
        async with self._turn:
            return await self._deleter.delete(name, by)

    async def export(self, name: JobName, file: IO[bytes]) -> None:
        """Write a job into a file.

        Raises:
            Rejected: `no_such_job`, or `gone`.
            Unavailable: the store is away.
            IntegrityViolated: it is damaged.
        """
        await export_job(self._backbone, name, file, origin())
