"""Shows a run until it is at rest, only a person can go on, or it is left alone. Not its looks."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from domain import events as e
from domain.errors import PeritusError
from domain.events import TERMINAL_TYPES, RunStarted
from domain.ids import RunRef
from domain.state import RunState
from eventlog.port import Backbone
from peritus.cli import asks
from peritus.cli.branches import tree_text
from peritus.cli.interrupts import interrupts
from peritus.cli.loop import Out, notice
from peritus.cli.person import Person
from peritus.cli.screens import Screen
from peritus.feed import Heard, stored_events
from peritus.jobs import Send, cancel, ends, until_rest
from peritus.people import answer_ask
from projections.family import Family, load_family
from projections.waits import ANSWERABLE, Wait

Left = Literal["left", "waiting"]
"""Why we went before the run was at rest: asked to or unheard, or only a person can go on."""


ABOUT_WAITS = (
    e.ApprovalRequested,
    e.ApprovalDecided,
    e.QuestionAsked,
    e.QuestionAnswered,
    e.ToolCallAsked,
    e.ToolCallAnswered,
    e.ToolCallEnded,
    e.RunCompleted,
    e.RunStopped,
    e.RunFailed,
    e.RunCancelled,
)
"""The events after which something else may wait for a person than before."""


@dataclass(slots=True)
class Attendance:
    """One run being watched by one person or program.

    `person`: whom to ask for what it waits for. `leaves`: not to stay when only a person can go on.
    """

    backbone: Backbone
    send: Send
    ref: RunRef
    screen: Screen
    out: Out
    after_seq: int = 0
    after_version: int = 0
    person: Person | None = None
    leaves: bool = False
    family: Family = field(default_factory=Family)
    _told: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _tasks: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _listening: dict[RunRef, asyncio.Task[None]] = field(
        default_factory=dict[RunRef, asyncio.Task[None]]
    )

    async def recall(self) -> RunState:
        """Know the job as it is now, and let the screen know, without showing it; the run.

        Raises:
            NoSuchRun: there is no such run.
            Unavailable: the log is away.
        """
        log = self.backbone.log
        self.after_seq = (await log.bounds())[1]
        self.family = await load_family(log, self.ref, until_seq=self.after_seq)
        state = self.family.looks[self.ref.run].state
        self.after_version = state.version
        if self.screen.live:
            refs = [look.state.ref for look in self.family.under(self.ref.run)]
            for heard in await stored_events(log, refs):
                if heard.cursor.seq <= self.after_seq:
                    self.screen.recall(heard)
        return state

    async def watch(self) -> Heard | Left:
        """Show the run; the event of its end, or why we went before it.

        Raises:
            Unavailable: the log stayed away.
        """
        try:
            async with self._tasks:
                watching = self._tasks.create_task(self._watch(), name="watch")
                asking = self.person and self._tasks.create_task(self.person.run(), name="person")
                with interrupts(self._cancel, self._leave(watching)):
                    await asyncio.wait([watching])
                for task in (*self._listening.values(), *([asking] if asking else [])):
                    task.cancel()
        except BaseExceptionGroup as failed:
            cause = failed.exceptions[0]
            if isinstance(cause, BrokenPipeError):
                return "left"
            raise cause from None
        return "left" if watching.cancelled() else watching.result()

    def _leave(self, watching: "asyncio.Task[Heard | Left]") -> Callable[[], None]:
        def leave() -> None:
            watching.cancel()

        return leave

    async def _watch(self) -> Heard | Left:
        self._listen(self.ref)
        await self._attend()
        if self.leaves and self.family.held(self.ref.run):
            return "waiting"
        found = until_rest(
            self.backbone.log,
            self.ref,
            after_seq=self.after_seq,
            after_version=self.after_version,
        )
        async with aclosing(found):
            async for events in found:
                for heard in events:
                    self.family.hear(heard.ref, heard.event, heard.version, heard.at_ms)
                    await self._show(heard)
                    if ends(heard, self.ref, self.after_version):
                        return heard
                if any(isinstance(heard.event, ABOUT_WAITS) for heard in events):
                    await self._attend()
                if self.leaves and self.family.held(self.ref.run):
                    return "waiting"
        raise AssertionError

    async def _attend(self) -> None:
        """See to what waits for a person."""
        waits = self.family.waits(self.ref.run)
        news = [wait for wait in waits if (wait.ref.run, wait.id) not in self._told]
        self._told |= {(wait.ref.run, wait.id) for wait in news}
        if news and self.screen.live and len(self.family.looks) > 1:
            shown = [await asks.shown(self.backbone.blobs, wait) for wait in waits]
            root = self.family.looks[self.ref.run].state.ref
            await self.out.write(self.screen.note(f"\n{tree_text(self.family, root, shown)}\n"))
        if self.person is not None:
            self.person.update(waits)
            return
        for wait in news:
            if self.leaves and wait.kind == "ask":
                await self._close(wait)
            else:
                await self._tell(wait)

    async def _close(self, wait: Wait) -> None:
        """Nobody is here, and to leave would end the call in which it is asked: go on without."""
        one = await asks.shown(self.backbone.blobs, wait)
        try:
            await answer_ask(self.send, wait, "cancel")
        except PeritusError as error:
            notice(f"{asks.headline(one)}: it cannot be closed: {error}")
        else:
            notice(f"{asks.headline(one)}: closed, for nobody is to wait for an answer")

    async def _tell(self, wait: Wait) -> None:
        await self.out.write(self.screen.note(""))
        notice(asks.headline(await asks.shown(self.backbone.blobs, wait)))
        first, *others = asks.commands_for(wait)
        verb = "answer" if wait.kind in ANSWERABLE else "decide"
        notice(f"  {verb} it with: {first}")
        for line in others:
            notice(f"              or: {line}")

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
            async for said in pieces:
                await self.out.write(self.screen.piece(ref, said.data))

    def _cancel(self) -> None:
        notice("stopping the run; press Ctrl-C again to leave it alone")
        self._tasks.create_task(self._ask_to_cancel())

    async def _ask_to_cancel(self) -> None:
        try:
            await cancel(self.send, self.ref, "interrupted")
        except PeritusError as error:
            notice(f"the run cannot be told to stop: {error}")
