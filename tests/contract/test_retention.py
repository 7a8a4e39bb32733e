"""What every form of RETENTION promises. Not how either form does it."""

import asyncio
import hashlib
import random

import pytest

from domain.errors import Conflict, IntegrityViolated
from domain.ids import RunRef
from eventlog.port import PAYLOAD_BYTES_MAX, Backbone
from tests.contract.deployment import ALPHA, BETA, BOUND_S, GAMMA, OTHER, Deployment, until
from tests.contract.test_log import grow, take

pytestmark = pytest.mark.anyio


async def everywhere(ports: Backbone, ref: RunRef) -> None:
    """Something of a run in all that is kept beside the log."""
    await ports.snapshots.put(ref, b"folded")
    await ports.open_runs.add(ref)
    await ports.commands.put(ref, b"command of " + ref.job.encode())
    await ports.commands.put_at(ref, "t1", 4_000_000_000_000, b"timer of " + ref.job.encode())
    await ports.work.put("step", ref, b"work")
    await ports.work.put("at-somebody", ref, b"work")
    await ports.dead.put(ref, b"letter of " + ref.job.encode(), "why")


async def waiting(ports: Backbone) -> set[bytes]:
    found = [one async for one in ports.retention.waiting()]
    assert {tenant for tenant, _ in found} <= {"acme", "umbrella"}
    return {data for _, data in found}


async def test_the_runs_of_a_job_are_counted_with_their_envelopes(
    backbone: Backbone, other: Backbone
) -> None:
    assert await backbone.retention.runs("acme", "job1") == {}
    await grow(backbone.log, ALPHA, b"1", b"2", b"3")
    await grow(backbone.log, BETA, b"1")
    await grow(backbone.log, GAMMA, b"1")
    await grow(backbone.log, OTHER, b"1")
    assert await other.retention.runs("acme", "job1") == {ALPHA: 3, BETA: 1}
    assert await other.retention.runs("acme", "none") == {}


async def test_a_purge_takes_the_envelopes_of_one_job_before_a_sequence_and_no_others(
    backbone: Backbone, other: Backbone
) -> None:
    first = await grow(backbone.log, ALPHA, b"1", b"2")
    await grow(backbone.log, BETA, b"b")
    await grow(backbone.log, GAMMA, b"g")
    await grow(backbone.log, OTHER, b"o")
    (last,) = await grow(backbone.log, ALPHA, b"tombstone", after=first[-1])
    for _ in range(2):  # as often as one likes
        await other.retention.purge(RunRef("acme", "job1", "*"), before_seq=last)
        assert [one.data for one in await backbone.log.load(ALPHA)] == [b"tombstone"]
        assert await backbone.log.load(BETA) == []
        assert await backbone.log.find("acme", BETA.run) is None
        assert await backbone.log.find("acme", ALPHA.run) == ALPHA
    assert [one.data for one in await backbone.log.load(GAMMA)] == [b"g"]
    assert [one.data for one in await backbone.log.load(OTHER)] == [b"o"]
    assert await backbone.retention.runs("acme", "job1") == {ALPHA: 1}


async def test_after_a_purge_appends_go_on_behind_what_is_left(backbone: Backbone) -> None:
    seqs = await grow(backbone.log, ALPHA, b"1", b"2")
    await grow(backbone.log, BETA, b"b")
    await backbone.retention.purge(RunRef("acme", "job1", "*"), before_seq=seqs[-1])
    with pytest.raises(Conflict):
        await backbone.log.append(ALPHA, b"x", expected_seq=0)
    with pytest.raises(Conflict):
        await backbone.log.append(ALPHA, b"x", expected_seq=seqs[0])
    again = await backbone.log.append(ALPHA, b"3", expected_seq=seqs[-1])
    assert [one.seq for one in await backbone.log.load(ALPHA)] == [seqs[-1], again]
    await backbone.retention.purge(ALPHA, before_seq=again + 9)
    assert len(await backbone.log.load(BETA)) == 1
    assert await backbone.log.load(ALPHA) == []
    assert await backbone.log.append(ALPHA, b"new", expected_seq=0) > again


async def test_a_follower_passes_over_what_was_purged(backbone: Backbone, other: Backbone) -> None:
    await grow(backbone.log, GAMMA, b"g1")
    seqs = await grow(backbone.log, ALPHA, b"1", b"2", b"3")
    await backbone.retention.purge(RunRef("acme", "job1", "*"), before_seq=seqs[-1])
    async with other.log.follow(after_seq=0) as stored:
        assert [one.data for one in await take(stored, 2)] == [b"g1", b"3"]
        await backbone.retention.purge(RunRef("acme", "job1", "*"), before_seq=seqs[-1] + 1)
        await grow(backbone.log, BETA, b"later")
        assert [one.data for one in await take(stored, 1)] == [b"later"]


async def test_the_bounds_are_those_of_what_is_left(backbone: Backbone) -> None:
    (first,) = await grow(backbone.log, GAMMA, b"g")
    seqs = await grow(backbone.log, ALPHA, b"1", b"2")
    await backbone.retention.purge(RunRef("acme", "job1", "*"), before_seq=seqs[-1] + 1)
    assert await backbone.log.bounds() == (first, first)
    (last,) = await grow(backbone.log, BETA, b"b")
    await backbone.retention.purge(RunRef("acme", "job2", "*"), before_seq=last)
    assert await backbone.log.bounds() == (last, last)


