"""What every form of LIMITS promises. Not how either form does it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.errors import Conflict, Unavailable
from domain.rate import Scope
from eventlog.newest import Noted
from eventlog.port import Backbone
from tests.contract.deployment import BOUND_S, Deployment, until

pytestmark = pytest.mark.anyio

ONE = Scope("anthropic", "account", "model")
TWO = Scope("anthropic", "account", "another")


async def test_what_one_process_notes_another_reads_with_its_exact_bytes(
    backbone: Backbone, other: Backbone
) -> None:
    assert await other.limits.all() == {}
    assert await other.limits.last(ONE) is None
    first = await backbone.limits.note(ONE, b"\x00\xff", expected=0)
    second = await backbone.limits.note(TWO, b"", expected=0)
    expected = {ONE: Noted(ONE, first, b"\x00\xff"), TWO: Noted(TWO, second, b"")}
    assert await other.limits.all() == expected
    assert await other.limits.last(ONE) == expected[ONE]
    assert await other.limits.last(TWO) == expected[TWO]


async def test_only_the_newest_note_of_a_scope_is_kept(backbone: Backbone, other: Backbone) -> None:
    seq = await backbone.limits.note(ONE, b"old", expected=0)
    newer = await other.limits.note(ONE, b"new", expected=seq)
    assert newer > seq
    assert await backbone.limits.all() == {ONE: Noted(ONE, newer, b"new")}


async def test_a_note_made_from_an_older_one_is_a_conflict(
    backbone: Backbone, other: Backbone
) -> None:
    seq = await backbone.limits.note(ONE, b"1", expected=0)
    for expected in (0, seq + 1):
        with pytest.raises(Conflict):
            await other.limits.note(ONE, b"2", expected=expected)
    assert await backbone.limits.last(ONE) == Noted(ONE, seq, b"1")


async def test_of_writers_at_the_same_time_one_wins_each_round(
    backbone: Backbone, other: Backbone
) -> None:
    async def add(ports: Backbone) -> None:
        for _ in range(25):
            while True:
                last = await ports.limits.last(ONE)
                number = int(last.data) if last else 0
                try:
                    await ports.limits.note(
                        ONE, b"%d" % (number + 1), expected=last.revision if last else 0
                    )
                    break
                except Conflict:
                    continue

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(add(backbone))
        tasks.create_task(add(other))
    last = await backbone.limits.last(ONE)
    assert last is not None
    assert last.data == b"50"


async def news(watching: AsyncIterator[Noted | None]) -> Noted | None:
    async with asyncio.timeout(BOUND_S):
        return await anext(watching)


async def test_a_watcher_looks_first_and_then_hears_what_changes(
    backbone: Backbone, other: Backbone
) -> None:
    before = await backbone.limits.note(ONE, b"before", expected=0)
    async with other.limits.watch() as watching:
        assert await news(watching) is None
        seq = await backbone.limits.note(ONE, b"after", expected=before)
        assert await news(watching) == Noted(ONE, seq, b"after")


async def test_a_watcher_does_not_hear_what_was_not_stored(
    backbone: Backbone, other: Backbone
) -> None:
    seq = await backbone.limits.note(ONE, b"1", expected=0)
    async with other.limits.watch() as watching:
        assert await news(watching) is None
        with pytest.raises(Conflict):
            await backbone.limits.note(ONE, b"lost the race", expected=seq + 9)
        newer = await backbone.limits.note(ONE, b"2", expected=seq)
        assert await news(watching) == Noted(ONE, newer, b"2")


async def test_after_a_server_restart_nothing_is_noted_and_watchers_look_again(
    backbone: Backbone, other: Backbone, deployment: Deployment
) -> None:
    seq = await backbone.limits.note(ONE, b"before", expected=0)
    await backbone.limits.note(TWO, b"before", expected=0)
    async with other.limits.watch() as watching:
        assert await news(watching) is None
        await deployment.restart()
        assert await news(watching) is None
        assert await all_of(backbone) == {}
        with pytest.raises(Conflict):
            await backbone.limits.note(ONE, b"from before", expected=seq)
        again = await backbone.limits.note(ONE, b"again", expected=0)
        while (noted := await news(watching)) is None:
            continue
        assert noted == Noted(ONE, again, b"again")


async def test_what_was_read_of_a_server_before_its_restart_is_never_taken_for_what_is_there(
    backbone: Backbone, other: Backbone, deployment: Deployment
) -> None:
    before = await backbone.limits.note(ONE, b"before", expected=0)
    await deployment.restart()
    assert await all_of(other) == {}
    await other.limits.note(ONE, b"after", expected=0)  # it counts from 1 again
    assert (await all_of(backbone))[ONE].data == b"after"
    with pytest.raises(Conflict):
        await backbone.limits.note(ONE, b"from before", expected=before)
    last = await backbone.limits.last(ONE)
    assert last is not None
    assert last.data == b"after"
    assert last.revision > before
    await backbone.limits.note(ONE, b"later", expected=last.revision)


async def all_of(ports: Backbone) -> dict[Scope, Noted]:
    """All notes, as soon as the server answers."""
    found: list[dict[Scope, Noted]] = []

    async def answered() -> bool:
        try:
            found.append(await ports.limits.all())
        except Unavailable:
            return False
        return True

    await until(answered)
    return found[-1]


async def test_nothing_is_noted_while_the_server_is_away(
    backbone: Backbone, deployment: Deployment
) -> None:
    await deployment.stop()
    with pytest.raises(Unavailable):
        await backbone.limits.note(ONE, b"x", expected=0)
    await deployment.start()
    assert await all_of(backbone) == {}
