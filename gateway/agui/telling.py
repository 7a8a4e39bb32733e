"""Tells one turn of a job as AG-UI events. Not what a run says: `speaking` has that."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from ag_ui.core.events import (
    BaseEvent,
    MessagesSnapshotEvent,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateDeltaEvent,
    StateSnapshotEvent,
    SubagentErrorEvent,
    SubagentFinishedEvent,
    SubagentFinishedSuspendedOutcome,
    SubagentStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallResultEvent,
)
from ag_ui.core.types import RunAgentInput, ToolMessage
from ag_ui.core.version import PROTOCOL_VERSION

from domain import events as e
from domain.errors import IntegrityViolated, Unavailable
from eventlog.port import Blobs, EventLog
from gateway.agui.board import board, patch
from gateway.agui.history import (
    THOUGHT_CHARS_MAX,
    History,
    content_text,
    is_ours,
    said_now,
    says_something,
)
from gateway.agui.interrupts import interrupt_of, name_of
from gateway.agui.names import call_of, result_of
from gateway.agui.pasts import past_events
from gateway.agui.speaking import Speaker
from gateway.turns.listening import Enveloped, Item, Piece
from gateway.turns.speech import text_at, whole_text
from gateway.turns.spending import Spending
from gateway.turns.turn import Told, Turn
from projections.views.showing import thought


class AguiTeller:
    """Makes the messages of one answer out of what is heard of the job."""

    def __init__(self, log: EventLog, blobs: Blobs, turn: Turn, asked: RunAgentInput) -> None:
        self._log = log
        self._blobs = blobs
        self._turn = turn
        self._asked = asked
        self._history = History(turn.ref, asked.messages)
        self._speakers: dict[str, Speaker] = {}
        self._subagents: list[str] = []  # that are announced and not over, oldest first
        self._shown: dict[str, Any] = {}
        self._spending = Spending()
        self._open = False
        self._answered = {
            one.tool_call_id
            for one in asked.messages
            if isinstance(one, ToolMessage) and not is_ours(one)
        }

    async def tell(self, items: AsyncIterator[Item]) -> AsyncGenerator[str]:
        """The data of each message; ends with the turn."""
        async with aclosing(self._events(items)) as events:
            async for event in events:
                yield "" if event is None else event.model_dump_json(by_alias=True)

    async def _events(self, items: AsyncIterator[Item]) -> AsyncGenerator[BaseEvent | None]:
        yield self._started()
        try:
            async for item in items:
                async for event in self._item(item):
                    yield event
                if self._open and self._turn.over is not None:
                    break
            else:
                return  # the gateway closes: whoever asks again gets the same turn
            async for event in self._ended():
                yield event
        except (Unavailable, IntegrityViolated) as error:
            yield _broken(error)

    async def _item(self, item: Item) -> AsyncGenerator[BaseEvent | None]:
        match item:
            case Enveloped():
                async for event in self._stored(item):
                    yield event
            case Piece():
                if self._open:
                    for event in self._speaker(item.run).heard(item):
                        yield event
            case "now":
                self._turn.begin()
                if self._turn.begun and not self._open:
                    async for event in self._opening():
                        yield event
            case "beat":
                yield None

    async def _stored(self, stored: Enveloped) -> AsyncGenerator[BaseEvent]:
        if self._turn.opens(stored):
            async for event in self._opening():
                yield event
        for told in self._turn.hear(stored):
            if isinstance(told.event, e.RunForked):
                await self._remember(told, told.event)
            self._history.hear(told)
            self._spending.hear(told, counted=self._open)
            if self._open:
                async for event in self._told(told):
                    yield event
        if self._open:
            async for event in self._after():
                yield event

    async def _remember(self, told: Told, forked: e.RunForked) -> None:
        """What was said before the job was forked is a part of its conversation."""
        found = await past_events(self._log, told.ref.tenant, forked.source, forked.results)
        for event in found:
            self._history.hear(told._replace(event=event))

    async def _after(self) -> AsyncGenerator[BaseEvent]:
        """After an envelope: what was told wrongly is taken back, and the state is as it is."""
        if any(speaker.torn for speaker in self._speakers.values()):
            async for event in self._anew():
                yield event
        now = board(self._turn)
        changes = patch(self._shown, now)
        self._shown = now
        if changes:
            yield StateDeltaEvent.model_validate({"delta": changes})

    async def _anew(self) -> AsyncGenerator[BaseEvent]:
        """The conversation as it is, and what is being said on top of it."""
        speaking = [one for one in self._speakers.values() if one.speaking]
        for speaker in self._speakers.values():
            speaker.torn = False
            for event in speaker.hush():
                yield event
        async for event in self._conversation(await self._history.messages(self._blobs)):
            yield event
        for speaker in speaking:
            for event in speaker.again():
                yield event

    def _started(self) -> BaseEvent:
        return RunStartedEvent(
            thread_id=self._asked.thread_id,
            run_id=self._asked.run_id,
            protocol_version=PROTOCOL_VERSION,
            metadata={"peritus": {"job": self._turn.ref.job, "run": self._turn.ref.run}},
        )

    async def _opening(self) -> AsyncGenerator[BaseEvent]:
        """The turn begins: what was before is told as a whole."""
        self._open = True
        if not self._history.empty or any(map(is_ours, self._asked.messages)):
            async for event in self._conversation(await self._before()):
                yield event
        self._shown = board(self._turn)
        yield StateSnapshotEvent(snapshot=self._shown)
        for look in self._turn.family.under(self._turn.ref.run):
            state = look.state
            if state.status == "running":
                if state.ref.run != self._turn.ref.run:
                    yield self._announced(state.ref.run)
                making = state.generation
                if making is not None and making.phase == "open":
                    self._speaker(state.ref.run).resumed(making.step, making.attempt)

    async def _conversation(self, messages: list[Any]) -> AsyncGenerator[BaseEvent]:
        """All messages. Clients append what they do not have, so in between is only after none."""
        if self._history.unheard:
            yield MessagesSnapshotEvent(messages=[])
        yield MessagesSnapshotEvent(messages=messages)

    async def _before(self) -> list[Any]:
        """The conversation so far, with what the client says now."""
        found = await self._history.messages(self._blobs)
        resumes = bool(self._asked.resume) and not says_something(self._asked.messages)
        if resumes or not self._turn.commands:
            return found
        known = {one.id for one in found}
        return [*found, *(one for one in said_now(self._asked.messages) if one.id not in known)]

    async def _told(self, told: Told) -> AsyncGenerator[BaseEvent]:
        event, found = told.event, await self._spoken(told)
        match event:
            case e.RunStarted(parent=parent) if parent is not None:
                found = iter([self._announced(told.ref.run)])
            case e.ToolCallEnded():
                found = await self._result(told, event)
            case e.InputReceived(speaker="user") if event.input not in self._turn.commands:
                found = await self._heard_of_others(told, event)
            case _ if event.type in e.TERMINAL_TYPES and told.ref != self._turn.ref:
                found = self._rested(told, event)
            case _:
                pass
        for one in found:
            yield one

    async def _spoken(self, told: Told) -> Iterator[BaseEvent]:
        """What is of the run alone that says it."""
        speaker, tenant, event = self._speaker(told.ref.run), told.ref.tenant, told.event
        match event:
            case e.GenerationRequested():
                return speaker.asked(event)
            case e.GenerationCompleted():
                text = await whole_text(self._blobs, tenant, event.parts)
                return speaker.replied(event, text, thought(event.parts, THOUGHT_CHARS_MAX))
            case e.GenerationFailed() | e.GenerationAbandoned():
                return speaker.gave_up()
            case e.ToolCallRequested():
                return speaker.called(event, await text_at(self._blobs, tenant, event.arguments))
            case e.StepEnded():
                return speaker.stepped(event.step)
            case _:
                return iter(())

    async def _result(self, told: Told, ended: e.ToolCallEnded) -> Iterator[BaseEvent]:
        run, call = told.ref.run, call_of(told.ref.run, ended.call)
        if call in self._answered:
            return iter(())  # the client's own message says it
        content = await content_text(self._blobs, told.ref.tenant, ended.content)
        return iter(
            [
                ToolCallResultEvent(
                    message_id=result_of(run, ended.call),
                    tool_call_id=call,
                    content=content,
                    role="tool",
                    subagent_run_id=self._history.subagent(told.ref),
                )
            ]
        )

    async def _heard_of_others(self, told: Told, said: e.InputReceived) -> Iterator[BaseEvent]:
        """Somebody else speaks to the root meanwhile."""
        if told.ref != self._turn.ref:
            return iter(())
        text = await content_text(self._blobs, told.ref.tenant, said.parts)
        name = said.input
        return iter(
            [
                *self._speaker(told.ref.run).hush(),
                TextMessageStartEvent(message_id=name, role="user"),
                TextMessageContentEvent(message_id=name, delta=text),
                TextMessageEndEvent(message_id=name),
            ]
        )

    def _announced(self, run: str) -> BaseEvent:
        """A run below the root is at work."""
        family, root = self._turn.family, self._turn.ref.run
        parent, state = family.parent(run), family.looks[run].state
        self._subagents.append(run)
        call = state.parent.call if state.parent is not None else None
        return SubagentStartedEvent(
            subagent_run_id=run,
            name=family.expert(run),
            parent_subagent_run_id=None if parent in (None, root) else parent,
            parent_tool_call_id=None if call is None or parent is None else call_of(parent, call),
        )

    def _rested(self, told: Told, event: e.Event) -> Iterator[BaseEvent]:
        """A run below the root is over."""
        run = told.ref.run
        yield from self._speaker(run).rested()
        if run not in self._subagents:
            return
        self._subagents.remove(run)
        match event:
            case e.RunFailed(failure=failure):
                yield SubagentErrorEvent(
                    subagent_run_id=run, message=failure.message, code=failure.kind
                )
            case e.RunCompleted():
                yield SubagentFinishedEvent(subagent_run_id=run)
            case _:
                name = event.type.split(".")[1]
                yield SubagentErrorEvent(subagent_run_id=run, message=name, code=name)

    async def _ended(self) -> AsyncGenerator[BaseEvent]:
        waits = self._turn.waits if self._turn.over == "waiting" else []
        for speaker in self._speakers.values():
            for event in speaker.rested():
                yield event
        for run in reversed(self._subagents):
            own = [name_of(wait) for wait in waits if wait.ref.run == run]
            outcome = SubagentFinishedSuspendedOutcome(interrupt_ids=own) if waits else None
            yield SubagentFinishedEvent(subagent_run_id=run, outcome=outcome)
        yield await self._outcome()

    async def _outcome(self) -> BaseEvent:
        root, usage = self._turn.root, self._spending.agui()
        finished: dict[str, Any] = {
            "thread_id": self._asked.thread_id,
            "run_id": self._asked.run_id,
            "usage": usage,
        }
        match self._turn.over:
            case "failed":
                message = root.failure_message or "it failed"
                return RunErrorEvent(message=message, code=root.failure_kind, usage=usage)
            case "stopped":
                message = f"stopped at its limit of {root.stopped_by}"
                return RunErrorEvent(message=message, code="limit_reached", usage=usage)
            case "cancelled" | "deleted":
                return RunFinishedEvent(**finished, outcome=RunFinishedCancelledOutcome())
            case "waiting":
                found = [
                    await interrupt_of(self._blobs, wait, root.ref.run) for wait in self._turn.waits
                ]
                outcome = RunFinishedInterruptOutcome(interrupts=found)
                return RunFinishedEvent(**finished, outcome=outcome)
            case _:
                result = await text_at(self._blobs, root.ref.tenant, root.result or "")
                outcome_ = RunFinishedSuccessOutcome()
                return RunFinishedEvent(**finished, result=result, outcome=outcome_)

    def _speaker(self, run: str) -> Speaker:
        if run not in self._speakers:
            subagent = None if run == self._turn.ref.run else run
            self._speakers[run] = Speaker(run, subagent)
        return self._speakers[run]


def _broken(error: Exception) -> BaseEvent:
    """The turn cannot be told to its end; it goes on."""
    if isinstance(error, Unavailable):
        message = "a part of the system is away; ask again with the same runId"
        return RunErrorEvent(message=message, code="unavailable")
    return RunErrorEvent(message="the stored history cannot be read", code="integrity_violated")
