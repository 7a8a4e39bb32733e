"""Workers over the in-memory form that are split, lose work, or meet what they cannot read."""

import asyncio
from typing import Any

import pytest

from domain.commands import AbandonHolder, CancelRun, ClaimToolCall, RecordToolResult
from domain.content import TextPart
from domain.events import ToolCallEnded
from domain.ids import RunRef
from domain.limits import Limits
from domain.prompt import ModelRequest
from domain.record import canonical
from domain.tools import Safety
from domain.work import CallToolWork, SnapshotWork
from services.loop.models.port import ModelReply
from services.worker.keeper import Admission
from services.worker.toolbox import OnOutput, ToolCall, ToolResult
from tests.support.cluster import REF, Cluster, asks, experts, local_tool, script

pytestmark = pytest.mark.anyio


async def answer(_: dict[str, Any], __: ToolCall) -> str:
    return "seen"


def cluster_of(safety: Safety, *replies: Any, limits: Limits | None = None) -> Cluster:
    tools = {"look": local_tool(answer, safety)}
    return Cluster(experts(["look"], limits=limits), script(*replies), tools)


@pytest.mark.parametrize("safety", [Safety.UNSAFE, Safety.READ_ONLY])
async def test_tools_run_in_a_worker_of_their_own(safety: Safety) -> None:
    """Rule 7: claims and results travel by request and reply."""
    cluster = cluster_of(safety, asks(("look", "{}"), ("look", "{}")), "done")
    async with cluster.worker("loop", lanes=False), cluster.worker("tool", loop=False):
        await cluster.start()
        assert (await cluster.rest()).result == "done"
    holders = {e.holder for e in await cluster.events() if isinstance(e, ToolCallEnded)}
    assert holders == {"tool"}


