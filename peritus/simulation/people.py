"""People around a job: they allow, forbid, edit, answer, steer, hold and rule at random moments.

They see what the log says, as whoever looks at a screen does: a moment late. Not their commands.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from domain import commands as c
from domain.content import TextPart
from domain.ids import RunRef
from domain.policy import PolicyRule
from domain.state import RunState
from peritus.simulation.books import REACH_S, SETTLED_S
from peritus.simulation.invariants import Auditor
from peritus.simulation.ledger import Ledger

Send = Callable[[RunRef, c.Command, str], Awaitable[bool]]
"""Submits until it is answered or stored; False when it was refused."""

EDITS = ('{"n": "9"}', '{"query": "work less"}', "[")
RULES = (
    PolicyRule(verdict="allow", tool="write"),
    PolicyRule(verdict="allow", arguments={"n": "[0-4]"}),
    PolicyRule(verdict="deny", tool="big", reason="not now"),
    PolicyRule(verdict="ask", tool="exec"),
    PolicyRule(verdict="deny", expert="@boss/worker", tool="read"),
)
PATIENCE_S = 600.0
"""How long after the storm they look after a job before they give it up."""


class Wait(NamedTuple):
    """Something that waits for a person."""

    ref: RunRef
    name: str
    digest: str | None  # of the arguments they were shown; None for a question


@dataclass(slots=True)
class People:
    """Everybody who has to do with one job."""

    root: RunRef
    dice: random.Random
    ledger: Ledger
    auditor: Auditor
    send: Send
    probed: bool = False
    _count: int = 0
    _cancel_s: float | None = field(default=None)

    async def attend(self) -> None:
        """Act until the job is over."""
        if self.dice.random() < 0.15:
            self._cancel_s = self.dice.uniform(10, 110)
        while not self._over():
            await asyncio.sleep(self.dice.uniform(0.3, 6))
            if self.ledger.calm_s is None:
                await self._meddle()
            else:
                await self._bring_to_an_end()

    def _over(self) -> bool:
        calm_s = self.ledger.calm_s
        if calm_s is not None and _now() > calm_s + PATIENCE_S:
            return True
        return self.auditor.state(self.root).at_rest

    def _name(self) -> str:
        self._count += 1
        return f"person-{self.root.job}-{self._count}"

    def _runs(self) -> list[RunState]:
        """The job's runs that are at work."""
        known = (self.auditor.state(ref) for ref in self.auditor.runs() if self._ours(ref))
        return [state for state in known if state.expert and not state.at_rest]

    def _ours(self, ref: RunRef) -> bool:
        return (ref.tenant, ref.job) == (self.root.tenant, self.root.job)

    def _waits(self) -> list[Wait]:
        found: list[Wait] = []
        for state in self._runs():
            found.extend(
                Wait(state.ref, name, approval.digest) for name, approval in state.approvals.items()
            )
            found.extend(Wait(state.ref, call.id, None) for call in state.open_calls if call.asked)
        return found

    # ------------------------------------------------------------------ while things go wrong

    async def _meddle(self) -> None:
        if self._cancel_s is not None and _now() > self._cancel_s:
            self._cancel_s = None
            self.ledger.cancels.add(self.root)
            name = self._name()
            await self.send(self.root, c.CancelRun(id=name), name)
            return
        waits, runs = self._waits(), self._runs()
        if waits and self.dice.random() < 0.6:
            await self._decide(self.dice.choice(waits))
            return
        if not runs:
            return
        state = self.dice.choice(runs)
        what = self.dice.random()
        if state.paused and what < 0.7:
            await self._resume(state.ref)
        elif what < 0.25:
            await self._steer(state.ref)
        elif what < 0.4:
            name = self._name()
            await self.send(state.ref, c.PauseRun(id=name), name)
        elif what < 0.55:
            await self._rule(state.ref)

    async def _decide(self, wait: Wait) -> None:
        """A word about what they saw a moment ago."""
        await asyncio.sleep(self.dice.choice((0.0, 0.1, 3.0)))
        name = self._name()
        self.ledger.said[name] = (wait.ref, wait.name)
        if wait.digest is None:
            said = (TextPart(text=f"answer {name}"),)
            await self.send(wait.ref, c.AnswerQuestion(id=name, call=wait.name, parts=said), name)
            return
        budget = wait.name.startswith("budget")
        edits = not budget and self.dice.random() < 0.3
        command = c.DecideApproval(
            id=name,
            approval=wait.name,
            approve=self.dice.random() < 0.7,
            digest=wait.digest if self.dice.random() < 0.7 else None,
            arguments=self.dice.choice(EDITS) if edits else None,
        )
        await self.send(wait.ref, command, name)

    async def _steer(self, ref: RunRef) -> None:
        name = self._name()
        command = c.SteerRun(id=name, parts=(TextPart(text="hurry"),), now=self.dice.random() < 0.5)
        self.ledger.inputs.setdefault(ref, []).append(name)
        if not await self.send(ref, command, name):
            self.ledger.inputs[ref].remove(name)

    async def _resume(self, ref: RunRef) -> None:
        name = self._name()
        self.ledger.said[name] = (ref, "")
        await self.send(ref, c.ResumeRun(id=name), name)

    async def _rule(self, ref: RunRef) -> None:
        name = self._name()
        rules = tuple(self.dice.sample(RULES, self.dice.choice((1, 1, 2))))
        command = c.ChangePolicy(id=name, rules=rules, replace=self.dice.random() < 0.3)
        await self.send(ref, command, name)

    # ------------------------------------------------------------------ when nothing does any more

    async def _bring_to_an_end(self) -> None:
        """Let go what is held, and decide what waits; one pause of the whole job in between."""
        settled = _now() > (self.ledger.calm_s or 0.0) + SETTLED_S
        held = [state.ref for state in self._runs() if state.paused]
        if not held and settled and not self.probed:
            self.probed = True
            await self._probe()
            return
        for ref in held:
            await self._resume(ref)
        for wait in self._waits():
            await self._decide(wait)

    async def _probe(self) -> None:
        """Pause the job: every run hears it, and nothing begins until it is resumed."""
        name = self._name()
        if not await self.send(self.root, c.PauseRun(id=name), name):
            return
        await asyncio.sleep(REACH_S)
        self.ledger.problems.extend(
            f"run {state.ref.run}: did not hear of the pause of its job"
            for state in self._runs()
            if not state.paused and not state.cancelling and self.auditor.state(self.root).paused
        )
        await asyncio.sleep(REACH_S)
        await self._resume(self.root)


def _now() -> float:
    return asyncio.get_running_loop().time()
