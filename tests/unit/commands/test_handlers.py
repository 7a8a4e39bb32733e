"""Handlers over the in-memory form: what is stored, dispatched and told. Not workers."""

import asyncio
import logging
from typing import Any

import pytest

from commands import runs as run_store
from commands.client import CommandClient
from commands.hands import NoHands
from domain import commands as c
from domain.content import TextPart
from domain.effects import CallTool
from domain.errors import IntegrityViolated, Rejected, Unavailable
from domain.events import Parent
from domain.ids import RunRef, child_run_id
from domain.limits import Limits
from domain.record import canonical, digest_of
from domain.work import CallToolWork, GenerateWork
from eventlog.memory.faults import FaultPoint, Kind
from tests.support.office import Office, office, troubled
from tests.support.runs import (
    call,
    cancel,
    claim,
    delegate,
    fails,
    goes_on,
    replies,
    result,
)

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "job1", "run1")
CHILD = RunRef("acme", "job1", child_run_id("run1", "c1-0"))


async def test_work_is_handed_to_this_process_with_its_claim() -> None:
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(call("pay"), call("look")))
    kinds = [type(work) for _, work in desk.bench.taken]
    assert kinds == [GenerateWork, CallToolWork, CallToolWork]


async def test_without_room_work_goes_to_the_queue_of_its_lane() -> None:
    desk = office()
    desk.bench.room = False
    await desk.start(REF)
    await desk.tell(REF, replies(call("pay"), call("exec", '{"command": "ls"}')))
    lanes = {lane: len(queue.messages) for lane, queue in desk.server.work.items()}
    assert lanes == {"step": 1, "tool": 1, "sandbox": 1}


async def test_work_of_another_epoch_is_left_to_it() -> None:
    first = office()
    await first.start(REF)
    other = office("e2", first)
    await other.tell(REF, goes_on("more"))
    assert other.bench.taken == []


async def test_nobody_has_hands_where_nothing_is_executed() -> None:
    hands = NoHands()
    hands.take(REF, GenerateWork(step=1, attempt=1))
    hands.stop(REF)
    assert (hands.free(), hands.free_lanes()) == (False, frozenset())


async def test_delegate_is_started_by_a_stored_command_and_answers_by_another() -> None:
    """Rule 8."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(delegate()))
    await desk.handle_queued()
    await desk.tell(CHILD, replies("the answer"))
    await desk.handle_queued()
    state = await desk.state(REF)
    assert state.past_calls["c1-0"].outcome == "succeeded"
    assert desk.server.open_runs == {REF: None}


async def test_start_of_a_child_that_ended_has_its_end_told_again() -> None:
    """Rule 8: neither message can be lost for good."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(delegate()))
    ((_, start),) = desk.queued()
    await desk.tell(CHILD, start, replies("the answer"))
    desk.queued()  # lost
    await desk.tell(CHILD, start)
    await desk.handle_queued()
    assert (await desk.state(REF)).step == 2


async def test_start_of_a_running_child_is_not_resolved_again() -> None:
    """A worker that could not start it must not end the call it works on."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(delegate()))
    ((_, start),) = desk.queued()
    await desk.tell(CHILD, start)
    bare = Office(desk.definition, server=desk.server, epoch="e2")
    assert (await bare.ask(CHILD, start)).status == "accepted"
    assert desk.queued() == []


@pytest.mark.parametrize("order", ["cancel first", "start first"])
async def test_cancelled_child_ends_its_call_whichever_message_comes_first(order: str) -> None:
    """Rules 8 and 9: a tombstone knows whom to tell, and tells it to a start that comes late."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(delegate()))
    messages = desk.queued()
    await desk.tell(REF, cancel())
    messages += desk.queued()
    if order == "cancel first":
        messages.reverse()
    for ref, command in messages:
        await desk.ask(ref, command)
    await desk.handle_queued()
    assert (await desk.state(REF)).status == "cancelled"
    assert desk.server.open_runs == {}


