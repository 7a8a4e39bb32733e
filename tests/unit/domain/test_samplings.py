"""What an open call asks the run's own model, on the run's budget (C3, C7, C12)."""

from dataclasses import replace

import pytest

from domain import commands as c
from domain.asks import SAMPLING_OUTPUT_TOKENS_MAX, SampleMessage, SampleRequest, ask_fault
from domain.content import AssistantMessage, BlobRef, UserMessage
from domain.effects import Sample, effects
from domain.events import (
    PinnedModel,
    SamplingEnded,
    SamplingRequested,
    SamplingSettled,
    ToolCallAnswered,
)
from domain.limits import Limits, Price, Usage
from domain.sampling import sample_context, sample_conversation, sample_digest
from domain.state import RunState
from tests.support.asking import SAY, asks, fails_for_tool, says_for_tool
from tests.support.runs import (
    MODEL,
    call,
    cancel,
    claim,
    fails,
    given,
    goes_on,
    outcomes,
    pauses,
    rejected,
    replies,
    restarted,
    result,
    resumes,
    start,
    team,
    told,
    when,
)

PRICED = MODEL.model_copy(update={"price": Price(input=1_000_000, output=2_000_000)})
PAYING = team(model=PRICED)


def at_work(limits: Limits | None = None, where: c.Situation = PAYING) -> RunState:
    return given(start(limits), replies(call("buy"), call("buy")), where=where)


def asked_of_model(state: RunState, where: c.Situation = PAYING) -> RunState:
    return when(state, asks(SAY), where).after


def waiting(state: RunState) -> list[str | None]:
    return [one.holder for one in effects(state) if isinstance(one, Sample)]


def spent(state: RunState) -> tuple[int, int]:
    return state.tokens_charged, state.money_charged


def test_call_of_the_model_is_in_the_log_with_its_worst_case_before_it_is_made() -> None:
    """C12 and rule 5: one reservation, one holder, one digest."""
    before = at_work()
    then = when(before, asks(SAY), PAYING)
    assert then.types == ["tool_call.asked.v1", "sampling.requested.v1"]
    requested = then.events[-1]
    assert isinstance(requested, SamplingRequested)
    assert requested.request == sample_digest(before.renderer, PRICED, SAY)
    assert requested.holder == "e1"
    assert requested.reserved > SAY.output_tokens_max
    assert then.after.tokens_reserved == requested.reserved
    assert then.after.money_reserved == requested.reserved_money > 0
    assert waiting(then.after) == ["e1"]


def test_reply_is_the_answer_and_is_charged_by_its_usage() -> None:
    """C12."""
    before = asked_of_model(at_work())
    then = when(before, says_for_tool("Short.", usage=Usage(input=10, output=5)))
    assert then.types == ["sampling.ended.v1", "tool_call.answered.v1"]
    ended, answer = then.events
    assert isinstance(ended, SamplingEnded)
    assert isinstance(answer, ToolCallAnswered)
    assert (ended.how, ended.charged, ended.charged_money) == ("replied", 15, 20)
    assert answer.action == "accept"
    assert answer.sampled is not None
    assert answer.sampled.text == "Short."
    assert then.after.tokens_reserved == then.after.money_reserved == 0
    assert spent(then.after) == (before.tokens_charged + 15, before.money_charged + 20)
    assert then.after.usage.input == before.usage.input + 10
    assert outcomes(then.after) == {"c1-0": "open", "c1-1": "open"}
    assert when(then.after, says_for_tool("Twice?")).events == ()


def test_reply_whose_usage_nobody_knows_is_charged_as_reserved() -> None:
    """C12."""
    before = asked_of_model(at_work())
    call = before.asks["q1"].model_call
    assert call is not None
    unknown = says_for_tool().model_copy(update={"usage": None})
    after = when(before, unknown).after
    assert spent(after) == (
        before.tokens_charged + call.reserved,
        before.money_charged + call.reserved_money,
    )


