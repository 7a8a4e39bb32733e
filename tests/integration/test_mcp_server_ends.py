"""What becomes of runs whose calls are cancelled, cut off or left by a server that closes."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import mcp_types as types
import pytest

from domain import events as e
from domain.definition import Definition, Expert
from domain.ids import RunRef
from domain.limits import Limits
from eventlog.memory import MemoryServer
from eventlog.port import Answer, Backbone, Requests, Topic
from tests.support.gateway import working
from tests.support.mcp_server import (
    BOUND_S,
    ERAS,
    TENANT,
    Era,
    Heard,
    connected,
    cut_off,
    deps_of,
    facts,
    served,
    text_of,
)
from tests.support.people import CHOICE, at_work, events_of, rests, state_when

pytestmark = pytest.mark.anyio


def expert(key: str, **changes: Any) -> Expert:
    return Expert(key=key, instruction="Help.", skills={}, model=CHOICE, **changes)


def of(*experts: Expert, limits: Limits | None = None) -> Definition:
    return Definition(experts={one.key: one for one in experts}, limits=limits or Limits())


KEYED = cast("types.RequestParamsMeta", {"peritus/key": "k1"})


def ref_of(run: str) -> RunRef:
    return RunRef(TENANT, run, run)


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.mark.parametrize("era", ERAS)
async def test_cancelling_a_call_cancels_its_run(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    heard, gate = Heard(), asyncio.Event()
    async with (
        working(backbone, lambda: gate),
        served(deps_of(backbone, tmp_path, of(expert("slow")))) as url,
        connected(url, era) as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                client.call_tool("slow", {"query": "Go"}, progress_callback=heard)
            )
            run = await heard.run()
            call.cancel()
        state = await state_when(backbone, ref_of(run), rests)

    assert state.status == "cancelled"
    heard_of = await events_of(backbone, ref_of(run))
    found = [one for one in heard_of if isinstance(one, e.CancelRequested)]
    assert [one.reason for one in found] == ["cancelled by the client"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_run_that_is_cancelled_elsewhere_ends_its_call(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    heard, gate = Heard(), asyncio.Event()
    async with (
        working(backbone, lambda: gate),
        served(deps_of(backbone, tmp_path, of(expert("slow")))) as url,
        connected(url, era) as client,
        connected(url, era) as other,
    ):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                client.call_tool("slow", {"query": "Go"}, progress_callback=heard)
            )
            asked = await other.call_tool("peritus_cancel", {"run": await heard.run()})
        result = call.result()

    assert "was asked to stop" in text_of(asked)
    assert result.is_error
    assert facts(result, "reason") == {"kind": "cancelled"}


@pytest.mark.parametrize("ended", [False, True], ids=["cut off", "session ended"])
async def test_a_client_that_vanishes_leaves_its_run_to_go_on(
    backbone: Backbone, tmp_path: Path, *, ended: bool
) -> None:
    gate = asyncio.Event()
    async with (
        working(backbone, lambda: gate),
        served(deps_of(backbone, tmp_path, of(expert("slow")))) as url,
    ):
        run = await cut_off(url, "slow", ended=ended)
        await round_trips(url)
        gate.set()
        state = await state_when(backbone, ref_of(run), rests)

    assert state.status == "completed"


async def test_with_a_key_a_call_that_was_cut_off_finds_its_run_again(
    backbone: Backbone, tmp_path: Path
) -> None:
    """In the newer era a closed stream is how one cancels, unless the caller has a way back."""
    heard, gate = Heard(), asyncio.Event()
    async with (
        working(backbone, lambda: gate),
        served(deps_of(backbone, tmp_path, of(expert("slow")))) as url,
        connected(url, "auto") as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                client.call_tool("slow", {"query": "Go"}, progress_callback=heard, meta=KEYED)
            )
            run = await heard.run()
            call.cancel()
        await round_trips(url)
        gate.set()
        again = await client.call_tool("slow", {"query": "Go"}, meta=KEYED)
        other = await client.call_tool("slow", {"query": "Stop"}, meta=KEYED)

    assert (facts(again, "run"), text_of(again), again.is_error) == (run, "done", False)
    assert other.is_error
    assert len(await backbone.log.load(ref_of(run))) > 0
    started = [x for x in await events_of(backbone, ref_of(run)) if isinstance(x, e.RunStarted)]
    assert len(started) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_server_that_closes_ends_calls_and_leaves_their_runs(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    heard, gate = Heard(), asyncio.Event()
    deps = deps_of(backbone, tmp_path, of(expert("slow")))
    async with (
        working(backbone, lambda: gate),
        served(deps) as url,
        connected(url, era) as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                client.call_tool("slow", {"query": "Go"}, progress_callback=heard)
            )
            run = await heard.run()
            deps.closing.set()
        gate.set()
        state = await state_when(backbone, ref_of(run), rests)

    assert facts(call.result(), "reason") == {"kind": "closing"}
    assert state.status == "completed"


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_cancelled_before_its_run_is_asked_for_leaves_nothing(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    """Servers of skills may take minutes to say what they offer: so long there is no run."""
    begun, definition = asyncio.Event(), of(expert("slow"))
    ended: list[str] = []

    async def current(*, wanted: str | None) -> Definition:
        if wanted is None:
            return definition
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(wanted)
        raise AssertionError

    heard = Heard()
    deps = deps_of(backbone, tmp_path, definition, definition=current, heartbeat_s=0.01)
    async with (
        at_work(backbone, {}),
        served(deps) as url,
        connected(url, era) as client,
        asyncio.TaskGroup() as tasks,
    ):
        call = tasks.create_task(client.call_tool("slow", {"query": "Go"}, progress_callback=heard))
        await begun.wait()
        assert await heard.until("run ") == "run fresh0"
        call.cancel()
        async with asyncio.timeout(BOUND_S):
            while not ended:
                await client.list_tools(cache_mode="bypass")
        await client.call_tool("peritus_status", {"run": "fresh0"})

    assert (await backbone.log.bounds())[1] == 0


async def round_trips(url: str) -> None:
    """Leave the server the time for what it might do about a call that was cut off."""
    async with connected(url) as client:
        for _ in range(10):
            await client.call_tool("peritus_status", {"run": "nobody"})


@dataclass
class Held:
    """Requests that are on their way until they are let go."""

    inner: Requests
    asked: asyncio.Event
    gate: asyncio.Event

    async def ask(
        self, ref: RunRef, data: bytes, *, timeout_s: float, topic: Topic = "ask"
    ) -> bytes | None:
        self.asked.set()
        await self.gate.wait()
        return await self.inner.ask(ref, data, timeout_s=timeout_s, topic=topic)

    def serve(self, answer: Answer, *, topic: Topic = "ask") -> AbstractAsyncContextManager[None]:
        return self.inner.serve(answer, topic=topic)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_cancelled_while_its_run_is_asked_for_cancels_it(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    asked, gate, model = asyncio.Event(), asyncio.Event(), asyncio.Event()
    held = replace(backbone, requests=Held(backbone.requests, asked, gate))
    async with (
        working(backbone, lambda: model),
        served(deps_of(held, tmp_path, of(expert("slow")))) as url,
        connected(url, era) as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(client.call_tool("slow", {"query": "Go"}))
            await asked.wait()
            call.cancel()
        await round_trips(url)
        gate.set()
        state = await state_when(backbone, ref_of("fresh0"), rests)

    assert state.status == "cancelled"
    assert isinstance((await events_of(backbone, ref_of("fresh0")))[0], e.RunStarted)
