"""What an open call asks a person (C3, C4, C6 to C8, C14). Not sampling: that is beside."""

from typing import Any

import pytest

from domain import commands as c
from domain.asks import (
    ANSWER_BYTES_MAX,
    ASK_BYTES_MAX,
    ASKS_PER_CALL_MAX,
    Elicitation,
    answer_fault,
    ask_fault,
)
from domain.effects import ArmTimer, effects
from domain.events import Principal, ToolCallAnswered, ToolCallAsked
from domain.limits import Limits
from domain.state import RunState
from tests.support.asking import CONFIRM, FORM, LINK, answers_ask, asks, closes, declines
from tests.support.invariants import render
from tests.support.runs import (
    ELSEWHERE,
    NOW_MS,
    call,
    cancel,
    claim,
    fires,
    given,
    outcomes,
    pauses,
    rejected,
    replies,
    restarted,
    result,
    resumes,
    situation,
    start,
    team,
    when,
)


def at_work(*tools: str, limits: Limits | None = None) -> RunState:
    """A run whose calls this worker is at."""
    return given(start(limits), replies(*(call(tool) for tool in tools or ("buy",))), where=team())


def placed(epoch: str = "e1", place: str = "disk", number: int | None = None) -> c.PlaceSandbox:
    return c.PlaceSandbox(
        place=place,
        epoch=epoch,
        backend="bubblewrap",
        report="{}",
        workspace="own",
        snapshots=True,
        number=number,
    )


def answer_in(state: RunState, name: str = "q1") -> str:
    return state.asks[name].phase


def test_call_at_work_asks_a_person_and_the_run_waits() -> None:
    """C7."""
    then = when(at_work(), asks(FORM))
    assert then.types == ["timer.armed.v2", "tool_call.asked.v1"]
    asked = then.events[-1]
    assert isinstance(asked, ToolCallAsked)
    assert (asked.call, asked.holder, asked.about) == ("c1-0", "e1", FORM)
    assert then.after.waits
    assert [ask.id for ask in then.after.questions] == ["q1"]


def test_question_sent_again_is_the_same_question() -> None:
    """C3: an answer that got lost on the way is asked for again."""
    state = given(start(), replies(call("buy")), asks(FORM), where=team())
    assert when(state, asks(FORM)).events == ()
    answered = when(state, answers_ask({"count": 2})).after
    assert when(answered, asks(FORM)).events == ()
    assert rejected(answered, asks(FORM, holder="e2")) == "other_ask"


def test_answer_is_in_the_log_with_who_gave_it_and_the_call_goes_on() -> None:
    ada = Principal(name="Ada", via="cli")
    said = answers_ask({"count": 2}).model_copy(update={"by": ada})
    then = when(when(at_work(), asks(FORM)).after, said)
    assert then.types == ["tool_call.answered.v1"]
    answer = then.events[0]
    assert isinstance(answer, ToolCallAnswered)
    assert (answer.action, answer.source, answer.content) == ("accept", "person", {"count": 2})
    assert answer.by == ada
    assert outcomes(then.after) == {"c1-0": "open"}
    assert not then.after.waits
    assert not [one for one in effects(then.after) if isinstance(one, ArmTimer)]


def test_question_is_answered_once() -> None:
    """C3 and C14: the same command again changes nothing; another one is refused, and told why."""
    state = when(when(at_work(), asks(FORM)).after, answers_ask({"count": 2})).after
    assert when(state, answers_ask({"count": 2})).events == ()
    assert rejected(state, answers_ask({"count": 3}, command="w2")) == "not_waiting"
    assert rejected(state, declines(command="w2")) == "not_waiting"


@pytest.mark.parametrize(
    ("about", "content", "why"),
    [
        (FORM, {"count": "two"}, "count: 'two' is not of type 'integer'"),
        (FORM, {}, "'count' is a required property"),
        (FORM, None, "'count' is a required property"),
        (FORM, {"count": 1, "why": "x" * ANSWER_BYTES_MAX}, f"{ANSWER_BYTES_MAX} bytes"),
        (LINK, {"token": "secret"}, "without content"),
        (CONFIRM, {"yes": True}, "no form"),
    ],
)
def test_answer_that_does_not_fit_is_refused_in_words_and_may_be_given_anew(
    about: Elicitation, content: dict[str, Any] | None, why: str
) -> None:
    state = when(at_work(), asks(about)).after
    assert rejected(state, answers_ask(content)) == "bad_answer"
    assert why in (answer_fault(about, "accept", content) or "")
    right = {"count": 2} if about == FORM else None
    assert answer_in(when(state, answers_ask(right)).after) == "answered"


