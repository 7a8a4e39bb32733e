"""Deletes jobs that have been at rest for long, and finishes deletions. Not what deleting is."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from commands.delete_job import GONE, Deleted, Deleter
from commands.importing import IMPORTED, coming, read_brought
from commands.survey import JobName
from domain.errors import PeritusError, Rejected, Unavailable
from domain.events import Principal
from services.retention.sweep import sweep

logger = logging.getLogger(__name__)

ROUND_S = 3600.0
"""How often jobs are looked at, in seconds."""

AWAY_S = 30.0
"""How soon again when the store is away, in seconds."""

SWEEP_ROUNDS = 24
"""In which of the rounds blobs are collected: in each so-manieth, a count."""

BY = Principal(name="retention", via="service")


@dataclass(slots=True)
class RetentionService:
    """The retention of a deployment; several of it do the same and no harm. `days` None: never."""

    deleter: Deleter
    now_ms: Callable[[], int]
    days: float | None
    round_s: float = ROUND_S
    _rounds: int = field(default=0)

    async def run(self) -> None:
        """Round after round until cancelled, the first at once."""
        while True:
            wait_s = self.round_s
            try:
                await self.round()
                if self.days is not None and self._rounds % SWEEP_ROUNDS == 0:
                    await self.collect()
                self._rounds += 1
            except Unavailable as away:
                logger.warning("retention waits: %s", away)
                wait_s = min(wait_s, AWAY_S)
            except PeritusError:
                logger.exception("retention could not do all of it")
            await asyncio.sleep(wait_s)

    async def round(self) -> list[Deleted]:
        """Finish what was begun, then delete what is old enough; what was deleted.

        Raises:
            Unavailable: the store is away.
        """
        survey = self.deleter.survey
        begun = await self.deleter.unfinished()
        if self.days is None and not begun:
            return []  # without reading the log
        await survey.catch_up()
        done = [await self._delete(name) for name in await self._unfinished(begun)]
        wanted = await self.old_jobs(self.days * 86_400) if self.days is not None else []
        while wanted:  # a job goes after the forks that need it
            left: list[JobName] = []
            for name in wanted:
                if survey.forks_of(name):
                    left.append(name)
                else:
                    done.append(await self._delete(name))
            await survey.catch_up()
            if len(left) == len(wanted):
                break
            wanted = left
        return [one for one in done if one is not None]

    async def old_jobs(self, older_than_s: float) -> list[JobName]:
        """The jobs all runs of which have been at rest for that long, oldest first.

        One that was brought from elsewhere has been here only since then.

        Raises:
            Unavailable: the store is away.
        """
        survey = self.deleter.survey
        since: dict[JobName, int] = {}
        # Asked first: an import says that it is done before it says that it no longer comes.
        moving = await coming(self.deleter.backbone.registry)
        for entry in await self.deleter.backbone.registry.list(IMPORTED):
            brought = read_brought(entry.data)
            since[JobName(entry.tenant, entry.name)] = brought.at_ms if brought else self.now_ms()
        before_ms = self.now_ms() - int(older_than_s * 1000)
        found = [
            (at_ms, name)
            for name, seen in survey.jobs.items()
            if not seen.deleted
            and name not in moving
            and not seen.at_work
            and (at_ms := max(seen.at_ms, since.get(name, 0))) < before_ms
        ]
        return [name for _, name in sorted(found)]

    async def collect(self) -> int:
        """Collect blobs that nothing refers to; how many bytes.

        Raises:
            Unavailable: the store is away, or a newer release wrote here.
            IntegrityViolated: something is damaged, so it cannot be told what it refers to.
        """
        size = 0
        async for one in sweep(self.deleter.backbone, self.now_ms()):
            size += one.bytes
        if size:
            logger.info("blobs of %d bytes were collected", size)
        return size

    async def _unfinished(self, begun: list[JobName]) -> list[JobName]:
        """The deletions that were begun, also those of which only the tombstone tells."""
        entries = await self.deleter.backbone.registry.list(GONE)
        known = {JobName(one.tenant, one.name) for one in entries}
        buried = {name for name, seen in self.deleter.survey.jobs.items() if seen.deleted}
        return sorted({*begun, *(buried - known)})

    async def _delete(self, name: JobName) -> Deleted | None:
        try:
            return await self.deleter.delete(name, BY)
        except Rejected as refused:
            logger.info("job %s is kept: %s", name.job, refused)
        except Unavailable as away:
            logger.warning("job %s is removed later: %s", name.job, away)
        except PeritusError:
            logger.exception("job %s cannot be deleted", name.job)
        return None
