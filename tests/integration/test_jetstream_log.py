"""EVENTS on a real server, where it can break: no answer, kill -9, restarts, violations."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from domain.errors import AppendUnknown, Conflict, Rejected, TooLarge, Unavailable
from domain.ids import RunRef
from eventlog.jetstream.backbone import Timing, connect_backbone
from eventlog.jetstream.follow import BUFFER_MESSAGES_MAX
from eventlog.port import Backbone, EventLog, Stored
from tests.integration.deployment import TOKEN, JetStreamDeployment

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

RUN = RunRef("acme", "job", "run")
HURRIED = Timing(request_s=0.5, connect_s=5.0)
BOUND_S = 20.0


async def take(items: AsyncIterator[Stored], count: int) -> list[Stored]:
    async with asyncio.timeout(BOUND_S):
        return [await anext(items) for _ in range(count)]


async def append_surely(log: EventLog, ref: RunRef, data: bytes, after: int) -> int:
    """Append once, however often the server goes away: re-read, look for ours, try again."""
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                return await log.append(ref, data, expected_seq=after)
            except (Unavailable, Conflict):
                pass
            try:
                found = await log.load(ref, after_seq=after)
            except Unavailable:
                continue
            if found:
                assert found[0].data == data
                return found[0].seq


async def test_an_append_a_stopped_server_does_not_answer_is_unknown_and_may_be_stored_yet(
    deployment: JetStreamDeployment,
) -> None:
    async with connect_backbone(
        deployment.server.url, token=TOKEN, durability="process", timing=HURRIED
    ) as backbone:
        first = await backbone.log.append(RUN, b"1", expected_seq=0)
        deployment.freeze()
        try:
            with pytest.raises(AppendUnknown):
                await backbone.log.append(RUN, b"2", expected_seq=first)
        finally:
            deployment.thaw()
        async with backbone.log.follow(after_seq=first) as items:
            assert [stored.data for stored in await take(items, 1)] == [b"2"]
        with pytest.raises(Conflict):
            await backbone.log.append(RUN, b"2", expected_seq=first)


async def test_an_append_in_flight_when_the_server_dies_is_unknown_at_once(
    deployment: JetStreamDeployment,
) -> None:
    patient = Timing(request_s=60.0, connect_s=5.0)
    async with connect_backbone(
        deployment.server.url, token=TOKEN, durability="process", timing=patient
    ) as backbone:
        process = deployment.server.process
        deployment.freeze()
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
            append = group.create_task(unknown(backbone.log))
            await asyncio.sleep(0)
            process.kill()
            assert await append


async def unknown(log: EventLog) -> bool:
    try:
        await log.append(RUN, b"x", expected_seq=0)
    except AppendUnknown:
        return True
    return False


async def test_no_acknowledged_append_is_lost_when_the_server_is_killed_under_load(
    backbone: Backbone, deployment: JetStreamDeployment
) -> None:
    stop = asyncio.Event()
    acked: dict[RunRef, list[int]] = {
        RunRef("acme", "load", f"run{number}"): [] for number in range(16)
    }

    async def write(ref: RunRef) -> None:
        count, seq = 0, 0
        while not stop.is_set():
            seq = await append_surely(backbone.log, ref, b"%d" % count, seq)
            acked[ref].append(seq)
            count += 1

    async with asyncio.TaskGroup() as group:
        for ref in acked:
            group.create_task(write(ref))
        for kill in range(3):
            async with asyncio.timeout(BOUND_S):
                while sum(map(len, acked.values())) < 500 * (kill + 1):  # noqa: ASYNC110 - sixteen lists, no event
                    await asyncio.sleep(0.01)
            await deployment.restart()
        stop.set()

    for ref, seqs in acked.items():
        stored = await backbone.log.load(ref)
        assert [one.seq for one in stored] == seqs
        assert [one.data for one in stored] == [b"%d" % count for count in range(len(seqs))]


@pytest.mark.parametrize("pattern", [RunRef("*", "*", "*"), RunRef("acme", "job", "*"), RUN])
async def test_following_across_restarts_has_no_gap_and_no_repeat(
    backbone: Backbone, deployment: JetStreamDeployment, pattern: RunRef
) -> None:
    total = 300
    written: list[int] = []

    async def write() -> None:
        seq = other = 0
        for count in range(total):
            seq = await append_surely(backbone.log, RUN, b"%d" % count, seq)
            written.append(seq)
            other = await append_surely(
                backbone.log, RunRef("elsewhere", "j", "r"), b"%d" % count, other
            )

    async def disturb() -> None:
        for at in (100, 200):
            while len(written) < at:  # noqa: ASYNC110 - the writer tells nobody
                await asyncio.sleep(0.005)
            await deployment.restart()

    tenant, job, run = pattern
    seen: list[Stored] = []
    async with (
        asyncio.timeout(60),
        backbone.log.follow(after_seq=0, tenant=tenant, job=job, run=run) as items,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(write())
        group.create_task(disturb())
        while len([one for one in seen if one.ref == RUN]) < total:
            seen.append(await anext(items))
    seqs = [one.seq for one in seen]
    assert seqs == sorted(set(seqs))
    assert [one.seq for one in seen if one.ref == RUN] == written
    assert {one.ref for one in seen} == ({RUN} if tenant == "acme" else {*seen_refs(seen)})
    if pattern == ("*", "*", "*"):
        assert seqs == list(range(1, seqs[-1] + 1))


def seen_refs(seen: list[Stored]) -> set[RunRef]:
    return {RUN, RunRef("elsewhere", "j", "r")} & {one.ref for one in seen}


async def test_a_follower_that_takes_its_time_still_gets_everything(
    backbone: Backbone,
) -> None:
    total = 2 * BUFFER_MESSAGES_MAX + 10
    async with backbone.log.follow(after_seq=0) as items:
        seq = await backbone.log.append(RUN, b"0", expected_seq=0)
        await take(items, 1)
        for count in range(1, total):
            seq = await backbone.log.append(RUN, b"%d" % count, expected_seq=seq)
        found = await take(items, total - 1)
    assert [one.data for one in found] == [b"%d" % count for count in range(1, total)]


async def test_a_payload_above_the_limit_is_refused_and_the_connection_lives(
    backbone: Backbone,
) -> None:
    async with backbone.log.follow(after_seq=0) as items:
        with pytest.raises(TooLarge):
            await backbone.log.append(RUN, b"x" * (1024 * 1024), expected_seq=0)
        await backbone.log.append(RUN, b"small", expected_seq=0)
        assert [one.data for one in await take(items, 1)] == [b"small"]


async def test_a_connection_that_the_server_closed_for_good_is_made_anew(
    deployment: JetStreamDeployment,
) -> None:
    """The limit shrinks under a client that knows the old one: a payload violation."""
    async with deployment.client() as backbone, backbone.log.follow(after_seq=0) as items:
        seq = await backbone.log.append(RUN, b"before", expected_seq=0)
        config = deployment.server.config.path
        config.write_text(config.read_text().replace("max_payload: 1MB", "max_payload: 64KB"))
        os.kill(deployment.server.process.pid, signal.SIGHUP)
        async with asyncio.timeout(BOUND_S):
            seq = await append_large_until_refused(backbone.log, seq)
            await append_surely(backbone.log, RUN, b"after", seq)
            with pytest.raises(TooLarge):
                await backbone.log.append(RUN, b"x" * 300_000, expected_seq=0)
        last = (await backbone.log.load(RUN))[-1]
        assert last.data == b"after"
        async with asyncio.timeout(BOUND_S):
            while (await anext(items)).seq < last.seq:
                pass


async def append_large_until_refused(log: EventLog, seq: int) -> int:
    while True:
        try:
            seq = await log.append(RUN, b"x" * 300_000, expected_seq=seq)
        except AppendUnknown:
            return seq


async def test_a_wildcard_is_no_name_of_a_run(backbone: Backbone) -> None:
    for bad in (RunRef("*", "j", "r"), RunRef("t", ">", "r"), RunRef("t", "j", "a.b")):
        with pytest.raises(Rejected):
            await backbone.log.append(bad, b"x", expected_seq=0)
        with pytest.raises(Rejected):
            await backbone.log.load(bad)


async def test_two_prefixes_on_one_server_share_nothing(deployment: JetStreamDeployment) -> None:
    url = deployment.server.url
    async with (
        connect_backbone(url, token=TOKEN, durability="process", prefix="one") as one,
        connect_backbone(url, token=TOKEN, durability="process", prefix="two.b") as two,
    ):
        await one.log.append(RUN, b"x", expected_seq=0)
        assert await two.log.load(RUN) == []
        assert await two.log.bounds() == (1, 0)
        await two.log.append(RUN, b"y", expected_seq=0)
        assert [stored.ref for stored in await two.log.load(RUN)] == [RUN]


async def test_a_log_on_a_wiped_store_is_another_incarnation(
    backbone: Backbone, deployment: JetStreamDeployment
) -> None:
    before = backbone.log.incarnation
    await backbone.log.append(RUN, b"x", expected_seq=0)
    await deployment.stop()
    store = deployment.server.config.folder / "jetstream"
    store.rename(store.with_name("lost"))
    await deployment.start()
    async with asyncio.timeout(BOUND_S):
        while backbone.log.incarnation == before:  # noqa: ASYNC110 - a property, no event
            await asyncio.sleep(0.01)
    assert await backbone.log.load(RUN) == []


async def test_an_address_nobody_listens_on_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        async with connect_backbone("nats://127.0.0.1:1", timing=Timing(connect_s=0.3)):
            raise NotImplementedError


async def test_a_wrong_token_is_unavailable_and_says_so(deployment: JetStreamDeployment) -> None:
    with pytest.raises(Unavailable, match="Authorization"):
        async with connect_backbone(
            deployment.server.url, token="wrong", timing=Timing(connect_s=0.5)
        ):
            raise NotImplementedError


async def test_the_log_ends_where_it_can_be_read_when_the_last_message_is_damaged(
    deployment: JetStreamDeployment,
) -> None:
    async with deployment.client() as before:
        seq = 0
        for data in (b"first", b"second", b"the last one"):
            seq = await before.log.append(RUN, data, expected_seq=seq)
        await deployment.stop()
        (kept,) = deployment.server.config.folder.rglob("PERITUS_EVENTS/msgs/1.blk")
        kept.write_bytes(kept.read_bytes().replace(b"the last one", b"the lost one"))
        await deployment.start()

    async with deployment.client() as after:
        assert await after.log.bounds() == (1, seq - 1)
        assert [stored.data for stored in await after.log.load(RUN)] == [b"first", b"second"]