async def test_repeated_cancel_stops_what_is_still_at_work_again() -> None:
    """C6."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(call("pay"), delegate()), cancel())
    desk.queued()
    desk.bench.stopped.clear()
    await desk.tell(REF, cancel("x2"))
    assert desk.bench.stopped == [REF]
    assert [command.type for _, command in desk.queued()] == ["cancel_run.v1"]


BAD_STARTS: dict[str, dict[str, Any]] = {
    "no_definition": {"definition": "0" * 64},
    "unknown_expert": {"expert": "nobody"},
    "too_deep": {"depth": 99},
}


@pytest.mark.parametrize("code", BAD_STARTS)
async def test_start_that_cannot_be_is_refused_and_told_to_a_parent(code: str) -> None:
    """Rule 8: nobody waits for it for ever."""
    desk = office()
    await desk.start(RunRef("acme", "other", "run"))
    parent = Parent(run="run1", call="c1-0")
    command = desk.start_command().model_copy(update={**BAD_STARTS[code], "parent": parent})
    answer = await desk.ask(CHILD, command)
    assert (answer.status, answer.code) == ("rejected", code)
    ((ref, told),) = desk.queued()
    assert ref == REF
    assert isinstance(told, c.RecordDelegation)
    assert (told.status, told.tokens) == ("failed", 0)
    assert CHILD not in desk.server.open_runs


async def test_blob_that_is_no_definition_is_refused() -> None:
    desk = office()
    digest = await desk.backbone.blobs.put(REF.tenant, b"{}")
    command = desk.start_command().model_copy(update={"definition": digest})
    assert (await desk.ask(REF, command)).code == "no_definition"
    assert desk.queued() == []


async def test_claims_are_granted_to_the_first_and_stand_when_asked_again() -> None:
    """Rule 6."""
    desk = office()
    desk.bench.room = False
    await desk.start(REF)
    asks = c.ClaimGeneration(step=1, attempt=1, holder="e7")
    assert (await desk.ask(REF, asks)).granted
    assert (await desk.ask(REF, asks)).granted
    assert not (await desk.ask(REF, asks.model_copy(update={"holder": "e8"}))).granted
    await desk.tell(REF, replies(call("pay")))
    assert (await desk.ask(REF, claim("c1-0", "e7"))).granted
    assert (await desk.ask(REF, claim("c1-0", "e7"))).granted
    assert not (await desk.ask(REF, claim("c1-0", "e8"))).granted
    assert not (await desk.ask(REF, claim("c9-0", "e8"))).granted


async def test_every_report_of_a_result_ends_the_duty_of_who_reports() -> None:
    """Rule 7."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(call("pay"), call("pay")))
    details = [(await desk.ask(REF, result("c1-0", text))).detail for text in ("one", "one", "two")]
    assert details == ["recorded", "already recorded", "superseded"]


async def test_reconciling_hands_out_lost_work_again() -> None:
    """Rule 10."""
    desk = office()
    await desk.start(REF)
    desk.bench.room = False
    await desk.tell(REF, replies(call("look"), call("pay")))
    await desk.tell(REF, c.RetryToolCall(call="c1-0", attempt=1), claim("c1-1", "e9"))
    await desk.tell(REF, c.AbandonHolder(holder="e9"))
    state = await desk.state(REF)
    assert state.calls["c1-0"].attempt == 2
    assert state.calls["c1-1"].ended is not None


async def test_timer_is_armed_at_its_time_and_asks_again() -> None:
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, fails(retry_after_ms=90_000))
    (timer,) = desk.server.commands.timers.values()
    assert timer.due_ms - desk.now >= 89_000
    state = await desk.fire(REF)
    assert state.generation is not None
    assert state.generation.attempt == 2


async def test_cancel_of_a_child_at_rest_has_its_end_told_again() -> None:
    """Rules 8 and 9."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(delegate()))
    ((_, start),) = desk.queued()
    await desk.tell(CHILD, start, replies("the answer"))
    lost = desk.queued()
    await desk.tell(CHILD, cancel())
    assert desk.queued() == lost


async def test_cancel_that_comes_late_again_leaves_a_run_that_went_on_alone() -> None:
    """Rule 3: commands from people are remembered by id for the life of the run."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, cancel(), goes_on(), cancel())
    assert (await desk.state(REF)).status == "running"


