"""Who lives, as `peritus sandbox gc` judges it, and how paths are spelled. Not what is removed."""

import asyncio
import os

import pytest

from eventlog.memory import MemoryServer
from peritus.files import key_of
from peritus.places import living
from services.worker.epoch import Epoch, start_ticks, this_epoch

LEASE_S = 0.05


def epoch_of(pid: int, start: int) -> str:
    return str(this_epoch()._replace(pid=pid, start=start))


@pytest.mark.anyio
async def test_the_process_table_decides_for_this_machine_whatever_leases_say() -> None:
    """C10: a sandbox is ended when its keeper is dead, and never before."""
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    parent = os.getppid()
    dead = epoch_of(parent, (start_ticks(parent) or 0) + 1)
    await backbone.leases.renew(dead, b"{}")

    alive = await living(backbone, alone=True)

    assert alive(epoch_of(parent, start_ticks(parent) or 0))
    assert alive(str(this_epoch()))
    assert not alive(dead)


@pytest.mark.anyio
async def test_leases_decide_for_others_once_everybody_had_time_for_one() -> None:
    backbone = MemoryServer(now_ms=lambda: 0, lease_s=LEASE_S).backbone()
    leased, silent = (str(Epoch("else", "boot", "space", pid, 1)) for pid in (1, 2))
    await backbone.leases.renew(leased, b"{}")

    young = await living(backbone, alone=False)
    assert young(leased)
    assert young(silent)

    async with asyncio.timeout(10):
        while not await backbone.leases.settled():  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(LEASE_S / 10)
    await backbone.leases.renew(leased, b"{}")
    settled = await living(backbone, alone=False)
    assert settled(leased)
    assert not settled(silent)


@pytest.mark.anyio
async def test_who_is_alone_on_a_server_has_outlived_all_without_a_lease() -> None:
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    alive = await living(backbone, alone=True)
    assert not alive(str(Epoch("else", "boot", "space", 1, 1)))
    assert not alive("of another form")


@pytest.mark.parametrize(
    ("spelled", "key"),
    [
        ("", b""),
        (".", b""),
        ("/workspace", b""),
        ("/workspace/a/b", b"a/b"),
        ("./a//b/", b"a/b"),
        ("/workspaces/a", b"workspaces/a"),
        ("../a", b"../a"),  # which no tree has
        (os.fsdecode(b"\xff"), b"\xff"),
    ],
)
def test_a_path_means_the_same_however_it_is_spelled(spelled: str, key: bytes) -> None:
    assert key_of(spelled) == key
