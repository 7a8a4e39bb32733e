"""Shows a run until it is at rest, is cancelled by Ctrl-C or left alone. Not what it looks like."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from domain.errors import PeritusError
from domain.events import TERMINAL_TYPES, RunStarted
from domain.ids import RunRef
from eventlog.port import Backbone
from peritus.cli.interrupts import interrupts
from peritus.cli.loop import Out, notice
from peritus.cli.screens import Screen
from peritus.feed import Heard, stored_events
from peritus.jobs import Send, cancel, ends, until_rest


@dataclass(slots=True)
class Attendance:
    """One run being watched by one person or program."""

    backbone: Backbone
    send: Send
    ref: RunRef
    screen: Screen
    out: Out
    after_seq: int = 0
    after_version: int = 0
    _tasks: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _listening: dict[RunRef, asyncio.Task[None]] = field(
        default_factory=dict[RunRef, asyncio.Task[None]]
    )

    async def recall(self) -> None:
        """Let the screen know what has happened before, without showing it.

        Raises:
            Unavailable: the log is away.
        """
        if self.screen.live:
            for heard in await stored_events(self.backbone.log, [self.ref]):
                self.screen.heard(heard)

    async def watch(self) -> Heard | None:
        """Show the run; the event of its end, or None when we left before it: asked to, or unheard.

        Raises:
            Unavailable: the log stayed away.
        """
        try:
            async with self._tasks:
                watching = self._tasks.create_task(self._watch(), name="watch")
                with interrupts(self._cancel, self._leave(watching)):
                    await asyncio.wait([watching])
                for task in self._listening.values():
                    task.cancel()
        except BaseExceptionGroup as failed:
            cause = failed.exceptions[0]
            if isinstance(cause, BrokenPipeError):
                return None
            raise cause from None
        return None if watching.cancelled() else watching.result()

    def _leave(self, watching: asyncio.Task[Heard]) -> Callable[[], None]:
        def leave() -> None:
            watching.cancel()

        return leave

    async def _watch(self) -> Heard:
        self._listen(self.ref)
        found = until_rest(
            self.backbone.log,
            self.ref,
            after_seq=self.after_seq,
            after_version=self.after_version,
        )
        async with aclosing(found):
            async for events in found:
                for heard in events:
                    await self._show(heard)
                    if ends(heard, self.ref, self.after_version):
                        return heard
        raise AssertionError

    async def _show(self, heard: Heard) -> None:
        await self.out.write(self.screen.heard(heard))
        if isinstance(heard.event, RunStarted):
            self._listen(heard.ref)
        elif heard.event.type in TERMINAL_TYPES and heard.ref in self._listening:
            self._listening.pop(heard.ref).cancel()

    def _listen(self, ref: RunRef) -> None:
        if self.screen.live and ref not in self._listening:
            self._listening[ref] = self._tasks.create_task(self._show_live(ref))

    async def _show_live(self, ref: RunRef) -> None:
        async with self.backbone.live.subscribe(ref) as pieces:
            async for data in pieces:
                await self.out.write(self.screen.piece(ref, data))

    def _cancel(self) -> None:
        notice("stopping the run; press Ctrl-C again to leave it alone")
        self._tasks.create_task(self._ask_to_cancel())

    async def _ask_to_cancel(self) -> None:
        try:
            await cancel(self.send, self.ref, "interrupted")
        except PeritusError as error:
            notice(f"the run cannot be told to stop: {error}")
