"""What becomes an activity, and what of it changes later. Not the log, which says all of it."""

import pytest

from domain import events as e
from domain.asks import Elicitation
from domain.base_tools import BASE_TOOLS
from domain.content import AssistantPart, BlobRef, TextPart, ThinkingPart
from domain.definition import BASE_SKILL
from domain.ids import RunRef
from domain.tools import Lane, Safety
from eventlog.port import Stored
from projections.seeing import see
from projections.views.activities import (
    REASONING_CHARS_MAX,
    SUMMARY_CHARS_MAX,
    ActivitiesView,
)
from tests.support.asking import SAY
from tests.support.pen import Pen, completed, continued, forked, replied, requested, started
from tests.support.tables import Row, Rows

REF = RunRef("acme", "j1", "j1")
THOUGHT = ThinkingPart(provider="anthropic", block='{"type":"thinking","thinking":"hm, hm"}')


def activities(*batches: tuple[e.Event, ...]) -> list[Row]:
    """Those after the query that a run begins with."""
    first, *others = (
        Rows(ActivitiesView()).tell(Pen(REF), started("boss"), *batches).of("activities")
    )
    assert first["type"] == "query"
    return others


def call(
    tool: str = "look",
    arguments: str | BlobRef = "{}",
    *,
    name: str = "c1-0",
    lane: Lane = Lane.TOOL,
    skill: str = "own",
) -> e.ToolCallRequested:
    return e.ToolCallRequested(
        call=name,
        step=1,
        provider_id="p",
        tool=tool,
        skill=skill,
        lane=lane,
        safety=Safety.READ_ONLY,
        arguments=arguments,
        key="k",
    )


def ended(text: str = "seen", outcome: e.Outcome = "succeeded", name: str = "c1-0") -> e.Event:
    return e.ToolCallEnded(call=name, outcome=outcome, content=(TextPart(text=text),))


def reply(*parts: AssistantPart, stop: e.StopReason = "tool_calls") -> e.GenerationCompleted:
    return e.GenerationCompleted(
        step=1, attempt=1, stop_reason=stop, parts=parts, usage=None, charged=1
    )


def test_a_run_begins_with_its_query_and_ends_with_its_result() -> None:
    rows = Rows(ActivitiesView()).tell(Pen(REF), started("boss"), completed(1, "all\n  done"))
    query, complete = rows.of("activities")
    assert (query["type"], query["summary"], query["status"]) == ("query", "go on then", "user")
    assert (query["version"], query["seq"], query["at_ms"], query["expert"]) == (
        3,
        1,
        1_000,
        "boss",
    )
    assert (complete["type"], complete["summary"]) == ("complete", "all done")
    assert (complete["version"], complete["at_ms"], complete["status"]) == (7, 1_010, "completed")
    assert query["delegated_by"] is None


def test_a_child_says_who_delegated_to_it() -> None:
    asked = e.InputReceived(input="s", speaker="expert", parts=(TextPart(text="help"),))
    begun = started("helper", e.Parent(run="boss-run", call="c1-0"))
    rows = Rows(ActivitiesView()).tell(Pen(REF), (*begun[:2], asked))
    (row,) = rows.of("activities")
    assert (row["delegated_by"], row["expert"], row["status"]) == ("boss-run", "helper", "expert")


def test_what_is_said_later_is_a_query_too_and_notes_of_the_runtime_are_none() -> None:
    note = e.InputReceived(input="n", speaker="runtime", parts=(TextPart(text="psst"),))
    first, second = activities(completed(1), continued(), (note,))
    assert (first["type"], second["type"], second["summary"]) == ("complete", "query", "more")


@pytest.mark.parametrize("tool", sorted(BASE_TOOLS))
def test_each_base_tool_is_a_type_of_its_own(tool: str) -> None:
    (row,) = activities((call(tool, skill=BASE_SKILL, lane=BASE_TOOLS[tool].entry.lane),))
    assert (row["type"], row["call"], row["status"]) == (tool, "c1-0", "requested")


@pytest.mark.parametrize(
    ("lane", "kind"),
    [
        (Lane.TOOL, "generalTool"),
        (Lane.MCP, "generalTool"),
        (Lane.TEAM, "generalTool"),
        (Lane.LOOP, "generalTool"),
        (Lane.DELEGATE, "delegate"),
        (Lane.PERSON, "interactiveTool"),
    ],
)
def test_other_calls_are_told_apart_by_who_answers_them(lane: Lane, kind: str) -> None:
    (row,) = activities((call("exec", '{"query": "do it"}', lane=lane),))
    assert (row["type"], row["summary"]) == (kind, "exec do it")