DEFAULTS = Elicitation(
    message="Who?",
    form={
        "type": "object",
        "properties": {
            "name": {"type": "string", "default": "Ada"},
            "age": {"type": "integer", "default": 30},
            "sure": {"type": "boolean", "default": False},
            "wrong": {"type": "integer", "default": "ten"},
            "open": {"type": "string"},
        },
        "required": ["name", "age"],
    },
)


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (None, {"name": "Ada", "age": 30, "sure": False}),
        ({}, {"name": "Ada", "age": 30, "sure": False}),
        (
            {"name": "", "sure": True, "open": "x"},
            {"name": "", "age": 30, "sure": True, "open": "x"},
        ),
    ],
)
def test_field_that_is_left_out_has_the_default_of_its_form(
    content: dict[str, Any] | None, sent: dict[str, Any]
) -> None:
    """As the protocol of forms has it (SEP-1034), and only where the default itself fits."""
    state = when(at_work(), asks(DEFAULTS)).after
    answer = when(state, answers_ask(content)).events[0]
    assert isinstance(answer, ToolCallAnswered)
    assert answer.content == sent
    declined = when(state, declines()).events[0]
    assert isinstance(declined, ToolCallAnswered)
    assert declined.content is None


def test_default_that_does_not_fit_leaves_its_field_to_be_filled_in() -> None:
    form = {**(DEFAULTS.form or {}), "required": ["wrong"]}
    about = Elicitation(message="Who?", form=form)
    assert "'wrong' is a required property" in (answer_fault(about, "accept", {}) or "")
    assert answer_fault(about, "accept", {"wrong": 1}) is None


@pytest.mark.parametrize("about", [FORM, LINK, CONFIRM])
def test_any_question_may_be_declined_or_closed_without_a_word(about: Elicitation) -> None:
    state = when(at_work(), asks(about)).after
    for said, action in ((declines(), "decline"), (closes(), "cancel")):
        answer = when(state, said).events[0]
        assert isinstance(answer, ToolCallAnswered)
        assert (answer.action, answer.content) == (action, None)
    chatty = c.AnswerAsk(id="w1", ask="q1", action="decline", content={"count": 2})
    assert rejected(state, chatty) == "bad_answer"