@pytest.mark.parametrize(
    ("kind", "usage", "charged"),
    [("rate_limited", None, 0), ("network", Usage(input=9), 9), ("network", None, None)],
)
def test_failure_is_an_answer_that_the_tool_reads_and_is_not_tried_again(
    kind: str, usage: Usage | None, charged: int | None
) -> None:
    """C12: what was never worked on costs nothing, what nobody knows of what was reserved."""
    before = asked_of_model(at_work())
    then = when(before, fails_for_tool(kind, usage=usage))
    ended, answer = then.events
    assert isinstance(ended, SamplingEnded)
    assert isinstance(answer, ToolCallAnswered)
    assert ended.failure is not None
    assert ended.charged == (before.tokens_reserved if charged is None else charged)
    assert (answer.action, answer.reason) == ("decline", "it did not work")
    assert waiting(then.after) == []
    assert then.after.status == "running"


def test_first_worker_that_claims_a_call_of_the_model_makes_it() -> None:
    """C3."""
    state = asked_of_model(at_work(), replace(PAYING, holder=None))
    assert waiting(state) == [None]
    claimed = when(state, c.ClaimSampling(ask="q1", holder="e2")).after
    assert waiting(claimed) == ["e2"]
    assert when(claimed, c.ClaimSampling(ask="q1", holder="e3")).events == ()
    assert when(claimed, c.ClaimSampling(ask="q9", holder="e3")).events == ()


def test_paused_run_begins_no_call_of_its_model() -> None:
    state = when(at_work(), pauses()).after
    then = when(state, asks(SAY), PAYING)
    requested = then.events[-1]
    assert isinstance(requested, SamplingRequested)
    assert requested.holder is None
    assert waiting(then.after) == []
    assert when(then.after, c.ClaimSampling(ask="q1", holder="e2")).events == ()
    resumed = when(then.after, resumes()).after
    assert waiting(resumed) == [None]
    assert when(resumed, c.ClaimSampling(ask="q1", holder="e2")).types == ["sampling.claimed.v1"]


def test_what_a_worker_is_at_when_the_run_is_paused_is_finished() -> None:
    state = when(asked_of_model(at_work()), pauses()).after
    assert waiting(state) == ["e1"]
    assert when(state, says_for_tool()).types[-1] == "tool_call.answered.v1"


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(tokens_max=900), "budget of tokens"),
        (Limits(money_max=900), "budget of money"),
        (Limits(tokens_soft=900), "more tokens"),
        (Limits(money_soft=900), "more money"),
    ],
)
def test_budget_that_leaves_no_room_is_an_answer_and_not_the_end_of_the_run(
    limits: Limits, why: str
) -> None:
    """C12."""
    state = at_work(limits)
    more = SAY.model_copy(update={"system": "x" * 1_200, "output_tokens_max": 100})
    then = when(state, asks(more), PAYING)
    answer = then.events[-1]
    assert isinstance(answer, ToolCallAnswered)
    assert (answer.action, answer.source) == ("decline", "limit")
    assert why in answer.reason
    assert "sampling.requested.v1" not in then.types
    assert then.after.status == "running"
    assert then.after.tokens_reserved == 0
    assert when(then.after, asks(more), PAYING).events == ()


def test_model_of_unknown_price_holds_back_all_the_money_that_is_left() -> None:
    """C12."""
    state = at_work(Limits(money_max=500), team())
    asked = when(state, asks(SAY), team()).after
    assert asked.money_left == 0
    second = when(asked, asks(SAY, "q2"), team())
    assert second.types[-1] == "tool_call.answered.v1"


def test_lost_caller_is_charged_in_full_and_the_model_is_not_asked_again() -> None:
    """C7 and C12."""
    state = when(at_work(), asks(SAY), replace(PAYING, holder=None)).after
    state = when(state, c.ClaimSampling(ask="q1", holder="e2")).after
    then = when(state, c.AbandonHolder(holder="e2"))
    ended, answer = then.events
    assert isinstance(ended, SamplingEnded)
    assert isinstance(answer, ToolCallAnswered)
    assert (ended.how, ended.charged) == ("abandoned", state.tokens_reserved)
    assert (answer.action, answer.source) == ("cancel", "withdrawn")
    assert waiting(then.after) == []
    assert outcomes(then.after)["c1-0"] == "open"


