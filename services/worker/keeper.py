"""Who keeps what a lane's calls work on, and remembers what they came to. Not an executor.

The sandbox lane has one: a job's workspace lies on one worker, whose journal is the claim of a call
(rule 6). The tool lane has none: its claims are in the log.
"""

from dataclasses import dataclass
from typing import Protocol

from domain.commands import RecordToolResult
from domain.ids import RunRef
from domain.work import CallToolWork, SnapshotWork


@dataclass(frozen=True, slots=True)
class Begin:
    """The call is ours to run, and that it begins is written down."""


@dataclass(frozen=True, slots=True)
class Known:
    """It ran before, or may have: this is what to report of it. None: the log has it already."""

    result: RecordToolResult | None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another worker keeps the job."""

    epoch: str


@dataclass(frozen=True, slots=True)
class Later:
    """It cannot be said yet who keeps the job: the worker that did may come back."""

    why: str


Admission = Begin | Known | Elsewhere | Later


class Keeper(Protocol):
    """Keeps jobs on this worker. One for each process that serves the lane."""

    async def admit(self, ref: RunRef, work: CallToolWork) -> Admission:
        """Whether a call is to be run here and now.

        Raises:
            Unavailable: nobody could say; run nothing.
        """
        ...

    async def ended(self, ref: RunRef, result: RecordToolResult) -> None:
        """Write down what a call came to, before it is reported."""
        ...

    async def recorded(self, ref: RunRef, call: str) -> None:
        """The log has it: it need not be remembered any more."""
        ...

    async def snapshot(self, ref: RunRef, work: SnapshotWork) -> Elsewhere | Later | None:
        """Store the files of a run's workspace and have that recorded; None when that is done.

        Raises:
            Unavailable: not now.
        """
        ...
