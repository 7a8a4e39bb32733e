"""API keys: made, kept as hashes, checked, expired and taken back. Not over HTTP."""

import asyncio

import pytest

from domain.errors import Rejected, Unavailable
from eventlog.memory import MemoryServer
from eventlog.newest import Entry, Registry
from eventlog.port import Backbone
from gateway.auth.keys import KEYS_AGE_S, KEYS_MAX, KeyRing
from tests.support.credentials import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> MemoryServer:
    return MemoryServer(now_ms=clock.ms)


@pytest.fixture
def backbone(server: MemoryServer) -> Backbone:
    return server.backbone()


def ring_of(backbone: Backbone, clock: Clock) -> KeyRing:
    return KeyRing(backbone.registry, now_ms=clock.ms, now_s=clock.s)


async def test_a_key_says_whose_it_is_and_what_it_may(backbone: Backbone, clock: Clock) -> None:
    ring = ring_of(backbone, clock)
    key, text = await ring.create("acme", "ci", "operator", by="root", experts=("coder",))
    found = await ring_of(backbone, clock).check(text)
    assert found == key
    caller = key.caller
    assert (caller.tenant, caller.role) == ("acme", "operator")
    assert caller.experts == frozenset({"coder"})
    assert caller.principal.name == "key:ci"
    assert not caller.may("admin")


async def test_nothing_that_is_kept_tells_the_text_of_a_key(
    backbone: Backbone, clock: Clock
) -> None:
    """What lies in the store is of no use to whoever reads it (C15)."""
    _, text = await ring_of(backbone, clock).create("acme", "ci", "admin", by="root")
    secret = text.split("_", 2)[2]
    [entry] = await backbone.registry.list("key")
    for told in (repr(entry), entry.data.decode()):
        assert secret not in told
        assert text not in told


async def test_two_keys_have_nothing_in_common(backbone: Backbone, clock: Clock) -> None:
    ring = ring_of(backbone, clock)
    one, first = await ring.create("acme", "one", "viewer", by="root")
    two, second = await ring.create("acme", "two", "viewer", by="root")
    assert len({one.id, two.id, one.salt, two.salt, one.digest, two.digest}) == 6
    assert len(first.split("_", 2)[2]) == 43  # 256 bits
    mixed = f"pk_{one.id}_{second.split('_', 2)[2]}"
    assert await ring.check(mixed) is None


async def test_what_is_not_exactly_a_key_is_none(backbone: Backbone, clock: Clock) -> None:
    ring = ring_of(backbone, clock)
    key, text = await ring.create("acme", "ci", "viewer", by="root")
    _, _, secret = text.split("_", 2)
    wrong = [
        "",
        "pk_",
        text[:-1],
        text + "a",
        text + "\n",
        f" {text}",
        text.upper(),
        f"pk_{key.id}_{'a' * 43}",
        f"pk_{'0' * 16}_{secret}",
        f"pk_*_{secret}",
        f"pk_{key.id}_",
        f"sk_{key.id}_{secret}",
        f"pk_{key.id}_{'ä' * 43}",
    ]
    assert [await ring.check(one) for one in wrong] == [None] * len(wrong)
    assert await ring.check(text) == key


async def test_a_key_is_good_until_it_expires(backbone: Backbone, clock: Clock) -> None:
    ring = ring_of(backbone, clock)
    key, text = await ring.create("acme", "ci", "viewer", by="root", expires_at_ms=clock.ms() + 900)
    assert await ring.check(text) == key
    clock.pass_by(0.899)
    assert await ring.check(text) == key
    clock.pass_by(0.002)
    assert await ring.check(text) is None
    assert [one.id for one in await ring.list("acme")] == [key.id]
    with pytest.raises(Rejected):
        await ring.create("acme", "late", "viewer", by="root", expires_at_ms=clock.ms())


async def test_a_key_that_was_taken_back_is_good_at_other_gateways_for_a_few_seconds_at_most(
    backbone: Backbone, clock: Clock
) -> None:
    here, there = ring_of(backbone, clock), ring_of(backbone, clock)
    key, text = await here.create("acme", "ci", "viewer", by="root")
    assert await here.check(text) == key
    assert await there.check(text) == key
    assert await here.revoke("acme", "ci") == key
    assert await here.check(text) is None
    clock.pass_by(KEYS_AGE_S)
    assert await there.check(text) is None
    assert await there.list("acme") == []


async def test_a_key_is_good_everywhere_as_soon_as_it_is_made(
    backbone: Backbone, clock: Clock
) -> None:
    """One that was not there is asked for again: nobody remembers that it was not."""
    here, there = ring_of(backbone, clock), ring_of(backbone, clock)
    assert await there.check(f"pk_{'0' * 16}_{'a' * 43}") is None
    key, text = await here.create("acme", "ci", "viewer", by="root")
    assert await there.check(text) == key


