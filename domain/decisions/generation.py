"""The ends of a generation and what they ask for. Not how a reply is made."""

from domain import commands as c
from domain import events as e
from domain.content import BlobRef, CallPart
from domain.decisions.advance import CUT_NOTE, advance
from domain.decisions.people import admit, carve_delegations
from domain.draft import Draft
from domain.folds.generation import HELD_BACK, LIMITED, REFUSED_BY_PROVIDER
from domain.ids import call_id, idempotency_key, jitter
from domain.limits import Usage
from domain.loop_tools import delegate_task, parse_arguments, run_loop_tool
from domain.schemas import schema_problem
from domain.state import Generation, RunState, attempt_key
from domain.tools import EXECUTED, Lane, Safety, ToolEntry

UNKNOWN_TOOL = ToolEntry(name="", skill="", lane=Lane.LOOP, safety=Safety.READ_ONLY)


def claim_generation(draft: Draft, command: c.ClaimGeneration) -> None:
    """Give an attempt that nobody holds to whoever asks first; none begins while paused."""
    generation = _current(draft, command.step, command.attempt)
    if generation is not None and generation.holder is None and not draft.state.paused:
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
            charged_money=_cost(draft.state, generation, command.usage),
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
    state = draft.state
    children = [call for call in state.open_calls if call.lane is Lane.DELEGATE]
    carve_delegations(draft, [call for call in children if call.id not in state.approvals])
    if cut and not calls:
        draft.note("cut", str(command.step), CUT_NOTE)
    advance(draft)


def _cost(state: RunState, generation: Generation, usage: Usage | None) -> int:
    """What an attempt costs, in micro-USD; unknown usage or price is charged as reserved (C12)."""
    price = state.model.price if state.model else None
    if usage is None or (price is None and usage.tokens):
        return generation.reserved_money
    return 0 if price is None else price.of(usage)


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
        admit(draft, call)


def _refusal(
    draft: Draft, index: int, part: CallPart, entry: ToolEntry | None, stopped: e.StopReason | None
) -> tuple[str, str] | None:
    """Why a call is answered without being executed, in words the model can act on."""
    if stopped == "refusal":
        return "refused", "The reply that asked for this call ended as a refusal; nothing was done."
    if entry is None:
        names = ", ".join(tool.name for tool in draft.state.tools)
        return "unknown_tool", f"There is no tool {part.tool!r}. The tools are: {names}."
    limits = draft.state.limits
    if entry.lane is Lane.DELEGATE and draft.state.depth >= limits.depth_max:
        text = f"Delegation is {limits.depth_max} deep, and no deeper here; do it yourself."
        return "too_deep", text
    calls_max = limits.calls_per_step_max
    if index >= calls_max:
        return "too_many_calls", f"At most {calls_max} calls in one reply; ask again for the rest."
    if isinstance(part.arguments, BlobRef):
        if entry.lane not in EXECUTED:
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
    if entry.input_schema is not None:
        problem = schema_problem(entry.input_schema, arguments)
        return None if problem is None else ("invalid_arguments", f"{problem}. Call it again.")
    if entry.lane is Lane.DELEGATE and not delegate_task(arguments, None):
        return "invalid_arguments", "The delegate needs its task: a text in the parameter query."
    return None


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
            charged_money=_cost(draft.state, generation, usage),
        )
    )
    if not command.retryable or _exhausted(draft.state):
        _give_up(draft, command)
        return
    timer = f"retry-{command.step}-{command.attempt}"
    draft.arm(timer, "retry", retry_delay_ms(draft, command))


def _exhausted(state: RunState) -> bool:
    """Whether the model has had its attempts; those its provider's limits turned away are apart."""
    generation, limits = state.generation, state.limits
    return generation is not None and (
        generation.tries >= limits.generation_attempts_max
        or generation.limited >= limits.rate_limited_attempts_max
    )


def _give_up(draft: Draft, command: c.FailGeneration) -> None:
    """Go on with the next model of the chain; without one, the run has failed."""
    state = draft.state
    if not state.fallbacks:
        draft.emit(e.RunFailed(step=command.step, failure=command.failure))
        return
    following, *rest = state.fallbacks
    draft.emit(
        e.ContextPinned(
            renderer=state.renderer,
            context=following.context,
            context_bytes=following.context_bytes,
            model=following.model,
            tools=state.tools,
            cause="fallback",
            fallbacks=tuple(rest),
            output_schema=None if state.output_schema is None else dict(state.output_schema),
        )
    )
    draft.request_attempt(command.step, command.attempt + 1, anew=True)


TURNED_AWAY = LIMITED | HELD_BACK


def retry_delay_ms(draft: Draft, command: c.FailGeneration) -> int:
    """Exponential with full jitter over its upper half; never less than the provider asked for."""
    limits, generation = draft.state.limits, draft.state.generation
    spread = jitter(draft.state.ref.run, str(command.step), str(command.attempt))
    if command.failure.kind in TURNED_AWAY and command.retry_after_ms is not None:
        # Whoever said when knows better than we: a longer wait would only be unfair to the oldest.
        return command.retry_after_ms + int(limits.retry_base_ms * spread)
    failed = generation.tries + generation.limited if generation else command.attempt
    backoff = min(limits.retry_max_ms, limits.retry_base_ms * 2 ** (max(1, min(failed, 30)) - 1))
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
            charged_money=generation.reserved_money,
        )
    )
    if _exhausted(draft.state):
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
    state, key = draft.state, attempt_key(step, attempt)
    charged = state.unsettled.get(key)
    if charged is None or (state.parent is not None and state.at_rest):
        return
    money = state.unsettled_money.get(key, 0)
    price = state.model.price if state.model else None
    known = usage is not None and price is not None and key in state.unsettled_money
    draft.emit(
        e.GenerationSuperseded(
            step=step,
            attempt=attempt,
            usage=usage,
            refunded=charged - usage.tokens if usage else 0,
            refunded_money=money - price.of(usage) if known and usage and price else 0,
        )
    )
