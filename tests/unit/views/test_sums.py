"""What the views say together, over golden logs and simulated worlds. Not any one view by itself.

What is expected is folded by the domain, which the views do not use.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from domain import events as e
from domain.envelope import decode, is_tombstone
from domain.evolve import fold
from domain.ids import RunRef
from domain.state import RunState
from domain.tools import Lane
from eventlog.port import Stored
from projections.views.calls import CallsView
from projections.views.jobs import JobsView
from projections.views.spending import SPENDING_COLUMNS
from projections.views.steps import StepsView
from projections.views.usage import UsageView
from tests.support.tables import Row, Rows
from tests.support.worlds import golden, world

WORLDS = tuple(f"world-{seed}" for seed in (2, 3, 4, 7, 8, 12, 16, 18))
"""Teams, forks, tools that ask, people, and workers that die: see `peritus.simulation`."""

TOKENS = ("input", "output", "reasoning", "cached", "cache_written")


@dataclass
class Log:
    """A log, and what the domain makes of it."""

    stored: tuple[Stored, ...]
    states: dict[RunRef, RunState] = field(default_factory=dict[RunRef, RunState])
    events: dict[RunRef, list[e.Event]] = field(default_factory=dict[RunRef, list[e.Event]])

    def __post_init__(self) -> None:
        for one in self.stored:
            if deleted(one):
                forget(self.states, one)
                forget(self.events, one)
                continue
            self.states[one.ref] = after(self.states, one)
            self.events.setdefault(one.ref, []).extend(decode(one.data).events)

    def told(self, ref: RunRef) -> list[e.DelegationSettled]:
        """What the children of a run say that they have spent."""
        return [event for event in self.events[ref] if isinstance(event, e.DelegationSettled)]

    def spent(self, runs: Iterable[RunRef]) -> Row:
        """What runs have spent themselves: without what their children told them."""
        return total(map(self._own, runs), *SPENDING_COLUMNS)

    def _own(self, ref: RunRef) -> Row:
        state, told = self.states[ref], self.told(ref)
        return {
            **{f"{name}_tokens": getattr(state.usage, name) for name in TOKENS},
            "tokens_charged": state.tokens_charged - sum(one.tokens for one in told),
            "money_charged": state.money_charged - sum(one.money for one in told),
        }


def deleted(stored: Stored) -> bool:
    return is_tombstone(decode(stored.data))


def forget(found: dict[RunRef, Any], tombstone: Stored) -> None:
    """Nothing is left of a job that was deleted."""
    for ref in [ref for ref in found if ref[:2] == tombstone.ref[:2]]:
        del found[ref]


def after(found: Mapping[RunRef, RunState], stored: Stored) -> RunState:
    return fold(found.get(stored.ref) or RunState(ref=stored.ref), decode(stored.data))


def total(rows: Iterable[Row], *names: str) -> Row:
    rows = list(rows)
    return {name: sum(row[name] for row in rows) for name in names}


@cache
def log_of(name: str) -> Log:
    seed = name.removeprefix("world-")
    return Log(world(int(seed)) if name in WORLDS else golden()[name])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "log" in metafunc.fixturenames:
        names = WORLDS if "whole" in metafunc.function.__name__ else (*golden(), *WORLDS)
        metafunc.parametrize("log", names, indirect=True)


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Log:
    return log_of(request.param)


def test_usage_is_what_all_runs_were_charged(log: Log) -> None:
    """C12: each call of a model once, whoever's child made it."""
    rows = Rows(UsageView()).tell_all(log.stored).of("usage")
    assert total(rows, *SPENDING_COLUMNS) == log.spent(log.states)


def test_usage_counts_each_run_that_began_and_each_end_of_a_call_of_the_model(
    log: Log,
) -> None:
    rows = Rows(UsageView()).tell_all(log.stored).of("usage")
    begun = [ref for ref, state in log.states.items() if state.expert]
    ends = Counter(type(event).__name__ for some in log.events.values() for event in some)
    replies = ends["GenerationCompleted"]
    said = sum(
        isinstance(event, e.SamplingEnded) and event.how == "replied"
        for some in log.events.values()
        for event in some
    )
    found = total(rows, "runs", "generations", "failures")
    assert found["runs"] == len(begun)
    assert found["generations"] - found["failures"] == replies + said


def test_usage_counts_the_calls_that_were_let_through_and_are_over(
    log: Log,
) -> None:
    rows = Rows(UsageView()).tell_all(log.stored).of("usage")
    counted = 0
    for ref, state in log.states.items():
        told = log.told(ref)
        still_open = [call for call in state.open_calls if call.lane is not Lane.DELEGATE]
        counted += state.tool_calls - sum(one.tool_calls for one in told) - len(still_open)
    assert total(rows, "tool_calls") == {"tool_calls": counted}


