"""How an open call asks its run for something and hears the answer, over the log. Fills `Asks`.

One follower hears for all calls of a worker. A question is asked before it is waited for, and what
is waited for is in the log: so neither a reconnect nor another worker's end loses an answer.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

from pydantic import ValidationError

from domain.asks import About, Elicitation, SampleMessage, SampleRequest
from domain.commands import AskInCall
from domain.content import BlobRef
from domain.envelope import decode
from domain.errors import IntegrityViolated, Rejected, Unavailable
from domain.events import TERMINAL_TYPES, Event, ToolCallAnswered, ToolCallEnded
from domain.ids import RunRef, derive_id
from eventlog.port import Blobs, EventLog, Stored
from services.worker.insist import insist
from services.worker.reporter import Reporter
from services.worker.skills import Question, Reply, Sample, Sampled, SampleRefused
from services.worker.toolbox import ToolCall

logger = logging.getLogger(__name__)

AGAIN_S = 1.0

NAME_CHARS = 9
"""How much of its derived id an ask is named by: 45 bits, among the asks of one run."""

CALL_OVER = "the call is over"


@dataclass(eq=False, slots=True)
class Waiting:
    """A call that waits for an answer. `None`: there is none, for the call is over."""

    call: str
    ask: str
    answer: asyncio.Future[ToolCallAnswered | None]


@dataclass(slots=True)
class LogAsks:
    """What all calls of this worker ask. It is there for them while `run` runs."""

    log: EventLog
    blobs: Blobs
    epoch: str
    _reporter: Reporter | None = None
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: dict[RunRef, list[Waiting]] = field(default_factory=dict[RunRef, list[Waiting]])
    _count: Iterator[int] = field(default_factory=itertools.count)

    async def run(self, reporter: Reporter) -> None:
        """Hear answers until cancelled."""
        self._reporter = reporter
        after: int | None = None
        try:
            while True:
                try:
                    if after is None:
                        after = (await self.log.bounds())[1]
                        self._ready.set()
                    async with self.log.follow(after_seq=after) as stored:
                        async for item in stored:
                            after = item.seq
                            self._hear(item)
                except Unavailable:
                    logger.warning("answers are not heard for now; listening again")
                    await asyncio.sleep(AGAIN_S)
        finally:
            self._ready.clear()

    def _hear(self, item: Stored) -> None:
        waiting = self._waiting.get(item.ref)
        if not waiting:
            return
        try:
            events = decode(item.data).events
        except IntegrityViolated:
            logger.exception("RunIntegrityViolated: run %s", item.ref.run)
            return
        for event in events:
            for one in waiting:
                if not one.answer.done() and _is_about(event, one):
                    answered = event if isinstance(event, ToolCallAnswered) else None
                    one.answer.set_result(answered)

    async def elicit(self, call: ToolCall, question: Question) -> Reply:
        """Ask the person, and wait for as long as the call may run."""
        try:
            about = Elicitation(message=question.message, form=_form(question), url=question.url)
            answer = await self._ask(call, about)
        except (Rejected, ValidationError) as refused:
            logger.warning("a question of %s/%s is not asked: %s", call.ref.run, call.call, refused)
            return Reply("cancel")
        if answer is None:
            return Reply("cancel")
        content = answer.content or {} if answer.action == "accept" and not question.url else None
        return Reply(answer.action, content)

    async def sample(self, call: ToolCall, sample: Sample) -> Sampled:
        """Have the run's model continue a conversation, on the run's budget.

        Raises:
            SampleRefused: it does not; the message says why.
        """
        try:
            messages = tuple(
                SampleMessage(speaker=one.speaker, text=one.text) for one in sample.messages
            )
            about = SampleRequest(
                messages=messages,
                system=sample.system,
                output_tokens_max=sample.output_tokens_max,
            )
            answer = await self._ask(call, about)
        except (Rejected, ValidationError) as refused:
            raise SampleRefused(str(refused)) from refused
        said = answer.sampled if answer else None
        if answer is None or said is None:
            raise SampleRefused(answer.reason if answer and answer.reason else CALL_OVER)
        text = said.text
        if isinstance(text, BlobRef):
            digest = text.digest
            data = await insist(
                lambda: self.blobs.get(call.ref.tenant, digest), f"a reply for {call.ref.run}"
            )
            text = data.decode("utf-8", "replace")
        return Sampled(text=text, model=said.model, stop_reason=said.stop_reason)

    async def _ask(self, call: ToolCall, about: About) -> ToolCallAnswered | None:
        """The answer to a question; None when the call is over without one.

        Raises:
            Rejected: it is not asked.
        """
        await self._ready.wait()
        if self._reporter is None:
            raise AssertionError
        number = str(next(self._count))
        name = f"q{derive_id('ask', *call.ref, call.call, self.epoch, number)[:NAME_CHARS]}"
        one = Waiting(call.call, name, asyncio.get_running_loop().create_future())
        waiting = self._waiting.setdefault(call.ref, [])
        waiting.append(one)
        try:
            command = AskInCall(call=call.call, ask=name, holder=self.epoch, about=about)
            patience = call.patience
            with nullcontext() if patience is None else patience.standing_still():
                try:
                    await self._reporter.ask(call.ref, command)
                except Rejected:
                    if not one.answer.done():
                        raise  # else it was asked before: that was not heard, and its answer was
                return await one.answer
        finally:
            waiting.remove(one)
            if not waiting:
                self._waiting.pop(call.ref, None)


def _is_about(event: Event, one: Waiting) -> bool:
    """Whether that ends the wait: the answer, or the end of the call or of its run."""
    match event:
        case ToolCallAnswered():
            return event.ask == one.ask
        case ToolCallEnded():
            return event.call == one.call
        case _:
            return event.type in TERMINAL_TYPES


def _form(question: Question) -> dict[str, object] | None:
    """The form without the name of its dialect: all that a form may say is in every one."""
    if question.schema is None:
        return None
    return {key: value for key, value in question.schema.items() if key != "$schema"}