def test_living_worker_that_is_not_at_it_any_more_loses_that_alone() -> None:
    state = when(at_work(), asks(SAY), replace(PAYING, holder=None)).after
    state = when(state, c.ClaimSampling(ask="q1", holder="e1")).after
    other = c.AbandonHolder(holder="e1", names=("mq2",))
    assert when(state, other).events == ()
    then = when(state, c.AbandonHolder(holder="e1", names=("mq1",)))
    assert then.types == ["sampling.ended.v1", "tool_call.answered.v1"]
    assert then.after.calls["c1-0"].holder == "e1"


def test_late_end_of_a_lost_call_settles_its_charge_once() -> None:
    """C12."""
    state = when(at_work(), asks(SAY), replace(PAYING, holder="e2")).after
    state = when(state, c.AbandonHolder(holder="e2")).after
    then = when(state, says_for_tool("Late.", usage=Usage(input=10, output=5)))
    settled = then.events[0]
    assert isinstance(settled, SamplingSettled)
    assert spent(then.after) == (
        state.tokens_charged - settled.refunded,
        state.money_charged - settled.refunded_money,
    )
    assert then.after.tokens_charged == at_work().tokens_charged + 15
    assert then.after.money_charged == at_work().money_charged + 20
    assert when(then.after, says_for_tool("Late.")).events == ()


@pytest.mark.parametrize("end", ["result", "cancel"])
def test_end_of_the_call_gives_its_model_up_and_charges_what_may_be_made(end: str) -> None:
    """C4, C6 and C12."""
    state = asked_of_model(at_work())
    then = when(state, result("c1-0") if end == "result" else cancel())
    ended = next(event for event in then.events if isinstance(event, SamplingEnded))
    assert (ended.how, ended.charged) == ("abandoned", state.tokens_reserved)
    assert then.after.tokens_reserved == then.after.money_reserved == 0
    assert waiting(then.after) == []


def test_call_of_the_model_that_nobody_began_costs_nothing() -> None:
    """C12."""
    state = when(at_work(), asks(SAY), replace(PAYING, holder=None)).after
    then = when(state, result("c1-0"))
    assert spent(then.after) == spent(state)
    assert then.after.tokens_reserved == 0


def test_late_end_after_a_continue_is_given_back_to_the_budget_it_was_taken_from() -> None:
    """C12."""
    state = given(start(Limits(tokens_max=5_000)), replies(call("buy")), asks(SAY), where=PAYING)
    state = when(state, cancel()).after
    state = when(state, result("c1-0")).after
    state = when(state, goes_on()).after
    left = state.tokens_left
    after = when(state, says_for_tool("Late.", usage=Usage(input=1))).after
    assert after.tokens_left == left
    assert after.tokens_charged < state.tokens_charged


def test_child_at_rest_is_sealed_against_late_ends() -> None:
    state = given(start(child=True), replies(call("buy")), asks(SAY), where=PAYING)
    state = when(state, cancel()).after
    state = when(state, result("c1-0")).after
    assert state.at_rest
    assert when(state, says_for_tool("Late.")).events == ()


def test_what_a_child_spent_on_sampling_is_told_to_its_parent() -> None:
    state = given(start(child=True), replies(call("buy")), asks(SAY), where=PAYING)
    after = when(state, says_for_tool(usage=Usage(input=40, output=2))).after
    assert after.tokens_charged == state.tokens_charged + 42
    parent = given(start(), replies(call("helper", '{"query": "x"}')), where=PAYING)
    settled = told(parent, "c1-0").model_copy(update={"tokens": after.tokens_charged})
    assert when(parent, settled).after.tokens_charged == (
        parent.tokens_charged + after.tokens_charged
    )