async def test_to_forget_a_job_takes_all_that_is_kept_of_it_and_of_no_other(
    backbone: Backbone, other: Backbone
) -> None:
    for ref in (ALPHA, BETA, GAMMA, OTHER):
        await everywhere(backbone, ref)
    assert len(await waiting(backbone)) == 6
    tenants = {tenant async for tenant, _ in backbone.retention.waiting()}
    assert tenants == {"acme", "umbrella"}
    for _ in range(2):
        await other.retention.forget("acme", "job1")
        assert await backbone.snapshots.get(ALPHA) is None
        assert await backbone.snapshots.get(GAMMA) == b"folded"
        assert await backbone.snapshots.get(OTHER) == b"folded"
        assert sorted(await backbone.open_runs.list()) == sorted([GAMMA, OTHER])
        assert [letter.ref for letter in await backbone.dead.list(9)] == [OTHER, GAMMA]
    left = [b"command of job2", b"timer of job2", b"letter of job2"]
    assert await waiting(backbone) >= set(left)
    async with backbone.commands.consume(in_flight_max=9) as commands:
        refs = {(await anext(commands)).ref, (await anext(commands)).ref}
    assert refs == {GAMMA, OTHER}
    async with backbone.work.consume("step", in_flight_max=9) as works:
        refs = {(await anext(works)).ref, (await anext(works)).ref}
    assert refs == {GAMMA, OTHER}


async def test_what_waits_is_read_whole(backbone: Backbone) -> None:
    for i in range(1_200):
        await backbone.commands.put(ALPHA, b"c%d" % i)
    await backbone.dead.put(BETA, b"d", "why")
    await backbone.commands.put_at(GAMMA, "t1", 4_000_000_000_000, b"t")
    assert await waiting(backbone) == {b"c%d" % i for i in range(1_200)} | {b"d", b"t"}


@pytest.mark.parametrize("size", [3, 2 * PAYLOAD_BYTES_MAX + 7], ids=["small", "in parts"])
async def test_a_blob_is_named_measured_and_removed(backbone: Backbone, size: int) -> None:
    data = random.Random(7).randbytes(size)
    digest = await backbone.blobs.put("acme", data)
    await backbone.blobs.put("umbrella", data)
    assert sorted(await backbone.retention.blobs()) == [("acme", digest), ("umbrella", digest)]
    blob = await backbone.retention.blob("acme", digest)
    assert blob is not None
    assert (blob.tenant, blob.digest, blob.bytes) == ("acme", digest, size)
    assert blob.stored_ms > 0
    for _ in range(2):
        await backbone.retention.remove_blob(blob)
        with pytest.raises(IntegrityViolated):
            await backbone.blobs.get("acme", digest)
    assert await backbone.retention.blob("acme", digest) is None
    assert await backbone.blobs.get("umbrella", digest) == data
    assert await backbone.blobs.put("acme", data) == digest
    assert await backbone.blobs.get("acme", digest) == data


@pytest.mark.parametrize("size", [3, 2 * PAYLOAD_BYTES_MAX + 7], ids=["small", "in parts"])
async def test_a_blob_that_was_put_again_survives_its_removal(
    deployment: Deployment, backbone: Backbone, other: Backbone, size: int
) -> None:
    """Who collects looks, somebody who did not store it before puts it, then it is removed."""
    data = b"z" * size
    digest = await backbone.blobs.put("acme", data)
    old = await backbone.retention.blob("acme", digest)
    assert old is not None
    assert await other.blobs.put("acme", data) == digest
    await backbone.retention.remove_blob(old)
    assert await other.blobs.get("acme", digest) == data
    again = await backbone.retention.blob("acme", digest)
    assert again is not None
    assert again.stored_ms >= old.stored_ms
    assert not set(again.revisions) & set(old.revisions)
    async with deployment.client() as later:
        assert await later.blobs.get("acme", digest) == data


async def test_puts_and_removals_of_one_blob_at_once_never_lose_it(
    deployment: Deployment, backbone: Backbone
) -> None:
    data = b"much wanted"
    digest = hashlib.sha256(data).hexdigest()
    async with asyncio.timeout(BOUND_S):
        for _ in range(20):
            await backbone.blobs.put("acme", data)
            async with deployment.client() as putter, asyncio.TaskGroup() as tasks:
                found = await backbone.retention.blob("acme", digest)
                assert found is not None
                put = tasks.create_task(putter.blobs.put("acme", data))
                tasks.create_task(backbone.retention.remove_blob(found))
            assert await put == digest
            assert await backbone.blobs.get("acme", digest) == data


async def test_many_blobs_are_all_named(backbone: Backbone) -> None:
    digests = {await backbone.blobs.put("acme", b"%d" % i) for i in range(300)}
    assert {digest for _, digest in await backbone.retention.blobs()} == digests


async def test_what_was_removed_stays_away_over_a_restart(
    deployment: Deployment, backbone: Backbone
) -> None:
    seqs = await grow(backbone.log, ALPHA, b"1", b"2")
    await everywhere(backbone, ALPHA)
    await backbone.retention.purge(RunRef("acme", "job1", "*"), before_seq=seqs[-1])
    await backbone.retention.forget("acme", "job1")
    await deployment.restart()
    async with deployment.client() as later:

        async def back() -> bool:
            return await later.log.bounds() == (seqs[-1], seqs[-1])

        await until(back)
        assert [one.data for one in await later.log.load(ALPHA)] == [b"2"]
        assert await later.open_runs.list() == []
        assert await waiting(later) == set()
