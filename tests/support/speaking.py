"""A worker whose model says a reply piece by piece, each when the test lets it. Not the tests."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from domain.content import TextPart
from domain.limits import Usage
from domain.prompt import ModelRequest
from eventlog.port import Backbone
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import Delta, ModelFailure, ModelReply
from tests.support.people import Office

BOUND_S = 15.0


@dataclass
class Speaker:
    """Says what the test hands over; `fall` breaks the reply off, `stop` ends it."""

    _said: asyncio.Queue[str | ModelFailure | None] = field(
        default_factory=asyncio.Queue[str | ModelFailure | None]
    )

    def say(self, *pieces: str) -> None:
        for piece in pieces:
            self._said.put_nowait(piece)

    def fall(self) -> None:
        self._said.put_nowait(ModelFailure(kind="overloaded", message="busy"))

    def stop(self) -> None:
        self._said.put_nowait(None)

    async def generate(
        self, _: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        text = ""
        while True:
            said = await self._said.get()
            if said is None:
                return ModelReply((TextPart(text=text),), "end", Usage(input=3, output=1))
            if isinstance(said, ModelFailure):
                raise said
            await on_delta(Delta("text", 0, len(text), said))
            text += said


@asynccontextmanager
async def speaking(backbone: Backbone, speaker: Speaker) -> AsyncGenerator[None]:
    """That worker is at work while the context is open."""
    ids, ready = count(), asyncio.Event()
    parts = WorkerParts(
        backbone=backbone,
        epoch="ep1",
        now_ms=lambda: time.time_ns() // 1_000_000,
        new_id=lambda: f"id{next(ids)}",
        certainly_dead=lambda _: False,
        generate=speaker.generate,
        local_tools=Office().box().specs(),
    )
    async with asyncio.TaskGroup() as tasks:
        worker = tasks.create_task(run_worker(parts, lambda _: ready.set()))
        try:
            async with asyncio.timeout(BOUND_S):
                await ready.wait()
            yield
        finally:
            worker.cancel()
