"""Of whom runs are: their expert, and who asked for them. Not a view: the log itself says it.

A run's first envelope tells it and it never changes, so what was found once is kept.
"""

from typing import NamedTuple

from domain.envelope import Envelope, decode
from domain.events import CancelRequested, RunForked, RunStarted
from domain.ids import RunRef
from eventlog.port import EventLog

KNOWN_MAX = 10_000
"""How many runs are remembered; beyond, the oldest is read again when it is asked for."""


class Whose(NamedTuple):
    """Of whom a run is: its expert, and the run that asked for it; None for a root."""

    expert: str = ""
    parent: str | None = None


class Owners:
    """Remembers of whom runs are; what it does not know is in a run's first envelope."""

    def __init__(self, log: EventLog, known_max: int = KNOWN_MAX) -> None:
        self._log = log
        self._known: dict[RunRef, Whose] = {}
        self._known_max = known_max

    def known(self, envelope: Envelope) -> Whose | None:
        """Of whom the run of an envelope is, if that needs no reading."""
        found = self._known.get(envelope.ref)
        if found is None and envelope.version == 1:
            return self._keep(envelope.ref, _named_in(envelope))
        return found

    async def of(self, envelope: Envelope) -> Whose:
        """Of whom the run of an envelope is.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: the run's first envelope cannot be read.
        """
        found = self.known(envelope)
        if found is not None:
            return found
        tenant, job, run = envelope.ref
        page = await self._log.read(after_seq=0, tenant=tenant, job=job, run=run, limit=1)
        first = decode(page.envelopes[0].data) if page.envelopes else None
        return self._keep(envelope.ref, _named_in(first))

    def clear(self) -> None:
        """Forget everything: the log was made anew."""
        self._known.clear()

    def _keep(self, ref: RunRef, whose: Whose) -> Whose:
        while len(self._known) >= self._known_max:
            del self._known[next(iter(self._known))]
        return self._known.setdefault(ref, whose)


def _named_in(first: Envelope | None) -> Whose:
    for event in first.events if first else ():
        if isinstance(event, RunStarted):
            return Whose(event.expert, event.parent.run if event.parent else None)
        if isinstance(event, RunForked):
            return Whose(event.expert)
        if isinstance(event, CancelRequested) and event.parent is not None:
            return Whose(parent=event.parent.run)  # cancelled before it was started
    return Whose()
