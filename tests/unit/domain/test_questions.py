"""Questions: calls that a person answers (C6, C7, C14). Not approvals: those are beside."""

import pytest

from domain import commands as c
from domain.content import BlobRef, FilePart, TextPart
from domain.effects import ArmTimer, effects
from domain.events import QuestionAnswered, QuestionAsked, ToolCallEnded
from domain.limits import Limits
from domain.state import RunState
from tests.support.invariants import render
from tests.support.runs import (
    NOW_MS,
    answers,
    call,
    cancel,
    claim,
    fires,
    given,
    goes_on,
    handed_out,
    outcomes,
    pauses,
    read_by_model,
    rejected,
    replies,
    restarted,
    result,
    resumes,
    start,
    team,
    when,
)

ASK = call("ask", '{"which": "colour?"}')


def asked(*more: str, limits: Limits | None = None) -> RunState:
    """A run that asks a person, beside some calls of tools."""
    return given(start(limits), replies(ASK, *(call(tool) for tool in more)), where=team())


def test_question_waits_for_a_person_and_for_nobody_else() -> None:
    then = when(given(start(), where=team()), replies(ASK))
    assert then.types[-1] == "question.asked.v1"
    question = then.events[-1]
    assert isinstance(question, QuestionAsked)
    assert question.call == "c1-0"
    assert handed_out(then.effects) == {}
    assert when(then.after, claim("c1-0")).events == ()
    assert when(then.after, result("c1-0", "of a tool")).events == ()
    assert when(then.after, c.RetryToolCall(call="c1-0", attempt=1)).events == ()
    assert when(then.after, c.AbandonHolder(holder="e1")).events == ()


def test_run_with_an_open_question_says_that_it_waits() -> None:
    """C7."""
    state = asked(limits=Limits(answer_ms_max=None))
    assert effects(state) == ()
    assert state.waits


def test_answer_is_the_result_of_the_call_and_the_run_goes_on() -> None:
    then = when(asked(), answers("c1-0", "blue"))
    assert then.types == [
        "question.answered.v1",
        "tool_call.ended.v1",
        "step.ended.v1",
        "generation.requested.v2",
    ]
    assert read_by_model(then.events, "c1-0") == "blue"
    assert "blue" in repr(render(then.after)[-1])


def test_answer_may_hold_files() -> None:
    plan = FilePart(blob=BlobRef(digest="b" * 64, size=9, media_type="image/png"), name="plan.png")
    said = c.AnswerQuestion(id="w1", call="c1-0", parts=(TextPart(text="see"), plan))
    ended = when(asked("exec"), said).after.calls["c1-0"].ended
    assert ended is not None
    assert ended.content == said.parts


def test_question_is_answered_once() -> None:
    """C3 and C14: the same answer again changes nothing; another one is refused."""
    state = when(asked("exec"), answers("c1-0", "blue")).after
    assert when(state, answers("c1-0", "blue")).events == ()
    assert rejected(state, answers("c1-0", "red", "w2")) == "not_waiting"


def test_answer_to_what_is_no_question_is_refused() -> None:
    state = asked("exec")
    assert rejected(state, answers("c1-1")) == "not_waiting"
    assert rejected(state, answers("c9-9")) == "not_waiting"
    empty = c.AnswerQuestion(id="w1", call="c1-0", parts=())
    assert rejected(state, empty) == "empty_input"


def test_each_of_two_questions_gets_its_own_answer() -> None:
    """C14: no answer goes to the wrong parallel call."""
    state = given(
        start(),
        replies(call("ask", "{}", "p0"), call("ask", "{}", "p1")),
        answers("c1-1", "second", "w1"),
        where=team(),
    )
    assert outcomes(state) == {"c1-0": "open", "c1-1": "succeeded"}
    then = when(state, answers("c1-0", "first", "w2"))
    told = render(then.after)[-1].parts
    assert ["first" in repr(part) for part in told] == [True, False]
    assert ["second" in repr(part) for part in told] == [False, True]


def test_other_calls_of_the_reply_run_while_the_question_waits() -> None:
    state = asked("exec")
    assert list(handed_out(effects(state))) == ["c1-1"]
    then = when(state, result("c1-1"))
    assert then.types == ["tool_call.ended.v1"], "the step ends with the answer"
    assert when(then.after, answers("c1-0")).types[-1] == "generation.requested.v2"


def test_question_nobody_answers_in_time_has_failed_and_the_model_is_told() -> None:
    state = asked(limits=Limits(answer_ms_max=5_000))
    armed = [one.timer for one in effects(state) if isinstance(one, ArmTimer)]
    assert [(one.purpose, one.due_ms) for one in armed] == [("answer_expiry", NOW_MS + 5_000)]
    then = when(state, fires("answer_expiry"))
    expired = then.events[1]
    assert isinstance(expired, QuestionAnswered)
    assert expired.expired
    assert "Nobody answered in time" in read_by_model(then.events, "c1-0")
    ended = then.events[2]
    assert isinstance(ended, ToolCallEnded)
    assert ended.outcome == "failed"
    assert then.types[-1] == "generation.requested.v2"
    assert rejected(then.after, answers("c1-0")) == "not_waiting"


def test_answered_question_leaves_no_timer() -> None:
    state = asked("exec")
    late = fires("answer_expiry")(state)
    then = when(state, answers("c1-0"))
    assert then.after.timers == {}
    assert when(then.after, late).events == ()


def test_open_question_survives_a_restart_of_everything() -> None:
    history = (start(), replies(ASK, call("exec")), result("c1-1"))
    state = restarted(*history, where=team())
    assert state == given(*history, where=team())
    assert when(state, answers("c1-0", "blue")).types[-1] == "generation.requested.v2"


def test_cancel_ends_an_open_question_at_once() -> None:
    """C6."""
    then = when(asked(), cancel())
    assert outcomes(then.after) == {"c1-0": "cancelled"}
    assert then.after.status == "cancelled"
    assert rejected(then.after, answers("c1-0")) == "not_waiting"


def test_answer_comes_in_while_the_run_is_paused_and_is_used_when_it_is_resumed() -> None:
    state = when(asked(), pauses()).after
    then = when(state, answers("c1-0", "blue"))
    assert then.types == ["question.answered.v1", "tool_call.ended.v1", "step.ended.v1"]
    assert when(then.after, resumes()).types == ["run.resumed.v1", "generation.requested.v2"]


def test_what_a_person_says_beside_a_question_comes_after_its_answer() -> None:
    state = when(asked(), goes_on("and hurry")).after
    assert state.status == "running"
    told = render(when(state, answers("c1-0", "blue")).after)[-1].parts
    assert ["blue" in repr(part) for part in told] == [True, False]
    assert ["hurry" in repr(part) for part in told] == [False, True]


def test_question_with_arguments_its_schema_refuses_is_not_asked() -> None:
    then = when(given(start(), where=team()), replies(call("ask", "[]")))
    assert "malformed_arguments" in read_by_model(then.events, "c1-0")
    assert "question.asked.v1" not in then.types


@pytest.mark.parametrize("tools", [1, 0])
def test_question_counts_as_a_tool_call(tools: int) -> None:
    """C12."""
    then = when(given(start(Limits(tool_calls_max=tools)), where=team()), replies(ASK))
    assert ("question.asked.v1" in then.types) is (tools == 1)
    assert then.after.tool_calls == tools
