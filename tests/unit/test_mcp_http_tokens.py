"""Tokens are kept encrypted, by tenant and owner, and got anew by one at a time."""

import asyncio
from pathlib import Path

import pytest

from domain.errors import Rejected
from domain.secrets import SecretRef
from services.secrets.redactions import Redactions
from services.secrets.store import VERSIONS_MAX, AgeStore
from services.secrets.tokens import TokenStore

pytestmark = pytest.mark.anyio

TOKEN = "a-token-that-nobody-sees"


def store(folder: Path) -> TokenStore:
    return TokenStore(folder / "tokens.age", folder / "identity.age", Redactions())


async def test_what_is_kept_is_found_by_its_tenant_and_owner_only(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    assert await tokens.load("t1", "owner") is None
    await tokens.save("t1", "owner", TOKEN)
    assert await store(tmp_path).load("t1", "owner") == TOKEN
    assert await tokens.load("t2", "owner") is None
    assert await tokens.load("t1", "other") is None
    assert await tokens.load("t1\x00owner", "") is None


async def test_the_file_shows_neither_a_token_nor_whose_it_is(tmp_path: Path) -> None:
    await store(tmp_path).save("t1", "https://example.com/mcp", TOKEN)
    data = (tmp_path / "tokens.age").read_bytes()
    assert TOKEN.encode() not in data
    assert b"example.com" not in data
    assert (tmp_path / "tokens.age").stat().st_mode & 0o077 == 0


async def test_only_the_newest_token_is_kept(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    for number in range(3):
        await tokens.save("t1", "owner", f"{TOKEN}-{number}")
    assert await tokens.load("t1", "owner") == f"{TOKEN}-2"
    inside = AgeStore(tmp_path / "tokens.age", tmp_path / "identity.age")
    (place,) = inside.places()
    assert inside.find(SecretRef(name=place.name, version="2")) is None
    assert VERSIONS_MAX > 1  # of secrets, several are


async def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    await tokens.save("t1", "owner", TOKEN)
    assert await tokens.forget("t1", "owner")
    assert not await tokens.forget("t1", "owner")
    assert await tokens.load("t1", "owner") is None


async def test_without_the_identity_nothing_can_be_read(tmp_path: Path) -> None:
    await store(tmp_path).save("t1", "owner", TOKEN)
    (tmp_path / "identity.age").unlink()
    with pytest.raises(Rejected, match="needs the identity"):
        await store(tmp_path).load("t1", "owner")


async def test_one_at_a_time_has_the_turn_of_an_owner(tmp_path: Path) -> None:
    one, two = store(tmp_path), store(tmp_path)
    said: list[str] = []
    inside, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with one.turn("t1", "owner"):
            said.append("first")
            inside.set()
            await leave.wait()
            said.append("first is done")

    async def second() -> None:
        await inside.wait()
        async with two.turn("t1", "another owner"):
            said.append("another")
        leave.set()
        async with two.turn("t1", "owner"):
            said.append("second")

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(first())
        tasks.create_task(second())
    assert said == ["first", "another", "first is done", "second"]


async def test_a_turn_that_is_waited_for_in_vain_leaves_nothing_open(tmp_path: Path) -> None:
    one, two = store(tmp_path), store(tmp_path)

    async def wait() -> None:
        async with two.turn("t1", "owner"):
            raise AssertionError

    async with one.turn("t1", "owner"), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
    async with asyncio.timeout(5), two.turn("t1", "owner"):
        pass
