"""Nothing of a job is done while it is only being brought here. Not how it is brought."""

import asyncio
import io
from dataclasses import replace

import pytest

from commands.importing import IMPORT
from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.memory import CrashAt, Crashed, FaultPoint
from eventlog.memory.registry import MemoryRegistry
from eventlog.newest import Entry
from services.loop.reconciler import Reconciler
from services.loop.watch import Watch
from services.retention.importing import import_job
from services.worker.hands import Bench
from services.worker.signs import Signs
from tests.support.office import Office, office
from tests.unit.retention.test_archive import NOW, ROOT, exported, worked

pytestmark = pytest.mark.anyio


def reconciler(desk: Office) -> Reconciler:
    signs = Signs(desk.backbone.leases, "e1", (), tuple, lambda _: False)
    watch = Watch(desk.backbone.log, Bench(asyncio.TaskGroup()))
    return Reconciler(desk.desk, signs, "e1", lambda _ref, _name: False, watch)


def work_of(desk: Office) -> list[bytes]:
    queues = [*desk.server.work.values(), desk.server.commands.queue]
    return [one.data for queue in queues for one in queue.messages.values()]


async def half_here() -> Office:
    """A job whose first envelopes are here: its root looks as if it waited for its first reply."""
    there = office()
    third = CrashAt(FaultPoint.APPEND, after=True)
    backbone = there.server.ports(there.server.client(hook=third))
    file = io.BytesIO(await exported(await worked()))
    with pytest.raises(Crashed):
        await import_job(backbone, "acme", file, NOW)
    there.now = NOW
    await there.backbone.open_runs.add(ROOT)  # as whoever watches the log does
    return there


async def look(desk: Office, times: int = 3) -> None:
    one = reconciler(desk)
    for _ in range(times):
        desk.now += 60_000
        await one.look()


async def test_nothing_of_a_job_is_done_while_it_comes() -> None:
    there = await half_here()
    await look(there)
    assert (work_of(there), there.bench.taken) == ([], [])
    await there.backbone.registry.remove(IMPORT, "acme", "j1")
    await look(there)
    assert (work_of(there), there.bench.taken) != ([], [])


async def test_a_reconciler_that_has_seen_the_job_come_takes_it_up_when_it_is_all_here() -> None:
    there = await half_here()
    one = reconciler(there)
    await one.look()
    assert ROOT[:2] in one._coming  # pyright: ignore[reportPrivateUsage]
    await import_job(there.backbone, "acme", io.BytesIO(await exported(await worked())), NOW)
    await one.look()
    assert one._coming == set()  # pyright: ignore[reportPrivateUsage]
    assert await there.backbone.open_runs.list() == []  # it is at rest
    assert work_of(there) == []


async def test_without_the_registry_what_is_new_waits_and_nothing_else() -> None:
    there = await half_here()
    old = RunRef("acme", "old", "old")
    there.bench.room = False
    await there.start(old)
    there.server.lose_work()
    await there.backbone.registry.remove(IMPORT, "acme", "j1")
    one = reconciler(there)
    one._known = {old[:2]}  # pyright: ignore[reportPrivateUsage]
    registry = Away(there.client, there.server.registry)
    object.__setattr__(there.desk, "backbone", replace(there.backbone, registry=registry))
    for _ in range(3):
        there.now += 60_000
        await one.look()
    assert {ref.job for ref in refs_of(there)} == {"old"}


class Away(MemoryRegistry):
    """A registry that cannot be read."""

    async def list(self, kind: str, tenant: str = "*") -> list[Entry]:
        raise Unavailable(f"{kind} of {tenant}: nobody answers")


def refs_of(desk: Office) -> set[RunRef]:
    return {one.ref for queue in desk.server.work.values() for one in queue.messages.values()}