async def test_call_that_no_executor_runs_is_never_dispatched() -> None:
    desk = office()
    await desk.start(REF)
    state = await desk.tell(REF, replies(call("attemptCompletion"), call("pay")))
    desk.bench.taken.clear()
    assert await desk.desk.dispatch(state, [CallTool(state.calls["c1-0"])])
    assert desk.bench.taken == []


@pytest.mark.parametrize("away", [FaultPoint.APPEND, FaultPoint.LOAD])
async def test_log_that_stays_away_is_an_answer_and_not_a_crash(
    away: FaultPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "UNKNOWN_PAUSE_S", 0.0)
    monkeypatch.setattr(run_store, "UNKNOWN_TRIES_MAX", 3)
    desk, plan = troubled()
    await desk.start(REF)
    faults = {
        FaultPoint.APPEND: [(FaultPoint.APPEND, Kind.DROP), (FaultPoint.LOAD, Kind.REFUSE)] * 3,
        FaultPoint.LOAD: [(FaultPoint.LOAD, Kind.REFUSE)],
    }
    plan.faults.extend(faults[away])
    if away is FaultPoint.LOAD:
        desk.runs.forget(REF)
    answer = await desk.ask(REF, cancel())
    assert (answer.status, answer.code) == ("unavailable", "unavailable")


async def test_run_that_changes_under_every_try_is_left_for_later() -> None:
    desk, plan = troubled()
    desk.definition = desk.definition.model_copy(update={"limits": Limits(conflicts_max=2)})
    await desk.start(REF)
    plan.faults.extend([(FaultPoint.APPEND, Kind.CONFLICT)] * 2)
    answer = await desk.ask(REF, cancel())
    assert answer.status == "unavailable"
    assert "changed under every try" in answer.detail


async def test_no_from_an_old_state_is_asked_again_of_the_newest() -> None:
    """Rule 1: a cached run is a guess."""
    desk = office()
    await desk.start(REF)
    other = office("e2", desk)
    await other.tell(REF, fails("auth", retryable=False))
    # What this office has cached is the running run, which takes no bare continue.
    assert (await desk.ask(REF, goes_on(""))).status == "accepted"


async def test_effect_that_cannot_be_dispatched_waits_and_the_command_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rule 2: a crash or a fault after the append is repaired by deriving effects again."""
    desk, plan = troubled()
    desk.bench.room = False
    plan.faults.append((FaultPoint.WORK_PUT, Kind.REFUSE))
    with caplog.at_level(logging.WARNING):
        await desk.start(REF)
    assert "waits" in caplog.text
    assert (await desk.state(REF)).status == "running"


async def test_run_stays_in_the_index_until_its_end_is_told() -> None:
    desk, plan = troubled()
    await desk.start(REF)
    plan.faults.append((FaultPoint.OPEN_REMOVE, Kind.REFUSE))
    await desk.tell(REF, replies("done"))
    assert REF in desk.server.open_runs
    child = desk.start_command().model_copy(update={"parent": Parent(run="p", call="c")})
    await desk.tell(CHILD, child)
    plan.faults.append((FaultPoint.COMMAND_PUT, Kind.REFUSE))
    await desk.tell(CHILD, replies("done"))
    assert CHILD in desk.server.open_runs
    await desk.tell(CHILD, child)
    assert CHILD not in desk.server.open_runs


async def test_run_continued_while_it_is_closed_stays_in_the_index() -> None:
    """C7: work is always where the reconciler looks."""
    desk = office()
    await desk.start(REF)
    state = await desk.tell(REF, replies("done"))
    await desk.tell(REF, goes_on())
    await desk.desk.close(state)
    assert REF in desk.server.open_runs


async def test_continue_that_stops_at_once_leaves_the_index_again() -> None:
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies("done"), goes_on(tokens_max=1))
    assert (await desk.state(REF)).status == "stopped"
    assert REF not in desk.server.open_runs


async def test_broken_history_is_read_only() -> None:
    """C21: never silently continued."""
    desk = office()
    await desk.start(REF)
    broken = desk.lines(REF)[0]
    await desk.backbone.log.append(REF, broken, expected_seq=1)
    with pytest.raises(IntegrityViolated):
        await desk.tell(REF, cancel())


async def test_reply_too_large_for_an_envelope_fails_the_run() -> None:
    """C2: a typed failure, never tried again."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(*[call("n" * 64)] * 9_000))
    state = await desk.state(REF)
    assert (state.status, state.failure_kind) == ("failed", "too_large")