def test_a_call_changes_its_status_to_its_outcome() -> None:
    pen, rows = Pen(REF), Rows(ActivitiesView())
    rows.tell(pen, started(), (call(),))
    rows.tell(pen, (e.ToolCallClaimed(call="c1-0", attempt=1, holder="e"),))
    assert rows.of("activities")[1]["status"] == "claimed"
    rows.tell(pen, (ended(outcome="failed"),))
    row = rows.of("activities")[1]
    assert (row["status"], row["ended_at_ms"], row["version"]) == ("failed", 1_030, 5)
    assert rows.heads[REF].open is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ('{"command": "git", "args": ["log", "-1"]}', "look git log -1"),
        ('{"path": "a b.txt"}', "look a b.txt"),
        ('{"path": "a", "from": 3}', "look path=a from=3"),
        ('{"text": "two\\n lines"}', "look two lines"),
        ('{"at"', 'look {"at"'),
        ("[1, 2]", "look [1, 2]"),
        ("", "look"),
    ],
)
def test_the_line_of_a_call_says_what_it_is_about(arguments: str, line: str) -> None:
    (row,) = activities((call("look", arguments),))
    assert row["summary"] == line


def test_lines_are_cut_and_what_is_kept_elsewhere_is_named() -> None:
    blob = BlobRef(digest="b" * 64, size=99_000)
    long, named = activities((call("look", "x" * 9_000), call("look", blob, name="c1-1")))
    assert len(long["summary"]) == SUMMARY_CHARS_MAX
    assert long["summary"].endswith("…")
    assert named["summary"] == f"look [99000 bytes: {'b' * 64}]"


def test_thoughts_are_told_with_the_first_thing_that_comes_of_them() -> None:
    said = TextPart(text="I look.")
    first, second = activities((reply(THOUGHT, said), call(), call(name="c1-1")))
    assert (first["reasoning"], second["reasoning"]) == ("hm, hm", "")


def test_without_thoughts_what_is_said_beside_calls_is_the_reasoning() -> None:
    hidden = ThinkingPart(provider="x", block='{"type":"redacted_thinking","data":"zzz"}')
    (row,) = activities((reply(hidden, TextPart(text="I look. " * 900)), call()))
    assert row["reasoning"].startswith("I look. I look.")
    assert len(row["reasoning"]) == REASONING_CHARS_MAX


def test_a_last_word_is_the_result_and_no_reasoning() -> None:
    (row,) = activities((reply(TextPart(text="42"), stop="end"), *completed(1, "42")[1:]))
    assert (row["reasoning"], row["summary"]) == ("", "42")


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ('{"reasoning_content": "chat"}', "chat"),
        ('{"reasoning": "gateway"}', "gateway"),
        ('{"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}]}', "a\n\nb"),
        ('{"type": "reasoning", "summary": [], "content": [{"text": "raw"}]}', "raw"),
        ('{"type": "reasoning", "encrypted_content": "zzz"}', ""),
        ('{"type": "web_search_call", "reasoning": "no"}', ""),
        ("not json", ""),
        ("[]", ""),
        ('{"type": "reasoning", "summary": [7, {"text": 8}]}', ""),
    ],
)
def test_thoughts_of_every_provider_are_read_as_far_as_they_can_be(block: str, text: str) -> None:
    (row,) = activities((reply(ThinkingPart(provider="x", block=block)), call()))
    assert row["reasoning"] == text


def test_thoughts_that_are_kept_elsewhere_are_not_read() -> None:
    part = ThinkingPart(provider="x", block=BlobRef(digest="b" * 64, size=9))
    (row,) = activities((reply(part), call()))
    assert row["reasoning"] == ""


def test_a_delegation_is_one_activity_when_it_is_asked_for_and_one_when_it_is_over() -> None:
    told = e.DelegationSettled(call="c1-0", child="k", status="stopped", steps=1, tokens=2)
    asked, over = activities(
        (call("helper", '{"query": "go"}', lane=Lane.DELEGATE),), (told, ended("half", "failed"))
    )
    assert (asked["type"], asked["summary"], asked["status"]) == ("delegate", "helper go", "failed")
    assert (over["type"], over["summary"], over["status"]) == (
        "delegationComplete",
        "half",
        "stopped",
    )
    assert (over["call"], over["at_ms"]) == ("c1-0", 1_020)


def test_a_failed_attempt_is_a_retry_and_the_last_one_an_error() -> None:
    failure = e.Failure(kind="overloaded", message="too\nmuch")
    failed = e.GenerationFailed(
        step=1, attempt=1, failure=failure, retryable=True, usage=None, charged=1
    )
    again = requested(1).model_copy(update={"attempt": 2})
    retry, error = activities((failed, again), (failed, e.RunFailed(step=1, failure=failure)))
    assert (retry["type"], retry["summary"], retry["status"]) == ("retry", "too much", "overloaded")
    assert (error["type"], error["summary"], error["status"]) == ("error", "too much", "overloaded")


def test_only_a_lost_worker_makes_a_retry_of_an_attempt_that_was_given_up() -> None:
    lost = e.GenerationAbandoned(step=1, attempt=1, reason="holder_lost", charged=1)
    rows = activities(
        (lost,),
        (lost.model_copy(update={"reason": "interrupted"}),),
        (lost.model_copy(update={"reason": "cancelled"}),),
    )
    assert [(row["type"], row["status"]) for row in rows] == [("retry", "holder_lost")]


