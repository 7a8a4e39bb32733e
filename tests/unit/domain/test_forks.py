"""A fork goes on from another run's past, and takes nothing of what was pending there (rule 14)."""

from dataclasses import replace
from random import Random
from typing import Literal

import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st

from domain import commands as c
from domain import events as e
from domain.content import BlobRef, ResultPart, TextPart, UserMessage, text_of
from domain.decide import decide
from domain.decisions.forks import FORKS_MAX
from domain.effects import Generate, effects
from domain.errors import Rejected, Unavailable
from domain.evolve import evolve_all
from domain.folds.forks import edited
from domain.ids import RunRef, idempotency_key
from domain.limits import Limits
from domain.policy import PolicyRule
from domain.snapshot import restore, take
from domain.state import RunState, changed
from tests.support.forks import FORK, fork_command, forked, past_of
from tests.support.invariants import render
from tests.support.play import World
from tests.support.runs import (
    HERE,
    MODEL,
    REF,
    Asked,
    adds,
    call,
    delegate,
    fails,
    given,
    pinned,
    replies,
    result,
    says,
    start,
    steers,
    when,
)

TAKEN = e.SnapshotTaken(
    run=REF.run, step=1, version=9, manifest=BlobRef(digest="e" * 64, size=9), files=2
)


def refused(past: RunState, command: c.ForkRun, ref: RunRef = FORK) -> str:
    where = replace(HERE, origin=c.Origin(past=past, hash="h" * 64))
    with pytest.raises(Rejected) as caught:
        decide(RunState(ref=ref), command, where)
    return caught.value.code


def edit(name: str, text: str) -> e.ResultEdit:
    return e.ResultEdit(call=name, content=says(text))


def results_read(state: RunState) -> list[str]:
    """What the model has read of calls so far, in order."""
    users = [one for one in state.conversation.messages if isinstance(one, UserMessage)]
    parts = [part for one in users for part in one.parts if isinstance(part, ResultPart)]
    return [text_of(part.content) for part in parts]


def test_fork_asks_for_the_reply_that_its_source_asked_for_with_the_same_request() -> None:
    source = when(given(start(), replies(call("exec"))), result("c1-0"))
    at = source.after.version - 1  # between the checkpoint and the next request
    assert source.types[-2:] == ["step.ended.v1", "generation.requested.v2"]
    past = given(start(), replies(call("exec")))
    past = evolve_all(past, source.events[:-1])
    assert past.version == at
    then = forked(past, fork_command(past))
    asked, there = then.events[-1], source.events[-1]
    assert isinstance(asked, e.GenerationRequested)
    assert isinstance(there, e.GenerationRequested)
    assert (asked.step, asked.request) == (there.step, there.request)
    assert then.types == ["run.forked.v1", "context.pinned.v2", "generation.requested.v2"]


def test_fork_of_an_open_call_says_that_it_was_not_made_again() -> None:
    past = given(start(), replies(call("exec"), call("buy")))
    assert [one.may_have_begun for one in past.open_calls] == [True, True]
    then = forked(past, fork_command(past))
    assert then.effects == (Generate(2, 1, "e1"),)
    texts = results_read(then.after)
    assert len(texts) == 2
    assert all("forked" in text for text in texts)
    assert {one.outcome for one in then.after.past_calls.values()} == {"outcome_unknown"}


def test_fork_has_a_ledger_and_limits_of_its_own() -> None:
    limits = Limits(tokens_max=1_000_000, steps_max=2)
    past = given(start(limits), replies(call("exec")), result("c1-0"))
    state = forked(past, fork_command(past).model_copy(update={"steps_max": 7})).after
    assert (state.tokens_charged, state.tool_calls, state.usage.tokens) == (0, 0, 0)
    assert state.limits.steps_max == 7
    assert state.steps_left == 6
    assert past.tokens_charged > 0


def test_fork_takes_a_reply_that_had_not_come_anew_under_the_same_step() -> None:
    past = given(start(), fails())
    assert past.generation is not None
    assert past.timers
    state = forked(past, fork_command(past)).after
    assert state.generation is not None
    assert (state.generation.step, state.generation.attempt, state.generation.tries) == (1, 1, 0)
    assert not state.timers


