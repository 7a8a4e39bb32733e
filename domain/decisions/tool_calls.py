"""Claims, results and losses of tool calls, and the ends of delegates. Not their execution."""

from domain import commands as c
from domain import events as e
from domain.content import TextPart
from domain.decisions.advance import advance
from domain.decisions.asks import abandon_samplings
from domain.decisions.generation import abandon_generation
from domain.decisions.lifecycle import UNKNOWN_BODY
from domain.decisions.sandbox import lose_sandbox
from domain.draft import Draft
from domain.folds.calls import remembered, result_digest
from domain.state import Call, RunState
from domain.tools import EXECUTED, Lane, Safety

"""The lanes whose calls an executor claims, runs and reports."""

ADD_FROM_CONFIG = "addDelegateFromConfig"
"""The tool whose first half is a sandbox's: reading the file."""

SANDBOX = "sandbox"
"""Names the workspace itself among what an epoch holds of a run."""


def claim_tool_call(draft: Draft, command: c.ClaimToolCall) -> None:
    """Give a call that nobody holds to the first that asks; nothing starts while cancelling."""
    call = draft.state.calls.get(command.call)
    if call is None or call.ended is not None or not _may_claim(draft.state, call, command.holder):
        return
    if call.lane not in EXECUTED or draft.state.cancelling or command.attempt != call.attempt:
        return
    if kept_back(draft.state, call):
        return
    draft.emit(e.ToolCallClaimed(call=call.id, attempt=command.attempt, holder=command.holder))


def kept_back(state: RunState, call: Call) -> bool:
    """Whether a call must not begin now: it waits for a person, or the run is paused."""
    return call.id in state.approvals or (state.paused and not call.may_have_begun)


def _may_claim(state: RunState, call: Call, holder: str) -> bool:
    """What nobody holds; of a placed job, what the worker that holds the workspace does not yet.

    Whoever else holds such a call took it before it was asked for the workspace, or is lost.
    """
    placed = state.sandbox if call.lane is Lane.SANDBOX else None
    if placed is None:
        return call.holder is None
    return placed.epoch == holder and placed.lost_ms is None and call.holder != holder


def record_tool_result(draft: Draft, command: c.RecordToolResult) -> None:
    """One terminal outcome for a call; a second, different result is kept as late (rule 7)."""
    call = draft.state.calls.get(command.call)
    if call is not None and call.ended is None and _may_report(draft.state, call, command.holder):
        reads = call.tool == ADD_FROM_CONFIG and call.lane is Lane.SANDBOX
        if reads and command.outcome == "succeeded":
            _forward(draft, call, command)
            return
        draft.emit(
            e.ToolCallEnded(
                call=call.id,
                outcome=command.outcome,
                content=command.content,
                is_error=command.is_error,
                full_output=command.full_output,
                holder=command.holder,
                duration_ms=command.duration_ms,
            )
        )
        if command.egress:
            draft.emit(e.EgressCounted(call=call.id, rows=command.egress, full=command.full_egress))
        advance(draft)
        return
    _record_late(draft, command)


def _forward(draft: Draft, call: Call, command: c.RecordToolResult) -> None:
    """The sandbox has read the file; what it means for the team is the loop's to find out."""
    texts = [part.text for part in command.content if isinstance(part, TextPart)]
    content = command.full_output or (texts[0] if texts else "")
    draft.emit(e.ToolCallForwarded(call=call.id, content=content, holder=command.holder))


def close_team_call(draft: Draft, command: c.CloseTeamCall) -> None:
    """Change whom and what the run may call, if nothing has changed it meanwhile."""
    state = draft.state
    call = state.calls.get(command.call)
    if call is None or call.ended is not None or call.lane is not Lane.TEAM or state.cancelling:
        return
    if kept_back(state, call):
        return
    if command.base != state.definition:
        return  # made from an older team: it has to be made again
    context = draft.situation.context
    if command.action is not None and context is not None:
        draft.emit(
            e.TeamChanged(
                call=call.id,
                action=command.action,
                names=command.names,
                definition=command.definition,
            ),
            _of_new_team(state, context),
        )
    draft.emit(
        e.ToolCallEnded(
            call=call.id,
            outcome="failed" if command.is_error else "succeeded",
            content=(TextPart(text=command.content),),
            is_error=command.is_error,
        )
    )
    advance(draft)


def _of_new_team(state: RunState, context: c.PinnedContext) -> e.ContextPinned:
    """What the run asks with from here on: the model it is at stays, if an earlier one gave up."""
    first = e.PinnedModel(context=context.digest, context_bytes=context.size, model=context.model)
    chain = (first, *context.fallbacks)
    left = 1 + len(state.fallbacks)
    now, *rest = chain[-left:]
    return e.ContextPinned(
        renderer=context.renderer,
        context=now.context,
        context_bytes=now.context_bytes,
        model=now.model,
        tools=context.tools,
        cause="team",
        fallbacks=tuple(rest),
        output_schema=context.output_schema,
    )