def test_being_held_back_is_no_activity() -> None:
    """C13."""
    failure = e.Failure(kind="held_back", message="later")
    held = e.GenerationFailed(
        step=1, attempt=1, failure=failure, retryable=True, usage=None, charged=0
    )
    assert activities((held,)) == []


def test_an_approval_shows_what_became_of_it_and_its_call_waits_meanwhile() -> None:
    asked = e.ApprovalRequested(approval="c1-0", digest="d", reason="it costs money")
    pen, rows = Pen(REF), Rows(ActivitiesView())
    rows.tell(pen, started(), (call("pay"), asked))
    _, tool, approval = rows.of("activities")
    assert (approval["type"], approval["summary"], approval["call"]) == (
        "approval",
        "it costs money",
        "c1-0",
    )
    assert (tool["status"], approval["status"]) == ("waiting", "waiting")
    rows.tell(pen, (e.ApprovalDecided(approval="c1-0", verdict="edited", arguments="{}"),))
    _, tool, approval = rows.of("activities")
    assert (tool["status"], approval["status"], approval["ended_at_ms"]) == (
        "requested",
        "edited",
        1_020,
    )


def test_a_denied_call_is_refused() -> None:
    asked = e.ApprovalRequested(approval="c1-0", digest="d")
    denied = e.ApprovalDecided(approval="c1-0", verdict="denied")
    tool, approval = activities((call(), asked), (denied, ended("no", "refused")))
    assert (tool["status"], approval["status"]) == ("refused", "denied")


def test_a_soft_limit_is_an_approval_of_no_call() -> None:
    asked = e.ApprovalRequested(approval="budget-1", limit="tokens", soft=500)
    over = e.ApprovalDecided(approval="budget-1", verdict="expired")
    (row,) = activities((asked,), (over, e.RunStopped(limit="tokens", step=1)))[:1]
    assert (row["type"], row["call"], row["summary"]) == ("approval", None, "beyond 500 of tokens")
    assert row["status"] == "expired"


def test_a_question_of_an_expert_waits_until_it_is_answered() -> None:
    asked = (call("ask", '{"what": "colour"}', lane=Lane.PERSON), e.QuestionAsked(call="c1-0"))
    said = e.QuestionAnswered(call="c1-0", command="a", parts=(TextPart(text="blue"),))
    assert [row["status"] for row in activities(asked)] == ["waiting"]
    (row,) = activities(asked, (said, ended("blue")))
    assert (row["type"], row["summary"], row["status"]) == (
        "interactiveTool",
        "ask colour",
        "succeeded",
    )


def test_what_a_tool_asks_a_person_is_an_activity_and_what_it_asks_the_model_is_none() -> None:
    asked = e.ToolCallAsked(call="c1-0", ask="q1", holder="e", about=Elicitation(message="Sure?"))
    model = asked.model_copy(update={"ask": "q2", "about": SAY})
    answer = e.ToolCallAnswered(call="c1-0", ask="q1", action="decline", source="person")
    _, row = activities((call(), asked, model), (answer,))
    assert (row["type"], row["summary"], row["status"]) == ("interactiveTool", "Sure?", "decline")
    gone = answer.model_copy(update={"source": "expired", "action": "cancel"})
    assert activities((call(), asked), (gone,))[1]["status"] == "expired"


def test_a_pause_ends_when_the_run_goes_on_or_is_over() -> None:
    pause = (e.RunPaused(command="p"),)
    (row,) = activities(pause)
    assert (row["type"], row["status"], row["ended_at_ms"]) == ("paused", "paused", None)
    (row,) = activities(pause, (e.RunResumed(command="r"),))
    assert (row["status"], row["ended_at_ms"]) == ("resumed", 1_020)
    paused, cancelled = activities(pause, (e.RunCancelled(step=1),))
    assert (paused["status"], cancelled["type"], cancelled["status"]) == (
        "over",
        "cancelled",
        "cancelled",
    )


def test_a_limit_stops_a_run() -> None:
    (row,) = activities((e.RunStopped(limit="steps", step=1),))
    assert (row["type"], row["summary"], row["status"]) == ("stopped", "limit of steps", "steps")


def test_a_fork_begins_with_where_it_comes_from() -> None:
    first, second = (
        Rows(ActivitiesView()).tell(Pen(REF), (forked(), *started()[1:])).of("activities")
    )
    assert (first["type"], first["summary"], first["expert"]) == (
        "forked",
        "run r0, step 4",
        "boss",
    )
    assert second["type"] == "query"


def test_what_nobody_can_read_or_knows_is_no_activity() -> None:
    """C17."""
    pen = Pen(REF)
    rows = Rows(ActivitiesView()).tell(pen, started(), (replied(1), call()))
    before = rows.of("activities")
    rows.hear(see(Stored(9, REF, b"{}")))
    rows.tell(pen, (e.OpaqueEvent(type="run.danced.v1", body={}),))
    assert rows.of("activities") == before
