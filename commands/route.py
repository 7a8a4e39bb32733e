"""Which use case a command belongs to: one table for all transports. Not a transport itself."""

from typing import Literal, assert_never

from commands.ask_in_call import ask_in_call, claim_sampling, end_sampling
from commands.cancel_run import cancel_run
from commands.change_team import change_team
from commands.claim_tool_call import claim_tool_call
from commands.continue_run import continue_run
from commands.delegate_run import record_delegation
from commands.desk import Desk
from commands.fork_run import fork_run
from commands.people import ask_of_run
from commands.place_sandbox import Placed, place_sandbox, record_snapshot
from commands.reconcile_run import abandon_holder, retry_tool_call
from commands.record_tool_result import record_tool_result
from commands.start_run import start_run
from commands.step_run import claim_generation, end_generation, fire_timer
from domain import commands as c
from domain.errors import Rejected, TooLarge, Unavailable
from domain.ids import RunRef
from domain.record import Record


class Answer(Record):
    """What became of a command. `granted` answers a claim, `detail` a result."""

    type: Literal["answer.v1"] = "answer.v1"
    status: Literal["accepted", "rejected", "unavailable"]
    granted: bool = False
    detail: str = ""
    code: str = ""
    placed: Placed | None = None


async def route(desk: Desk, ref: RunRef, command: c.Command) -> Answer:
    """Handle one command and say what became of it; errors a caller can act on are answers.

    Raises:
        IntegrityViolated: the stored history is not what was written; nothing was decided.
    """
    try:
        return await _route(desk, ref, command)
    except Rejected as error:
        return Answer(status="rejected", detail=error.message, code=error.code)
    except TooLarge as error:
        return Answer(status="rejected", detail=str(error), code="too_large")
    except Unavailable as error:
        return Answer(status="unavailable", detail=str(error), code="unavailable")


async def _route(  # noqa: C901, PLR0912 - a table
    desk: Desk, ref: RunRef, command: c.Command
) -> Answer:
    granted, detail, placed = False, "", None
    match command:
        case c.StartRun():
            await start_run(desk, ref, command)
        case c.ForkRun():
            await fork_run(desk, ref, command)
        case c.ContinueRun():
            await continue_run(desk, ref, command)
        case (
            c.SteerRun()
            | c.PauseRun()
            | c.ResumeRun()
            | c.DecideApproval()
            | c.AnswerQuestion()
            | c.AnswerAsk()
            | c.ChangePolicy()
        ):
            await ask_of_run(desk, ref, command)
        case c.ChangeTeam():
            await change_team(desk, ref, command.call)
        case c.CloseTeamCall():
            msg = "a change of a team is made by the worker that decides it"
            raise Rejected("not_for_the_wire", msg)
        case c.CancelRun():
            await cancel_run(desk, ref, command)
        case c.DeleteRun():
            msg = "a job is deleted by retention, which looks at all its runs and forks first"
            raise Rejected("not_for_the_wire", msg)
        case c.FireTimer():
            await fire_timer(desk, ref, command)
        case c.ClaimGeneration():
            granted = await claim_generation(desk, ref, command)
        case c.CompleteGeneration() | c.FailGeneration():
            await end_generation(desk, ref, command)
        case c.ClaimToolCall():
            granted = await claim_tool_call(desk, ref, command)
        case c.RecordToolResult():
            detail = await record_tool_result(desk, ref, command)
        case c.AskInCall():
            await ask_in_call(desk, ref, command)
        case c.ClaimSampling():
            granted = await claim_sampling(desk, ref, command)
        case c.EndSampling():
            await end_sampling(desk, ref, command)
        case c.PlaceSandbox():
            placed = await place_sandbox(desk, ref, command)
        case c.RecordSnapshot():
            await record_snapshot(desk, ref, command)
        case c.RecordDelegation():
            await record_delegation(desk, ref, command)
        case c.AbandonHolder():
            await abandon_holder(desk, ref, command)
        case c.RetryToolCall():
            await retry_tool_call(desk, ref, command)
        case _:
            assert_never(command)
    return Answer(status="accepted", granted=granted, detail=detail, placed=placed)
