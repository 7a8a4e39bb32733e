"""What must hold of everything that open calls ask, in every simulated world. Not what is spent."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from domain import events as e
from domain.asks import Elicitation
from domain.content import BlobRef, text_of
from domain.ids import RunRef
from domain.state import RunState
from domain.tools import Lane
from peritus.simulation.books import SETTLED_S, now_s
from peritus.simulation.ledger import Ledger

HEARD_S = 150.0
"""How long an answer may take to its tool, and the tool to its end, in virtual seconds."""


@dataclass(slots=True)
class Asked:
    """One ask, as the log tells of it."""

    call: str
    text: str
    answer: e.ToolCallAnswered | None = None
    answered_s: float = 0.0


class Questions:
    """Follows all asks of all runs."""

    def __init__(self, ledger: Ledger) -> None:
        """Problems are added to the ledger's."""
        self._ledger = ledger
        self._asked: dict[tuple[RunRef, str], Asked] = {}
        self._ended: set[tuple[RunRef, str]] = set()  # calls
        self._samplings: Counter[tuple[RunRef, str, str]] = Counter()

    def _problem(self, ref: RunRef, text: str) -> None:
        self._ledger.problems.append(f"run {ref.run}: {text}")

    def see(self, ref: RunRef, before: RunState, event: e.Event) -> None:
        """One event after a state."""
        match event:
            case e.ToolCallAsked():
                self._ask(ref, before, event)
            case e.ToolCallAnswered():
                self._answer(ref, before, event)
            case e.ToolCallEnded():
                self._ended.add((ref, event.call))
                self._heard_in_time(ref, event)
            case e.SamplingRequested() | e.SamplingClaimed() | e.SamplingEnded():
                self._sampling(ref, event)
            case _:
                return

    def _ask(self, ref: RunRef, before: RunState, event: e.ToolCallAsked) -> None:
        about = event.about
        text = about.message if isinstance(about, Elicitation) else about.messages[-1].text
        if (ref, event.ask) in self._asked:
            self._problem(ref, f"{event.ask} is asked twice")
        call = before.calls.get(event.call)
        if call is None or (ref, event.call) in self._ended:
            self._problem(ref, f"{event.ask} is asked in call {event.call}, which is over")
        elif event.holder != _at(before, event.call):
            self._problem(ref, f"{event.ask} is asked by {event.holder}, which is not at its call")
        if before.cancelling:
            self._problem(ref, f"{event.ask} is asked while the run is being cancelled")
        self._asked[ref, event.ask] = Asked(event.call, str(text))

    def _answer(self, ref: RunRef, before: RunState, event: e.ToolCallAnswered) -> None:
        asked = self._asked.get((ref, event.ask))
        if asked is None or asked.call != event.call:
            self._problem(ref, f"{event.ask} is answered and was never asked")
            return
        if asked.answer is not None:
            self._problem(ref, f"{event.ask} is answered twice")
        if (ref, event.call) in self._ended:
            self._problem(ref, f"{event.ask} is answered after its call has ended")
        if event.source == "person":
            if self._ledger.said.get(event.command) != (ref, event.ask):
                self._problem(ref, f"{event.ask} is answered by {event.command}: about another")
            known = before.asks.get(event.ask)
            form = known is not None and getattr(known.about, "form", None) is not None
            given = (event.content or {}).get("n")
            if event.action == "accept" and form and not isinstance(given, int):
                self._problem(ref, f"{event.ask} is answered with {event.content}")
        asked.answer, asked.answered_s = event, now_s()

    def _heard_in_time(self, ref: RunRef, event: e.ToolCallEnded) -> None:
        """A call whose time is over had a question that nobody answered, or not long before."""
        asked = [one for (of, _), one in self._asked.items() if (of, one.call) == (ref, event.call)]
        timed_out = '"timeout"' in text_of(event.content)
        if not timed_out or not asked or any(one.answer is None for one in asked):
            return
        silent_s = now_s() - max(one.answered_s for one in asked)
        if silent_s > HEARD_S:
            self._problem(ref, f"call {event.call} waited {silent_s:.0f} s for what was answered")

    def _sampling(
        self, ref: RunRef, event: e.SamplingRequested | e.SamplingClaimed | e.SamplingEnded
    ) -> None:
        self._samplings[ref, event.ask, event.type] += 1
        if self._samplings[ref, event.ask, event.type] > 1:
            self._problem(ref, f"{event.ask} has a second {event.type}")
        if isinstance(event, e.SamplingClaimed) or event.type.startswith("sampling.requested"):
            asked = self._asked.get((ref, event.ask))
            if asked is None or asked.answer is not None or (ref, asked.call) in self._ended:
                self._problem(ref, f"the model is asked for {event.ask}, which is over")

    def stored(self, ref: RunRef, state: RunState) -> None:
        """One envelope is stored: what people see waits for an answer, and nothing else does."""
        if not self._asked:
            return
        for ask in state.questions:
            if (ref, ask.call) in self._ended or self._asked[ref, ask.id].answer is not None:
                self._problem(ref, f"{ask.id} is shown to people and is over")
            elif ask.holder != _at(state, ask.call):
                self._problem(ref, f"{ask.id} is shown to people, and nobody waits for it")
        known = {f"answer-{ask.id}" for ask in state.questions}
        for timer in state.timers:
            if timer.startswith("answer-q") and timer not in known:
                self._problem(ref, f"{timer} is armed for what is over")
        for ask in state.asks.values():
            at_work = ask.model_call is not None and ask.model_call.is_open
            if at_work and ask.phase != "open":
                self._problem(ref, f"{ask.id} is over, and the model is still asked for it")

    def close(self, states: Mapping[RunRef, RunState]) -> None:
        """What tools heard is what the log says; nobody waits for an answer any more."""
        for (ref, name), asked in self._asked.items():
            answer = asked.answer
            heard = self._ledger.heard.get(asked.text)
            if states[ref].at_rest and answer is None and (ref, asked.call) not in self._ended:
                self._problem(ref, f"{name} has no answer, and its call no end")
            said = answer is not None and answer.action == "accept"
            if heard is not None and heard not in ("cancel", "refused") and answer is None:
                self._problem(ref, f"a tool heard {heard!r} of {name}, which nobody answered")
            if answer is None or not said:
                continue
            calm_s = self._ledger.calm_s
            settled = calm_s is not None and asked.answered_s > calm_s + SETTLED_S
            if heard is None and settled:
                self._problem(ref, f"{name} was answered, and its tool never heard it")
            elif heard is not None and not _same(answer, heard) and settled:
                self._problem(ref, f"{name} was answered with {answer}, and heard as {heard!r}")


def _at(state: RunState, name: str) -> str | None:
    """Which worker is at a call, by the events before it asks."""
    call = state.calls[name]
    if call.lane is Lane.SANDBOX and state.sandbox is not None:
        return state.sandbox.epoch if state.sandbox.lost_ms is None else None
    return call.holder


def _same(answer: e.ToolCallAnswered, heard: str) -> bool:
    if answer.sampled is not None:
        text = answer.sampled.text
        return isinstance(text, BlobRef) or heard == text
    return heard == f"{answer.action} {answer.content or ''}".strip()