async def test_result_of_too_many_parts_is_told_in_a_sentence() -> None:
    """C2."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(call("pay")))
    parts = tuple(TextPart(text="x" * 100) for _ in range(9_000))
    large = result("c1-0").model_copy(update={"content": parts})
    assert (await desk.ask(REF, large)).detail == "recorded"
    state = await desk.state(REF)
    assert "too large to be kept" in str(state.conversation.messages[-1])


async def test_command_too_large_for_an_envelope_is_refused() -> None:
    """C2."""
    desk = office()
    await desk.start(REF)
    parts = tuple(TextPart(text="x" * 100) for _ in range(9_000))
    answer = await desk.ask(REF, c.ContinueRun(id="k", parts=parts))
    assert (answer.status, answer.code) == ("rejected", "too_large")


async def test_large_texts_are_stored_before_the_envelope_that_names_them() -> None:
    """Rule 2 of content: and the log names them by digest."""
    desk = office()
    await desk.start(REF)
    text = "x" * 40_000
    await desk.tell(REF, goes_on(text))
    digest = digest_of(text.encode())
    assert desk.server.blobs[REF.tenant, digest] == text.encode()
    assert digest.encode() in desk.lines(REF)[-1]


async def test_client_asks_first_and_stores_the_command_when_nobody_answers() -> None:
    """Rule 7."""
    desk = office()
    client = CommandClient(desk.backbone)
    assert (await client.ask(REF, cancel())).status == "unavailable"
    assert await client.submit(REF, cancel(), "x1") is None
    assert [command for _, command in desk.queued()] == [cancel()]


async def test_client_hears_what_became_of_its_command() -> None:
    desk = office()

    async def answer(ref: RunRef, data: bytes) -> bytes:
        return canonical(await desk.ask(ref, c.COMMAND.validate_json(data)))

    async with desk.backbone.requests.serve(answer):
        client = CommandClient(desk.backbone)
        with pytest.raises(Rejected, match="no run"):
            await client.submit(REF, goes_on(), "k1")
        await desk.start(REF)
        told = await client.submit(REF, goes_on(), "k1")
        assert told is not None
        assert told.status == "accepted"


async def test_decisions_about_one_run_take_turns_in_one_process() -> None:
    """They would only conflict."""
    desk = office()
    await desk.start(REF)
    await desk.tell(REF, replies(*[call("pay")] * 20))
    async with asyncio.TaskGroup() as tasks:
        for index in range(20):
            tasks.create_task(desk.tell(REF, result(f"c1-{index}")))
    assert (await desk.state(REF)).step == 2
    assert len(desk.lines(REF)) == 2 + 20


async def test_only_so_many_runs_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_store, "CACHED_RUNS_MAX", 2)
    desk, plan = troubled()
    refs = [RunRef("acme", "job", f"r{n}") for n in range(4)]
    for ref in refs:
        await desk.start(ref)
    plan.faults.append((FaultPoint.LOAD, Kind.REFUSE))
    assert (await desk.runs.known(refs[-1])).state.status == "running"
    with pytest.raises(Unavailable):
        await desk.runs.known(refs[0])


async def test_unavailable_is_no_reason_to_forget_a_command() -> None:
    desk, plan = troubled()
    await desk.start(REF)
    plan.faults.append((FaultPoint.BLOB_PUT, Kind.REFUSE))
    assert (await desk.ask(REF, goes_on("x" * 40_000))).status == "unavailable"
    assert issubclass(Unavailable, Exception)