async def test_a_key_is_taken_back_by_its_own_tenant_only(backbone: Backbone, clock: Clock) -> None:
    ring = ring_of(backbone, clock)
    key, text = await ring.create("acme", "ci", "viewer", by="root")
    assert await ring.revoke("umbrella", "ci") is None
    assert await ring.revoke("umbrella", key.id) is None
    assert await ring.list("umbrella") == []
    assert await ring.check(text) == key
    assert await ring.revoke("acme", key.id) == key


async def test_a_name_is_taken_once_in_a_tenant(backbone: Backbone, clock: Clock) -> None:
    ring = ring_of(backbone, clock)
    await ring.create("acme", "ci", "viewer", by="root")
    with pytest.raises(Rejected, match="already"):
        await ring.create("acme", "ci", "admin", by="root")
    await ring.create("umbrella", "ci", "viewer", by="root")
    await ring.revoke("acme", "ci")
    await ring.create("acme", "ci", "admin", by="root")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "ä", "x" * 65, "a\n"])
async def test_a_name_is_fit_to_be_shown(backbone: Backbone, clock: Clock, name: str) -> None:
    with pytest.raises(Rejected):
        await ring_of(backbone, clock).create("acme", name, "viewer", by="root")


async def test_a_tenant_has_a_bounded_number_of_keys(backbone: Backbone, clock: Clock) -> None:
    ring = ring_of(backbone, clock)
    key, _ = await ring.create("acme", "first", "viewer", by="root")
    for number in range(KEYS_MAX - 1):
        made = key.model_copy(update={"id": f"{number:016x}", "name": f"n{number}"})
        data = made.model_dump_json().encode()
        await backbone.registry.put("key", "acme", made.id, data, expected=0)
    with pytest.raises(Rejected, match="at most"):
        await ring.create("acme", "one-more", "viewer", by="root")


async def test_an_entry_that_was_moved_to_another_tenant_is_no_key(
    backbone: Backbone, clock: Clock
) -> None:
    ring = ring_of(backbone, clock)
    _, text = await ring.create("acme", "ci", "admin", by="root")
    [entry] = await backbone.registry.list("key", "acme")
    await backbone.registry.remove("key", "acme", entry.name)
    await backbone.registry.put("key", "umbrella", entry.name, entry.data, expected=0)
    await backbone.registry.put("key", "umbrella", "other", b"of another release", expected=0)
    assert await ring_of(backbone, clock).check(text) is None
    assert await ring.list("umbrella") == []


async def test_a_wary_ring_asks_nobody_about_keys_it_has_not_seen(
    backbone: Backbone, clock: Clock
) -> None:
    ring = ring_of(backbone, clock)
    key, text = await ring.create("acme", "ci", "viewer", by="root")
    assert await ring.check(text, seen_only=True) is None
    assert await ring.check(text) == key
    clock.pass_by(2 * KEYS_AGE_S)
    assert await ring.check(text, seen_only=True) == key


class Counted:
    """A registry that counts how often it is read."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.reads = 0

    async def put(self, kind: str, tenant: str, name: str, data: bytes, *, expected: int) -> int:
        return await self._registry.put(kind, tenant, name, data, expected=expected)

    async def get(self, kind: str, tenant: str, name: str) -> Entry | None:
        self.reads += 1
        return await self._registry.get(kind, tenant, name)

    async def list(self, kind: str, tenant: str = "*") -> list[Entry]:
        return await self._registry.list(kind, tenant)

    async def remove(self, kind: str, tenant: str, name: str) -> None:
        await self._registry.remove(kind, tenant, name)


async def test_many_who_come_with_one_key_at_once_have_it_read_once(
    backbone: Backbone, clock: Clock
) -> None:
    counted = Counted(backbone.registry)
    ring = KeyRing(counted, now_ms=clock.ms, now_s=clock.s)
    key, text = await ring.create("acme", "ci", "viewer", by="root")
    for expected in (1, 2):
        async with asyncio.TaskGroup() as group:
            found = [group.create_task(ring.check(text)) for _ in range(50)]
        assert [one.result() for one in found] == [key] * 50
        assert counted.reads == expected
        clock.pass_by(KEYS_AGE_S)


async def test_while_the_registry_is_away_no_key_is_good_for_longer_than_usual(
    server: MemoryServer, backbone: Backbone, clock: Clock
) -> None:
    ring = ring_of(backbone, clock)
    key, text = await ring.create("acme", "ci", "viewer", by="root")
    assert await ring.check(text) == key
    server.stop()
    assert await ring.check(text) == key
    clock.pass_by(KEYS_AGE_S)
    with pytest.raises(Unavailable):
        await ring.check(text)
    server.start()
    assert await ring.check(text) == key
