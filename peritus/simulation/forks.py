"""People who fork runs while these are at work, and what must hold of every fork. Not the system.

The past of a fork is folded here from the events as they were stored, apart from how workers do it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from domain import commands as c
from domain import events as e
from domain.content import TextPart
from domain.effects import ArmTimer, Generate, effects
from domain.evolve import evolve
from domain.ids import RunRef
from domain.state import RunState, changed
from peritus.simulation.ledger import Ledger

FORKS = 6
"""How many forks a world with any has."""

Send = Callable[[RunRef, c.Command, str], Awaitable[bool]]
"""Submits until it is answered or stored; False when it was refused."""


def has_forks(seed: int) -> bool:
    """Whether runs of that world are forked: every fifth has some."""
    return seed % 5 == 3


class Seen(Protocol):
    """What there is to fork."""

    def runs(self) -> list[RunRef]:
        """All runs the log has, in the order they came."""
        ...

    def state(self, ref: RunRef) -> RunState:
        """A run as the log has it."""
        ...


@dataclass(frozen=True, slots=True)
class Forking:
    """Somebody who forks whatever runs there are, at any version, forks among them."""

    tenant: str
    dice: random.Random
    ledger: Ledger
    seen: Seen
    send: Send

    async def attend(self) -> None:
        """Make the forks of a world; the same command may come several times, as all others."""
        for number in range(FORKS):
            await asyncio.sleep(self.dice.uniform(1, 15))
            runs = [ref for ref in self.seen.runs() if self.seen.state(ref).model is not None]
            if not runs:
                continue
            ref = RunRef(self.tenant, f"f{number}", f"f{number}")
            command = self._command(number, self.dice.choice(runs))
            if await self.send(ref, command, command.id):
                self.ledger.forks[ref] = command.id

    def _command(self, number: int, source: RunRef) -> c.ForkRun:
        state = self.seen.state(source)
        known = [*state.past_calls, *state.calls]
        edit = [self.dice.choice(known)] if known and self.dice.random() < 0.5 else []
        return c.ForkRun(
            id=f"fork{number}",
            source=e.Source(
                job=source.job,
                run=source.run,
                version=self.dice.randint(3, max(3, state.version)),
                hash="",
            ),
            parts=(TextPart(text="another way"),),
            results=tuple(
                e.ResultEdit(call=name, content=(TextPart(text=f"edited {name}"),)) for name in edit
            ),
        )


@dataclass(slots=True)
class Forks:
    """Follows all runs, and knows what each fork must begin with."""

    ledger: Ledger
    _events: dict[RunRef, list[tuple[int, e.Event]]] = field(
        default_factory=dict[RunRef, list[tuple[int, e.Event]]]
    )
    _keys: dict[str, RunRef] = field(default_factory=dict[str, RunRef])  # idempotency keys
    _children: dict[str, RunRef] = field(default_factory=dict[str, RunRef])

    def past(self, ref: RunRef, event: e.Event) -> RunState | None:
        """What a run that begins with this event has for its past; None for any but a fork."""
        if not isinstance(event, e.RunForked):
            return None
        edits = {edit.call: edit for edit in event.results}
        return self._fold(RunRef(ref.tenant, event.source.job, event.source.run), event, edits)

    def _fold(self, ref: RunRef, fork: e.RunForked, edits: dict[str, e.ResultEdit]) -> RunState:
        events = self._events.get(ref, [])[: fork.source.version]
        state = RunState(ref=ref)
        if events and isinstance(first := events[0][1], e.RunForked):
            inner = {edit.call: edit for edit in first.results} | edits
            source = RunRef(ref.tenant, first.source.job, first.source.run)
            state = changed(state, past=self._fold(source, first, inner))
        for at_ms, event in events:
            state = evolve(changed(state, at_ms=at_ms), _as_edited(event, edits))
        return state

    def see(self, ref: RunRef, event: e.Event, at_ms: int) -> None:
        """One event of a run: what it names, no other run has named."""
        self._events.setdefault(ref, []).append((at_ms, event))
        if isinstance(event, e.ToolCallRequested):
            self._own(ref, self._keys, event.key, "idempotency key")
        elif isinstance(event, e.DelegationRequested):
            self._own(ref, self._children, event.child, "child")

    def _own(self, ref: RunRef, known: dict[str, RunRef], name: str, what: str) -> None:
        if known.setdefault(name, ref) != ref:
            self._problem(ref, f"{what} {name} is one of run {known[name].run}, too")

    def stored(self, ref: RunRef, state: RunState) -> None:
        """What a fork waits for, it has asked for itself."""
        events = self._events.get(ref, [])
        if not events or not isinstance(events[0][1], e.RunForked):
            return
        asked = {event.call for _, event in events if isinstance(event, e.ToolCallRequested)}
        for call in state.open_calls:
            if call.id not in asked:
                self._problem(ref, f"call {call.id} of its source is open")
        armed = {event.timer for _, event in events if isinstance(event, e.TimerArmed)}
        for timer in state.timers:
            if timer not in armed:
                self._problem(ref, f"timer {timer} of its source is pending")
        if not asked:
            pending = [one for one in effects(state) if not isinstance(one, Generate | ArmTimer)]
            if pending:
                self._problem(ref, f"begins with effects of its source: {pending[0]!r}")

    def _problem(self, ref: RunRef, text: str) -> None:
        self.ledger.problems.append(f"fork {ref.run}: {text}")


def _as_edited(event: e.Event, edits: dict[str, e.ResultEdit]) -> e.Event:
    match event:
        case e.ToolCallEnded() if event.call in edits:
            edit = edits[event.call]
            return event.model_copy(
                update={
                    "content": edit.content,
                    "is_error": edit.is_error,
                    "outcome": "failed" if edit.is_error else "succeeded",
                    "full_output": None,
                }
            )
        case e.RunForked():
            inner = {edit.call: edit for edit in event.results} | edits
            return event.model_copy(update={"results": tuple(inner.values())})
        case _:
            return event
