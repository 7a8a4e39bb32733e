"""How long to wait before something is tried again, and when to give up. Not the waiting."""

from collections.abc import Callable
from dataclasses import dataclass

RETRIES_MAX = 6
"""How often a request is sent again."""

RECONNECTS_MAX = 20
"""How often in a row a stream connects again without hearing anything new."""

BASE_S = 0.25
LONGEST_S = 15.0
ASKED_LONGEST_S = 60.0


@dataclass(slots=True)
class Backoff:
    """Longer after each failure, with jitter so that many clients do not come back at once (C13).

    `random` gives a number from 0 to 1.
    """

    random: Callable[[], float]
    tries_max: int
    base_s: float = BASE_S
    longest_s: float = LONGEST_S
    failures: int = 0

    @property
    def spent(self) -> bool:
        """Whether it has been tried often enough."""
        return self.failures >= self.tries_max

    def after_failure(self, asked_s: float = 0.0) -> float:
        """Seconds to wait now, not below what the server asks for."""
        most = min(self.longest_s, self.base_s * 2.0**self.failures)
        self.failures += 1
        return min(asked_s, ASKED_LONGEST_S) + most * self.random()

    def worked(self) -> None:
        """It went on: the next failure is a first one."""
        self.failures = 0
