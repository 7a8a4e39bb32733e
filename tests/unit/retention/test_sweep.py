"""Blobs are collected when nothing refers to them, never otherwise. Not how jobs are deleted."""

from dataclasses import replace

import pytest

from commands.survey import JobName
from domain.commands import RecordSnapshot
from domain.content import BlobRef
from domain.envelope import Cause, Envelope, encode
from domain.errors import IntegrityViolated, NoSuchBlob, Unavailable
from domain.events import OpaqueEvent, SnapshotTaken
from domain.ids import RunRef
from domain.record import canonical, digest_of
from eventlog.memory.retention import MemoryRetention
from eventlog.port import StoredBlob
from services.retention.sweep import GRACE_S, sweep
from services.sandbox.snapshots.format import encode_root, encode_shard
from services.sandbox.snapshots.tree import Entry, Piece
from tests.support.office import Office, office
from tests.support.runs import call, replies, result
from tests.unit.retention.test_archive import LARGE, ROOT, remover

pytestmark = pytest.mark.anyio

LATER_MS = int(GRACE_S * 1000) + 60_000


async def worked(ref: RunRef = ROOT, desk: Office | None = None, text: str = LARGE) -> Office:
    desk = desk or office()
    await desk.backbone.blobs.put(ref.tenant, desk.definition.to_bytes())
    await desk.start(ref)
    await desk.tell(ref, replies(call("look")), result("c1-0", text), replies("done"))
    return desk


async def swept(desk: Office, *, after_ms: int = LATER_MS, dry_run: bool = False) -> set[str]:
    found = sweep(desk.backbone, desk.now + after_ms, dry_run=dry_run)
    return {one.digest async for one in found}


async def snapshot(desk: Office, ref: RunRef, content: bytes) -> tuple[SnapshotTaken, list[str]]:
    """The files of a workspace in blobs, and what names them."""
    entry = Entry(b"main.py", "file", 0o644, len(content), digest_of(content))
    pack = await desk.backbone.blobs.put(ref.tenant, content)
    blob, shard = encode_shard([entry], {entry.digest: (Piece(pack, 0, len(content)),)})
    counts = {"files": 1, "bytes": len(content), "skipped": 0, "withheld": 0}
    root = encode_root([shard], counts)
    digests = [pack, *[await desk.backbone.blobs.put(ref.tenant, one) for one in (blob, root)]]
    manifest = BlobRef(digest=digests[-1], size=len(root))
    version = (await desk.state(ref)).version
    return SnapshotTaken(run=ref.run, step=1, version=version, manifest=manifest), digests


async def append(desk: Office, ref: RunRef, event: SnapshotTaken | OpaqueEvent) -> None:
    loaded = await desk.runs.fresh(ref)
    cause = Cause(type="record_snapshot.v1", id="")
    envelope = Envelope(
        "x", ref, loaded.state.version + 1, loaded.state.at_ms, cause, "e1", loaded.hash, (event,)
    )
    await desk.backbone.log.append(ref, encode(envelope), expected_seq=loaded.seq)


async def test_nothing_that_a_job_needs_is_collected() -> None:
    desk = await worked()
    taken, _ = await snapshot(desk, ROOT, b"print('hello')\n")
    await append(desk, ROOT, taken)
    before = dict(desk.server.blobs)
    assert await swept(desk) == set()
    assert desk.server.blobs == before


async def test_what_a_deleted_job_alone_needed_is_collected_after_the_grace() -> None:
    desk = await worked()
    other = RunRef("acme", "j2", "j2")
    await worked(other, desk, text="y" * 40_000)
    taken, files = await snapshot(desk, ROOT, b"print('hello')\n")
    await append(desk, ROOT, taken)
    shared = {digest for _, digest in desk.server.blobs} - {digest_of(LARGE.encode()), *files}
    await remover(desk).delete(JobName("acme", "j1"))
    assert await swept(desk, after_ms=1000) == set()
    wanted = {digest_of(LARGE.encode()), *files}
    assert await swept(desk, dry_run=True) == wanted
    assert await swept(desk) == wanted
    assert {digest for _, digest in desk.server.blobs} == shared
    assert await swept(desk) == set()


async def test_what_waits_to_be_decided_or_was_given_up_on_is_kept() -> None:
    desk = await worked()
    taken, files = await snapshot(desk, ROOT, b"waits\n")
    await desk.backbone.commands.put(ROOT, canonical(RecordSnapshot(taken=taken)))
    taken, more = await snapshot(desk, ROOT, b"is dead\n")
    await desk.backbone.dead.put(ROOT, canonical(RecordSnapshot(taken=taken)), "why")
    await desk.backbone.dead.put(ROOT, b"no JSON", "why")
    _, unwanted = await snapshot(desk, ROOT, b"nobody's\n")
    assert await swept(desk) == set(unwanted)
    assert {digest for _, digest in desk.server.blobs} >= {*files, *more}


async def test_one_tenants_references_keep_nothing_of_another() -> None:
    desk = await worked()
    digest = await desk.backbone.blobs.put("umbrella", LARGE.encode())
    assert await swept(desk) == {digest}
    assert await desk.backbone.blobs.get("acme", digest) == LARGE.encode()
    with pytest.raises(NoSuchBlob):
        await desk.backbone.blobs.get("umbrella", digest)


async def test_a_blob_that_is_put_again_while_it_is_collected_stays() -> None:
    """It was found to be old and unwanted; then somebody puts it, and is told that it is there."""
    desk = await worked()
    digest = await desk.backbone.blobs.put("acme", b"an old file")

    class Slow(MemoryRetention):
        """Somebody puts the blob between the look at it and its removal."""

        async def remove_blob(self, blob: StoredBlob) -> None:
            assert await desk.backbone.blobs.put("acme", b"an old file") == digest
            await super().remove_blob(blob)

    retention = Slow(desk.client, desk.server.stores)
    backbone = replace(desk.backbone, retention=retention)
    found = [one.digest async for one in sweep(backbone, desk.now + LATER_MS)]
    assert found == [digest]
    assert await desk.backbone.blobs.get("acme", digest) == b"an old file"
    assert await swept(desk, after_ms=1000) == set()


async def test_a_put_makes_an_old_blob_young() -> None:
    desk = await worked()
    digest = await desk.backbone.blobs.put("acme", b"an old file")
    desk.now += LATER_MS
    await desk.backbone.blobs.put("acme", b"an old file")
    assert await swept(desk, after_ms=60_000) == set()
    assert await swept(desk) == {digest}


async def test_nothing_is_collected_beside_what_a_newer_release_wrote() -> None:
    desk = await worked()
    await desk.backbone.blobs.put("acme", b"may be named in a new way")
    await append(desk, ROOT, OpaqueEvent(type="cell.divided.v1", body={"into": 2}))
    with pytest.raises(Unavailable, match="newer release"):
        await swept(desk)


async def test_nothing_is_collected_beside_what_cannot_be_read() -> None:
    desk = await worked()
    taken, files = await snapshot(desk, ROOT, b"print('hello')\n")
    await append(desk, ROOT, taken)
    desk.server.blobs["acme", files[-1]] = b"{}"
    with pytest.raises(IntegrityViolated):
        await swept(desk)
    assert {digest for _, digest in desk.server.blobs} >= set(files)
