"""What people ask of a run at work: steer, pause, resume, approve, answer, change its rules.

Each is one decision; what it does to the runs below follows as effects.
"""

from commands.desk import Desk
from commands.runs import Decision
from domain.commands import (
    AnswerAsk,
    AnswerQuestion,
    ChangePolicy,
    DecideApproval,
    PauseRun,
    ResumeRun,
    SteerRun,
)
from domain.ids import RunRef

AskedOfPeople = (
    SteerRun | PauseRun | ResumeRun | DecideApproval | AnswerQuestion | AnswerAsk | ChangePolicy
)


async def ask_of_run(desk: Desk, ref: RunRef, command: AskedOfPeople) -> Decision:
    """Decide it; once for each command id.

    Raises:
        Rejected: there is no such run, or it does not wait for that.
        Unavailable: not now.
    """
    return await desk.execute(ref, command)
