"""What one viewer wants to be told: of which runs, which events, and how. Not how it is told."""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.ids import RunRef
from eventlog.port import matches

ANY = "*"


@dataclass(frozen=True, slots=True)
class Feed:
    """One stream. `pattern` is what its cursors are bound to; the filters only leave out (C9)."""

    pattern: RunRef
    root: RunRef | None = None  # whose end is the stream's; None: it has no end
    runs: frozenset[str] = frozenset()
    jobs: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    live: bool = False
    follow: bool = False

    @property
    def names(self) -> Mapping[str, str]:
        """What the stream is of, as its first frame says it."""
        tenant, job, run = self.pattern
        if job == ANY:
            return {"tenant": tenant}
        return {"job": job} if run == ANY else {"run": run, "job": job}

    @property
    def filtered(self) -> bool:
        """Whether some events of a run that is wanted are left out."""
        return bool(self.types or self.prefixes)

    def within(self, ref: RunRef) -> bool:
        """Whether a run belongs to the stream, wanted or not."""
        return matches(self.pattern, ref)

    def takes(self, ref: RunRef) -> bool:
        """Whether something of that run is wanted; it is known to be within."""
        return not (
            (self.runs and ref.run not in self.runs) or (self.jobs and ref.job not in self.jobs)
        )

    def wants(self, kind: str) -> bool:
        """Whether events of that type are wanted."""
        return not self.filtered or kind in self.types or kind.startswith(self.prefixes or ("\0",))
