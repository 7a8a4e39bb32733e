"""What an open call asks of a person or the run's model, and the answers. Not the call's outcome.

Only the holder of an open call may ask. Each ask has one answer at most, and one call of the model
at most: whatever becomes of it is an answer that the tool reads, never the end of the run.
"""

from collections.abc import Callable

from domain import commands as c
from domain import events as e
from domain.asked import holds, let_go, withdrawn
from domain.asks import (
    ASKS_PER_CALL_MAX,
    Elicitation,
    SampleRequest,
    answer_fault,
    ask_fault,
    whole_answer,
)
from domain.draft import Draft, over_hard_limit, over_soft_limit, worst_case_of
from domain.errors import Rejected
from domain.folds.generation import REFUSED_BY_PROVIDER
from domain.folds.people import answer_timer
from domain.ids import check_token
from domain.limits import Usage
from domain.record import canonical
from domain.sampling import sample_context, sample_conversation, sample_digest, sample_model
from domain.state import Call, RunState
from domain.tools import EXECUTED, Lane, Safety

CANCELLED = "The run is being cancelled: nobody is asked any more."
LOST_CALLER = "The worker that asked the model was lost, and it is not asked again."


def ask_in_call(draft: Draft, command: c.AskInCall) -> None:
    """Ask for something, once for each ask id."""
    state = draft.state
    known = state.asks.get(command.ask)
    if known is not None:
        if (known.call, known.holder) != (command.call, command.holder):
            raise Rejected("other_ask", f"{command.ask!r} was asked in another call")
        return
    call = _asking_call(draft, command)
    _check_name(state, command.ask)
    asked = sum(ask.call == call.id for ask in state.asks.values())
    if asked >= ASKS_PER_CALL_MAX:
        raise Rejected("too_many_asks", f"a call may ask {ASKS_PER_CALL_MAX} times")
    fault = ask_fault(command.about)
    if fault is not None:
        raise Rejected("bad_ask", fault)
    due_ms = None
    if isinstance(command.about, Elicitation):
        due_ms = draft.arm(answer_timer(command.ask), "answer_expiry", state.limits.answer_ms_max)
    draft.emit(
        e.ToolCallAsked(
            call=call.id,
            ask=command.ask,
            holder=command.holder,
            about=command.about,
            due_ms=due_ms,
        )
    )
    if isinstance(command.about, SampleRequest):
        _request_sampling(draft, command.ask, command.about)


def _check_name(state: RunState, name: str) -> None:
    """A name that a timer can carry, and that nothing else has that people answer."""
    check_token("ask", name)
    check_token("the timer of an ask", answer_timer(name))
    if name in state.calls or name in state.approvals:
        raise Rejected("bad_id", f"{name!r} names something else that people answer")


def _asking_call(draft: Draft, command: c.AskInCall) -> Call:
    """The open call, at whoever asks. One that needs no claim is claimed by its first ask."""
    state = draft.state
    call = state.calls.get(command.call)
    if call is None or call.ended is not None:
        raise Rejected("call_over", f"call {command.call!r} is over: nobody is asked any more")
    if state.cancelling:
        raise Rejected("cancelling", CANCELLED)
    if _unclaimed(state, call):
        draft.emit(e.ToolCallClaimed(call=call.id, attempt=call.attempt, holder=command.holder))
        call = draft.state.calls[call.id]
    if not holds(draft.state, call, command.holder):
        raise Rejected("not_the_holder", f"call {command.call!r} is not at {command.holder!r}")
    return call


def _unclaimed(state: RunState, call: Call) -> bool:
    kept = call.id in state.approvals or state.paused
    placed = call.lane is Lane.SANDBOX and state.sandbox is not None
    executed = call.lane in EXECUTED and not placed
    return executed and call.holder is None and call.safety is Safety.READ_ONLY and not kept


def _request_sampling(draft: Draft, name: str, about: SampleRequest) -> None:
    """Reserve the worst case of one call of the model, or say that there is no room for it."""
    state = draft.state
    if state.model is None:
        return
    model = sample_model(state.model, about)
    context = sample_context(state.renderer, state.model, about)
    size = len(canonical(context)) + sample_conversation(about).size
    reserved = worst_case_of(state, size, model)
    over = over_hard_limit(state, reserved)
    if over is not None:
        _no_room(draft, name, f"The run has no room for it in its budget of {over}.")
        return
    soft = over_soft_limit(state, reserved)
    if soft is not None:
        _no_room(draft, name, f"The run may not use more {soft[0]} before a person has said so.")
        return
    draft.emit(
        e.SamplingRequested(
            ask=name,
            request=sample_digest(state.renderer, state.model, about),
            reserved=reserved.tokens,
            reserved_money=reserved.money,
            holder=None if state.paused else draft.situation.holder,
        )
    )


