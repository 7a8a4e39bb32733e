"""A nats-server killed with kill -9 again and again under load. Not a loss of its disk."""

import asyncio
import os
import select
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rig import PING, RESULT, definition, generate
from commands.client import CommandClient
from domain.commands import StartRun
from domain.content import TextPart
from domain.errors import Unavailable
from domain.events import ToolCallEnded
from domain.ids import RunRef
from domain.prompt import ModelRequest
from domain.tools import Lane
from eventlog.embedded import EmbeddedServer
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.tasks import background
from eventlog.port import Backbone
from peritus.feed import stored_events
from peritus.ids import new_id, now_ms
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import Delta, ModelReply
from services.tool.local import LocalToolBox, RegisteredTool
from services.worker.epoch import this_epoch
from services.worker.toolbox import ToolCall
from tests.e2e.processes import TOKEN, Watch, server, until

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.faults]

RUNS = 10
STEPS = 20
KILLS = 5
MODEL_S = 0.02
"""How long the model thinks, so that a kill lands in the middle of many runs."""

RETRY_S = 0.1


@dataclass
class Office:
    """One worker, and the tool that counts its own calls."""

    backbone: Backbone
    ran: Counter[tuple[RunRef, str]] = field(default_factory=Counter[tuple[RunRef, str]])

    async def ping(self, arguments: dict[str, Any], call: ToolCall) -> str:
        del arguments
        self.ran[call.ref, call.call] += 1
        return RESULT

    @asynccontextmanager
    async def open(self, *, handoff: bool) -> AsyncGenerator[None]:
        box = LocalToolBox({"ping": RegisteredTool(PING, self.ping)})
        parts = WorkerParts(
            backbone=self.backbone,
            epoch=str(this_epoch()),
            now_ms=now_ms,
            new_id=new_id,
            certainly_dead=lambda _: False,
            generate=think,
            toolboxes={Lane.TOOL: box},
            local_tools=box.specs(),
            handoff=handoff,
        )
        ready = asyncio.Event()
        async with background(run_worker(parts, lambda _: ready.set())):
            await ready.wait()
            yield


async def think(request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]) -> ModelReply:
    await asyncio.sleep(MODEL_S)
    return await generate(request, on_delta)


async def start(client: Backbone, name: str) -> RunRef:
    """Have a run started, asking again until somebody has acknowledged it."""
    ref = RunRef("acme", f"j{name}", f"r{name}")

    async def accepted() -> bool:
        try:
            digest = await client.blobs.put(ref.tenant, definition().to_bytes())
            command = StartRun(
                id=f"s{name}",
                expert=f"w{STEPS}",
                definition=digest,
                parts=(TextPart(text="go"),),
            )
            await CommandClient(client).submit(ref, command, command.id)
        except Unavailable:
            await asyncio.sleep(RETRY_S)
            return False
        return True

    await until(f"the start of run {name}", accepted)
    return ref


async def kill_under_load(nats: EmbeddedServer, office: Office) -> None:
    """Kill the server and start it again, each time when some more calls have been made."""
    for number in range(1, KILLS + 1):
        due = number * RUNS * (STEPS - 1) // (KILLS + 1)

        async def so_far(due: int = due) -> bool:
            return office.ran.total() >= due

        await until(f"{due} calls", so_far)
        nats.process.kill()
        await nats.wait_died()
        await nats.start()


@asynccontextmanager
async def told(client: Backbone, ran: Counter[tuple[RunRef, str]]) -> AsyncGenerator[None]:
    """What fails inside says how far the runs had come."""
    try:
        yield
    except BaseException as error:
        for name in range(RUNS):
            state = await Watch(client, RunRef("acme", f"j{name}", f"r{name}")).state()
            error.add_note(f"{state.ref.run}: {state.status} in step {state.step}, {state.at_ms=}")
            error.add_note(f"  {state.failure_message} {state.generation} {state.open_calls}")
        error.add_note(f"{ran.total()} calls were made, now is {now_ms()}")
        raise


async def check(client: Backbone, ref: RunRef, ran: Counter[tuple[RunRef, str]]) -> None:
    """A run is complete, and what it says of its calls is what happened."""
    watch = Watch(client, ref)
    state = await watch.at_rest()
    assert state.status == "completed", state.failure_message
    heard = await stored_events(client.log, [ref])
    assert [one.version for one in heard] == list(range(1, len(heard) + 1))
    ended = [one.event for one in heard if isinstance(one.event, ToolCallEnded)]
    assert len(ended) == len({event.call for event in ended}) == STEPS - 1
    for event in ended:
        times = ran[ref, event.call]
        assert event.outcome in ("succeeded", "outcome_unknown")
        assert times == 1 or (times == 0 and event.outcome == "outcome_unknown")


@pytest.mark.parametrize("handoff", [True, False], ids=["handed over", "through the queue"])
async def test_runs_complete_although_the_server_is_killed_again_and_again(
    tmp_path: Path, *, handoff: bool
) -> None:
    async with server(tmp_path / "nats") as (nats, client):
        async with connect_backbone(nats.url, token=TOKEN) as backbone:
            office = Office(backbone)
            async with office.open(handoff=handoff), told(client, office.ran):
                async with asyncio.TaskGroup() as tasks:
                    killing = tasks.create_task(kill_under_load(nats, office))
                    runs = [tasks.create_task(start(client, str(n))) for n in range(RUNS)]
                for run in runs:
                    await check(client, run.result(), office.ran)
                assert killing.done()
                after = await start(client, "after")
                await check(client, after, office.ran)

                async def lives() -> bool:  # leases are memory: they come back with a renewal
                    return set(await client.leases.live()) == {str(this_epoch())}

                await until("the lease of the worker", lives)

        async def all_closed() -> bool:
            return await client.open_runs.list() == []

        await until("the index of open runs to be empty", all_closed)
        assert await client.dead.list(limit=10) == []


async def test_a_server_holds_no_file_that_its_starter_was_given(tmp_path: Path) -> None:
    """It may outlive its starter: whoever reads that one's output must see its end."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003 - positional only
    async with EmbeddedServer(tmp_path / "nats", durability="process", token=TOKEN):
        os.close(writing)
        ended, _, _ = select.select([reading], [], [], 0)
        os.close(reading)

    assert ended, "the server holds the writing end"
