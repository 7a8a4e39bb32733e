"""A decision in the making: its events so far and the state they lead to. Not stored yet."""

import json
from typing import Any

from domain import events as e
from domain.commands import Situation
from domain.content import TextPart
from domain.conversation import next_conversation
from domain.evolve import evolve
from domain.prompt import request_digest
from domain.state import Call, Conversation, RunState, changed
from domain.tools import Lane

RESERVE_BYTES_PER_TOKEN = 2
"""How few bytes of a prompt a token may have when the worst case is reserved (C12)."""


class Draft:
    """Collects the events of one decision, keeping the state up to date with each."""

    def __init__(self, state: RunState, situation: Situation) -> None:
        """Start from a state; time never runs backwards in a run."""
        now_ms = max(situation.now_ms, state.at_ms)
        self.state = changed(state, at_ms=now_ms)
        self.situation = situation
        self.events: list[e.Event] = []

    @property
    def now_ms(self) -> int:
        """The time of this decision: the later of the command's and the run's last event."""
        return self.state.at_ms

    def emit(self, *events: e.Event) -> None:
        """Add events."""
        for event in events:
            self.state = evolve(self.state, event)
            self.events.append(event)

    def end_call(
        self, call: Call, outcome: e.Outcome, body: dict[str, Any], *, is_error: bool = False
    ) -> None:
        """Give a call its outcome, with a JSON object the model reads."""
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self.emit(
            e.ToolCallEnded(
                call=call.id,
                outcome=outcome,
                content=(TextPart(text=text),),
                is_error=is_error,
                holder=call.holder,
            )
        )

    def claim(self, call: Call) -> None:
        """Let the claim ride along when this process has room to execute the call (rule 6)."""
        held = self.state.sandbox if call.lane is Lane.SANDBOX else None
        ours = held is None or held.epoch == self.situation.epoch
        if call.lane in self.situation.lanes and ours:
            self.emit(
                e.ToolCallClaimed(call=call.id, attempt=call.attempt, holder=self.situation.epoch)
            )

    def request_attempt(self, step: int, attempt: int) -> bool:
        """Ask for a reply if steps and tokens allow, else stop the run; whether it was asked."""
        state = self.state
        if attempt == 1 and state.steps_left == 0:
            self.emit(e.RunStopped(limit="steps", step=state.step))
            return False
        conversation = next_conversation(state)
        reserved = worst_case_tokens(state, conversation)
        left = state.tokens_left
        if left is not None and reserved > left:
            self.emit(e.RunStopped(limit="tokens", step=state.step))
            return False
        request = request_digest(state.context, conversation.digest)
        if attempt > 1 and state.generation is not None:
            request = state.generation.request
        self.emit(
            e.GenerationRequested(
                step=step,
                attempt=attempt,
                request=request,
                reserved=reserved,
                holder=self.situation.holder,
            )
        )
        return True


def worst_case_tokens(state: RunState, conversation: Conversation) -> int:
    """What a generation may cost at most: every prompt byte half a token, and the output limit."""
    size = state.context_bytes + conversation.size
    output = state.model.output_tokens_max if state.model else 0
    return size // RESERVE_BYTES_PER_TOKEN + output
