"""What simulated tools ask in the middle of a call, and the person who answers. Not the checks."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from domain import commands as c
from domain.content import TextPart
from domain.ids import RunRef
from domain.limits import Usage
from domain.prompt import ModelRequest
from domain.sampling import SAMPLING_BLOCK
from domain.state import RunState
from peritus.simulation.invariants import Auditor
from peritus.simulation.ledger import Ledger
from services.loop.models.port import ModelReply
from services.worker.skills import Asks, Question, Said, Sample, SampleRefused
from services.worker.toolbox import ToolCall

ASKS = 0.6
"""How many of the calls ask for something, in a world where any do."""

FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
}
SYSTEM = "Say it short."

IGNORED = "abcdefgh"
"""What is named with one of these at its end is not answered while things go wrong."""

Kind = Literal["form", "link", "model"]
KINDS: tuple[Kind, ...] = ("form", "link", "model", "model")

Send = Callable[[RunRef, c.Command, str], Awaitable[bool]]
"""Submits until it is answered or stored; False when it was refused."""


def has_asks(seed: int) -> bool:
    """Whether the tools of that world ask: in every fourth they do."""
    return (seed // 3) % 4 == 1


async def ask_around(asks: Asks, ledger: Ledger, call: ToolCall, dice: random.Random) -> None:
    """One call asks for something, or for several things at once; at times for nothing."""
    if dice.random() > ASKS:
        return
    for _ in range(dice.choice((1, 1, 2))):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(dice.choice((1, 1, 2))):
                tasks.create_task(_ask(asks, ledger, call, dice.choice(KINDS)))


async def _ask(asks: Asks, ledger: Ledger, call: ToolCall, kind: Kind) -> None:
    text = ledger.question(call.key)
    if kind == "model":
        sample = Sample(messages=(Said("user", text),), system=SYSTEM, output_tokens_max=50)
        try:
            sampled = await asks.sample(call, sample)
        except SampleRefused:
            ledger.hears(text, "refused")
        else:
            ledger.hears(text, sampled.text)
        return
    link = "https://example.org/" if kind == "link" else None
    question = Question(message=text, schema=None if link else FORM, url=link)
    reply = await asks.elicit(call, question)
    ledger.hears(text, f"{reply.action} {reply.content or ''}".strip())


def said_to_tool(request: ModelRequest, dice: random.Random) -> ModelReply | None:
    """What the model says to a tool; None for any other request."""
    if not any(block.name == SAMPLING_BLOCK for block in request.context.system):
        return None
    usage = Usage(input=dice.randint(0, 60), output=dice.randint(0, 50))
    text = f"said {dice.random()}" + "x" * dice.choice((0, 0, 40_000))
    return ModelReply((TextPart(text=text),), "end", usage if dice.random() < 0.8 else None)


@dataclass(slots=True)
class Answering:
    """Somebody who answers what tools ask: in time, late, twice, wrongly, or not at all."""

    dice: random.Random
    ledger: Ledger
    auditor: Auditor
    send: Send
    _seen: list[tuple[RunRef, str]] = field(default_factory=list[tuple[RunRef, str]])
    _count: int = 0

    async def attend(self) -> None:
        """Answer until cancelled."""
        while True:
            await asyncio.sleep(self.dice.uniform(0.2, 4))
            calm = self.ledger.calm_s is not None
            for ref, ask in self._open():
                if (ref, ask) not in self._seen:
                    self._seen.append((ref, ask))
                if calm or (ask[-1] not in IGNORED and self.dice.random() < 0.25):
                    await self._answer(ref, ask, right=calm)
            if self._seen and not calm and self.dice.random() < 0.2:
                await self._answer(*self.dice.choice(self._seen), right=False)  # late, or again

    def _open(self) -> list[tuple[RunRef, str]]:
        known: list[RunState] = [self.auditor.state(ref) for ref in self.auditor.runs()]
        return [(state.ref, ask.id) for state in known for ask in state.questions]

    async def _answer(self, ref: RunRef, ask: str, *, right: bool) -> None:
        self._count += 1
        name = f"answer-{self._count}"
        self.ledger.said[name] = (ref, ask)
        asked = self.auditor.state(ref).asks.get(ask)
        link = asked is not None and getattr(asked.about, "url", None) is not None
        content: dict[str, Any] | None = None if link else {"n": self._count}
        action: Literal["accept", "decline", "cancel"] = "accept"
        if not right:
            content = self.dice.choice((content, content, {"n": "one"}, {}, None))
            action = self.dice.choice(("accept", "accept", "accept", "decline", "cancel"))
        if action != "accept":
            content = None
        command = c.AnswerAsk(id=name, ask=ask, action=action, content=content)
        await self.send(ref, command, name)
        if not right and self.dice.random() < 0.3:
            await self.send(ref, command, name)
