"""Who changed files in a room, in which order: whether a snapshot shows a checkpoint. Not a lock.

A call counts when it has ended: one that is still at it is behind the room's gate, or waits there
and has changed nothing yet.
"""

from dataclasses import dataclass, field


@dataclass
class Writers:
    """The last call of each run that may have changed files, and where in the order of all."""

    ended: int = 0
    """How many calls have ended so far."""
    _last: dict[str, int] = field(default_factory=dict[str, int])
    _steps: dict[str, int] = field(default_factory=dict[str, int])
    _parents: dict[str, str] = field(default_factory=dict[str, str])

    def end(self, run: str, step: int, parent: str) -> None:
        """A call that may have changed files has ended."""
        self.ended += 1
        self._last[run] = self.ended
        self._steps[run] = max(step, self._steps.get(run, 0))
        self._parents[run] = parent

    def since(self, run: str, step: int, asked: int) -> bool:
        """Whether anything may have changed since a run's checkpoint.

        The run's delegates were over at its checkpoint: of what they did, only what ended after the
        snapshot was asked for (then `asked` calls had ended) counts.
        """
        own = self._last.get(run, 0)
        return self._steps.get(run, 0) > step or any(
            last > (asked if self._works_for(other, run) else own)
            for other, last in self._last.items()
            if other != run
        )

    def _works_for(self, run: str, caller: str) -> bool:
        """Whether a run is a delegate of another, or a delegate of its delegates."""
        above = self._parents.get(run, "")
        while above and above != caller:
            above = self._parents.get(above, "")
        return above == caller
