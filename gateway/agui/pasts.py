"""The events of the past of a fork, as the fork has them: another run's, with edits (rule 14).

What they were in their own run stays there: here they are told as the fork's own.
"""

from collections.abc import Iterable

from commands.past import fork_in
from domain.decisions.forks import FORKS_MAX
from domain.envelope import decode
from domain.errors import IntegrityViolated
from domain.events import Event, ResultEdit, Source
from domain.folds.forks import edited, merged
from domain.ids import RunRef
from eventlog.port import EventLog


async def past_events(
    log: EventLog, tenant: str, source: Source, results: Iterable[ResultEdit], depth: int = 1
) -> list[Event]:
    """The events up to the place that a fork begins at, those of a past of it before.

    Raises:
        Unavailable: the log is away.
        IntegrityViolated: an envelope cannot be read, or there is no end of forks.
    """
    if depth > FORKS_MAX:
        msg = f"the past of a fork leads over more than {FORKS_MAX} runs"
        raise IntegrityViolated(msg)
    edits = {edit.call: edit for edit in results}
    stored = await log.load(RunRef(tenant, source.job, source.run))
    forked, found = fork_in(stored), list[Event]()
    if forked is not None:
        inner = merged(forked.results, edits.values())
        found += await past_events(log, tenant, forked.source, inner, depth + 1)
    for item in stored:
        envelope = decode(item.data)
        wanted = max(0, source.version - envelope.version + 1)
        found += edited(envelope.events[:wanted], edits)
    return found
