"""Changes of a run's team: decided once, from the team as it is, and pinned (rule 13). Not made."""

from dataclasses import replace
from typing import Any

from domain import commands as c
from domain.content import BlobRef
from domain.effects import CallTool, ReformTeam, effects
from domain.events import (
    ContextPinned,
    GenerationRequested,
    PinnedModel,
    TeamAction,
    TeamChanged,
    ToolCallForwarded,
)
from domain.limits import Limits
from domain.prompt import request_digest
from domain.state import RunState
from domain.tools import Lane, Safety
from tests.support.runs import (
    MODEL,
    TEAM,
    approves,
    asks_for,
    call,
    cancel,
    children,
    claim,
    delegate,
    entry,
    fails,
    given,
    outcomes,
    pinned,
    read_by_model,
    replies,
    result,
    situation,
    start,
    team,
    when,
)

BASE = "d" * 64
"""The definition that `start()` names."""

MADE = "f" * 64
MAKER = entry("maker", Lane.DELEGATE, Safety.UNSAFE, expert="@boss/maker")
CONTEXT = replace(pinned(), digest="9" * 64, tools=(*TEAM, MAKER))
AFTER = situation(lanes=frozenset({Lane.SANDBOX, Lane.TOOL}), context=CONTEXT)
"""Where the change is decided: with the context that the new team pins."""


def closes(name: str = "c1-0", base: str = BASE, **more: Any) -> c.CloseTeamCall:
    action: TeamAction = "createExpert"
    fields: dict[str, Any] = {
        "definition": MADE,
        "action": action,
        "names": ("@boss/maker",),
        "content": '{"expertKey":"@boss/maker"}',
    }
    return c.CloseTeamCall(call=name, base=base, **(fields | more))


def reforming(*more: str) -> RunState:
    calls = [call("createExpert"), *(call(tool) for tool in more)]
    return given(start(), replies(*calls), where=team())


def test_change_of_the_team_is_work_of_the_loop_and_of_no_executor() -> None:
    state = reforming()
    assert [type(one) for one in effects(state)] == [ReformTeam]
    assert when(state, claim("c1-0")).events == ()
    assert when(state, result("c1-0", "of a tool")).events == ()
    assert when(state, c.RetryToolCall(call="c1-0", attempt=1)).events == ()


def test_new_team_is_pinned_before_its_first_use() -> None:
    """Rule 13: definition, context and tools by digest, in the envelope that ends the call."""
    then = when(reforming(), closes(), AFTER)
    assert then.types == [
        "team.changed.v1",
        "context.pinned.v2",
        "tool_call.ended.v1",
        "step.ended.v1",
        "generation.requested.v2",
    ]
    changed, context, *_, asked = then.events
    assert isinstance(changed, TeamChanged)
    assert (changed.definition, changed.names) == (MADE, ("@boss/maker",))
    assert isinstance(context, ContextPinned)
    assert (context.cause, context.context) == ("team", "9" * 64)
    assert isinstance(asked, GenerationRequested)
    assert asked.request == request_digest("9" * 64, then.after.conversation.digest)
    assert read_by_model(then.events, "c1-0") == '{"expertKey":"@boss/maker"}'


def test_expert_that_was_made_can_be_called_with_the_definition_that_has_it() -> None:
    state = when(reforming(), closes(), AFTER).after
    then = when(state, replies(call("maker", '{"query": "make it"}')))
    child = children(then.effects)["c2-0"]
    assert (child.expert, child.definition) == ("@boss/maker", MADE)


def test_change_is_decided_once() -> None:
    """C3."""
    state = when(reforming("exec"), closes(), AFTER).after
    assert when(state, closes(), AFTER).events == ()
    assert [type(one) for one in effects(state)] == [CallTool]


def test_change_made_from_an_older_team_is_not_decided() -> None:
    """C5: it is made again from the team as it is by then."""
    state = given(
        start(), replies(call("createExpert", "{}", "p0"), call("createExpert", "{}", "p1")),
        where=team(),
    )  # fmt: skip
    state = when(state, closes("c1-0"), AFTER).after
    assert when(state, closes("c1-1"), AFTER).events == ()
    other = closes("c1-1", base=MADE, definition="a" * 64)
    assert when(state, other, AFTER).after.definition == "a" * 64


def test_change_that_is_wrong_is_a_result_and_leaves_the_team_as_it_was() -> None:
    wrong = closes(definition="", action=None, names=(), content='{"error":"x"}', is_error=True)
    then = when(reforming("exec"), wrong, AFTER)
    assert then.types == ["tool_call.ended.v1"]
    assert outcomes(then.after)["c1-0"] == "failed"
    assert then.after.definition == BASE