def test_steps_sum_to_what_their_run_has_used(log: Log) -> None:
    rows = Rows(StepsView()).tell_all(log.stored)
    for ref, history in log.events.items():
        mine = rows.of("steps", **ref._asdict())
        assert total(mine, *SPENDING_COLUMNS) == log.spent([ref]), ref
        asked = {one.step for one in history if isinstance(one, e.GenerationRequested)}
        assert {row["step"] for row in mine} == asked, "a step that is not the run's own"


def test_steps_count_attempts_and_calls(log: Log) -> None:
    rows = Rows(StepsView()).tell_all(log.stored)
    for ref, history in log.events.items():
        attempts = Counter(one.step for one in history if isinstance(one, e.GenerationRequested))
        calls = Counter(one.step for one in history if isinstance(one, e.ToolCallRequested))
        for row in rows.of("steps", **ref._asdict()):
            assert (row["attempts"], row["calls"]) == (attempts[row["step"]], calls[row["step"]])
            assert row["started_at_ms"] is not None
            assert (row["generated_at_ms"] is None) == (row["stop_reason"] is None)


def test_every_call_has_one_row_with_its_one_outcome(log: Log) -> None:
    """Rule 6."""
    rows = Rows(CallsView()).tell_all(log.stored)
    for ref, history in log.events.items():
        asked = [one.call for one in history if isinstance(one, e.ToolCallRequested)]
        ended = {one.call: one for one in history if isinstance(one, e.ToolCallEnded)}
        found = {row["call"]: row for row in rows.of("calls", **ref._asdict())}
        assert sorted(found) == sorted(asked)
        for name, row in found.items():
            end = ended.get(name)
            assert (row["ended_at_ms"] is None) == (end is None)
            if end is None:
                assert row["status"] in ("requested", "waiting", "claimed")
            else:
                assert (row["status"], row["is_error"]) == (end.outcome, end.is_error)


def test_jobs_are_the_sums_of_their_runs(log: Log) -> None:
    rows = Rows(JobsView()).tell_all(log.stored)
    for row in rows.of("jobs"):
        runs = [ref for ref in log.states if ref[:2] == (row["tenant"], row["job"])]
        assert total([row], *SPENDING_COLUMNS) == log.spent(runs)
        assert row["runs"] == len(runs)


def test_jobs_are_at_all_times_as_their_runs_are(log: Log) -> None:
    rows = Rows(JobsView())
    now: dict[RunRef, RunState] = {}
    for stored in log.stored:
        rows.tell_all([stored])
        if deleted(stored):
            forget(now, stored)
            assert rows.of("jobs", tenant=stored.ref.tenant, job=stored.ref.job) == []
            continue
        now[stored.ref] = after(now, stored)
        row = rows.one("jobs", tenant=stored.ref.tenant, job=stored.ref.job)
        mine = [state for ref, state in now.items() if ref[:2] == stored.ref[:2]]
        root = next((one for one in mine if one.parent is None), None)
        assert row["running"] == sum(state.status == "running" for state in mine)
        assert row["waiting"] == sum(waits(state) for state in mine)
        if root is not None:
            assert (row["run"], row["status"]) == (root.ref.run, root.status)
            assert row["expert"] == root.expert


def waits(state: RunState) -> bool:
    """Whether a person has something to answer or to decide."""
    asked = any(call.asked for call in state.open_calls)
    return state.status == "running" and bool(state.approvals or state.questions or asked)


def test_whole_jobs_at_rest_are_what_their_root_was_charged(log: Log) -> None:
    """The ledger of a root has what its children told it: a job must not count that twice."""
    rows = Rows(JobsView()).tell_all(log.stored).of("jobs")
    assert rows
    for row in rows:
        ref = RunRef(row["tenant"], row["job"], row["run"])
        root = log.states[ref]
        begun = next((one.step for one in log.events[ref] if isinstance(one, e.RunForked)), 0)
        steps = root.step - begun + sum(one.steps for one in log.told(ref))
        assert root.at_rest
        assert (row["tokens_charged"], row["money_charged"], row["tool_calls"], row["steps"]) == (
            root.tokens_charged,
            root.money_charged,
            root.tool_calls,
            steps,
        )
        assert row["ended_at_ms"] is not None


def test_these_logs_have_what_the_tests_are_about() -> None:
    """Otherwise a sum could be right because there is nothing to add."""
    seen: Counter[Any] = Counter()
    for name in (*golden(), *WORLDS):
        seen.update(type(event) for some in log_of(name).events.values() for event in some)
    wanted = (
        e.RunForked,
        e.DelegationSettled,
        e.GenerationAbandoned,
        e.GenerationSuperseded,
        e.SamplingEnded,
        e.SamplingSettled,
        e.ApprovalDecided,
        e.QuestionAnswered,
        e.ToolCallAnswered,
        e.ToolResultLate,
        e.RunContinued,
        e.RunStopped,
        e.RunCancelled,
    )
    assert [kind.__name__ for kind in wanted if not seen[kind]] == []
