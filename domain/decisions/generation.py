"""The ends of a generation and what they ask for. Not how a reply is made."""

from domain import commands as c
from domain import events as e
from domain.content import BlobRef, CallPart, TextPart
from domain.decisions.advance import CUT_NOTE, advance
from domain.draft import Draft
from domain.ids import call_id, child_run_id, derive_id, idempotency_key, jitter
from domain.limits import Usage
from domain.loop_tools import delegate_query, parse_arguments, run_loop_tool
from domain.state import Generation, attempt_key
from domain.tools import Lane, Safety, ToolEntry

UNKNOWN_TOOL = ToolEntry(name="", skill="", lane=Lane.LOOP, safety=Safety.READ_ONLY)


def claim_generation(draft: Draft, command: c.ClaimGeneration) -> None:
    """Give an attempt that nobody holds to whoever asks first."""
    generation = _current(draft, command.step, command.attempt)
    if generation is not None and generation.holder is None:
        draft.emit(
            e.GenerationClaimed(step=command.step, attempt=command.attempt, holder=command.holder)
        )


def complete_generation(draft: Draft, command: c.CompleteGeneration) -> None:
    """Record the reply, and every call it asks for."""
    generation = _current(draft, command.step, command.attempt)
    if generation is None:
        _settle_late(draft, command.step, command.attempt, command.usage)
        return
    charged = command.usage.tokens if command.usage else generation.reserved
    draft.emit(
        e.GenerationCompleted(
            step=command.step,
            attempt=command.attempt,
            stop_reason=command.stop_reason,
            parts=command.parts,
            usage=command.usage,
            charged=charged,
            response_id=command.response_id,
            model=command.model,
        )
    )
    calls = [part for part in command.parts if isinstance(part, CallPart)]
    cut = command.stop_reason == "max_tokens"
    for index, part in enumerate(calls):
        stopped = None if cut and index < len(calls) - 1 else command.stop_reason
        _request_call(draft, index, part, stopped)
    if command.stop_reason == "refusal":
        failure = e.Failure(kind="refusal", message="the model refused to answer this")
        draft.emit(e.RunFailed(step=command.step, failure=failure))
        return
    _carve_delegations(draft)
    if cut and not calls:
        note = derive_id("cut", draft.state.ref.run, str(command.step))
        draft.emit(e.InputReceived(input=note, speaker="runtime", parts=(TextPart(text=CUT_NOTE),)))
    advance(draft)


def _request_call(draft: Draft, index: int, part: CallPart, stopped: e.StopReason | None) -> None:
    state = draft.state
    entry = state.tool(part.tool)
    known = entry or UNKNOWN_TOOL
    name = call_id(state.step, index)
    draft.emit(
        e.ToolCallRequested(
            call=name,
            step=state.step,
            provider_id=part.provider_id,
            tool=part.tool,
            skill=known.skill,
            lane=known.lane,
            safety=known.safety,
            arguments=part.arguments,
            key=idempotency_key(state.ref.run, name),
        )
    )
    call = draft.state.calls[name]
    refusal = _refusal(draft, index, part, entry, stopped)
    if refusal:
        kind, message = refusal
        draft.end_call(call, "refused", {"error": kind, "message": message}, is_error=True)
    elif known.lane is Lane.LOOP:
        run_loop_tool(draft, call)
    else:
        draft.claim(call)


def _refusal(
    draft: Draft, index: int, part: CallPart, entry: ToolEntry | None, stopped: e.StopReason | None
) -> tuple[str, str] | None:
    """Why a call is answered without being executed, in words the model can act on."""
    if stopped == "refusal":
        return "refused", "The reply that asked for this call ended as a refusal; nothing was done."
    if entry is None:
        names = ", ".join(tool.name for tool in draft.state.tools)
        return "unknown_tool", f"There is no tool {part.tool!r}. The tools are: {names}."
    calls_max = draft.state.limits.calls_per_step_max
    if index >= calls_max:
        return "too_many_calls", f"At most {calls_max} calls in one reply; ask again for the rest."
    if isinstance(part.arguments, BlobRef):
        if entry.lane in (Lane.LOOP, Lane.DELEGATE):
            return "arguments_too_long", "The arguments are over 32 KiB; write the text to a file."
        return None
    return _argument_problem(part, entry, stopped)


def _argument_problem(
    part: CallPart, entry: ToolEntry, stopped: e.StopReason | None
) -> tuple[str, str] | None:
    arguments = parse_arguments(part.arguments)
    if stopped == "max_tokens" and not arguments:
        return "cut_off", f"The arguments were cut off by the output limit. {CUT_NOTE}"
    if arguments is None:
        return "malformed_arguments", "The arguments are not a JSON object; send them again."
    if entry.lane is Lane.DELEGATE and not delegate_query(arguments):
        return "invalid_arguments", "The delegate needs its task: a text in the parameter query."
    return None