@pytest.mark.parametrize(
    ("about", "why"),
    [
        (Elicitation(message=" "), "needs its text"),
        (Elicitation(message="x" * ASK_BYTES_MAX), f"{ASK_BYTES_MAX} bytes"),
        (Elicitation(message="x", form={"type": "string"}), "schema of an object"),
        (Elicitation(message="x", form={"type": "object", "pattern": 3}), "cannot be used"),
        (Elicitation(message="x", form={"type": "object"}, url="https://a.b"), "not both"),
        (Elicitation(message="x", url="javascript:alert(1)"), "http or https"),
        (Elicitation(message="x", url="https://"), "http or https"),
        (Elicitation(message="x", url="https://a.example/\n"), "http or https"),
        (Elicitation(message="x", url="https://[a"), "http or https"),
        (Elicitation(message="x", url="https://a.example/" + "x" * 3_000), "http or https"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_asks_nobody(about: Elicitation, why: str) -> None:
    assert why in (ask_fault(about) or "")
    assert rejected(at_work(), asks(about)) == "bad_ask"


def test_form_that_nests_without_end_is_no_form() -> None:
    deep: dict[str, Any] = {}
    for _ in range(2_000):
        deep = {"properties": deep}
    with pytest.raises(ValueError, match="levels deep"):
        Elicitation(message="x", form=deep)


def test_form_with_what_no_log_can_hold_is_kept_without_it() -> None:
    form = {"type": "object", "title": "\ud800", "maximum": float("inf")}
    kept = Elicitation(message="\ud800", form=form)
    assert kept == Elicitation(message="?", form={"type": "object", "title": "?", "maximum": None})


@pytest.mark.parametrize("name", ["c1-0", "a b", "", "x" * 60])
def test_ask_has_a_name_that_nothing_else_has_and_a_timer_can_carry(name: str) -> None:
    assert rejected(at_work(), asks(FORM, name)) == "bad_id"


def test_call_asks_only_so_often() -> None:
    """C8."""
    state = at_work()
    for number in range(ASKS_PER_CALL_MAX):
        asked = when(state, asks(CONFIRM, f"q{number}")).after
        state = when(asked, closes(f"q{number}", f"w{number}")).after
    assert rejected(state, asks(CONFIRM, "one-more")) == "too_many_asks"


def test_only_the_worker_that_claimed_a_call_may_ask_in_it() -> None:
    """C3."""
    state = given(start(), replies(call("buy"), call("buy")), where=situation(context=None))
    assert rejected(state, asks()) == "not_the_holder"
    claimed = when(state, claim("c1-0", "e2")).after
    assert rejected(claimed, asks()) == "not_the_holder"
    assert when(claimed, asks(holder="e2")).types[-1] == "tool_call.asked.v1"
    assert rejected(claimed, asks(call="c1-9")) == "call_over"


def test_call_that_needed_no_claim_is_claimed_by_its_first_question() -> None:
    """So that everybody knows who waits, and takes it back when that worker is lost."""
    state = given(start(), replies(call("read"), call("exec")), where=ELSEWHERE)
    then = when(state, asks(CONFIRM, holder="e2"))
    assert then.types == ["tool_call.claimed.v1", "timer.armed.v2", "tool_call.asked.v1"]
    assert rejected(then.after, asks(CONFIRM, "q2", holder="e3")) == "not_the_holder"
    assert rejected(when(state, pauses()).after, asks(CONFIRM, holder="e2")) == "not_the_holder"


def test_in_a_job_with_a_workspace_the_worker_that_holds_it_asks() -> None:
    state = given(start(), replies(call("exec")), placed("e2"), where=ELSEWHERE)
    assert rejected(state, asks(CONFIRM)) == "not_the_holder"
    assert when(state, asks(CONFIRM, holder="e2")).types[-1] == "tool_call.asked.v1"


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "outcome_unknown"])
def test_question_is_over_with_its_call_and_a_late_answer_is_told_so(
    outcome: c.ResultOutcome,
) -> None:
    """C4 and C6: nobody is asked for a call that ended, and its timer goes with it."""
    state = when(at_work("buy", "buy"), asks(FORM)).after
    then = when(state, result("c1-0", outcome=outcome))
    assert then.types == ["tool_call.ended.v1"]
    assert answer_in(then.after) == "over"
    assert then.after.timers == {}
    assert not then.after.waits
    assert rejected(then.after, answers_ask({"count": 2})) == "not_waiting"
    assert when(then.after, asks(FORM)).events == ()
    assert rejected(then.after, asks(FORM, "q2")) == "call_over"


def test_late_question_and_late_answer_of_an_earlier_step_are_refused() -> None:
    state = given(start(), replies(call("buy")), asks(FORM), result("c1-0"), where=team())
    assert state.asks == {}
    assert rejected(state, answers_ask({"count": 2})) == "not_waiting"
    assert rejected(state, asks(FORM)) == "call_over"


def test_cancel_closes_what_is_asked_before_its_call_has_ended() -> None:
    """C6."""
    then = when(when(at_work(), asks(FORM)).after, cancel())
    answer = then.events[1]
    assert isinstance(answer, ToolCallAnswered)
    assert (answer.action, answer.source) == ("cancel", "withdrawn")
    assert outcomes(then.after) == {"c1-0": "open"}
    assert rejected(then.after, answers_ask({"count": 2})) == "not_waiting"
    assert rejected(then.after, asks(FORM, "q2")) == "cancelling"
    assert when(then.after, result("c1-0")).after.status == "cancelled"


def test_question_nobody_answers_in_time_is_closed_and_its_call_goes_on() -> None:
    """C8."""
    state = when(at_work(limits=Limits(answer_ms_max=5_000)), asks(FORM)).after
    armed = [one.timer for one in effects(state) if isinstance(one, ArmTimer)]
    assert [(one.purpose, one.due_ms) for one in armed] == [("answer_expiry", NOW_MS + 5_000)]
    then = when(state, fires("answer_expiry"))
    assert then.types == ["timer.fired.v1", "tool_call.answered.v1"]
    answer = then.events[1]
    assert isinstance(answer, ToolCallAnswered)
    assert (answer.action, answer.source) == ("cancel", "expired")
    assert outcomes(then.after) == {"c1-0": "open"}
    late = when(when(state, answers_ask({"count": 2})).after, fires_again(state))
    assert late.events == ()


def fires_again(state: RunState) -> c.FireTimer:
    return c.FireTimer(timer=next(iter(state.timers)))


def test_run_without_a_limit_of_time_waits_for_ever() -> None:
    state = when(at_work(limits=Limits(answer_ms_max=None)), asks(FORM)).after
    assert state.asks["q1"].due_ms is None
    assert not [one for one in effects(state) if isinstance(one, ArmTimer)]


def test_question_is_answered_in_a_pause_and_the_call_hears_it() -> None:
    """What is at work is finished: a pause holds up nothing that has begun."""
    state = when(when(at_work(), asks(FORM)).after, pauses()).after
    answered = when(state, answers_ask({"count": 2})).after
    assert answer_in(answered) == "answered"
    assert when(answered, asks(CONFIRM, "q2")).types[-1] == "tool_call.asked.v1"
    assert when(answered, resumes()).types == ["run.resumed.v1"]


def test_question_of_a_lost_worker_is_closed_when_its_call_is_handed_out_again() -> None:
    """C7: the next worker asks for itself, and no person answers nobody."""
    state = when(
        given(start(), replies(call("read"), call("exec")), where=ELSEWHERE), asks(CONFIRM)
    ).after
    then = when(state, c.AbandonHolder(holder="e1"), ELSEWHERE)
    assert then.types == ["tool_call.retried.v1", "tool_call.answered.v1"]
    answer = then.events[1]
    assert isinstance(answer, ToolCallAnswered)
    assert (answer.action, answer.source) == ("cancel", "withdrawn")
    again = when(then.after, asks(CONFIRM, "q2", holder="e2"))
    assert again.types[-1] == "tool_call.asked.v1"


def test_question_of_a_call_that_may_not_run_twice_is_over_with_its_worker() -> None:
    """C3."""
    state = when(at_work("buy", "buy"), asks(FORM)).after
    then = when(state, c.AbandonHolder(holder="e1"))
    assert then.after.past_calls["c1-0"].outcome == "outcome_unknown"
    assert then.after.questions == ()
    assert then.after.timers == {}


@pytest.mark.parametrize("away", ["lost", "placed elsewhere"])
def test_question_is_closed_when_the_workspace_goes_to_another_worker(away: str) -> None:
    state = given(start(), replies(call("exec")), placed("e1"), asks(CONFIRM), where=ELSEWHERE)
    if away == "lost":
        then = when(state, c.AbandonHolder(holder="e1"), ELSEWHERE)
    else:
        gone = c.Situation(now_ms=NOW_MS, epoch="e2", gone=frozenset({"e1"}))
        then = when(state, placed("e2"), gone)
    assert then.types[-1] == "tool_call.answered.v1"
    assert rejected(then.after, answers_ask()) == "not_waiting"


def test_open_question_survives_a_restart_of_everything() -> None:
    history = (start(), replies(call("buy"), call("buy")), asks(FORM), result("c1-1", holder="e1"))
    state = restarted(*history, where=team())
    assert state == given(*history, where=team())
    assert answer_in(when(state, answers_ask({"count": 2})).after) == "answered"


def test_model_reads_the_outcome_of_the_call_and_nothing_of_what_was_asked() -> None:
    """C4: questions of tools are no part of the conversation."""
    asked = (start(), replies(call("buy")), asks(FORM), answers_ask({"count": 2}))
    state = given(*asked, result("c1-0", "bought"), where=team())
    plain = given(start(), replies(call("buy")), result("c1-0", "bought"), where=team())
    assert render(state) == render(plain)
    assert state.conversation.digest == plain.conversation.digest
