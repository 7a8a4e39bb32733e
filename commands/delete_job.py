"""Delete a job: its tombstone first, then all that is stored of it (rule 15). Not its blobs.

Each part may be done again, and whoever comes later goes on where another one was cut off:

1. REGISTRY says that the job is to go (kind `gone`): for people, and so that somebody goes on.
2. The root run gets its last event, `run.deleted`, by the same guard as every decision. From here
   on the job is gone: no command changes it, no run is added to it, no fork begins from it.
3. The log is read again. A fork that began before step 2 keeps the history; it is removed when the
   fork is gone, too.
4. What lies before the tombstone is purged, and what commands, timers and caches there are.
5. REGISTRY says that it is done, and what it was.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from commands.importing import IMPORT, IMPORTED, coming
from commands.runs import RunStore
from commands.survey import JobName, Survey
from domain.commands import DeleteRun, Situation
from domain.errors import Conflict, Rejected, Unavailable
from domain.events import NOBODY, Principal
from domain.ids import check_token
from domain.record import Record, canonical
from eventlog.port import Backbone

logger = logging.getLogger(__name__)

GONE = "gone"
"""The kind of the registry's entries."""

BEGINNING_S = 10.0
"""How long a run that is about to begin is waited for, in seconds; the loop service takes one that
never came out of the index after 3."""

LOOK_S = 0.2
PURGES_MAX = 8


class Gone(Record):
    """What the registry keeps of a deleted job. `removed_at_ms`: when all of it was; or not yet."""

    type: Literal["gone.v1"] = "gone.v1"
    command: str
    at_ms: int
    runs: int
    envelopes: int
    by: Principal = NOBODY
    removed_at_ms: int | None = None