def _carve_delegations(draft: Draft) -> None:
    """Split what is left of steps and tokens over the children and the run itself (rule 8)."""
    calls = [call for call in draft.state.open_calls if call.lane is Lane.DELEGATE]
    if not calls:
        return
    state = draft.state
    shares = len(calls) + 1
    limits = state.limits.model_copy(
        update={
            "steps_max": state.steps_left // shares,
            "tokens_max": None if state.tokens_left is None else state.tokens_left // shares,
        }
    )
    for call in calls:
        entry = state.tool(call.tool)
        draft.emit(
            e.DelegationRequested(
                call=call.id,
                child=child_run_id(state.ref.run, call.id),
                expert=(entry.expert if entry else None) or call.tool,
                limits=limits,
            )
        )


def fail_generation(draft: Draft, command: c.FailGeneration) -> None:
    """Arm a retry, or end the run: the history the model sees stays as it is."""
    generation = _current(draft, command.step, command.attempt)
    usage = command.usage
    if usage is None and command.failure.kind in REFUSED_BY_PROVIDER:
        usage = Usage()
    if generation is None:
        _settle_late(draft, command.step, command.attempt, usage)
        return
    charged = usage.tokens if usage else generation.reserved
    draft.emit(
        e.GenerationFailed(
            step=command.step,
            attempt=command.attempt,
            failure=command.failure,
            retryable=command.retryable,
            usage=command.usage,
            charged=charged,
        )
    )
    limits = draft.state.limits
    if not command.retryable or command.attempt >= limits.generation_attempts_max:
        draft.emit(e.RunFailed(step=command.step, failure=command.failure))
        return
    delay_ms = retry_delay_ms(draft, command)
    timer = f"retry-{command.step}-{command.attempt}"
    due_ms = draft.now_ms + delay_ms
    draft.emit(e.TimerArmed(timer=timer, purpose="retry", due_ms=due_ms))


REFUSED_BY_PROVIDER = frozenset(
    {
        "rate_limited",
        "overloaded",
        "auth",
        "rejected",
        "not_found",
        "missing_key",
        "missing_package",
        "unsupported_parameter",
        "exhausted",
    }
)
"""Failures of requests that were never worked on: nothing to charge."""


def retry_delay_ms(draft: Draft, command: c.FailGeneration) -> int:
    """Exponential with full jitter over its upper half; never less than the provider asked for."""
    limits = draft.state.limits
    backoff = min(limits.retry_max_ms, limits.retry_base_ms * 2 ** (command.attempt - 1))
    spread = jitter(draft.state.ref.run, str(command.step), str(command.attempt))
    return max(int(backoff * (0.5 + spread / 2)), command.retry_after_ms or 0)


def abandon_generation(draft: Draft, holder: str) -> None:
    """The holder is dead: charge its attempt in full, and ask again as a new attempt (rule 5)."""
    generation = draft.state.generation
    if generation is None or generation.phase != "open" or generation.holder != holder:
        return
    draft.emit(
        e.GenerationAbandoned(
            step=generation.step,
            attempt=generation.attempt,
            reason="holder_lost",
            charged=generation.reserved,
        )
    )
    if generation.attempt >= draft.state.limits.generation_attempts_max:
        failure = e.Failure(
            kind="attempts_exhausted",
            message=f"{generation.attempt} workers were lost while they made this generation",
        )
        draft.emit(e.RunFailed(step=generation.step, failure=failure))
        return
    draft.request_attempt(generation.step, generation.attempt + 1)


def _current(draft: Draft, step: int, attempt: int) -> Generation | None:
    """The open generation, if that attempt is it: the attempt is the fence."""
    state = draft.state
    generation = state.generation
    if state.status != "running" or state.cancelling or generation is None:
        return None
    if generation.phase != "open" or (generation.step, generation.attempt) != (step, attempt):
        return None
    return generation


def _settle_late(draft: Draft, step: int, attempt: int, usage: Usage | None) -> None:
    """The end of an abandoned attempt: refund what it did not use, drop what it said."""
    charged = draft.state.unsettled.get(attempt_key(step, attempt))
    if charged is None or (draft.state.parent is not None and draft.state.at_rest):
        return
    refunded = max(0, charged - usage.tokens) if usage else 0
    draft.emit(e.GenerationSuperseded(step=step, attempt=attempt, usage=usage, refunded=refunded))