async def test_result_is_stored_for_later_when_no_loop_service_answers() -> None:
    """Rule 7: a result is never lost between two services."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(_: dict[str, Any], __: ToolCall) -> str:
        begun.set()
        await go.wait()
        return "seen"

    cluster = cluster_of(Safety.UNSAFE, asks(("look", "{}")), "done")
    cluster.tools = {"look": local_tool(slow)}
    async with cluster.worker("tool", loop=False):
        async with cluster.worker("loop", lanes=False):
            await cluster.start()
            await begun.wait()
        go.set()
        async with asyncio.timeout(5):
            while not cluster.server.commands.queue.messages:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0)
        async with cluster.worker("loop2", lanes=False):
            state = await cluster.rest()
    assert state.result == "done"
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert [one.outcome for one in ended] == ["succeeded"]


async def test_work_that_vanished_is_offered_again_and_an_unsafe_call_loses_no_attempt() -> None:
    """Rules 2 and 10: WORK is a hint; an unclaimed call was never begun."""
    cluster = cluster_of(Safety.UNSAFE, asks(("look", "{}")), "done")
    cluster.step_ms = 200
    async with cluster.worker("loop", lanes=False):
        await cluster.start()
        await cluster.until(lambda state: bool(state.open_calls))
        async with asyncio.timeout(5):
            while not cluster.server.work["tool"].messages:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0)
        cluster.server.lose_work()
        async with cluster.worker("tool", loop=False):
            assert (await cluster.rest()).result == "done"
    assert "tool_call.retried.v1" not in await cluster.types()


async def test_call_waits_as_long_as_nobody_serves_its_lane() -> None:
    """C7: a deployment of the tool service must not use up attempts."""
    cluster = cluster_of(
        Safety.READ_ONLY, asks(("look", "{}")), "done", limits=Limits(call_attempts_max=1)
    )
    cluster.step_ms = 500
    async with cluster.worker("loop", lanes=False):
        await cluster.start()
        await cluster.until(lambda state: bool(state.open_calls))
        looked = cluster.now_ms()
        async with asyncio.timeout(10):
            while cluster.now_ms() < looked + 60_000:  # noqa: ASYNC110 - the clock of this test
                await asyncio.sleep(0.001)
        assert (await cluster.state()).open_calls
        async with cluster.worker("tool", loop=False):
            assert (await cluster.rest()).result == "done"


async def test_lost_read_only_call_is_retried_as_a_further_attempt() -> None:
    """Rule 5: it may have begun, so the next attempt is in the log first."""
    cluster = cluster_of(Safety.READ_ONLY, asks(("look", "{}")), "done")
    cluster.step_ms = 200
    begun = asyncio.Event()
    keys: list[str] = []

    async def hangs_once(_: dict[str, Any], call: ToolCall) -> str:
        keys.append(call.key)
        begun.set()
        if len(keys) == 1:
            await asyncio.Event().wait()
        return "seen"

    cluster.tools = {"look": local_tool(hangs_once, Safety.READ_ONLY)}
    async with cluster.worker("loop", lanes=False):
        async with cluster.worker("tool1", loop=False):
            await cluster.start()
            await begun.wait()
        cluster.dead.add("tool1")
        async with cluster.worker("tool2", loop=False):
            assert (await cluster.rest()).result == "done"
    assert len(set(keys)) == 1
    assert "tool_call.retried.v1" in await cluster.types()


async def test_call_that_a_living_worker_claimed_and_dropped_is_not_waited_for_for_ever() -> None:
    """C7: what it claims to hold and does not do is taken back, and nothing else of it."""
    cluster = cluster_of(Safety.UNSAFE, asks(("look", "{}")), "done")
    cluster.step_ms = 2_000
    async with cluster.worker("loop", lanes=False):
        await cluster.start()
        await cluster.until(lambda state: bool(state.open_calls))
        await cluster.client.ask(REF, ClaimToolCall(call="c1-0", attempt=1, holder="tool"))
        cluster.server.lose_work()
        async with cluster.worker("tool", loop=False):
            assert (await cluster.rest()).result == "done"
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert [one.outcome for one in ended] == ["outcome_unknown"]


async def test_generation_nobody_took_is_offered_again() -> None:
    """Rule 10."""
    cluster = cluster_of(Safety.UNSAFE, "done")
    cluster.step_ms = 200
    async with cluster.worker("e1", handoff=False):
        await cluster.start()
        cluster.server.lose_work()
        assert (await cluster.rest()).result == "done"


async def test_work_of_another_release_is_left_alone_and_the_worker_lives() -> None:
    """C17: WORK is a hint."""
    cluster = cluster_of(Safety.UNSAFE, asks(("look", "{}")), "done")
    async with cluster.worker("e1", handoff=False):
        await cluster.outside.work.put("step", REF, b'{"type": "dream.v1"}')
        await cluster.outside.work.put("tool", REF, b"not json")
        await cluster.start()
        assert (await cluster.rest()).result == "done"


async def test_sign_of_another_release_is_a_sign_of_life_all_the_same() -> None:
    """C17."""
    cluster = cluster_of(Safety.UNSAFE, "done")
    await cluster.outside.leases.renew("newer", b'{"mood": "fine"}')
    async with cluster.worker("e1"):
        await cluster.start()
        assert (await cluster.rest()).result == "done"


async def test_one_broken_run_leaves_its_worker_and_all_other_runs_alone() -> None:
    """C21: it is read-only, with an alarm; its commands are where a person sees them."""
    cluster = cluster_of(Safety.UNSAFE, asks(("look", "{}")), "done")
    broken = RunRef("acme", "job9", "broken")
    await cluster.outside.log.append(broken, b"{}", expected_seq=0)
    await cluster.outside.open_runs.add(broken)
    await cluster.outside.work.put("step", broken, b'{"type":"generate.v1","step":1,"attempt":1}')
    await cluster.outside.commands.put(broken, canonical(CancelRun(id="x")))
    async with cluster.worker("e1", handoff=False):
        answered = await cluster.client.ask(broken, CancelRun(id="x"))
        assert (answered.status, answered.code) == ("rejected", "integrity_violated")
        await cluster.start()
        assert (await cluster.rest()).result == "done"
        async with asyncio.timeout(5):
            while not await cluster.outside.dead.list(1):  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0)
    letters = await cluster.outside.dead.list(9)
    assert [letter.reason.split(":")[0] for letter in letters] == ["integrity_violated"]


async def test_executor_that_breaks_reports_what_it_can_and_lives() -> None:
    """Rules 5 and 6."""

    class Broken:
        async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:  # noqa: ARG002
            raise AssertionError

    cluster = cluster_of(Safety.UNSAFE, asks(("look", "{}")), asks(("look", "{}")), "done")
    cluster.toolbox = Broken()
    async with cluster.worker("e1"):
        await cluster.start()
        assert (await cluster.rest()).result == "done"
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert [one.outcome for one in ended] == ["outcome_unknown"] * 2


async def test_keeper_that_breaks_costs_its_call_and_not_the_worker() -> None:
    """Rule 5: what breaks over one run must not end the work of all others."""

    class Broken:
        async def admit(self, ref: RunRef, work: CallToolWork) -> Admission:  # noqa: ARG002
            raise ZeroDivisionError

        async def ended(self, ref: RunRef, result: RecordToolResult) -> None:
            raise NotImplementedError

        async def recorded(self, ref: RunRef, call: str) -> None:
            raise NotImplementedError

        async def snapshot(self, ref: RunRef, work: SnapshotWork) -> None:
            raise NotImplementedError

    cluster = cluster_of(Safety.UNSAFE, asks(("look", "{}")), "done")
    cluster.keeper = Broken()
    async with cluster.worker("e1"):
        await cluster.start()
        assert (await cluster.rest()).result == "done"
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert [one.outcome for one in ended] == ["outcome_unknown"]


async def test_call_that_takes_too_long_is_ended_and_said_to_be_half_done() -> None:
    async def hang(_: dict[str, Any], __: ToolCall) -> str:
        await asyncio.Event().wait()
        raise NotImplementedError

    cluster = cluster_of(
        Safety.UNSAFE, asks(("look", "{}")), "done", limits=Limits(call_timeout_ms=20)
    )
    cluster.tools = {"look": local_tool(hang)}
    async with cluster.worker("e1"):
        await cluster.start()
        await cluster.rest()
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    part = ended[0].content[0]
    assert isinstance(part, TextPart)
    assert isinstance(part.text, str)
    assert "may be half done" in part.text


async def test_reply_that_takes_too_long_is_a_failure_that_is_tried_again() -> None:
    async def hang(_: ModelRequest, __: Any) -> ModelReply:
        await asyncio.Event().wait()
        raise NotImplementedError

    limits = Limits(generation_timeout_ms=10, generation_attempts_max=2, retry_base_ms=1)
    cluster = Cluster(experts(limits=limits), hang)
    async with cluster.worker("e1"):
        await cluster.start()
        state = await cluster.rest()
    assert (state.status, state.failure_kind) == ("failed", "timeout")


async def test_abandoning_a_stranger_changes_nothing() -> None:
    cluster = cluster_of(Safety.UNSAFE, "done")
    async with cluster.worker("e1"):
        await cluster.start()
        await cluster.rest()
        told = await cluster.client.ask(REF, AbandonHolder(holder="nobody"))
    assert told.status == "accepted"
