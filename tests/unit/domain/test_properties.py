"""Invariants over random histories, valid and invalid. Not examples: those are beside this file."""

from random import Random
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.asks import Elicitation
from domain.commands import Command, Situation
from domain.conversation import this_request
from domain.decide import decide
from domain.effects import effects
from domain.envelope import Cause, Envelope, decode, encode
from domain.events import (
    EVENT_TYPES,
    ContextPinned,
    Event,
    GenerationRequested,
    Known,
    PinnedModel,
    ToolCallAnswered,
)
from domain.evolve import evolve
from domain.limits import Limits, ModelChoice, Sampling, Usage
from domain.policy import PolicyRule
from domain.snapshot import restore, take
from domain.state import RunState
from domain.tools import ToolEntry
from tests.support.invariants import check_answered, render
from tests.support.play import World
from tests.support.runs import REF, call, delegate, replies, result, start, when
from tests.support.runs import given as given_history

BOUNDED = settings(
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MOVES = 40
SEED = st.integers(0, 2**32)
"""A failing seed is printed, and is the bug report."""


@settings(BOUNDED, max_examples=300)
@given(SEED)
def test_every_decision_of_any_history_keeps_the_invariants(seed: int) -> None:
    """Rules 1 to 9, C3, C4, C7, C12: see `tests.support.invariants`."""
    world = World(Random(seed))
    for _ in range(MOVES):
        world.move()
    assert len(world.events) == world.state.version


@BOUNDED
@given(SEED)
def test_every_prefix_of_any_history_makes_the_same_requests_from_nothing(seed: int) -> None:
    """C4 and rule 13: the request is a pure function of the log, at every event."""
    world = World(Random(seed))
    for _ in range(MOVES):
        world.move()
    state = RunState(ref=REF)
    for event in world.events:
        state = evolve(state, event)
        check_answered(render(state))
        if isinstance(event, GenerationRequested):
            assert event.request == this_request(state)
    assert state.conversation == world.state.conversation
    assert state.calls.keys() == world.state.calls.keys()


@BOUNDED
@given(SEED)
def test_two_futures_of_one_state_do_not_disturb_each_other(seed: int) -> None:
    """Every state of a run shares one list of messages; a second future gets its own."""
    world = World(Random(seed))
    for _ in range(MOVES // 2):
        world.move()
    fork, before = world.state, render(world.state)
    for _ in range(MOVES // 2):
        world.move()
    assert render(fork) == before
    here = World(Random(seed + 1), state=fork)
    for _ in range(MOVES // 2):
        here.move()
    assert render(fork) == before


def decides_as_from_the_log(
    before: RunState, command: Command, where: Situation, events: tuple[Event, ...]
) -> None:
    snapshot = restore(REF, take(before, 7, "h" * 64))
    assert snapshot is not None
    assert decide(snapshot.state, command, where) == events
    assert effects(snapshot.state) == effects(before)


@BOUNDED
@given(SEED)
def test_decisions_from_a_snapshot_are_those_from_the_log(seed: int) -> None:
    """C1: a snapshot is a cache; deciding needs nothing that it leaves out."""
    world = World(Random(seed), watch=decides_as_from_the_log)
    for _ in range(MOVES):
        world.move()


st.register_type_strategy(int, st.integers(-(2**53), 2**53))
st.register_type_strategy(
    PolicyRule,
    st.builds(
        PolicyRule,
        verdict=st.sampled_from(["allow", "ask", "deny"]),
        arguments=st.dictionaries(st.text(), st.text(), max_size=2),
    ),
)
st.register_type_strategy(
    ModelChoice,
    st.builds(
        ModelChoice,
        settings=st.dictionaries(st.text(), st.text(), max_size=2),
        headers=st.dictionaries(st.text(), st.text(), max_size=2),
        sampling=st.just(Sampling(temperature=0.5, stop=("x",))),
    ),
)
SCHEMAS = st.sampled_from([None, {"type": "object"}])
st.register_type_strategy(
    ToolEntry, st.builds(ToolEntry, expert=st.none() | st.text(), input_schema=SCHEMAS)
)
st.register_type_strategy(
    ContextPinned,
    st.builds(
        ContextPinned,
        tools=st.lists(st.from_type(ToolEntry), max_size=2).map(tuple),
        fallbacks=st.lists(st.from_type(PinnedModel), max_size=2).map(tuple),
        output_schema=SCHEMAS,
    ),
)
st.register_type_strategy(
    Elicitation,
    st.builds(
        Elicitation,
        message=st.text(),
        form=st.sampled_from([None, {"type": "object"}]),
        url=st.none() | st.text(),
    ),
)
st.register_type_strategy(
    ToolCallAnswered,
    st.builds(ToolCallAnswered, content=st.sampled_from([None, {"count": 2, "why": "é"}])),
)
KINDS: tuple[type[Event], ...] = get_args(Known)


def enveloped(*events: Event) -> Envelope:
    return Envelope(
        id="e1",
        ref=REF,
        version=1,
        at_ms=5,
        cause=Cause(type="start_run.v1", id="s1"),
        by="e1",
        prev="0" * 64,
        events=events,
    )


@pytest.mark.parametrize("kind", KINDS, ids=EVENT_TYPES)
def test_every_event_comes_back_from_its_bytes_as_it_was(kind: type[Event]) -> None:
    """Rule 12: and its bytes from it, as they were."""

    @settings(BOUNDED, max_examples=30)
    @given(st.from_type(kind))
    def comes_back(event: Event) -> None:
        data = encode(enveloped(event))
        assert decode(data).events == (event,)
        assert encode(decode(data)) == data

    comes_back()


@pytest.mark.parametrize("kind", KINDS, ids=EVENT_TYPES)
def test_every_event_folds_into_any_state(kind: type[Event]) -> None:
    """Evolve is total: what is recorded happened, even where nobody would have decided it."""
    state = given_history(start(), replies(call("exec"), delegate()))

    @settings(BOUNDED, max_examples=15)
    @given(st.from_type(kind))
    def folds(event: Event) -> None:
        for before in (RunState(ref=REF), state):
            after = evolve(before, event)
            assert after.version == before.version + 1
            effects(after)
            render(after)

    folds()


def test_bytes_of_250_turns_are_linear_in_what_was_said() -> None:
    """C1: ratio to payload < 3, and the last turn costs what the tenth does."""
    text, output = "t" * 700, "o" * 700
    state = given_history(start(Limits(steps_max=1_000)))
    sizes: list[int] = []
    for turn in range(250):
        reply = when(state, replies(text, call("exec"), usage=Usage(input=1, output=1)))
        ended = when(reply.after, result(f"c{turn + 1}-0", output))
        state = ended.after
        sizes.append(sum(len(encode(enveloped(*then.events))) for then in (reply, ended)))
    assert max(sizes) - min(sizes) < 50
    assert sum(sizes) < 3 * 250 * (len(text) + len(output))
