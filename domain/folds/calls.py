"""The state after something happened to a tool call or a delegation. Not its execution."""

from dataclasses import replace
from typing import assert_never

from domain import events as e
from domain.folds.asks import asks_over
from domain.limits import Limits
from domain.record import canonical, digest_of
from domain.state import Call, Delegation, Ended, RunState, changed
from domain.tools import EXECUTED, Lane, Safety

COUNTED = EXECUTED | {Lane.PERSON, Lane.TEAM}
"""The lanes whose calls count against `tool_calls_max`; a child's calls count as its own."""

ToolCalling = (
    e.ToolCallRequested
    | e.DelegationRequested
    | e.DelegationSettled
    | e.ToolCallClaimed
    | e.ToolCallRetried
    | e.ToolCallForwarded
    | e.ToolCallEnded
    | e.ToolResultLate
)

Executing = e.ToolCallClaimed | e.ToolCallRetried | e.ToolCallForwarded | e.ToolCallEnded


def evolve_call(state: RunState, event: ToolCalling) -> RunState:
    """The state after the event."""
    match event:
        case e.ToolCallRequested():
            return _requested(state, event)
        case e.ToolResultLate():
            late = f"{event.call}:{result_digest(event)}"
            return changed(state, late_results=state.late_results | {late})
        case e.DelegationSettled():
            return _settled(state, event)
        case _:
            return _of_call(state, event)


def _requested(state: RunState, event: e.ToolCallRequested) -> RunState:
    call = Call(
        id=event.call,
        step=event.step,
        provider_id=event.provider_id,
        tool=event.tool,
        skill=event.skill,
        lane=Lane(event.lane),
        safety=event.safety,
        arguments=event.arguments,
        key=event.key,
        since_ms=state.at_ms,
    )
    call = call if state.paused else state.sent(call)
    return changed(
        state,
        calls={**state.calls, call.id: call},
        tool_calls=state.tool_calls + (call.lane in COUNTED),
    )


def _of_call(state: RunState, event: e.DelegationRequested | Executing) -> RunState:
    found = state.calls.get(event.call)
    if found is None:
        return state
    if isinstance(event, e.DelegationRequested):
        delegated = sum(call.delegation is not None for call in state.calls.values())
        delegation = Delegation(event.child, event.expert, event.limits, delegated + 1)
        calls = {**state.calls, found.id: replace(found, delegation=delegation)}
        return changed(_carved(state, event.limits), calls=calls)
    calls = {**state.calls, found.id: _changed(found, event, state.at_ms)}
    if not isinstance(event, e.ToolCallEnded):
        return changed(state, calls=calls)
    never_ran = event.outcome == "refused" and found.lane in COUNTED
    return changed(
        asks_over(state, found.id),
        calls=calls,
        tool_calls=state.tool_calls - never_ran,
        wrote=state.wrote or _may_have_written(found, event),
    )


def _may_have_written(call: Call, event: e.ToolCallEnded) -> bool:
    """Whether files of the workspace may be others than before: by a base tool, or a delegate."""
    if event.outcome == "refused":
        return False
    return call.lane is Lane.DELEGATE or (
        call.lane is Lane.SANDBOX and call.safety is not Safety.READ_ONLY
    )


def _changed(call: Call, event: Executing, at_ms: int) -> Call:
    match event:
        case e.ToolCallClaimed():
            return replace(call, holder=event.holder, attempt=event.attempt, since_ms=at_ms)
        case e.ToolCallRetried():
            return replace(call, holder=None, attempt=event.attempt, since_ms=at_ms)
        case e.ToolCallForwarded():
            return replace(
                call, forwarded=event.content, lane=Lane.TEAM, holder=None, exposed=False
            )
        case e.ToolCallEnded():
            return replace(call, ended=event)
        case _:
            assert_never(event)


def _carved(state: RunState, limits: Limits) -> RunState:
    return changed(
        state,
        steps_delegated=state.steps_delegated + limits.steps_max,
        tokens_reserved=state.tokens_reserved + (limits.tokens_max or 0),
        money_reserved=state.money_reserved + (limits.money_max or 0),
        tool_calls_reserved=state.tool_calls_reserved + (limits.tool_calls_max or 0),
    )


def _settled(state: RunState, event: e.DelegationSettled) -> RunState:
    call = state.calls.get(event.call)
    limits = call.delegation.limits if call and call.delegation else Limits(steps_max=0)
    tokens, money = limits.tokens_max or 0, limits.money_max or 0
    tool_calls = limits.tool_calls_max or 0
    return changed(
        state,
        steps_delegated=max(0, state.steps_delegated - limits.steps_max + event.steps),
        tokens_reserved=max(0, state.tokens_reserved - tokens),
        tokens_charged=state.tokens_charged + event.tokens,
        money_reserved=max(0, state.money_reserved - money),
        money_charged=state.money_charged + event.money,
        tool_calls_reserved=max(0, state.tool_calls_reserved - tool_calls),
        tool_calls=state.tool_calls + event.tool_calls,
    )


def remembered(call: Call) -> Ended:
    """What stays of a call when its step is over."""
    claimed = call.may_have_begun
    if call.ended is None:
        return Ended(outcome="outcome_unknown", result="", claimed=claimed)
    return Ended(
        outcome=call.ended.outcome,
        result=result_digest(call.ended),
        claimed=claimed,
    )


def result_digest(result: e.ToolCallEnded | e.ToolResultLate) -> str:
    """What makes two results of a call the same: what the model reads."""
    parts = b"".join(canonical(part) for part in result.content)
    return digest_of(parts + (b"!" if result.is_error else b"."))