def _no_room(draft: Draft, name: str, why: str) -> None:
    ask = draft.state.asks[name]
    draft.emit(
        e.ToolCallAnswered(call=ask.call, ask=name, action="decline", source="limit", reason=why)
    )


def answer_ask(draft: Draft, command: c.AnswerAsk) -> None:
    """A person's answer, once; one that does not fit the form is refused and may be given anew."""
    state = draft.state
    if command.id in state.commands_seen:
        return
    open_now = {ask.id: ask for ask in state.questions}
    ask = open_now.get(command.ask)
    if ask is None or not isinstance(ask.about, Elicitation):
        waiting = ", ".join(open_now) or "nothing"
        known = state.asks.get(command.ask)
        why = "is no open question of this run"
        if known is not None:
            why = "was answered" if known.phase == "answered" else "is over: its call has ended"
        raise Rejected("not_waiting", f"{command.ask!r} {why}; {waiting} waits for an answer")
    fault = answer_fault(ask.about, command.action, command.content)
    if fault is not None:
        raise Rejected("bad_answer", fault)
    draft.emit(
        e.ToolCallAnswered(
            call=ask.call,
            ask=ask.id,
            action=command.action,
            source="person",
            content=whole_answer(ask.about, command.action, command.content),
            command=command.id,
            by=command.by,
        )
    )


def expire_ask(draft: Draft, name: str) -> bool:
    """Whether that was an ask: the tool goes on as if the person had closed it."""
    ask = draft.state.asks.get(name)
    if ask is None:
        return False
    if ask.phase == "open":
        draft.emit(
            e.ToolCallAnswered(
                call=ask.call,
                ask=name,
                action="cancel",
                source="expired",
                reason="Nobody answered in time.",
            )
        )
    return True


def withdraw_asks(draft: Draft) -> None:
    """The run is being cancelled: nobody is asked any more, and the model is not waited for."""
    for ask in tuple(draft.state.asks.values()):
        draft.emit(*let_go(ask))
        if ask.phase == "open":
            draft.emit(withdrawn(ask, CANCELLED))


def claim_sampling(draft: Draft, command: c.ClaimSampling) -> None:
    """Give a call of the model that nobody holds to whoever asks first; none begins in a pause."""
    ask = draft.state.asks.get(command.ask)
    call = ask.model_call if ask else None
    if call is None or not call.is_open or call.holder is not None:
        return
    if not draft.state.paused and not draft.state.cancelling:
        draft.emit(e.SamplingClaimed(ask=command.ask, holder=command.holder))


def end_sampling(draft: Draft, command: c.EndSampling) -> None:
    """What the call of the model came to: the answer of its ask, or the settling of a late end."""
    ask = draft.state.asks.get(command.ask)
    call = ask.model_call if ask else None
    usage = command.usage
    failed = command.failure
    if usage is None and failed is not None and failed.kind in REFUSED_BY_PROVIDER:
        usage = Usage()
    if ask is None or call is None or not call.is_open:
        _settle_late(draft, command.ask, usage)
        return
    price = call.model.price
    money = call.reserved_money
    if usage is not None and (price is not None or not usage.tokens):
        money = price.of(usage) if price is not None else 0
    draft.emit(
        e.SamplingEnded(
            ask=ask.id,
            how="replied" if failed is None else "failed",
            usage=usage,
            charged=call.reserved if usage is None else usage.tokens,
            charged_money=money,
            failure=failed,
        ),
        e.ToolCallAnswered(
            call=ask.call,
            ask=ask.id,
            action="accept" if command.reply is not None else "decline",
            source="model",
            sampled=command.reply,
            reason=failed.message if failed is not None else "",
        ),
    )


def _settle_late(draft: Draft, name: str, usage: Usage | None) -> None:
    """The end of a call that was given up: refund what it did not use."""
    state = draft.state
    left = state.unsettled_asks.get(name)
    if left is None or (state.parent is not None and state.at_rest):
        return
    price = left.model.price
    money = left.money - price.of(usage) if usage is not None and price is not None else 0
    draft.emit(
        e.SamplingSettled(
            ask=name,
            usage=usage,
            refunded=left.tokens - usage.tokens if usage is not None else 0,
            refunded_money=money,
        )
    )


def abandon_samplings(draft: Draft, holder: str, named: Callable[[str], bool]) -> None:
    """The worker that called the model is gone: charged in full, and never made again."""
    for ask in tuple(draft.state.asks.values()):
        call = ask.model_call
        if call is None or not call.is_open or call.holder != holder:
            continue
        if named(sampling_name(ask.id)):
            draft.emit(*let_go(ask))
            if ask.phase == "open":
                draft.emit(withdrawn(ask, LOST_CALLER))


def sampling_name(ask: str) -> str:
    """What the work of a sampling is called inside its run."""
    return f"m{ask}"
