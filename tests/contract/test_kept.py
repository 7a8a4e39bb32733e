"""What every form of BLOBS, SNAPSHOTS, OPEN and DEAD promises. Not how either form does it."""

import hashlib

import pytest

from domain.errors import IntegrityViolated, TooLarge
from eventlog.port import PAYLOAD_BYTES_MAX, Backbone
from tests.contract.deployment import ALPHA, BETA, GAMMA, OTHER, Deployment

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\x00\r\n\xff", b"y" * PAYLOAD_BYTES_MAX, b"z" * (PAYLOAD_BYTES_MAX + 1)],
    ids=["empty", "one", "binary", "largest message", "one more"],
)
async def test_a_blob_is_read_back_by_its_digest(
    backbone: Backbone, other: Backbone, data: bytes
) -> None:
    digest = await backbone.blobs.put("acme", data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert await other.blobs.get("acme", digest) == data


async def test_a_blob_may_be_many_times_the_largest_message(backbone: Backbone) -> None:
    data = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(160_000))
    digest = await backbone.blobs.put("acme", data)
    assert await backbone.blobs.get("acme", digest) == data


async def test_the_same_blob_twice_is_fine(backbone: Backbone, other: Backbone) -> None:
    big = b"b" * (2 * PAYLOAD_BYTES_MAX)
    for data in (b"small", big):
        first = await backbone.blobs.put("acme", data)
        assert await other.blobs.put("acme", data) == first
        assert await backbone.blobs.get("acme", first) == data


async def test_a_blob_nobody_stored_is_an_integrity_violation(backbone: Backbone) -> None:
    with pytest.raises(IntegrityViolated):
        await backbone.blobs.get("acme", hashlib.sha256(b"never").hexdigest())


async def test_one_tenant_never_reads_anothers_blob(backbone: Backbone) -> None:
    for data in (b"secret", b"s" * (PAYLOAD_BYTES_MAX + 1)):
        digest = await backbone.blobs.put("acme", data)
        with pytest.raises(IntegrityViolated):
            await backbone.blobs.get("umbrella", digest)


async def test_blobs_survive_a_server_restart(backbone: Backbone, deployment: Deployment) -> None:
    digest = await backbone.blobs.put("acme", b"kept" * 500_000)
    await deployment.restart()
    async with deployment.client() as later:
        assert await later.blobs.get("acme", digest) == b"kept" * 500_000


async def test_the_newest_snapshot_of_a_run_is_the_one_that_is_read(
    backbone: Backbone, other: Backbone
) -> None:
    assert await backbone.snapshots.get(ALPHA) is None
    await backbone.snapshots.put(ALPHA, b"old")
    await backbone.snapshots.put(ALPHA, b"new")
    await backbone.snapshots.put(BETA, b"other run")
    assert await other.snapshots.get(ALPHA) == b"new"
    assert await other.snapshots.get(BETA) == b"other run"
    assert await other.snapshots.get(OTHER) is None


async def test_open_runs_are_listed_until_they_are_removed(
    backbone: Backbone, other: Backbone
) -> None:
    assert await backbone.open_runs.list() == []
    for ref in (ALPHA, GAMMA, OTHER, ALPHA):
        await backbone.open_runs.add(ref)
    assert sorted(await other.open_runs.list()) == sorted([ALPHA, GAMMA, OTHER])
    await other.open_runs.remove(GAMMA)
    await other.open_runs.remove(BETA)
    assert sorted(await backbone.open_runs.list()) == sorted([ALPHA, OTHER])


async def test_a_run_that_was_removed_can_be_open_again(backbone: Backbone) -> None:
    await backbone.open_runs.add(ALPHA)
    await backbone.open_runs.remove(ALPHA)
    await backbone.open_runs.add(ALPHA)
    assert await backbone.open_runs.list() == [ALPHA]


async def test_many_open_runs_are_all_listed(backbone: Backbone) -> None:
    refs = [ALPHA._replace(run=f"run{i}") for i in range(300)]
    for ref in refs:
        await backbone.open_runs.add(ref)
    assert sorted(await backbone.open_runs.list()) == sorted(refs)


async def test_open_runs_survive_a_server_restart(
    backbone: Backbone, deployment: Deployment
) -> None:
    await backbone.open_runs.add(ALPHA)
    await backbone.open_runs.add(BETA)
    await backbone.open_runs.remove(BETA)
    await deployment.restart()
    async with deployment.client() as later:
        assert await later.open_runs.list() == [ALPHA]


async def test_dead_letters_are_listed_newest_first_up_to_a_limit(
    backbone: Backbone, other: Backbone
) -> None:
    assert await backbone.dead.list(10) == []
    for i in range(5):
        await backbone.dead.put(ALPHA, b"%d" % i, f"reason {i}: ⏱\n two lines")
    letters = await other.dead.list(3)
    assert [(d.ref, d.data) for d in letters] == [(ALPHA, b"4"), (ALPHA, b"3"), (ALPHA, b"2")]
    assert letters[0].reason == "reason 4: ⏱\n two lines"
    assert len(await other.dead.list(10)) == 5


async def test_a_removed_dead_letter_is_gone_and_the_others_stay(backbone: Backbone) -> None:
    for ref in (ALPHA, BETA, OTHER):
        await backbone.dead.put(ref, b"x", "why")
    newest, middle, oldest = await backbone.dead.list(10)
    await backbone.dead.remove(middle.seq)
    await backbone.dead.remove(middle.seq)
    assert await backbone.dead.list(10) == [newest, oldest]
    assert (newest.ref, oldest.ref) == (OTHER, ALPHA)


async def test_dead_letters_survive_a_server_restart(
    backbone: Backbone, deployment: Deployment
) -> None:
    await backbone.dead.put(ALPHA, b"x", "why")
    await deployment.restart()
    async with deployment.client() as later:
        assert [(d.ref, d.data, d.reason) for d in await later.dead.list(10)] == [
            (ALPHA, b"x", "why")
        ]


async def test_nothing_above_the_payload_limit_is_sent(backbone: Backbone) -> None:
    """A message above the server's limit would close the connection for good."""
    huge = b"x" * 2_000_000
    with pytest.raises(TooLarge):
        await backbone.snapshots.put(ALPHA, huge)
    with pytest.raises(TooLarge):
        await backbone.dead.put(ALPHA, huge, "why")
    with pytest.raises(TooLarge):
        await backbone.commands.put(ALPHA, huge)
    with pytest.raises(TooLarge):
        await backbone.commands.put_at(ALPHA, "t1", 0, huge)
    with pytest.raises(TooLarge):
        await backbone.work.put("step", ALPHA, huge)
    assert await backbone.open_runs.list() == []
