"""What every form of EVENTS promises. Not how either form does it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.errors import AppendUnknown, Conflict, TooLarge, Unavailable
from domain.ids import RunRef
from eventlog.port import PAYLOAD_BYTES_MAX, Backbone, Cursor, EventLog, Stored
from tests.contract.deployment import ALPHA, BETA, BOUND_S, GAMMA, OTHER, Deployment, until

pytestmark = pytest.mark.anyio


async def grow(log: EventLog, ref: RunRef, *items: bytes, after: int = 0) -> list[int]:
    seqs: list[int] = []
    for item in items:
        after = await log.append(ref, item, expected_seq=after)
        seqs.append(after)
    return seqs


async def take(items: AsyncIterator[Stored], n: int) -> list[Stored]:
    async with asyncio.timeout(BOUND_S):
        return [await anext(items) for _ in range(n)]


async def test_appended_envelopes_are_loaded_in_order_with_their_exact_bytes(
    backbone: Backbone, other: Backbone
) -> None:
    items = [b"one", b"\x00\xff\r\n", "Zeit ⏱".encode(), b""]
    seqs = await grow(backbone.log, ALPHA, *items)
    expected = [Stored(seq, ALPHA, data) for seq, data in zip(seqs, items, strict=True)]
    assert await backbone.log.load(ALPHA) == expected
    assert await other.log.load(ALPHA) == expected


async def test_sequences_grow_over_all_runs(backbone: Backbone) -> None:
    first = await backbone.log.append(ALPHA, b"a", expected_seq=0)
    second = await backbone.log.append(BETA, b"b", expected_seq=0)
    third = await backbone.log.append(ALPHA, b"c", expected_seq=first)
    assert first < second < third


async def test_load_after_a_sequence_leaves_out_what_came_before(backbone: Backbone) -> None:
    seqs = await grow(backbone.log, ALPHA, b"1", b"2", b"3")
    assert [s.data for s in await backbone.log.load(ALPHA, after_seq=seqs[0])] == [b"2", b"3"]
    assert await backbone.log.load(ALPHA, after_seq=seqs[2]) == []
    assert await backbone.log.load(ALPHA, after_seq=seqs[2] + 1000) == []


async def test_load_after_another_runs_sequence_counts_too(backbone: Backbone) -> None:
    first = await backbone.log.append(ALPHA, b"1", expected_seq=0)
    between = await backbone.log.append(BETA, b"x", expected_seq=0)
    await backbone.log.append(ALPHA, b"2", expected_seq=first)
    assert [s.data for s in await backbone.log.load(ALPHA, after_seq=between)] == [b"2"]


async def test_an_unknown_run_loads_as_nothing(backbone: Backbone) -> None:
    assert await backbone.log.load(ALPHA) == []


async def test_a_long_run_loads_whole(backbone: Backbone) -> None:
    items = [b"%d" % i + b"." * 4000 for i in range(600)]
    await grow(backbone.log, ALPHA, *items)
    assert [s.data for s in await backbone.log.load(ALPHA)] == items


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (RunRef("*", "*", "*"), [b"a1", b"b1", b"a2", b"g1", b"o1", b"a3"]),
        (RunRef("acme", "*", "*"), [b"a1", b"b1", b"a2", b"g1", b"a3"]),
        (RunRef("acme", "job1", "*"), [b"a1", b"b1", b"a2", b"a3"]),
        (ALPHA, [b"a1", b"a2", b"a3"]),
        (RunRef("nobody", "*", "*"), []),
    ],
)
async def test_pages_of_any_size_hold_what_matches_in_order_once(
    backbone: Backbone, pattern: RunRef, expected: list[bytes]
) -> None:
    log, last = backbone.log, dict[RunRef, int]()
    writes = [(ALPHA, b"a1"), (BETA, b"b1"), (ALPHA, b"a2"), (GAMMA, b"g1"), (OTHER, b"o1")]
    for ref, data in [*writes, (ALPHA, b"a3")]:
        last[ref] = await log.append(ref, data, expected_seq=last.get(ref, 0))
    tenant, job, run = pattern
    for limit in (1, 2, 3, 100):
        seen: list[bytes] = []
        seq, more = 0, True
        while more:
            page = await log.read(after_seq=seq, tenant=tenant, job=job, run=run, limit=limit)
            assert len(page.envelopes) <= limit
            seen += [stored.data for stored in page.envelopes]
            seq = page.envelopes[-1].seq if page.envelopes else seq
            more = page.more
        assert seen == expected
        assert await log.read(after_seq=seq, tenant=tenant, job=job, run=run) == ([], False)


async def test_runs_of_the_same_name_in_two_tenants_are_two_runs(backbone: Backbone) -> None:
    await backbone.log.append(ALPHA, b"acme", expected_seq=0)
    await backbone.log.append(OTHER, b"umbrella", expected_seq=0)
    assert [s.data for s in await backbone.log.load(ALPHA)] == [b"acme"]
    assert [s.data for s in await backbone.log.load(OTHER)] == [b"umbrella"]


async def test_a_wrong_expected_sequence_is_a_conflict_and_stores_nothing(
    backbone: Backbone,
) -> None:
    (seq,) = await grow(backbone.log, ALPHA, b"1")
    for wrong in (0, seq + 1, seq + 1000):
        with pytest.raises(Conflict):
            await backbone.log.append(ALPHA, b"x", expected_seq=wrong)
    assert [s.data for s in await backbone.log.load(ALPHA)] == [b"1"]


async def test_a_sequence_expected_of_a_run_that_does_not_exist_is_a_conflict(
    backbone: Backbone,
) -> None:
    await backbone.log.append(BETA, b"b", expected_seq=0)
    with pytest.raises(Conflict):
        await backbone.log.append(ALPHA, b"x", expected_seq=1)
    assert await backbone.log.load(ALPHA) == []


async def test_another_runs_writes_never_conflict(backbone: Backbone) -> None:
    (seq,) = await grow(backbone.log, ALPHA, b"1")
    await grow(backbone.log, BETA, b"x", b"y")
    await backbone.log.append(ALPHA, b"2", expected_seq=seq)
    assert len(await backbone.log.load(ALPHA)) == 2


async def test_of_many_concurrent_writers_exactly_one_wins(
    backbone: Backbone, other: Backbone
) -> None:
    won: list[bytes] = []

    async def write(log: EventLog, data: bytes) -> None:
        try:
            await log.append(ALPHA, data, expected_seq=0)
        except Conflict:
            return
        won.append(data)

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        for i in range(10):
            tasks.create_task(write(backbone.log, b"a%d" % i))
            tasks.create_task(write(other.log, b"b%d" % i))
    assert len(won) == 1
    assert [s.data for s in await backbone.log.load(ALPHA)] == won


async def test_the_largest_message_is_stored_and_a_larger_one_is_refused(
    backbone: Backbone,
) -> None:
    largest = b"x" * PAYLOAD_BYTES_MAX
    seq = await backbone.log.append(ALPHA, largest, expected_seq=0)
    with pytest.raises(TooLarge):
        await backbone.log.append(ALPHA, b"x" * 2_000_000, expected_seq=seq)
    assert [s.data for s in await backbone.log.load(ALPHA)] == [largest]
    await backbone.log.append(ALPHA, b"small again", expected_seq=seq)


async def test_a_run_is_found_by_tenant_and_name(backbone: Backbone) -> None:
    await grow(backbone.log, GAMMA, b"1", b"2")
    await grow(backbone.log, OTHER, b"1")
    assert await backbone.log.find("acme", "gamma") == GAMMA
    assert await backbone.log.find("umbrella", "alpha") == OTHER
    assert await backbone.log.find("umbrella", "gamma") is None
    assert await backbone.log.find("acme", "nobody") is None


async def test_bounds_of_an_empty_log_are_one_and_zero(backbone: Backbone) -> None:
    assert await backbone.log.bounds() == (1, 0)


async def test_bounds_are_the_first_and_the_last_sequence(backbone: Backbone) -> None:
    seqs = await grow(backbone.log, ALPHA, b"1", b"2", b"3")
    assert await backbone.log.bounds() == (seqs[0], seqs[-1])


async def test_all_clients_see_one_incarnation_that_survives_a_restart(
    backbone: Backbone, other: Backbone, deployment: Deployment
) -> None:
    incarnation = backbone.log.incarnation
    assert int(incarnation, 16) >= 0
    assert other.log.incarnation == incarnation
    await deployment.restart()
    async with deployment.client() as later:
        assert later.log.incarnation == incarnation


async def test_follow_gives_what_was_stored_before_and_then_what_comes(
    backbone: Backbone, other: Backbone
) -> None:
    (seq,) = await grow(backbone.log, ALPHA, b"1")
    async with backbone.log.follow(after_seq=0) as items:
        assert [s.data for s in await take(items, 1)] == [b"1"]
        await grow(other.log, ALPHA, b"2", after=seq)
        await grow(other.log, GAMMA, b"3")
        found = await take(items, 2)
    assert [(s.ref, s.data) for s in found] == [(ALPHA, b"2"), (GAMMA, b"3")]


async def test_follow_from_the_middle_begins_after_that_sequence(backbone: Backbone) -> None:
    seqs = await grow(backbone.log, ALPHA, b"1", b"2", b"3", b"4")
    async with backbone.log.follow(after_seq=seqs[1]) as items:
        assert [s.seq for s in await take(items, 2)] == seqs[2:]


async def test_follow_from_the_end_gives_only_what_comes(backbone: Backbone) -> None:
    seqs = await grow(backbone.log, ALPHA, b"1", b"2")
    async with backbone.log.follow(after_seq=seqs[-1]) as items:
        await grow(backbone.log, BETA, b"new")
        assert [s.data for s in await take(items, 1)] == [b"new"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({}, [ALPHA, BETA, GAMMA, OTHER]),
        ({"tenant": "acme"}, [ALPHA, BETA, GAMMA]),
        ({"tenant": "acme", "job": "job1"}, [ALPHA, BETA]),
        ({"tenant": "acme", "job": "job1", "run": "beta"}, [BETA]),
        ({"run": "alpha"}, [ALPHA, OTHER]),
        ({"job": "job2"}, [GAMMA]),
    ],
)
async def test_follow_gives_only_what_matches_before_and_after_it_began(
    backbone: Backbone, pattern: dict[str, str], expected: list[RunRef]
) -> None:
    refs = [ALPHA, BETA, GAMMA, OTHER]
    seqs = {ref: (await grow(backbone.log, ref, b"old"))[0] for ref in refs}
    async with backbone.log.follow(after_seq=0, **pattern) as items:
        for ref in refs:
            await grow(backbone.log, ref, b"new", after=seqs[ref])
        found = await take(items, 2 * len(expected))
        sentinel = RunRef(*(pattern.get(k, "any") for k in ("tenant", "job", "run")))
        after = seqs.get(sentinel, 0)
        after = found[-1].seq if after else 0
        await grow(backbone.log, sentinel, b"end", after=after)
        (end,) = await take(items, 1)
    assert [(s.ref, s.data) for s in found] == [
        *((ref, b"old") for ref in expected),
        *((ref, b"new") for ref in expected),
    ]
    assert (end.ref, end.data) == (sentinel, b"end")


async def test_followers_miss_nothing_while_writers_are_busy(
    backbone: Backbone, other: Backbone
) -> None:
    """Followers that begin at different moments all see the whole log, once and in order."""
    runs, each = 4, 60
    seen: list[list[int]] = []

    async def write(log: EventLog, ref: RunRef) -> None:
        await grow(log, ref, *(b"%d" % i for i in range(each)))

    async def read(log: EventLog, after_seq: int) -> None:
        async with log.follow(after_seq=after_seq) as items:
            seen.append([s.seq for s in await take(items, runs * each - after_seq)])

    async with asyncio.timeout(BOUND_S * 2), asyncio.TaskGroup() as tasks:
        for i in range(runs):
            log = (backbone, other)[i % 2].log
            tasks.create_task(write(log, RunRef("acme", "busy", f"run{i}")))
        for after_seq in (0, 0, 7):
            tasks.create_task(read(other.log, after_seq))
        async with backbone.log.follow(after_seq=0) as items:
            for i, stored in enumerate(await take(items, runs * each)):
                if i in {20, 90, 150}:
                    tasks.create_task(read(backbone.log, stored.seq))
    everything = list(range(1, runs * each + 1))
    assert max(map(len, seen)) == len(everything)
    assert all(found == everything[-len(found) :] for found in seen)


async def test_losers_of_a_race_are_never_followed(backbone: Backbone) -> None:
    async with backbone.log.follow(after_seq=0) as items:
        (seq,) = await grow(backbone.log, ALPHA, b"won")
        with pytest.raises(Conflict):
            await backbone.log.append(ALPHA, b"lost", expected_seq=0)
        await backbone.log.append(ALPHA, b"next", expected_seq=seq)
        assert [s.data for s in await take(items, 2)] == [b"won", b"next"]


async def test_follow_survives_a_server_restart(backbone: Backbone, deployment: Deployment) -> None:
    (seq,) = await grow(backbone.log, ALPHA, b"1")
    async with backbone.log.follow(after_seq=0) as items:
        await take(items, 1)
        await deployment.restart()
        await append_when_back(backbone.log, ALPHA, b"2", seq)
        assert [s.data for s in await take(items, 1)] == [b"2"]


async def test_the_log_survives_a_server_restart(
    backbone: Backbone, deployment: Deployment
) -> None:
    seqs = await grow(backbone.log, ALPHA, b"1", b"2")
    await deployment.restart()
    async with deployment.client() as later:
        assert [s.seq for s in await later.log.load(ALPHA)] == seqs
        assert await later.log.find("acme", "alpha") == ALPHA
        with pytest.raises(Conflict):
            await later.log.append(ALPHA, b"x", expected_seq=0)


async def test_without_a_server_nothing_is_stored_or_loaded(
    backbone: Backbone, deployment: Deployment
) -> None:
    (seq,) = await grow(backbone.log, ALPHA, b"1")
    await deployment.stop()
    with pytest.raises(Unavailable):
        await backbone.log.append(ALPHA, b"2", expected_seq=seq)
    with pytest.raises(Unavailable):
        await backbone.log.load(ALPHA)
    await deployment.start()
    async with deployment.client() as later:
        assert [s.data for s in await later.log.load(ALPHA)] == [b"1"]


async def test_an_append_that_got_no_answer_is_unknown_and_found_by_reading_again(
    backbone: Backbone, deployment: Deployment
) -> None:
    (seq,) = await grow(backbone.log, ALPHA, b"1")
    async with deployment.client(patience_s=0.3) as impatient:
        deployment.freeze()
        try:
            with pytest.raises(AppendUnknown):
                await impatient.log.append(ALPHA, b"2", expected_seq=seq)
        finally:
            deployment.thaw()

        async def stored() -> bool:
            return [s.data for s in await backbone.log.load(ALPHA, after_seq=seq)] == [b"2"]

        await until(stored)
        with pytest.raises(Conflict):
            await impatient.log.append(ALPHA, b"2", expected_seq=seq)
    assert [s.data for s in await backbone.log.load(ALPHA)] == [b"1", b"2"]


async def append_when_back(log: EventLog, ref: RunRef, data: bytes, expected_seq: int) -> int:
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                return await log.append(ref, data, expected_seq=expected_seq)
            except Unavailable:
                stored = await log.load(ref, after_seq=expected_seq)
                if stored:
                    return stored[0].seq


def test_a_cursor_reads_back_from_its_text() -> None:
    cursor = Cursor("a0f3", 17, 2)
    assert str(cursor) == "a0f3-17-2"
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text", ["", "a0f3", "a0f3-17", "a0f3-17-x", "-17-2", "a0f3--2", "a0f3-17-2-9", "a0f3-+1-2"]
)
def test_what_is_no_cursor_is_none(text: str) -> None:
    assert Cursor.parse(text) is None
