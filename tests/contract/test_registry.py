"""What every form of REGISTRY promises. Not how either form does it."""

import asyncio

import pytest

from domain.errors import Conflict, Rejected, TooLarge, Unavailable
from eventlog.newest import Entry
from eventlog.port import Backbone
from tests.contract.deployment import BOUND_S, Deployment, until

pytestmark = pytest.mark.anyio


async def test_what_one_process_puts_another_reads_with_its_exact_bytes(
    backbone: Backbone, other: Backbone
) -> None:
    assert await other.registry.get("key", "acme", "one") is None
    revision = await backbone.registry.put("key", "acme", "one", b"\x00\xff", expected=0)
    assert revision > 0
    entry = Entry("key", "acme", "one", revision, b"\x00\xff")
    assert await other.registry.get("key", "acme", "one") == entry
    empty = await backbone.registry.put("key", "acme", "two", b"", expected=0)
    assert await other.registry.get("key", "acme", "two") == Entry("key", "acme", "two", empty, b"")


async def test_a_list_has_one_kind_and_one_tenant_or_all_tenants(
    backbone: Backbone, other: Backbone
) -> None:
    assert await other.registry.list("key") == []
    places = [
        ("key", "acme", "one"),
        ("key", "umbrella", "one"),
        ("hook", "acme", "one"),
        ("key", "acme", "two"),
        ("keys", "acme", "one"),
    ]
    entries = [
        Entry(*place, await backbone.registry.put(*place, b"%d" % i, expected=0), b"%d" % i)
        for i, place in enumerate(places)
    ]
    assert await other.registry.list("key", "acme") == [entries[0], entries[3]]
    assert await other.registry.list("key", "umbrella") == [entries[1]]
    assert await other.registry.list("key") == [entries[0], entries[1], entries[3]]
    assert await other.registry.list("hook", "umbrella") == []


async def test_a_name_that_no_two_tenants_share_is_found_without_its_tenant(
    backbone: Backbone, other: Backbone
) -> None:
    for tenant, name in (("acme", "a1"), ("umbrella", "b1"), ("acme", "c1")):
        await backbone.registry.put("key", tenant, name, name.encode(), expected=0)
    await backbone.registry.put("hook", "acme", "b1", b"of another kind", expected=0)
    found = await other.registry.get("key", "*", "b1")
    assert found is not None
    assert (found.tenant, found.name, found.data) == ("umbrella", "b1", b"b1")
    assert await other.registry.get("key", "*", "d1") is None
    await other.registry.remove("key", "umbrella", "b1")
    assert await other.registry.get("key", "*", "b1") is None


async def test_only_the_newest_value_of_a_name_is_kept(backbone: Backbone, other: Backbone) -> None:
    first = await backbone.registry.put("key", "acme", "one", b"old", expected=0)
    second = await other.registry.put("key", "acme", "one", b"new", expected=first)
    assert second > first
    entry = Entry("key", "acme", "one", second, b"new")
    assert await backbone.registry.get("key", "acme", "one") == entry
    assert await backbone.registry.list("key") == [entry]


async def test_a_value_made_from_another_one_than_is_there_is_a_conflict(
    backbone: Backbone, other: Backbone
) -> None:
    with pytest.raises(Conflict):
        await backbone.registry.put("key", "acme", "one", b"x", expected=3)
    revision = await backbone.registry.put("key", "acme", "one", b"1", expected=0)
    for expected in (0, revision + 1):
        with pytest.raises(Conflict):
            await other.registry.put("key", "acme", "one", b"2", expected=expected)
    found = await backbone.registry.get("key", "acme", "one")
    assert found == Entry("key", "acme", "one", revision, b"1")


async def test_of_writers_at_the_same_time_one_wins_each_round(
    backbone: Backbone, other: Backbone
) -> None:
    async def add(ports: Backbone) -> None:
        for _ in range(20):
            while True:
                last = await ports.registry.get("key", "acme", "n")
                data = b"%d" % (int(last.data) + 1 if last else 1)
                revision = last.revision if last else 0
                try:
                    await ports.registry.put("key", "acme", "n", data, expected=revision)
                    break
                except Conflict:
                    continue

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(add(backbone))
        tasks.create_task(add(other))
    last = await backbone.registry.get("key", "acme", "n")
    assert last is not None
    assert last.data == b"40"


