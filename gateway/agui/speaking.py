"""What one run says and does, as AG-UI events: its steps, thoughts, texts and calls.

Texts are told from deltas as they come, and made whole by the event that has them: they are exact
even when deltas are lost. What was told of a reply that failed is taken back by `torn`: whoever
sees it set has to send the conversation anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ag_ui.core.events import (
    BaseEvent,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
)

from domain import events as e
from gateway.agui.names import call_of, message_of, reasoning_of
from gateway.turns.listening import Piece
from gateway.turns.speech import Speech


@dataclass(slots=True)
class Speaker:
    """One run. `subagent` attributes what it says, None for the root."""

    run: str
    subagent: str | None
    torn: bool = False
    _attempt: tuple[int, int] | None = None  # the reply in the making: step and attempt
    _text: Speech = field(default_factory=Speech)
    _thoughts: Speech = field(default_factory=Speech)
    _speaking: int | None = None  # the step whose text is open
    _thinking: int | None = None
    _steps: list[str] = field(default_factory=list[str])

    @property
    def speaking(self) -> bool:
        """Whether a text is open."""
        return self._speaking is not None

    def again(self) -> Iterator[BaseEvent]:
        """What was told of the reply in the making, to whoever has forgotten it."""
        if self._attempt is not None:
            yield from self._speak(self._attempt[0], self._text.told)

    def asked(self, event: e.GenerationRequested) -> Iterator[BaseEvent]:
        """A reply will be made."""
        self._attempt = (event.step, event.attempt)
        self._text, self._thoughts = Speech(), Speech()
        name = f"step {event.step}"
        if name not in self._steps:
            self._steps.append(name)
            yield StepStartedEvent(step_name=name, subagent_run_id=self.subagent)

    def resumed(self, step: int, attempt: int) -> None:
        """A reply is in the making as the turn begins: its deltas are of interest."""
        self._attempt = (step, attempt)

    def heard(self, piece: Piece) -> Iterator[BaseEvent]:
        """A piece of a reply in the making."""
        if (piece.step, piece.attempt) != self._attempt:
            return
        match piece.kind:
            case "text":
                new = self._text.add(piece.part, piece.offset, piece.text)
                yield from self._speak(piece.step, new)
            case "thinking":
                new = self._thoughts.add(piece.part, piece.offset, piece.text)
                yield from self._think(piece.step, new)
            case _:
                pass

    def replied(
        self, event: e.GenerationCompleted, text: str, thoughts: str
    ) -> Iterator[BaseEvent]:
        """The reply is whole."""
        if self._attempt != (event.step, event.attempt):
            self._text, self._thoughts = Speech(), Speech()
        self._attempt = None
        yield from self._think(event.step, self._thoughts.rest(thoughts) or "")
        missing = self._text.rest(text)
        if missing is None:
            self.torn = True
        yield from self._speak(event.step, missing or "")
        yield from self.hush()

    def gave_up(self) -> Iterator[BaseEvent]:
        """The attempt ended without a reply: what was told of it never was."""
        self.torn = self.torn or bool(self._text.told or self._thoughts.told)
        self._attempt = None
        yield from self.hush()

    def called(self, event: e.ToolCallRequested, arguments: str) -> Iterator[BaseEvent]:
        """The reply asks for a tool."""
        name = call_of(self.run, event.call)
        yield ToolCallStartEvent(
            tool_call_id=name,
            tool_call_name=event.tool,
            parent_message_id=message_of(self.run, event.step),
            subagent_run_id=self.subagent,
        )
        yield ToolCallArgsEvent(tool_call_id=name, delta=arguments, subagent_run_id=self.subagent)
        yield ToolCallEndEvent(tool_call_id=name, subagent_run_id=self.subagent)

    def stepped(self, step: int) -> Iterator[BaseEvent]:
        """A step is over."""
        name = f"step {step}"
        if name in self._steps:
            self._steps.remove(name)
            yield StepFinishedEvent(step_name=name, subagent_run_id=self.subagent)

    def rested(self) -> Iterator[BaseEvent]:
        """Nothing more is told of it in this turn."""
        yield from self.hush()
        for name in self._steps:
            yield StepFinishedEvent(step_name=name, subagent_run_id=self.subagent)
        self._steps.clear()

    def hush(self) -> Iterator[BaseEvent]:
        """What is open ends."""
        if self._thinking is not None:
            name = reasoning_of(self.run, self._thinking)
            yield ReasoningMessageEndEvent(message_id=name, subagent_run_id=self.subagent)
            yield ReasoningEndEvent(message_id=name, subagent_run_id=self.subagent)
            self._thinking = None
        if self._speaking is not None:
            name = message_of(self.run, self._speaking)
            yield TextMessageEndEvent(message_id=name, subagent_run_id=self.subagent)
            self._speaking = None

    def _speak(self, step: int, text: str) -> Iterator[BaseEvent]:
        if not text:
            return
        name = message_of(self.run, step)
        if self._speaking is None:
            yield from self.hush()
            self._speaking = step
            yield TextMessageStartEvent(
                message_id=name, role="assistant", subagent_run_id=self.subagent
            )
        yield TextMessageContentEvent(message_id=name, delta=text, subagent_run_id=self.subagent)

    def _think(self, step: int, text: str) -> Iterator[BaseEvent]:
        if not text or self._speaking is not None:
            return  # thoughts after words of the same reply are in the history alone
        name = reasoning_of(self.run, step)
        if self._thinking is None:
            self._thinking = step
            yield ReasoningStartEvent(message_id=name, subagent_run_id=self.subagent)
            yield ReasoningMessageStartEvent(
                message_id=name, role="reasoning", subagent_run_id=self.subagent
            )
        yield ReasoningMessageContentEvent(
            message_id=name, delta=text, subagent_run_id=self.subagent
        )
