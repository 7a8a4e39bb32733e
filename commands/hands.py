"""The port to executors in the same process: work without a queue. Optional: WORK does as well."""

from typing import Protocol

from domain.ids import RunRef
from domain.tools import Lane
from domain.work import Work


class Hands(Protocol):
    """Executors of this process. What they take is held by this process's epoch."""

    def free(self) -> bool:
        """Whether there is room for one more generation here."""
        ...

    def free_lanes(self) -> frozenset[Lane]:
        """The lanes whose executor here has room for one more call."""
        ...

    def take(self, ref: RunRef, work: Work) -> None:
        """Do this work, whose claim by this epoch is in the log. Never blocks."""
        ...

    def stop(self, ref: RunRef) -> None:
        """The run is being cancelled: end its generation, let its calls report what happened."""
        ...

    def interrupt(self, ref: RunRef, step: int, attempt: int) -> None:
        """That attempt is abandoned: nobody waits for its reply any more."""
        ...

    def resume(self, ref: RunRef) -> None:
        """The run goes on after it was stopped."""
        ...


class NoHands:
    """A process without executors: all work goes through WORK."""

    def free(self) -> bool:
        """Never."""
        return False

    def free_lanes(self) -> frozenset[Lane]:
        """None."""
        return frozenset()

    def take(self, ref: RunRef, work: Work) -> None:
        """Nothing is ever handed over here."""

    def stop(self, ref: RunRef) -> None:
        """Nothing is at work here."""

    def interrupt(self, ref: RunRef, step: int, attempt: int) -> None:
        """Nothing is at work here."""

    def resume(self, ref: RunRef) -> None:
        """Nothing was stopped here."""
