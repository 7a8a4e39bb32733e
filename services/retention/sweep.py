"""Collects blobs that nothing refers to any more: mark, then sweep. Not what removes the jobs.

Whatever looks like a digest in any stored envelope, command, timer or dead letter marks a blob, and
so does what the manifests of workspaces name. What is not marked is removed once it was not put for
longer than the grace: a blob comes before the event that names it, and putting one that is there
makes it new. Only the very storing that was found to be old is removed, so one that is put again
while this is at work stays.
"""

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from domain.envelope import decode
from domain.errors import IntegrityViolated, NoSuchBlob, Unavailable
from domain.events import OpaqueEvent
from eventlog.port import BLOB_FRESH_S, Backbone, StoredBlob
from services.retention.references import like_digests, named_in, packs_of, shards_of

logger = logging.getLogger(__name__)

GRACE_S = 24 * 3600.0
GRACE_S_MIN = 2 * BLOB_FRESH_S
"""How long a blob that nothing refers to is kept since it was put, in seconds: by default, and at
least. It takes in the longest time between a put and the append of what names it."""


@dataclass(frozen=True, slots=True)
class Swept:
    """A blob that nothing refers to."""

    tenant: str
    digest: str
    bytes: int
    age_s: float


@dataclass(slots=True)
class Marks:
    """What is referred to, by tenant."""

    by_tenant: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def add(self, tenant: str, digests: Iterable[str]) -> None:
        """These are referred to."""
        self.by_tenant.setdefault(tenant, set()).update(digests)

    def holds(self, tenant: str, digest: str) -> bool:
        """Whether anything refers to it."""
        return digest in self.by_tenant.get(tenant, ())


async def sweep(
    backbone: Backbone, now_ms: int, *, grace_s: float = GRACE_S, dry_run: bool = False
) -> AsyncIterator[Swept]:
    """Remove what nothing refers to, or only tell of it.

    Raises:
        Unavailable: the store is away; or something here was written by a newer release, which may
            refer to blobs in a way that this one does not know.
        IntegrityViolated: an envelope or a manifest is damaged: nobody knows what it names.
    """
    # First the names: what is put after this is not looked at.
    names = await backbone.retention.blobs()
    marks = await mark(backbone)
    for tenant, digest in names:
        if marks.holds(tenant, digest):
            continue
        blob = await backbone.retention.blob(tenant, digest)
        if blob is None or not _old(blob, now_ms, grace_s):
            continue
        if not dry_run:
            await backbone.retention.remove_blob(blob)
        yield Swept(tenant, digest, blob.bytes, (now_ms - blob.stored_ms) / 1000)


def _old(blob: StoredBlob, now_ms: int, grace_s: float) -> bool:
    return now_ms - blob.stored_ms > grace_s * 1000


async def mark(backbone: Backbone) -> Marks:
    """Everything that is referred to.

    Commands are read before the log, where they go to.

    Raises:
        Unavailable: the store is away, or a newer release wrote here.
        IntegrityViolated: an envelope or a manifest is damaged.
    """
    marks = Marks()
    manifests: dict[str, set[str]] = {}
    async for tenant, data in backbone.retention.waiting():
        marks.add(tenant, like_digests(data))
        with suppress(IntegrityViolated):  # a letter may be dead because it is no JSON
            manifests.setdefault(tenant, set()).update(named_in(data).manifests)
    seq, more = 0, True
    while more:
        page = await backbone.log.read(after_seq=seq)
        for stored in page.envelopes:
            seq = stored.seq
            tenant = stored.ref.tenant
            marks.add(tenant, like_digests(stored.data))
            manifests.setdefault(tenant, set()).update(_manifests(stored.data))
        more = page.more
    for tenant, roots in manifests.items():
        await _follow(backbone, tenant, roots, marks)
    return marks


def _manifests(data: bytes) -> frozenset[str]:
    """The manifests that an envelope names.

    Raises:
        Unavailable: it holds an event of a newer release.
        IntegrityViolated: it cannot be read, so nobody knows what it names.
    """
    for event in decode(data).events:
        if isinstance(event, OpaqueEvent):
            msg = f"the log holds {event.type!r} of a newer release: collect blobs with that"
            raise Unavailable(msg)
    return named_in(data).manifests


async def _follow(backbone: Backbone, tenant: str, roots: set[str], marks: Marks) -> None:
    """Mark what manifests name; one that is gone names nothing any more."""
    shards: set[str] = set()
    for root in sorted(roots):
        try:
            shards.update(await shards_of(backbone.blobs, tenant, root))
        except NoSuchBlob:
            logger.warning("manifest %s of tenant %s is gone", root, tenant)
    marks.add(tenant, shards)
    for shard in sorted(shards):
        try:
            marks.add(tenant, await packs_of(backbone.blobs, tenant, shard))
        except NoSuchBlob:
            logger.warning("a part of a manifest, %s of tenant %s, is gone", shard, tenant)