def _may_report(state: RunState, call: Call, holder: str) -> bool:
    """What must not run twice is reported by its claimant only; anybody may have read something.

    The claimant of a base tool is the worker that holds the workspace: its journal says so. What
    another did, even if it may be repeated, was done to files that are not the job's any more.
    """
    if call.id in state.approvals:
        return False  # nobody was to run it yet
    held = state.sandbox if call.lane is Lane.SANDBOX else None
    if held is not None:
        return holder == held.epoch or holder in held.earlier
    if call.lane not in EXECUTED or call.safety is not Safety.UNSAFE:
        return call.lane in EXECUTED
    return call.holder == holder


def _record_late(draft: Draft, command: c.RecordToolResult) -> None:
    state = draft.state
    call = state.calls.get(command.call)
    past = remembered(call) if call is not None else state.past_calls.get(command.call)
    if call is not None and call.lane not in EXECUTED:
        return
    if past is None or (past.outcome == "cancelled" and not past.claimed):
        return
    if state.parent is not None and state.at_rest:  # a child is sealed by its end
        return
    late = e.ToolResultLate(
        call=command.call,
        content=command.content,
        is_error=command.is_error,
        holder=command.holder,
    )
    digest = result_digest(late)
    if digest != past.result and f"{command.call}:{digest}" not in state.late_results:
        draft.emit(late)


def record_delegation(draft: Draft, command: c.RecordDelegation) -> None:
    """The end of a child is the outcome of its call."""
    call = draft.state.calls.get(command.call)
    if call is None or call.ended is not None or call.delegation is None:
        return
    if call.delegation.child != command.child:
        return
    outcome: e.Outcome = "cancelled" if command.status == "cancelled" else "failed"
    succeeded = command.status == "completed"
    draft.emit(
        e.DelegationSettled(
            call=call.id,
            child=command.child,
            status=command.status,
            steps=command.steps,
            tokens=command.tokens,
            money=command.money,
            tool_calls=command.tool_calls,
        ),
        e.ToolCallEnded(
            call=call.id,
            outcome="succeeded" if succeeded else outcome,
            content=command.content,
            is_error=not succeeded,
        ),
    )
    advance(draft)


def abandon_holder(draft: Draft, command: c.AbandonHolder) -> None:
    """An epoch is dead: its generation is asked for again, its calls are free or unknown.

    Its base-tool calls are handed out again whatever they are: what became of them stands in the
    journal of the place, and where that is lost, too, the next placement says "unknown".
    """
    if _named(command, SANDBOX):
        lose_sandbox(draft, command.holder)
    generation = draft.state.generation
    if generation is not None and _named(command, f"g{generation.step}.{generation.attempt}"):
        abandon_generation(draft, command.holder)
    abandon_samplings(draft, command.holder, lambda name: _named(command, name))
    for call in draft.state.open_calls:
        if call.holder == command.holder and _named(command, f"{call.id}.{call.attempt}"):
            _lose(draft, call)
    advance(draft)


def _named(command: c.AbandonHolder, name: str) -> bool:
    return not command.names or name in command.names


def _lose(draft: Draft, call: Call) -> None:
    unsettled = call.safety is Safety.UNSAFE and call.lane is not Lane.SANDBOX
    if unsettled or draft.state.cancelling:
        draft.end_call(call, "outcome_unknown", UNKNOWN_BODY, is_error=True)
    else:  # of a job nobody is known to keep, whoever turns out to keep it claims it
        unplaced = call.lane is Lane.SANDBOX and draft.state.sandbox is None
        _hand_out_again(draft, call, claim=not unplaced)


def retry_tool_call(draft: Draft, command: c.RetryToolCall) -> None:
    """A call that nobody holds got lost on the way: the further attempt is recorded first."""
    call = draft.state.calls.get(command.call)
    if call is None or call.ended is not None or call.holder is not None:
        return
    if call.lane not in EXECUTED or call.attempt != command.attempt or draft.state.cancelling:
        return
    if kept_back(draft.state, call):
        return
    _hand_out_again(draft, call)
    advance(draft)


def _hand_out_again(draft: Draft, call: Call, *, claim: bool = True) -> None:
    attempts_max = draft.state.limits.call_attempts_max
    if call.attempt >= attempts_max and call.safety is Safety.UNSAFE:
        draft.end_call(call, "outcome_unknown", UNKNOWN_BODY, is_error=True)
        return
    if call.attempt >= attempts_max:
        message = f"The call was lost {attempts_max} times with the worker that had it."
        body = {"error": "attempts_exhausted", "message": message}
        draft.end_call(call, "failed", body, is_error=True)
        return
    draft.emit(e.ToolCallRetried(call=call.id, attempt=call.attempt + 1))
    if claim:
        draft.claim(draft.state.calls[call.id])