def test_keys_of_a_fork_are_not_those_of_its_source() -> None:
    past = given(start(), replies(call("exec")), result("c1-0"))
    state = when(forked(past, fork_command(past)).after, replies(call("exec"))).after
    assert list(state.calls) == ["c2-0"]
    assert state.calls["c2-0"].key == idempotency_key(FORK.run, "c2-0")
    there = when(past, replies(call("exec"))).after
    assert there.calls["c2-0"].key != state.calls["c2-0"].key


def test_delegate_of_a_fork_is_another_run_than_its_sources() -> None:
    past = given(start(), replies(delegate()))
    child = past.calls["c1-0"].delegation
    assert child is not None
    state = forked(past, fork_command(past)).after
    assert state.calls == {}
    again = when(state, replies(delegate())).after.calls["c2-0"].delegation
    assert again is not None
    assert again.child != child.child


def test_edited_result_of_an_earlier_step_is_what_the_fork_has_read() -> None:
    events = _history(start(), replies(call("exec")), result("c1-0", "two"), replies(call("read")))
    change = edit("c1-0", "three")
    past = past_of(events, change)
    then = forked(past, fork_command(past, "", change))
    assert results_read(then.after)[0] == "three"
    unedited = past_of(events)
    plain = forked(unedited, fork_command(unedited))
    assert results_read(plain.after)[0] == "two"
    assert then.after.conversation.digest != plain.after.conversation.digest
    first = then.events[0]
    assert isinstance(first, e.RunForked)
    assert first.edited == ("result",)


def test_edited_result_of_an_open_call_is_its_outcome() -> None:
    past = given(start(), replies(call("buy")))
    state = forked(past, fork_command(past, "", edit("c1-0", "bought"))).after
    assert results_read(state) == ["bought"]


def test_outer_edit_stands_before_an_inner_one() -> None:
    events = _history(start(), replies(call("exec")), result("c1-0", "one"))
    inner = edit("c1-0", "two")
    past = past_of(events, inner)
    first = forked(past, fork_command(past, "", inner))
    outer = edit("c1-0", "three")
    again = past_of(events, inner, outer)
    state = evolve_all(RunState(ref=FORK, past=again), edited(first.events, {"c1-0": outer}))
    assert results_read(state) == ["three"]


def test_query_is_what_a_fork_says_next() -> None:
    past = given(start(), replies("done"))
    assert past.at_rest
    assert refused(past, fork_command(past)) == "empty_input"
    then = forked(past, fork_command(past, "and now?"))
    assert then.after.status == "running"
    last = then.after.conversation.messages[-1]
    assert isinstance(last, UserMessage)
    assert [part.text for part in last.parts if isinstance(part, TextPart)] == ["and now?"]
    assert isinstance(then.events[0], e.RunForked)
    assert then.events[0].edited == ("query",)


def test_input_that_waits_in_the_source_waits_in_the_fork() -> None:
    past = given(start(), replies(call("exec")), steers("faster"))
    state = forked(past, fork_command(past, "and cheaper")).after
    last = state.conversation.messages[-1]
    said = [part.text for part in last.parts if isinstance(part, TextPart)]
    assert said == ["faster", "and cheaper"]


def test_another_model_is_pinned_for_the_fork_and_said_to_be_another() -> None:
    past = given(start(), replies(call("exec")), result("c1-0"))
    other = replace(pinned(), digest="b" * 64, model=MODEL.model_copy(update={"model": "large"}))
    command = fork_command(past).model_copy(update={"definition": "a" * 64})
    then = forked(past, command, origin=c.Origin(past=past, hash="h" * 64, context=other))
    first = then.events[0]
    assert isinstance(first, e.RunForked)
    assert first.edited == ("model", "definition")
    assert then.after.model == other.model
    assert then.after.definition == "a" * 64


def test_rules_that_people_gave_hold_in_the_fork_and_in_its_delegates() -> None:
    never = PolicyRule(verdict="deny", tool="buy")
    past = given(start(), replies(call("exec")), adds(never))
    state = forked(past, fork_command(past)).after
    assert state.rules == (never,)
    assert state.standing == 1


