"""A decision in the making: its events so far and the state they lead to. Not stored yet."""

import json
from typing import Any, Literal, NamedTuple

from domain import events as e
from domain.asked import over_with
from domain.commands import Situation
from domain.content import TextPart
from domain.conversation import next_conversation
from domain.evolve import evolve
from domain.folds.people import answer_timer
from domain.ids import derive_id
from domain.limits import ModelChoice
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
        """Add events, and what is over with them."""
        for event in events:
            self._add(event)
            for over in over_with(self.state, event):
                self._add(over)

    def _add(self, event: e.Event) -> None:
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
        waits = self.state.paused or call.id in self.state.approvals
        if call.lane in self.situation.lanes and ours and not waits:
            self.emit(
                e.ToolCallClaimed(call=call.id, attempt=call.attempt, holder=self.situation.epoch)
            )

    def arm(self, timer: str, purpose: e.TimerPurpose, delay_ms: int | None) -> int | None:
        """Have something happen later, and say when; None for never."""
        if delay_ms is None:
            return None
        due_ms = self.now_ms + delay_ms
        self.emit(e.TimerArmed(timer=timer, purpose=purpose, due_ms=due_ms))
        return due_ms

    def note(self, what: str, name: str, text: str) -> None:
        """Have the runtime tell the model something with the next request, once."""
        said = derive_id(what, self.state.ref.run, name)
        self.emit(e.InputReceived(input=said, speaker="runtime", parts=(TextPart(text=text),)))

    def abandon(self, reason: Literal["cancelled", "interrupted"]) -> None:
        """Give up the attempt that is open, if one is.

        It is charged in full where somebody may have made the call, and settled when its end comes.
        """
        generation = self.state.generation
        if generation is None or generation.phase != "open":
            return
        held = generation.holder is not None
        self.emit(
            e.GenerationAbandoned(
                step=generation.step,
                attempt=generation.attempt,
                reason=reason,
                charged=generation.reserved if held else 0,
                charged_money=generation.reserved_money if held else 0,
            )
        )

    def request_attempt(self, step: int, attempt: int, *, anew: bool = False) -> None:
        """Ask for a reply if limits allow, else stop the run or ask a person; nothing while held.

        A further attempt asks the same again; `anew`, with what was said since.
        """
        state = self.state
        if state.held:
            return
        if attempt == 1 and state.steps_left == 0:
            self.emit(e.RunStopped(limit="steps", step=state.step))
            return
        conversation = next_conversation(state) if attempt == 1 or anew else state.conversation
        reserved = worst_case(state, conversation)
        over = over_hard_limit(state, reserved)
        if over is not None:
            self.emit(e.RunStopped(limit=over, step=state.step))
            return
        if self._asks_for_more(reserved):
            return
        self.emit(
            e.GenerationRequested(
                step=step,
                attempt=attempt,
                request=request_digest(state.context, conversation.digest),
                reserved=reserved.tokens,
                holder=self.situation.holder,
                reserved_money=reserved.money,
            )
        )

    def _asks_for_more(self, reserved: "Reserved") -> bool:
        """Whether a person has to say first that a soft limit may be passed."""
        found = over_soft_limit(self.state, reserved)
        if found is None:
            return False
        self.ask_beyond(*found)
        return True

    def ask_beyond(self, limit: e.LimitName, soft: int) -> None:
        """Have a person asked whether the run may use more than a soft limit."""
        name = f"budget-{self.state.budgets_asked + 1}"
        due_ms = self.arm(answer_timer(name), "answer_expiry", self.state.limits.answer_ms_max)
        self.emit(e.ApprovalRequested(approval=name, limit=limit, soft=soft, due_ms=due_ms))


class Reserved(NamedTuple):
    """What a generation may cost at most."""

    tokens: int
    money: int  # micro-USD


def worst_case(state: RunState, conversation: Conversation) -> Reserved:
    """Every prompt byte half a token, and the output limit; without a price, all that is left."""
    return worst_case_of(state, state.context_bytes + conversation.size, state.model)


def worst_case_of(state: RunState, size: int, model: ModelChoice | None) -> Reserved:
    """The same of any request of that many bytes, on the budget of that run."""
    prompt = size // RESERVE_BYTES_PER_TOKEN
    output = model.output_tokens_max if model else 0
    price = model.price if model else None
    money = (state.money_left or 0) if price is None else price.worst(prompt, output)
    return Reserved(prompt + output, money)


def over_hard_limit(state: RunState, reserved: Reserved) -> e.LimitName | None:
    """The hard limit that leaves no room for that, if one does."""
    if state.tokens_left is not None and reserved.tokens > state.tokens_left:
        return "tokens"
    if state.money_left is None:
        return None
    unpriced = state.model is None or state.model.price is None
    nothing_left = unpriced and state.money_left == 0
    return "money" if nothing_left or reserved.money > state.money_left else None


def over_soft_limit(state: RunState, reserved: Reserved) -> tuple[e.LimitName, int] | None:
    """The soft limit that would be passed with that and that nobody has lifted, and its figure."""
    limits = state.limits
    tokens = state.tokens_charged - state.tokens_base + state.tokens_reserved + reserved.tokens
    money = state.money_charged - state.money_base + state.money_reserved + reserved.money
    wanted: tuple[tuple[e.LimitName, int, int | None], ...] = (
        ("tokens", tokens, limits.tokens_soft),
        ("money", money, limits.money_soft),
    )
    for limit, used, soft in wanted:
        if soft is not None and used > soft and limit not in state.lifted:
            return limit, soft
    return None
