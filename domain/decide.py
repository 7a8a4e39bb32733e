"""What follows from a command: pure and total. Not how it is stored, or who does the work."""

from typing import NamedTuple, assert_never

from domain import commands as c
from domain.decisions import (
    asks,
    deletion,
    forks,
    generation,
    lifecycle,
    people,
    sandbox,
    tool_calls,
)
from domain.draft import Draft
from domain.errors import Unavailable
from domain.events import Event
from domain.state import RunState


class Conclusion(NamedTuple):
    """The events that a command leads to, and the state they fold to."""

    events: tuple[Event, ...]
    after: RunState


def decide(state: RunState, command: c.Command, situation: c.Situation) -> tuple[Event, ...]:
    """The events that a command leads to; none when it changes nothing.

    Raises:
        Rejected: the command is wrong for this run, and stays wrong.
        Unavailable: a newer release wrote in this run; a worker of that release must decide.
    """
    return conclude(state, command, situation).events


def conclude(  # noqa: C901, PLR0912 - one case a command
    state: RunState, command: c.Command, situation: c.Situation
) -> Conclusion:
    """What `decide` says, with the state that folding it would lead to: it is known by then.

    Raises:
        Rejected: the command is wrong for this run, and stays wrong.
        Unavailable: a newer release wrote in this run; a worker of that release must decide.
    """
    if state.unknown_events:
        msg = f"run {state.ref.run!r} has events of a newer release: {state.unknown_events[0]!r}"
        raise Unavailable(msg)
    draft = Draft(state, situation)
    if isinstance(command, c.DeleteRun):
        deletion.delete_run(draft, command)
        return Conclusion(tuple(draft.events), draft.state)
    deletion.must_be_there(state)
    match command:
        case (
            c.StartRun()
            | c.ForkRun()
            | c.ContinueRun()
            | c.SteerRun()
            | c.PauseRun()
            | c.ResumeRun()
            | c.CancelRun()
            | c.DecideApproval()
            | c.AnswerQuestion()
            | c.AnswerAsk()
            | c.ChangePolicy()
            | c.FireTimer()
        ):
            _asked_of_the_run(draft, command)
        case c.ClaimGeneration():
            generation.claim_generation(draft, command)
        case c.CompleteGeneration():
            generation.complete_generation(draft, command)
        case c.FailGeneration():
            generation.fail_generation(draft, command)
        case c.ClaimToolCall():
            tool_calls.claim_tool_call(draft, command)
        case c.RecordToolResult():
            tool_calls.record_tool_result(draft, command)
        case c.AskInCall():
            asks.ask_in_call(draft, command)
        case c.ClaimSampling():
            asks.claim_sampling(draft, command)
        case c.EndSampling():
            asks.end_sampling(draft, command)
        case c.PlaceSandbox():
            sandbox.place_sandbox(draft, command)
        case c.RecordSnapshot():
            sandbox.record_snapshot(draft, command)
        case c.RecordDelegation():
            tool_calls.record_delegation(draft, command)
        case c.ChangeTeam():
            pass  # its handler makes a CloseTeamCall of it
        case c.CloseTeamCall():
            tool_calls.close_team_call(draft, command)
        case c.AbandonHolder():
            tool_calls.abandon_holder(draft, command)
        case c.RetryToolCall():
            tool_calls.retry_tool_call(draft, command)
        case _:
            assert_never(command)
    return Conclusion(tuple(draft.events), draft.state)


AskedOfTheRun = (
    c.StartRun
    | c.ForkRun
    | c.ContinueRun
    | c.SteerRun
    | c.PauseRun
    | c.ResumeRun
    | c.CancelRun
    | c.DecideApproval
    | c.AnswerQuestion
    | c.AnswerAsk
    | c.ChangePolicy
    | c.FireTimer
)


def _asked_of_the_run(  # noqa: C901, PLR0912 - one case a command
    draft: Draft, command: AskedOfTheRun
) -> None:
    """What people, parents and time ask for."""
    match command:
        case c.StartRun():
            lifecycle.start_run(draft, command)
        case c.ForkRun():
            forks.fork_run(draft, command)
        case c.ContinueRun():
            lifecycle.continue_run(draft, command)
        case c.SteerRun():
            lifecycle.steer_run(draft, command)
        case c.PauseRun():
            lifecycle.pause_run(draft, command)
        case c.ResumeRun():
            lifecycle.resume_run(draft, command)
        case c.CancelRun():
            lifecycle.cancel_run(draft, command)
        case c.DecideApproval():
            people.decide_approval(draft, command)
        case c.AnswerQuestion():
            people.answer_question(draft, command)
        case c.AnswerAsk():
            asks.answer_ask(draft, command)
        case c.ChangePolicy():
            people.change_policy(draft, command)
        case c.FireTimer():
            lifecycle.fire_timer(draft, command)
        case _:
            assert_never(command)
