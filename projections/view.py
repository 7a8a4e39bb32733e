"""What a view is: a pure fold of envelopes into changes of rows. Not any one view, and no storage.

A view sees each run's envelopes in order and keeps a head a run: what it has to remember of what
came before. It reads no other view, so each can be thrown away and made anew by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy import MetaData, Table

from domain.envelope import Envelope
from domain.ids import RunRef

Value = str | int | float | bool | None
"""What a column holds."""

Key = Mapping[str, Value]
"""The columns of a table's primary key."""


@dataclass(frozen=True, slots=True)
class Put:
    """There is a row with that key, and these columns of it are so; others stay as they are."""

    table: str
    key: Key
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Add:
    """There is a row with that key, and these columns of it have grown by so much."""

    table: str
    key: Key
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Drop:
    """There is no row with that key."""

    table: str
    key: Key


Change = Put | Add | Drop


class Seen(NamedTuple):
    """One stored envelope: where it lies, what it says, and the digest of its bytes."""

    seq: int
    ref: RunRef
    digest: str
    envelope: Envelope | None
    broken: str = ""  # why there is no envelope: the bytes are not what was written


Head = TypeVar("Head")


class Folded(NamedTuple, Generic[Head]):
    """What one envelope does to a view; `violation`: what is wrong with the stored history."""

    head: Head
    changes: tuple[Change, ...] = ()
    violation: str | None = None


class View(Protocol[Head]):
    """One view. Another `version` means another shape: it is made anew from the log."""

    name: str
    version: int
    hears_deletions: bool
    """Whether it folds the tombstone of a deleted job, the one envelope that is left of it."""

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """Its tables by the names that changes use; in the database each name ends in `suffix`."""
        ...

    def fresh(self, ref: RunRef, seq: int) -> Head:
        """The head of a run whose first envelope lies at `seq`."""
        ...

    def load(self, data: str) -> Head:
        """The head that `dump` wrote."""
        ...

    def dump(self, head: Head) -> str:
        """The head as JSON."""
        ...

    def fold(self, head: Head, seen: Seen) -> Folded[Head]:
        """The head and the rows after one more envelope. Never fails."""
        ...


AnyView = View[Any]