class Deleted(Record):
    """What came of it. `kept_by`: living forks that still need the history."""

    tenant: str
    job: str
    runs: int
    envelopes: int
    at_ms: int
    kept_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deleter:
    """Deletes jobs, one at a time; several of these may be at work at once."""

    backbone: Backbone
    runs: RunStore
    survey: Survey
    new_id: Callable[[], str]

    async def delete(self, name: JobName, by: Principal = NOBODY) -> Deleted:
        """Delete a job, or go on with that.

        Raises:
            Rejected: `no_such_job`, `not_at_rest`, or `has_forks`: a living fork refers to it.
            Unavailable: not now, or not all of it yet; do it again.
            IntegrityViolated: its root run is damaged, so nothing can be decided about it.
        """
        check_token("job", name.job)
        await self.survey.catch_up()
        seen = self.survey.jobs.get(name)
        if seen is None:
            raise Rejected("no_such_job", f"there is no job {name.job!r}")
        gone = await self.known(name)
        half = name in await coming(self.backbone.registry)
        if not seen.deleted:
            self._check(name, half=half)
            gone = await self._announce(name, gone, by)
            await self._bury(name, gone, half=half)
        elif gone is None:  # its entry was lost, or the job was brought here as it is
            gone = Gone(command="", at_ms=seen.at_ms, runs=0, envelopes=0, by=by)
        return await self._remove(name, gone)

    async def known(self, name: JobName) -> Gone | None:
        """What the registry has of a deletion; None when there is none.

        Raises:
            Unavailable: the store is away.
        """
        entry = await self.backbone.registry.get(GONE, *name)
        return None if entry is None else read_gone(entry.data)

    def _check(self, name: JobName, *, half: bool) -> None:
        seen = self.survey.jobs[name]
        if seen.at_work and not half:
            runs = ", ".join(sorted(seen.at_work)[:3])
            message = f"job {name.job!r} is at work (run {runs}); cancel it first, or wait"
            raise Rejected("not_at_rest", message)
        if forks := self.survey.forks_of(name):
            named = ", ".join(fork.job for fork in forks[:5])
            message = f"job {name.job!r} has living forks, which need its history: {named}"
            raise Rejected("has_forks", message)

    async def _announce(self, name: JobName, gone: Gone | None, by: Principal) -> Gone:
        """Say that it is to go; who said so first stays."""
        counts = await self.backbone.retention.runs(*name)
        if gone is not None:
            return gone
        gone = Gone(
            command=self.new_id(),
            at_ms=self.runs.now_ms(),
            runs=len(counts),
            envelopes=sum(counts.values()),
            by=by,
        )
        try:
            await self.backbone.registry.put(GONE, *name, canonical(gone), expected=0)
        except Conflict:  # somebody else does the same, or the answer to our own was lost
            return await self.known(name) or gone
        return gone

    async def _bury(self, name: JobName, gone: Gone, *, half: bool) -> None:
        """Leave the tombstone; a job that went on meanwhile is not to go after all."""
        before = (await self.runs.fresh(name.root)).state.version
        await self.survey.catch_up()
        try:
            self._check(name, half=half)
            command = _command(gone, before, half=half)
            await self.runs.execute(name.root, command, Situation(now_ms=self.runs.now_ms()))
        except Rejected:
            await self.backbone.registry.remove(GONE, *name)
            raise

    async def _remove(self, name: JobName, gone: Gone) -> Deleted:
        found = Deleted(
            tenant=name.tenant,
            job=name.job,
            runs=gone.runs,
            envelopes=gone.envelopes,
            at_ms=gone.at_ms,
        )
        await self._settle(name)
        if forks := self.survey.forks_of(name):
            return found.model_copy(update={"kept_by": tuple(fork.job for fork in forks)})
        retention = self.backbone.retention
        everything = name.root._replace(run="*")
        for _ in range(PURGES_MAX):
            buried = await self.runs.fresh(name.root)
            await retention.purge(everything, before_seq=buried.seq)
            if set(await retention.runs(*name)) <= {name.root}:
                break
            # Something was appended to another run between the tombstone and that: readers have it.
            again = _command(gone, buried.state.version, again=True)
            with suppress(Rejected):  # somebody else does the same
                await self.runs.execute(name.root, again, Situation(now_ms=self.runs.now_ms()))
        else:
            msg = f"job {name.job!r} is gone, and something is still added to it; try again"
            raise Unavailable(msg)
        await retention.forget(*name)
        self.runs.forget(name.root)
        await self.backbone.registry.remove(IMPORT, *name)
        await self.backbone.registry.remove(IMPORTED, *name)
        await self._done(name, gone)
        return found

    async def _settle(self, name: JobName) -> None:
        """Wait until no run is about to begin that may be a fork of this job, then look.

        A fork is in the index of open runs before it looks for the tombstone, so one that has not
        seen it is in the index now, or in the log.

        Raises:
            Unavailable: one is about to begin, and does not.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + BEGINNING_S
        while True:
            refs = await self.backbone.open_runs.list()
            await self.survey.catch_up()
            begun = self.survey.jobs
            coming = [
                ref
                for ref in refs
                if ref.tenant == name.tenant
                and ref.run == ref.job != name.job
                and JobName(ref.tenant, ref.job) not in begun
            ]
            if not coming:
                return
            if loop.time() > until:
                msg = (
                    f"job {name.job!r} is gone, and its history is not removed yet: run "
                    f"{coming[0].run!r} is about to begin and may be a fork of it; try again"
                )
                raise Unavailable(msg)
            await asyncio.sleep(LOOK_S)

    async def _done(self, name: JobName, gone: Gone) -> None:
        registry = self.backbone.registry
        if gone.removed_at_ms is not None:
            return
        done = gone.model_copy(update={"removed_at_ms": self.runs.now_ms()})
        entry = await registry.get(GONE, *name)
        try:
            expected = entry.revision if entry else 0
            await registry.put(GONE, *name, canonical(done), expected=expected)
        except Conflict:
            logger.info("job %s: another process says that it is removed", name.job)

    async def unfinished(self) -> list[JobName]:
        """The deletions that were begun and are not done.

        Raises:
            Unavailable: the store is away.
        """
        entries = await self.backbone.registry.list(GONE)
        return [
            JobName(entry.tenant, entry.name)
            for entry in entries
            if (gone := read_gone(entry.data)) is not None and gone.removed_at_ms is None
        ]


def _command(gone: Gone, version: int, *, again: bool = False, half: bool = False) -> DeleteRun:
    return DeleteRun(
        id=gone.command,
        version=version,
        runs=gone.runs,
        envelopes=gone.envelopes,
        again=again,
        half=half,
        by=gone.by,
    )


def read_gone(data: bytes) -> Gone | None:
    """An entry of the registry; None for one that another release wrote otherwise."""
    try:
        return Gone.model_validate_json(data)
    except ValidationError:
        return None


def with_forks(survey: Survey, name: JobName) -> list[JobName]:
    """A job and all that was forked from it, directly or not: forks before what they need."""
    found: dict[JobName, None] = {}

    def visit(one: JobName) -> None:
        for fork in survey.forks_of(one):
            visit(fork)
        found[one] = None

    visit(name)
    return list(found)
