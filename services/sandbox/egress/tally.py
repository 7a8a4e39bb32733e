"""Counting what went through, by host and verdict, in bounded memory. Not who is told."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from domain.record import Record
from domain.sandbox import EgressRow
from services.sandbox.egress.names import shown

KEYS_MAX = 500
"""Hosts counted apart for each verdict between two takings; more count as OTHER together."""

OTHER = "other"

Verdict = Literal["allowed", "denied", "failed"]


class SecretUse(Record):
    """A secret was put into requests: which one, where, and what was answered. Never its value.

    `status` is 0 where no answer came.
    """

    secret: str
    host: str
    method: str
    status: int
    times: int = 1


class Tally(Record):
    """What went through since it was last asked. `lost`: the proxy died, and its counts with it.

    A row with no connections is about one that was counted before and still transfers.
    """

    rows: tuple[EgressRow, ...] = ()
    uses: tuple[SecretUse, ...] = ()
    lost: bool = False

    def joined(self, other: "Tally") -> "Tally":
        """Both after each other; the parts of one taking hold no row twice."""
        return Tally(
            rows=self.rows + other.rows, uses=self.uses + other.uses, lost=self.lost or other.lost
        )


class Key(NamedTuple):
    """What is counted together."""

    host: str
    port: int
    verdict: Verdict
    reason: str = ""


class _UseKey(NamedTuple):
    secret: str
    host: str
    method: str
    status: int


@dataclass(slots=True)
class _Count:
    connections: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


class Counter:
    """Counts for one sandbox."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._counts: dict[Verdict, dict[Key, _Count]] = {}
        self._uses: dict[_UseKey, int] = {}

    def add(self, key: Key, connections: int = 0, bytes_out: int = 0, bytes_in: int = 0) -> None:
        """Count some more."""
        counts = self._counts.setdefault(key.verdict, {})
        if key not in counts and len(counts) >= self._keys_max:
            key = Key(OTHER, 0, key.verdict, key.reason)
        count = counts.setdefault(key, _Count())
        count.connections += connections
        count.bytes_out += bytes_out
        count.bytes_in += bytes_in

    def use(self, secret: str, host: str, method: str, status: int) -> None:
        """Count a request that a secret was put into."""
        key = _UseKey(secret, host, method, status)
        if key not in self._uses and len(self._uses) >= self._keys_max:
            key = _UseKey(secret, OTHER, method, status)
        self._uses[key] = self._uses.get(key, 0) + 1

    def take(self, rows_max: int) -> tuple[Tally, bool]:
        """Up to so many rows of each kind, which are then forgotten; and whether there are more."""
        rows: list[EgressRow] = []
        for counts in self._counts.values():
            some = list(counts)[: rows_max - len(rows)]
            rows += [_row(key, counts.pop(key)) for key in some]
        uses = [
            SecretUse(**key._asdict(), times=self._uses.pop(key))
            for key in list(self._uses)[:rows_max]
        ]
        more = any(self._counts.values()) or bool(self._uses)
        return Tally(rows=_sorted(rows), uses=tuple(uses)), more


def _row(key: Key, count: _Count) -> EgressRow:
    return EgressRow(
        host=shown(key.host),
        port=key.port,
        verdict=key.verdict,
        reason=key.reason,
        connections=count.connections,
        bytes_out=count.bytes_out,
        bytes_in=count.bytes_in,
    )


def _sorted(rows: Iterable[EgressRow]) -> tuple[EgressRow, ...]:
    return tuple(sorted(rows, key=lambda row: (row.verdict, row.host, row.port, row.reason)))
