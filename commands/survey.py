"""What the log says of all jobs: which are at rest and since when, and who is a fork of whom.

Read from the log itself, page by page, and only what is new after that. Not a view: whoever removes
something must not rely on what may be behind.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from domain.ids import RunRef
from eventlog.port import EventLog, Stored

RESTS = ("run.completed.", "run.stopped.", "run.failed.", "run.cancelled.")
BEGINS = ("run.started.", "run.forked.", "run.continued.")
DELETED = "run.deleted."
FORKED = "run.forked."


class JobName(NamedTuple):
    """A job, whosever it is."""

    tenant: str
    job: str

    @property
    def root(self) -> RunRef:
        """The run that it began with."""
        return RunRef(self.tenant, self.job, self.job)


@dataclass(slots=True)
class JobSeen:
    """What is known of a job; `source`: the job it was forked from."""

    at_work: set[str] = field(default_factory=set[str])
    runs: set[str] = field(default_factory=set[str])
    at_ms: int = 0  # of its last event
    source: str | None = None
    deleted: bool = False


class Survey:
    """All jobs of a log, as far as it was read."""

    def __init__(self, log: EventLog) -> None:
        """Nothing is read before `catch_up`."""
        self.jobs: dict[JobName, JobSeen] = {}
        self.seq = 0
        self._log = log
        self._incarnation = log.incarnation

    async def catch_up(self) -> None:
        """Read what was stored since.

        Raises:
            Unavailable: the log is away.
        """
        if self._log.incarnation != self._incarnation:
            self.jobs, self.seq, self._incarnation = {}, 0, self._log.incarnation
        more = True
        while more:
            page = await self._log.read(after_seq=self.seq)
            for stored in page.envelopes:
                self.see(stored)
            more = page.more

    def see(self, stored: Stored) -> None:
        """Take one envelope in; what cannot be read leaves its run at work: it is not removed."""
        self.seq = stored.seq
        ref = stored.ref
        seen = self.jobs.setdefault(JobName(ref.tenant, ref.job), JobSeen())
        if ref.run not in seen.runs:
            seen.runs.add(ref.run)
            seen.at_work.add(ref.run)
        try:
            envelope = orjson.loads(stored.data)
            seen.at_ms = max(seen.at_ms, envelope["at_ms"])
            for event in envelope["events"]:
                _event(seen, ref.run, event)
        except (ValueError, KeyError, TypeError):
            seen.at_work.add(ref.run)

    def forks_of(self, name: JobName) -> list[JobName]:
        """The jobs that need the history of this one.

        They were forked from it, and live; or are deleted, and kept for forks of their own.
        """
        return sorted(
            other
            for other, seen in self.jobs.items()
            if seen.source == name.job
            and other.tenant == name.tenant
            and (not seen.deleted or self.forks_of(other))
        )


def _event(seen: JobSeen, run: str, event: dict[str, Any]) -> None:
    kind: str = event["type"]
    if kind.startswith(DELETED):
        seen.deleted = True
        seen.at_work.clear()
        seen.runs = {run}
    elif seen.deleted:
        return  # what came too late, and is removed, too
    elif kind.startswith(RESTS):
        seen.at_work.discard(run)
    elif kind.startswith(BEGINS):
        seen.at_work.add(run)
    if kind.startswith(FORKED):
        seen.source = event["source"]["job"]
