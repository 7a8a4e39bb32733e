"""Writes a job, all it was forked from and all it refers to, into one file. Changes nothing."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO

from commands.history import Loaded, fold_stored
from commands.past import fork_in
from commands.survey import JobName
from domain.decisions.deletion import gone
from domain.envelope import tombstone_in
from domain.errors import IntegrityViolated, NoSuchBlob, Rejected
from domain.ids import RunRef, check_token
from domain.state import RunState
from eventlog.port import Backbone, Stored
from services.retention.archive import BlobInside, Line, Manifest, RunInside, Writer
from services.retention.references import named_in, packs_of, shards_of

JOBS_MAX = 64
"""How many jobs a file holds at most, a count: a fork leads over 16 runs at most."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes the file, and when."""

    release: str
    now_ms: int


@dataclass(slots=True)
class _Found:
    blobs: list[BlobInside] = field(default_factory=list[BlobInside])
    missing: list[str] = field(default_factory=list[str])


async def export_job(
    backbone: Backbone, name: JobName, file: IO[bytes], origin: Origin
) -> Manifest:
    """Write a job as it is now; what is appended meanwhile is in it or not, each envelope whole.

    Raises:
        Rejected: `no_such_job`, `gone`, or a job that it was forked from is too far away.
        Unavailable: the store is away.
        IntegrityViolated: what is stored is not what was written; such a job is not handed on.
    """
    check_token("job", name.job)
    jobs = await _jobs(backbone, name)
    stored = sorted(one for runs in jobs.values() for some in runs.values() for one in some)
    # A run appears in the log after the call that starts it, so a cut in the order of the log is
    # a state that the job has been in.
    writer = Writer(file)
    found = _Found()
    await _blobs(backbone, name.tenant, stored, writer, found)
    runs = [run for of_job in jobs.values() for run in _runs(of_job)]
    lines = [Line(*one) for one in stored]
    digest = await asyncio.to_thread(writer.envelopes, lines)
    manifest = Manifest(
        release=origin.release,
        incarnation=backbone.log.incarnation,
        exported_at_ms=origin.now_ms,
        tenant=name.tenant,
        job=name.job,
        jobs=tuple(jobs),
        at_rest=all(run.status not in ("new", "running") for run in runs),
        runs=tuple(runs),
        envelopes=len(lines),
        envelopes_sha256=digest,
        blobs=tuple(found.blobs),
        missing=tuple(found.missing),
    )
    await asyncio.to_thread(writer.close, manifest)
    return manifest


Runs = Mapping[RunRef, list[Stored]]


async def _jobs(backbone: Backbone, name: JobName) -> dict[str, Runs]:
    """The job and all that it was forked from, the job first."""
    found: dict[str, Runs] = {}
    wanted = [name.job]
    while wanted:
        job = wanted.pop(0)
        if job in found:
            continue
        if len(found) == JOBS_MAX:
            raise Rejected("too_deep", f"job {name.job!r} leads over more than {JOBS_MAX} jobs")
        runs = await _read(backbone, JobName(name.tenant, job))
        found[job] = runs
        for stored in runs.values():
            forked = fork_in(stored)
            if forked is not None:
                wanted.append(forked.source.job)
    return found


async def _read(backbone: Backbone, name: JobName) -> Runs:
    """All runs of a job, cut at one place of the log."""
    found: dict[RunRef, list[Stored]] = {}
    seq, more = 0, True
    while more:
        page = await backbone.log.read(after_seq=seq, tenant=name.tenant, job=name.job)
        for one in page.envelopes:
            found.setdefault(one.ref, []).append(one)
            seq = one.seq
        more = page.more
    if not found:
        raise Rejected("no_such_job", f"there is no job {name.job!r}")
    if any(tombstone_in(stored[-1].data) for stored in found.values()):
        raise gone(name.job)
    return found


def _runs(runs: Runs) -> Iterable[RunInside]:
    for ref, stored in runs.items():
        loaded = verified(ref, stored)
        yield RunInside(
            job=ref.job,
            run=ref.run,
            envelopes=len(stored),
            version=loaded.state.version,
            head=loaded.hash,
            status=loaded.state.status,
        )


def verified(ref: RunRef, stored: Iterable[Stored]) -> Loaded:
    """A run's fold without the past of a fork, every link of its chain checked.

    Raises:
        IntegrityViolated: a gap, a broken link, or another run's envelope.
    """
    loaded = Loaded(RunState(ref=ref))
    for one in stored:
        loaded = fold_stored(loaded, one)
    return loaded


async def _blobs(
    backbone: Backbone, tenant: str, stored: Iterable[Stored], writer: Writer, found: _Found
) -> None:
    digests: set[str] = set()
    contents: set[str] = set()
    manifests: set[str] = set()
    for one in stored:
        named = named_in(one.data)
        digests |= named.digests
        contents |= named.contents
        manifests |= named.manifests
    for manifest in sorted(manifests):
        try:
            shards = await shards_of(backbone.blobs, tenant, manifest)
            packs = [await packs_of(backbone.blobs, tenant, shard) for shard in shards]
        except IntegrityViolated:
            continue  # it is named as missing below
        contents.update(shards, *packs)
    for digest in sorted(digests | contents):
        try:
            data = await backbone.blobs.get(tenant, digest)
        except NoSuchBlob:
            found.missing += [digest] if digest in contents else []
        except IntegrityViolated:
            found.missing.append(digest)
        else:
            await asyncio.to_thread(writer.blob, digest, data)
            found.blobs.append(BlobInside(digest=digest, bytes=len(data)))
