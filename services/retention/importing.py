"""Brings an exported job into a log, under the names it had. Nothing of it runs because of that.

Envelopes are bytes that hash each other, and the tenant is part of them: a job can only be brought
to the tenant it was of. While it comes it is half there, so the registry names it (kind `import`)
and the reconciler leaves it alone; who was cut off goes on when he does the same again.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import IO

from commands.history import Loaded, catch_up, fold_stored
from commands.importing import IMPORT, IMPORTED, Brought, read_brought
from domain.decisions.deletion import gone
from domain.envelope import tombstone_in
from domain.errors import AppendUnknown, Conflict, IntegrityViolated, Rejected
from domain.ids import RunRef, check_token
from domain.record import Record, canonical
from domain.state import RunState
from eventlog.port import Backbone, EventLog, Stored
from services.retention.archive import ArchiveReader, Line, Manifest

logger = logging.getLogger(__name__)

APPEND_TRIES_MAX = 5


class Imported(Record):
    """What came of it: the jobs that came, and those of the file that were here already."""

    tenant: str
    jobs: tuple[str, ...]
    here: tuple[str, ...]
    runs: int
    envelopes: int
    blobs: int
    missing: tuple[str, ...]


@dataclass(slots=True)
class _Job:
    """One job of the file. `begun`: an earlier import of the same file was cut off in it."""

    name: str
    runs: dict[RunRef, list[bytes]]
    begun: bool = False


async def import_job(backbone: Backbone, tenant: str, file: IO[bytes], now_ms: int) -> Imported:
    """Bring a job, and those it was forked from that are not here yet.

    Raises:
        Rejected: `bad_archive`, `other_tenant`, `not_at_rest`, `job_exists`, `gone`,
            `import_failed`: somebody else wrote in it while it came.
        Unavailable: not now; the same again goes on.
        IntegrityViolated: the file, or what of the job is here, is not what was written.
    """
    archive = await asyncio.to_thread(ArchiveReader, file)
    try:
        return await _bring(backbone, tenant, archive, now_ms)
    finally:
        archive.close()


async def _bring(backbone: Backbone, tenant: str, archive: ArchiveReader, now_ms: int) -> Imported:
    manifest = archive.manifest
    if manifest.tenant != tenant:
        message = (
            f"this job is tenant {manifest.tenant!r}'s, and its envelopes say so; it can only be "
            f"brought to a tenant of that name, not to {tenant!r}"
        )
        raise Rejected("other_tenant", message)
    lines = await asyncio.to_thread(lambda: list(archive.lines()))
    jobs = _jobs(manifest, lines)
    wanted = [job for job in jobs if not await _is_here(backbone, job, manifest)]
    for one in manifest.blobs if wanted else ():
        await backbone.blobs.put(tenant, await asyncio.to_thread(archive.blob, one))
    for job in wanted:
        await _announce(backbone, job, tenant, manifest, now_ms)
    placer = _Placer(backbone.log, {ref: run for job in wanted for ref, run in job.runs.items()})
    try:
        for line in lines:
            if line.ref in placer.runs:
                await placer.append(line.ref)
        for ref in placer.runs:
            await catch_up(backbone.log, Loaded(RunState(ref=ref)))  # with its past, all checked
    except (Conflict, IntegrityViolated) as wrong:
        message = (
            f"the job is here in part and cannot be completed, because {wrong}; nothing of it "
            "runs; remove it with `peritus delete`, which leaves its name unused here for good"
        )
        raise Rejected("import_failed", message) from wrong
    for job in wanted:
        await _settle(backbone, job, tenant, manifest, now_ms)
    return Imported(
        tenant=tenant,
        jobs=tuple(job.name for job in wanted),
        here=tuple(job.name for job in jobs if job not in wanted),
        runs=len(placer.runs),
        envelopes=sum(map(len, placer.runs.values())),
        blobs=len(manifest.blobs) if wanted else 0,
        missing=manifest.missing,
    )


def _jobs(manifest: Manifest, lines: list[Line]) -> list[_Job]:
    """What the file holds, each run checked from its first envelope to its last."""
    jobs = {job: _Job(job, {}) for job in reversed(manifest.jobs)}  # sources before their forks
    for line in lines:
        for token in line.ref:
            check_token("run", token)
        if line.ref.job not in jobs:
            msg = f"the file holds an envelope of job {line.ref.job!r}, which it does not name"
            raise IntegrityViolated(msg)
        jobs[line.ref.job].runs.setdefault(line.ref, []).append(line.data)
    named = {RunRef(manifest.tenant, run.job, run.run): run.head for run in manifest.runs}
    if named.keys() != {ref for job in jobs.values() for ref in job.runs}:
        msg = "the file does not hold the runs that it names"
        raise IntegrityViolated(msg)
    for job in jobs.values():
        for ref, run in job.runs.items():
            loaded = Loaded(RunState(ref=ref))
            for seq, data in enumerate(run, start=1):
                loaded = fold_stored(loaded, Stored(seq, ref, data))
            if loaded.hash != named[ref]:
                msg = f"run {ref.run!r} in the file ends with another envelope than it should"
                raise IntegrityViolated(msg)
            _must_rest(loaded.state)
    return list(jobs.values())


def _must_rest(state: RunState) -> None:
    if state.status == "deleted":
        raise gone(state.ref.job)
    if not state.at_rest or state.unknown_events:
        what = "has events of a newer release" if state.unknown_events else "had not come to rest"
        message = (
            f"run {state.ref.run!r} {what} when it was exported: where it came from it may go on, "
            "and what it does would be done twice; export it again when it is at rest"
        )
        raise Rejected("not_at_rest", message)


async def _is_here(backbone: Backbone, job: _Job, manifest: Manifest) -> bool:
    """Whether the job is here; False when it is to be brought, or gone on with.

    A job that the one of the file was forked from may have gone on here: its past is the same.

    Raises:
        Rejected: another one of that name is here, or was.
    """
    entry = await backbone.registry.get(IMPORT, manifest.tenant, job.name)
    brought = read_brought(entry.data) if entry else None
    job.begun = brought is not None and brought.digest == manifest.digest
    if job.begun:
        return False
    if entry is not None:
        message = (
            f"job {job.name!r} is being brought here from another file; finish that, or "
            "remove what there is of it with `peritus delete`"
        )
        raise Rejected("job_exists", message)
    here = await backbone.retention.runs(manifest.tenant, job.name)
    if not here:
        return False
    stored = {ref: [one.data for one in await backbone.log.load(ref)] for ref in here}
    if any(tombstone_in(some[-1]) for some in stored.values() if some):
        raise gone(job.name)
    if stored == job.runs:
        return True
    longer = all(stored.get(ref, [])[: len(run)] == run for ref, run in job.runs.items())
    if longer and job.name != manifest.job:
        return True
    what = "is here already, and went on since" if longer else "is here already, and another one"
    raise Rejected("job_exists", f"job {job.name!r} {what}")


async def _announce(
    backbone: Backbone, job: _Job, tenant: str, manifest: Manifest, now_ms: int
) -> None:
    if job.begun:
        return
    brought = canonical(Brought(digest=manifest.digest, at_ms=now_ms))
    try:
        await backbone.registry.put(IMPORT, tenant, job.name, brought, expected=0)
    except Conflict as conflict:
        message = f"job {job.name!r} is being brought here by somebody else right now"
        raise Rejected("job_exists", message) from conflict


class _Placer:
    """Appends the envelopes of runs in their order; what an earlier import appended stays."""

    def __init__(self, log: EventLog, runs: dict[RunRef, list[bytes]]) -> None:
        self.runs = runs
        self._log = log
        self._taken = dict.fromkeys(runs, 0)  # how many of the file's lines have come by
        self._there: dict[RunRef, list[int]] = {}  # the sequences of what is there

    async def append(self, ref: RunRef) -> None:
        """The next envelope of that run is there when this returns.

        Raises:
            Conflict: another one is there.
            Unavailable: the log is away.
        """
        place, run = self._taken[ref], self.runs[ref]
        for _ in range(APPEND_TRIES_MAX):
            there = self._there.get(ref)
            if there is None:
                there = await self._look(ref)
            if len(there) > place:
                break
            try:
                seq = there[-1] if there else 0
                there.append(await self._log.append(ref, run[place], expected_seq=seq))
            except (AppendUnknown, Conflict):
                del self._there[ref]  # it may be there, or somebody else brings it, too
            else:
                break
        else:
            msg = f"run {ref.run!r} changes under every append"
            raise Conflict(msg)
        self._taken[ref] = place + 1

    async def _look(self, ref: RunRef) -> list[int]:
        stored = await self._log.load(ref)
        if [one.data for one in stored] != self.runs[ref][: len(stored)]:
            msg = f"run {ref.run!r} is not what the file says"
            raise Conflict(msg)
        there = self._there[ref] = [one.seq for one in stored]
        return there


async def _settle(
    backbone: Backbone, job: _Job, tenant: str, manifest: Manifest, now_ms: int
) -> None:
    """Say that it is here, and since when: it is not old because its events are."""
    brought = canonical(Brought(digest=manifest.digest, at_ms=now_ms))
    before = await backbone.registry.get(IMPORTED, tenant, job.name)
    expected = before.revision if before else 0
    try:
        await backbone.registry.put(IMPORTED, tenant, job.name, brought, expected=expected)
    except Conflict:
        logger.info("job %s: somebody else has brought it, too", job.name)
    await backbone.registry.remove(IMPORT, tenant, job.name)