async def test_what_was_removed_is_gone_and_its_revision_never_counts_again(
    backbone: Backbone, other: Backbone
) -> None:
    first = await backbone.registry.put("key", "acme", "one", b"1", expected=0)
    kept = await backbone.registry.put("key", "umbrella", "one", b"k", expected=0)
    await other.registry.remove("key", "acme", "one")
    await other.registry.remove("key", "acme", "one")
    assert await backbone.registry.get("key", "acme", "one") is None
    assert await backbone.registry.list("key") == [Entry("key", "umbrella", "one", kept, b"k")]
    with pytest.raises(Conflict):
        await backbone.registry.put("key", "acme", "one", b"2", expected=first)
    again = await backbone.registry.put("key", "acme", "one", b"2", expected=0)
    assert again > kept


async def test_the_registry_survives_a_server_restart(
    backbone: Backbone, deployment: Deployment
) -> None:
    revision = await backbone.registry.put("key", "acme", "one", b"kept", expected=0)
    gone = await backbone.registry.put("key", "acme", "two", b"gone", expected=0)
    await backbone.registry.remove("key", "acme", "two")
    await deployment.restart()
    async with deployment.client() as later:
        assert await later.registry.list("key") == [Entry("key", "acme", "one", revision, b"kept")]
        newer = await later.registry.put("key", "acme", "one", b"new", expected=revision)
        assert newer > gone


async def test_many_values_are_all_listed_in_the_order_they_were_put(backbone: Backbone) -> None:
    for i in range(300):
        await backbone.registry.put("key", "acme", f"n{i}", b"%d" % i, expected=0)
    first = await backbone.registry.get("key", "acme", "n0")
    assert first is not None
    await backbone.registry.put("key", "acme", "n0", b"later", expected=first.revision)
    listed = await backbone.registry.list("key", "acme")
    assert [entry.name for entry in listed] == [*(f"n{i}" for i in range(1, 300)), "n0"]


@pytest.mark.parametrize("bad", ["", "a.b", "*", ">", "a b", "ä", "x" * 129, "a\n"])
async def test_a_name_that_is_no_token_is_refused_wherever_it_stands(
    backbone: Backbone, bad: str
) -> None:
    places: list[tuple[str, str, str]] = [
        (bad, "acme", "one"),
        ("key", bad, "one"),
        ("key", "acme", bad),
    ]
    for place in places:
        with pytest.raises(Rejected):
            await backbone.registry.put(*place, b"x", expected=0)
        if place[1] != "*":
            with pytest.raises(Rejected):
                await backbone.registry.get(*place)
        with pytest.raises(Rejected):
            await backbone.registry.remove(*place)
    with pytest.raises(Rejected):
        await backbone.registry.list(bad)
    if bad != "*":
        with pytest.raises(Rejected):
            await backbone.registry.list("key", bad)
    assert await backbone.registry.list("key") == []


async def test_a_value_above_the_payload_limit_is_refused(backbone: Backbone) -> None:
    with pytest.raises(TooLarge):
        await backbone.registry.put("key", "acme", "one", b"x" * 2_000_000, expected=0)
    assert await backbone.registry.list("key") == []


async def test_while_the_server_is_away_nothing_is_read_as_if_it_were_not_there(
    backbone: Backbone, deployment: Deployment
) -> None:
    """A reader that took silence for absence would take every key for revoked, or none."""
    revision = await backbone.registry.put("key", "acme", "one", b"1", expected=0)
    await deployment.stop()
    with pytest.raises(Unavailable):
        await backbone.registry.get("key", "acme", "one")
    with pytest.raises(Unavailable):
        await backbone.registry.list("key")
    with pytest.raises(Unavailable):
        await backbone.registry.put("key", "acme", "two", b"2", expected=0)
    with pytest.raises(Unavailable):
        await backbone.registry.remove("key", "acme", "one")
    await deployment.start()
    found: list[Entry] = []

    async def answered() -> bool:
        try:
            found[:] = await backbone.registry.list("key")
        except Unavailable:
            return False
        return True

    await until(answered)
    assert found == [Entry("key", "acme", "one", revision, b"1")]