def test_run_that_went_on_with_another_model_stays_with_it() -> None:
    """The new team's context is that of the model that answers, not of the one that gave up."""
    models = [MODEL.model_copy(update={"model": name}) for name in ("first", "second", "third")]
    chain = [
        PinnedModel(context=f"{n}" * 64, context_bytes=900 + n, model=model)
        for n, model in enumerate(models)
    ]
    before = team(model=models[0], fallbacks=tuple(chain[1:]))
    state = given(start(), where=before)
    state = when(state, fails("auth", retryable=False), before).after
    state = when(state, replies(call("createExpert"))).after
    new = [
        PinnedModel(context=f"{n + 5}" * 64, context_bytes=950 + n, model=model)
        for n, model in enumerate(models)
    ]
    context = replace(
        CONTEXT,
        digest=new[0].context,
        size=new[0].context_bytes,
        model=models[0],
        fallbacks=tuple(new[1:]),
    )
    then = when(state, closes(), situation(context=context))
    repinned = then.events[1]
    assert isinstance(repinned, ContextPinned)
    assert (repinned.context, repinned.context_bytes) == (new[1].context, new[1].context_bytes)
    assert repinned.model == models[1]
    assert repinned.fallbacks == (new[2],)


def test_file_with_experts_is_read_in_the_sandbox_and_the_loop_does_the_rest() -> None:
    state = given(start(), replies(call("addDelegateFromConfig")), where=team())
    assert [type(one) for one in effects(state)] == [CallTool]
    then = when(state, result("c1-0", "[experts.x]"))
    forwarded = then.events[0]
    assert isinstance(forwarded, ToolCallForwarded)
    assert forwarded.content == "[experts.x]"
    assert [type(one) for one in then.effects] == [ReformTeam]
    assert when(then.after, result("c1-0", "[experts.x]")).events == ()
    closed = when(then.after, closes(action="addDelegateFromConfig"), AFTER)
    assert closed.types[0] == "team.changed.v1"


def test_long_file_is_handed_on_by_digest() -> None:
    state = given(start(), replies(call("addDelegateFromConfig")), where=team())
    large = BlobRef(digest="b" * 64, size=99_999)
    read = result("c1-0", "[experts").model_copy(update={"full_output": large})
    forwarded = when(state, read).events[0]
    assert isinstance(forwarded, ToolCallForwarded)
    assert forwarded.content == large


def test_file_that_cannot_be_read_is_the_end_of_the_call() -> None:
    state = given(start(), replies(call("addDelegateFromConfig")), where=team())
    then = when(state, result("c1-0", "no such file", outcome="failed"))
    assert then.types[0] == "tool_call.ended.v1"


def test_change_that_waits_for_a_person_is_not_made_before() -> None:
    """C14."""
    asking = team(asks_for("ask", tool="createExpert"))
    state = given(start(), replies(call("createExpert")), where=asking)
    assert not any(isinstance(one, ReformTeam) for one in effects(state))
    assert when(state, closes(), AFTER).events == ()
    state = when(state, approves("c1-0")).after
    assert [type(one) for one in effects(state)] == [ReformTeam]
    assert when(state, closes(), AFTER).types[0] == "team.changed.v1"


def test_cancelled_change_is_not_made() -> None:
    """C6."""
    then = when(reforming("exec"), cancel())
    assert outcomes(then.after) == {"c1-0": "cancelled", "c1-1": "open"}
    assert when(then.after, closes(), AFTER).events == ()
    alone = when(reforming(), cancel()).after
    assert alone.status == "cancelled"
    assert when(alone, closes(), AFTER).events == ()


def test_change_counts_as_a_tool_call() -> None:
    """C12."""
    state = given(start(Limits(tool_calls_max=0)), replies(call("createExpert")), where=team())
    assert (state.status, state.stopped_by) == ("stopped", "tool_calls")


def test_delegate_taken_from_the_team_while_it_works_ends_its_call_as_ever() -> None:
    state = given(start(), replies(delegate(), call("createExpert")), where=team())
    without = tuple(one for one in TEAM if one.name != "helper")
    fewer = situation(context=replace(CONTEXT, tools=without))
    state = when(state, closes("c1-1", action="removeDelegate"), fewer).after
    assert list(children(effects(state))) == ["c1-0"]
    assert "help me" in repr(children(effects(state))["c1-0"].parts)


def test_delegate_taken_from_the_team_while_it_waits_is_refused_when_it_is_allowed() -> None:
    """C14: every refusal is a result."""
    asking = team(asks_for("ask", tool="helper"))
    state = given(start(), replies(delegate(), call("createExpert")), where=asking)
    without = tuple(one for one in TEAM if one.name != "helper")
    fewer = situation(context=replace(CONTEXT, tools=without))
    state = when(state, closes("c1-1", action="removeDelegate"), fewer).after
    then = when(state, approves("c1-0"))
    assert "no delegate of yours any more" in read_by_model(then.events, "c1-0")
    assert children(then.effects) == {}
