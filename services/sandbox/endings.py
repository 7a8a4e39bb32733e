"""Whether a run that is at rest may go on: asked of the log. Not who ends what it keeps."""

from domain.envelope import decode
from domain.events import (
    TERMINAL_TYPES,
    GenerationRequested,
    RunCancelled,
    RunContinued,
    RunForked,
    RunStarted,
)
from domain.ids import RunRef
from eventlog.port import EventLog


async def is_over(log: EventLog, ref: RunRef) -> bool:
    """Whether a run was cancelled, or is a delegate at rest. Another root run may be continued.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: what is stored is not what was written.
    """
    events = [event for item in await log.load(ref) for event in decode(item.data).events]
    delegate = any(isinstance(one, RunStarted) and one.parent is not None for one in events)
    for event in reversed(events):
        if event.type in TERMINAL_TYPES:
            return delegate or isinstance(event, RunCancelled)
        if isinstance(event, RunContinued | RunForked | GenerationRequested):
            return False
    return False
