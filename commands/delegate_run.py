"""Delegate: the end of a child run comes back as the outcome of the call that started it (rule 8).

The start of a child is an effect of its parent, sent as a `StartRun`; see `commands.start_run`.
"""

from commands.desk import Desk
from commands.runs import Decision
from domain.commands import RecordDelegation
from domain.ids import RunRef


async def record_delegation(desk: Desk, ref: RunRef, command: RecordDelegation) -> Decision:
    """Give a delegate call its outcome; told twice, it changes nothing.

    Raises:
        Unavailable: not now.
    """
    return await desk.execute(ref, command)