def test_request_is_made_of_the_log_and_knows_nothing_of_the_run() -> None:
    """Rule 13: no tools, no instructions of the expert, as many tokens as were asked for."""
    context = sample_context("r", PRICED, SAY)
    assert context.tools == ()
    assert [block.text for block in context.system] == ["You are short."]
    assert context.model.output_tokens_max == 20
    assert context.model.reasoning == "none"
    greedy = SAY.model_copy(update={"output_tokens_max": 10**9})
    roomy = PRICED.model_copy(update={"output_tokens_max": 10**6})
    limited = sample_context("r", roomy, greedy).model.output_tokens_max
    assert limited == SAMPLING_OUTPUT_TOKENS_MAX


def test_digest_tells_requests_apart() -> None:
    known = sample_digest("r", PRICED, SAY)
    assert known == sample_digest("r", PRICED, SAY.model_copy())
    others = (
        sample_digest("r2", PRICED, SAY),
        sample_digest("r", MODEL, SAY),
        sample_digest("r", PRICED, SAY.model_copy(update={"system": ""})),
        sample_digest("r", PRICED, SAY.model_copy(update={"output_tokens_max": 21})),
    )
    assert known not in others
    assert len(set(others)) == len(others)


def test_what_one_speaker_says_in_a_row_is_one_message() -> None:
    said = [("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]
    messages = tuple(SampleMessage.model_validate({"speaker": s, "text": t}) for s, t in said)
    asked = SampleRequest(messages=messages, output_tokens_max=5)
    conversation = sample_conversation(asked)
    kinds = [type(message) for message in conversation.messages]
    assert kinds == [UserMessage, AssistantMessage, UserMessage]
    assert len(conversation.messages[0].parts) == 2


def said(*texts: str, speaker: str = "user") -> tuple[SampleMessage, ...]:
    made = [SampleMessage.model_validate({"speaker": speaker, "text": one}) for one in texts]
    return tuple(made)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (SampleRequest(messages=(), output_tokens_max=5), "messages"),
        (SampleRequest(messages=said("x") * 300, output_tokens_max=5), "messages"),
        (SampleRequest(messages=said(""), output_tokens_max=5), "says something"),
        (SampleRequest(messages=said("x", speaker="assistant"), output_tokens_max=5), "ends with"),
        (SampleRequest(messages=said("x"), output_tokens_max=0), "at least one token"),
        (SampleRequest(messages=said("x" * 200_000), output_tokens_max=5), "bytes"),
    ],
)
def test_what_no_model_can_be_asked_is_refused(asked: SampleRequest, why: str) -> None:
    assert why in (ask_fault(asked) or "")
    assert rejected(at_work(), asks(asked)) == "bad_ask"


def test_text_that_is_kept_elsewhere_counts_with_its_size() -> None:
    """C12: nothing is sent that was not reserved."""
    blob = BlobRef(digest="b" * 64, size=60_000)
    asked = SampleRequest(messages=(SampleMessage(speaker="user", text=blob),), output_tokens_max=5)
    state = when(at_work(), asks(asked), PAYING).after
    assert state.tokens_reserved >= 30_000
    large = SampleMessage(speaker="user", text=blob.model_copy(update={"size": 10**6}))
    assert "bytes" in (ask_fault(asked.model_copy(update={"messages": (large,)})) or "")


def test_open_call_of_the_model_survives_a_restart_of_everything() -> None:
    history = (start(), replies(call("buy")), claim("c1-0", "e1"), asks(SAY))
    nobody = replace(PAYING, holder=None, lanes=frozenset())
    requests = (start(), c.ClaimGeneration(step=1, attempt=1, holder="e1"))
    state = restarted(*requests, *history[1:], where=nobody)
    assert waiting(state) == [None]
    assert when(state, says_for_tool()).types[-1] == "tool_call.answered.v1"


def test_model_the_run_fell_back_to_is_the_one_that_is_asked() -> None:
    other = PinnedModel(context="a" * 64, context_bytes=900, model=MODEL)
    where = team(model=PRICED, fallbacks=(other,))
    limits = Limits(generation_attempts_max=1)
    state = given(start(limits), fails(), replies(call("buy")), asks(SAY), where=where)
    asked = state.asks["q1"].model_call
    assert asked is not None
    assert asked.model == MODEL
    assert asked.request == sample_digest(state.renderer, MODEL, SAY)