def test_files_that_may_differ_are_told_to_the_model() -> None:
    past = given(start(), replies(call("exec")), result("c1-0"))
    origin = c.Origin(past=past, hash="h" * 64, files=TAKEN, files_differ=True)
    then = forked(past, fork_command(past), origin=origin)
    assert "after step 1" in str(then.after.conversation.messages[-1].parts)
    assert then.after.snapshot == TAKEN
    bare = forked(past, fork_command(past), origin=replace(origin, files=None))
    assert "not those of then" in str(bare.after.conversation.messages[-1].parts)


def test_workspace_of_a_fork_is_brought_back_where_it_is_first_placed() -> None:
    past = given(start(), replies(call("exec")), result("c1-0"))
    origin = c.Origin(past=past, hash="h" * 64, files=TAKEN)
    state = forked(past, fork_command(past), origin=origin).after
    placed = when(state, _asks_place("own")).after.sandbox
    assert placed is not None
    assert placed.restored == TAKEN.manifest
    mounted = when(state, _asks_place("mounted")).after.sandbox
    assert mounted is not None
    assert mounted.restored is None  # a person's folder is never overwritten


def test_same_fork_again_changes_nothing_and_another_is_refused() -> None:
    past = given(start(), replies(call("exec")), result("c1-0"))
    state = forked(past, fork_command(past)).after
    where = replace(HERE, origin=c.Origin(past=past, hash="h" * 64))
    assert decide(state, fork_command(past), where) == ()
    with pytest.raises(Rejected, match="another name"):
        decide(state, fork_command(past, command="f2"), where)


def test_fork_is_refused_where_it_has_nothing_to_go_on_from() -> None:
    past = given(start(), replies(call("exec")), result("c1-0"))
    command = fork_command(past)
    assert refused(past, command, RunRef("acme", "job", "run")) == "bad_id"
    assert refused(past, fork_command(past, "", edit("c7-0", "x"))) == "no_such_call"
    assert refused(RunState(ref=REF), command) == "too_early"
    assert refused(changed(past, forks=FORKS_MAX), command) == "too_deep"
    newer = changed(past, unknown_events=("run.dreamt.v1",))
    with pytest.raises(Unavailable, match="newer release"):
        decide(RunState(ref=FORK), command, replace(HERE, origin=c.Origin(past=newer, hash="")))
    with pytest.raises(Rejected, match="past"):
        decide(RunState(ref=FORK), command, HERE)


def test_snapshot_of_a_fork_needs_no_past() -> None:
    past = given(start(), replies(call("exec")), result("c1-0"))
    state = forked(past, fork_command(past)).after
    kept = restore(FORK, take(state, 3, "h" * 64))
    assert kept is not None
    assert kept.state.past is None
    assert kept.state.conversation.digest == state.conversation.digest
    assert effects(kept.state) == effects(state)


@settings(derandomize=True, deadline=None, max_examples=40)
@examples(st.integers(0, 2**32))
def test_fork_at_every_version_of_any_history_can_be_decided_and_goes_on(seed: int) -> None:
    """Rule 14: `when` checks every invariant of a decision, here over another run's past."""
    world = World(Random(seed))
    for _ in range(30):
        world.move()
    past = RunState(ref=REF)
    for event in world.events:
        past = evolve_all(past, (event,))
        if past.model is None:
            continue
        before = render(past)
        command = fork_command(past, "go on", *_some_edits(past))
        then = forked(past, command)
        assert render(past) == before
        state = then.after
        assert not state.open_calls
        assert state.approvals.keys() <= {"budget-1"}
        assert all(timer.due_ms >= HERE.now_ms for timer in state.timers.values())
        here = World(Random(seed + past.version), state=state, now_ms=world.now_ms)
        for _ in range(4):
            here.move()


def _some_edits(past: RunState) -> tuple[e.ResultEdit, ...]:
    return tuple(edit(name, "edited") for name in list(past.calls)[:1])


def _history(*asked: Asked) -> tuple[e.Event, ...]:
    state, events = RunState(ref=REF), tuple[e.Event, ...]()
    for one in asked:
        then = when(state, one)
        state, events = then.after, (*events, *then.events)
    return events


def _asks_place(workspace: Literal["own", "mounted"]) -> c.PlaceSandbox:
    return c.PlaceSandbox(
        place="p1",
        epoch="e1",
        backend="bubblewrap",
        report="{}",
        workspace=workspace,
        snapshots=True,
    )
