"""A seeded plan of what goes wrong between processes and their server. Not inside either."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from eventlog.memory import Fault, FaultPoint, Kind

P = FaultPoint

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rates:
    """How often what goes wrong, as probabilities for each call, and how long things take."""

    lost: float = 0.01
    lost_answer: float = 0.01
    late: float = 0.005
    refused: float = 0.005
    duplicated: float = 0.01
    conflict: float = 0.01
    stale: float = 0.01
    vanished: float = 0.02
    slow: float = 0.02
    pause: float = 0.0005
    slow_worker: float = 0.2
    """How likely a process is slow for its whole life."""

    latency_s: Span = (0.0001, 0.002)
    slow_s: Span = (0.05, 1.5)
    """How long a slow call travels: below the timeout, so it overtakes nothing but other calls."""
    late_s: Span = (2.0, 20.0)
    """How long a late request travels: above the timeout, so it is done when nobody waits."""
    pause_s: Span = (0.5, 45.0)
    """How long a process stands still; more than a lease now and then."""
    slow_factor: float = 20.0


CALM = Rates(
    lost=0, lost_answer=0, late=0, refused=0, duplicated=0, conflict=0, stale=0, vanished=0,
    slow=0, pause=0, slow_worker=0,
)  # fmt: skip
"""Nothing goes wrong; calls still take their time."""

Choice = tuple[str, Kind]

_READ: tuple[Choice, ...] = (("lost", Kind.DROP), ("refused", Kind.REFUSE))
_WRITE: tuple[Choice, ...] = (*_READ, ("lost_answer", Kind.LOST_ACK), ("late", Kind.NONE))
_SENT: tuple[Choice, ...] = (("lost", Kind.DROP),)
_DELIVERED: tuple[Choice, ...] = (("lost", Kind.DROP), ("duplicated", Kind.DUPLICATE))

MAY: Mapping[FaultPoint, tuple[Choice, ...]] = {
    P.APPEND: (*_WRITE, ("conflict", Kind.CONFLICT)),
    P.LOAD: (*_READ, ("stale", Kind.STALE)),
    P.FIND: _READ,
    P.BOUNDS: _READ,
    P.FOLLOW_DELIVER: _SENT,
    P.BLOB_PUT: _WRITE,
    P.BLOB_GET: _READ,
    P.SNAPSHOT_PUT: (*_WRITE, ("vanished", Kind.VANISH)),
    P.SNAPSHOT_GET: (*_READ, ("stale", Kind.STALE), ("vanished", Kind.VANISH)),
    P.OPEN_ADD: _WRITE,
    P.OPEN_REMOVE: _WRITE,
    P.OPEN_LIST: _READ,
    P.WORK_PUT: (*_WRITE, ("vanished", Kind.VANISH), ("duplicated", Kind.DUPLICATE)),
    P.WORK_DELIVER: _DELIVERED,
    P.WORK_ACK: (("lost", Kind.DROP), ("late", Kind.NONE)),
    P.COMMAND_PUT: _WRITE,
    P.COMMAND_PUT_AT: _WRITE,
    P.COMMAND_DELIVER: _DELIVERED,
    P.COMMAND_ACK: (("lost", Kind.DROP), ("late", Kind.NONE)),
    P.TIMER_FIRE: (),
    P.DEAD_PUT: _WRITE,
    P.DEAD_LIST: _READ,
    P.DEAD_REMOVE: _WRITE,
    P.LEASE_RENEW: _WRITE,
    P.LEASE_DROP: _WRITE,
    P.LEASE_LIVE: _READ,
    P.LIMIT_NOTE: (*_WRITE, ("conflict", Kind.CONFLICT)),
    P.LIMIT_READ: _READ,
    P.LIMIT_DELIVER: _DELIVERED,
    P.REGISTRY_PUT: (*_WRITE, ("conflict", Kind.CONFLICT)),
    P.REGISTRY_READ: _READ,
    P.REGISTRY_REMOVE: _WRITE,
    P.RETENTION_READ: _READ,
    P.RETENTION_REMOVE: _WRITE,
    P.LIVE_PUBLISH: (("lost", Kind.DROP), ("vanished", Kind.DROP)),
    P.REQUEST: (("lost", Kind.DROP), ("late", Kind.NONE)),
    P.REPLY: (("lost", Kind.DROP), ("late", Kind.NONE)),
}
"""What can really happen at each point: the log never loses what it acknowledged, WORK does."""


class Injected(NamedTuple):
    """One thing that went wrong, and when."""

    at_s: float
    client: str
    point: FaultPoint
    what: str
    fault: Fault


class FaultPlan:
    """What goes wrong in one simulation: one seed, one plan, whatever the system does meanwhile.

    It is the server's own `Faults` (for timers); give each process the ones of `client`.
    """

    def __init__(self, seed: int, rates: Rates | None = None) -> None:
        self.trace: list[Injected] = []
        self.counts: Counter[tuple[FaultPoint, str]] = Counter()
        self._seed = seed
        self._rates = rates or Rates()
        self._clients: dict[str, ClientFaults] = {}

    @property
    def rates(self) -> Rates:
        """What goes wrong how often now."""
        return self._rates

    def client(self, name: str) -> "ClientFaults":
        """The faults of one process; the same name again goes on where it was."""
        if name not in self._clients:
            own = f"{self._seed}/{name}"
            self._clients[name] = ClientFaults(self, name, Random(own), Random(f"{own}/aside"))
        return self._clients[name]

    def at(self, point: FaultPoint) -> Fault:
        """What happens at a point of the server itself."""
        return self.client("server").at(point)

    def heal(self) -> None:
        """From now on nothing goes wrong, so that the system can come to rest."""
        self._rates = CALM
        for client in self._clients.values():
            client.heal()

    def record(self, injected: Injected) -> None:
        """Keep what was injected."""
        self.trace.append(injected)
        self.counts[injected.point, injected.what] += 1


class ClientFaults:
    """The faults of one process: its own random numbers, so that others do not shift them."""

    def __init__(self, plan: FaultPlan, name: str, random: Random, aside: Random) -> None:
        self._plan = plan
        self._name = name
        self._random = random
        self._aside = aside
        self._cut = False
        self._factor = plan.rates.slow_factor if random.random() < plan.rates.slow_worker else 1.0

    def cut(self) -> None:
        """From now on nothing of this process reaches the server, and nothing comes back."""
        self._cut = True

    @property
    def is_cut(self) -> bool:
        """Whether nothing of this process gets through now."""
        return self._cut

    def mend(self) -> None:
        """It is connected again."""
        self._cut = False

    def heal(self) -> None:
        """It is connected, and as fast as others."""
        self._cut = False
        self._factor = 1.0

    def at(self, point: FaultPoint) -> Fault:
        """What happens to the call that passes this point now."""
        # What is read seldom has dice of its own, so that it does not shift what happens elsewhere.
        random = self._aside if point is FaultPoint.REGISTRY_READ else self._random
        rates = self._plan.rates
        what, kind = self._choose(point, rates, random)
        slow = point in MAY and random.random() < rates.slow
        pause = kind is Kind.NONE and random.random() < rates.pause
        span = rates.late_s if what == "late" else rates.slow_s if slow else rates.latency_s
        fault = Fault(
            kind,
            delay_s=_within(span, random) * (1.0 if slow or what == "late" else self._factor),
            answer_s=_within(rates.latency_s, random) * self._factor,
            pause_s=_within(rates.pause_s, random) if pause else 0.0,
        )
        what = what or ("pause" if pause else "slow" if slow else "")
        if what:
            now = asyncio.get_running_loop().time()
            self._plan.record(Injected(now, self._name, point, what, fault))
        return fault

    def _choose(self, point: FaultPoint, rates: Rates, random: Random) -> tuple[str, Kind]:
        if self._cut:
            return "cut", Kind.DROP
        drawn = random.random()
        for name, kind in MAY[point]:
            rate: float = getattr(rates, name)
            if drawn < rate:
                return name, kind
            drawn -= rate
        return "", Kind.NONE


def _within(span: Span, random: Random) -> float:
    low, high = span
    return low + (high - low) * random.random()
