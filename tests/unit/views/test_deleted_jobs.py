"""What a deletion leaves of its job in the views: who deleted it. Not how jobs are deleted."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from domain.envelope import Cause, Envelope, decode, encode, hash_of
from domain.events import RunDeleted
from eventlog.port import Stored
from projections.seeing import see
from projections.views import ALL
from tests.support.views import Desk, desk_path, open_desk
from tests.support.worlds import golden, world

pytestmark = pytest.mark.anyio


@pytest.fixture
def stored() -> list[Stored]:
    """A job of a simulated world and one of a golden history, in turns."""
    return mixed(world(2), golden()["v0_2_0-delegated"])


def tombstone(stored: Sequence[Stored], job: tuple[str, str], seq: int) -> Stored:
    """What `commands.delete_job` appends to the first run of a job."""
    root = next(one.ref for one in stored if one.ref[:2] == job)
    mine = [one for one in stored if one.ref == root]
    last = decode(mine[-1].data)
    event = RunDeleted(command="d1", runs=1, envelopes=len(mine))
    cause, prev = Cause(type="delete_run.v1", id="d1"), hash_of(mine[-1].data)
    envelope = Envelope("x", root, last.next_version, last.at_ms, cause, "e1", prev, (event,))
    return Stored(seq, root, encode(envelope))


def mixed(*logs: Sequence[Stored]) -> list[Stored]:
    """The envelopes of several logs in turns, as those of one."""
    turns = [one for some in zip_longest(*logs) for one in some if one is not None]
    return [one._replace(seq=at) for at, one in enumerate(turns, start=1)]


async def everything(desk: Desk) -> dict[str, list[Mapping[str, object]]]:
    found: dict[str, list[Mapping[str, object]]] = {}
    for view in ALL:
        for table in view.tables(MetaData(), ""):
            found[f"{view.name}.{table}"] = list(await desk.rows(view.name, table))
    return found


@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["one by one", "by seven", "at once"])
async def test_a_deleted_job_was_never_there(
    tmp_path: Path, stored: list[Stored], size: int
) -> None:
    job = golden()["v0_2_0-delegated"][0].ref[:2]
    end = tombstone(stored, job, len(stored) + 1)
    others = [one for one in stored if one.ref[:2] != job]
    live = [*stored, end]
    async with open_desk(desk_path(tmp_path / "live")) as desk:
        for start in range(0, len(live), size):
            batch = [see(one) for one in live[start : start + size]]
            assert await desk.store.apply(desk.standing, batch) == []
        rows = await everything(desk)
    async with open_desk(desk_path(tmp_path / "anew")) as desk:
        assert await desk.store.apply(desk.standing, [see(one) for one in [*others, end]]) == []
        assert await everything(desk) == rows
    assert all(rows.values())


async def test_what_comes_too_late_goes_with_the_next_tombstone(
    tmp_path: Path, stored: list[Stored]
) -> None:
    job = next(one.ref[:2] for one in stored if one.ref.run == one.ref.job)
    mine = [one for one in stored if one.ref[:2] == job]
    end = tombstone(stored, job, len(stored) + 1)
    late = mine[-1]._replace(seq=end.seq + 1)
    again = tombstone([*stored, end], job, end.seq + 2)
    async with open_desk(desk_path(tmp_path)) as desk:
        for one in (*mine, end, late, again):
            await desk.store.apply(desk.standing, [see(one)])
        rows = await everything(desk)
    acts = [one["action"] for one in rows.pop("audit.audit")]
    assert acts == ["deleted"]
    assert not any(rows.values())


def test_every_row_of_every_view_says_of_which_job_it_is() -> None:
    for view in ALL:
        for table in view.tables(MetaData(), "").values():
            assert {"tenant", "job"} <= set(table.columns.keys()), (view.name, table.name)
