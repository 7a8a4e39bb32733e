"""The logs of simulated worlds and of every golden history, for whoever folds them. Not tests."""

import logging
import random
from functools import cache
from pathlib import Path

from domain.envelope import decode
from eventlog.memory import MemoryServer
from eventlog.port import Stored
from peritus.simulation import world as simulation
from peritus.simulation.asking import has_asks
from peritus.simulation.hidden import brought_to_light
from peritus.simulation.loop import SimLoop, run
from peritus.simulation.network import FaultPlan, Rates

HISTORIES = Path(__file__).parents[1] / "histories"


@cache
def world(seed: int, people: int = 4) -> tuple[Stored, ...]:
    """Everything that was stored in a world, from its first envelope to its quiet end."""

    async def play(loop: SimLoop) -> tuple[Stored, ...]:
        plan = FaultPlan(seed, Rates(stale=0))
        server = MemoryServer(now_ms=loop.now_ms, faults=plan)
        dice = random.Random(f"{seed}/world")
        one = simulation.World(seed, loop, dice, plan, server, asking=has_asks(seed))
        auditor = simulation.watch(one)
        with brought_to_light(one.ledger.problems):
            await simulation._play(one, auditor, people)  # pyright: ignore[reportPrivateUsage]
        return tuple(server.log.all)

    logging.disable(logging.WARNING)  # trouble is the point there
    longest_s = simulation.STORM_S + 4 * simulation.QUIET_S
    try:
        return run(play, seed, virtual_s_max=longest_s)
    finally:
        logging.disable(logging.NOTSET)


@cache
def golden() -> dict[str, tuple[Stored, ...]]:
    """The golden logs: those of one job, or of a fork and its source, as one, in their order."""
    groups: dict[str, list[bytes]] = {}
    for path in sorted(HISTORIES.glob("v*/*.jsonl")):
        name = f"{path.parent.name}-{path.stem.partition('-')[0]}"
        groups.setdefault(name, []).extend(path.read_bytes().splitlines())
    return {name: _in_order(lines) for name, lines in groups.items()}


def _in_order(lines: list[bytes]) -> tuple[Stored, ...]:
    found = sorted(((decode(line), line) for line in lines), key=lambda one: one[0].at_ms)
    return tuple(Stored(at, one.ref, line) for at, (one, line) in enumerate(found, start=1))
