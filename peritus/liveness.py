"""Which epochs have certainly ended, without waiting for a lease to lapse. Not the leases."""

from collections.abc import Callable

from commands.runs import RunStore
from domain.state import RunState
from eventlog.port import Backbone
from peritus.ids import new_id, now_ms
from services.worker.epoch import Epoch, proven_dead, this_epoch

CertainlyDead = Callable[[str], bool]


def dead_by(here: Epoch, known: frozenset[str] = frozenset()) -> CertainlyDead:
    """Proof from this machine's process table, and those that are known to have ended."""

    def certainly_dead(name: str) -> bool:
        epoch = Epoch.parse(name)
        return name in known or (epoch is not None and proven_dead(epoch, here))

    return certainly_dead


async def left_behind(backbone: Backbone) -> frozenset[str]:
    """The epochs that hold work of open runs although nobody was in when we joined alone.

    Leases are read last: whoever joined meanwhile has one before it holds anything.

    Raises:
        Unavailable: the store is away.
    """
    runs = RunStore(backbone, epoch="", now_ms=now_ms, new_id=new_id)
    holders: set[str] = set()
    for ref in await backbone.open_runs.list():
        holders |= _holders((await runs.fresh(ref)).state)
    if not holders:
        return frozenset()
    return frozenset(holders - set(await backbone.leases.live()))


def _holders(state: RunState) -> set[str]:
    found = {call.holder for call in state.open_calls if call.holder is not None}
    generation = state.generation
    if generation is not None and generation.holder is not None:
        found.add(generation.holder)
    return found


def lives(name: str, leased: frozenset[str] | None) -> bool:
    """Whether an epoch lives, as far as can be told: the process table decides for this machine.

    Leases do for others; `leased` None: not all have been heard of yet, and nobody counts as dead.
    """
    here, epoch = this_epoch(), Epoch.parse(name)
    if epoch is not None and epoch[:3] == here[:3]:
        return not proven_dead(epoch, here)
    return leased is None or name in leased
