"""A job's runs as a tree, folded from the log as it is now. Not a view that is kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from domain.effects import ArmTimer, CallTool, StartChild, effects
from domain.envelope import decode
from domain.errors import NoSuchRun
from domain.events import DelegationRequested, Event
from domain.ids import RunRef
from domain.state import RunState
from eventlog.port import EventLog
from projections.waits import Look, Wait

BIDING = frozenset({"answer_expiry", "wall_time"})
"""Timers that carry nothing on: they end a wait, or the run."""


@dataclass(slots=True)
class Family:
    """The runs of one job that are known so far, in the order they were asked for."""

    looks: dict[str, Look] = field(default_factory=dict[str, Look])
    _asked: dict[str, DelegationRequested] = field(default_factory=dict[str, DelegationRequested])
    _children: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def hear(self, ref: RunRef, event: Event, version: int, at_ms: int) -> None:
        """The next event of a run of the job; one that was heard already changes nothing."""
        self.look(ref).hear(event, version, at_ms)
        if isinstance(event, DelegationRequested) and event.child not in self._asked:
            self._asked[event.child] = event
            self._children.setdefault(ref.run, []).append(event.child)
            self.look(RunRef(ref.tenant, ref.job, event.child))

    def look(self, ref: RunRef) -> Look:
        """That run, from now on a part of the job."""
        return self.looks.setdefault(ref.run, Look(ref))

    def under(self, run: str) -> Iterator[Look]:
        """A run and all below it, each before its children."""
        if run in self.looks:
            yield self.looks[run]
            for child in self._children.get(run, ()):
                yield from self.under(child)

    def children(self, run: str) -> tuple[str, ...]:
        """The runs that a run asked for."""
        return tuple(self._children.get(run, ()))

    def expert(self, run: str) -> str:
        """The expert of a run, also of one that has not started."""
        asked = self._asked.get(run)
        return self.looks[run].state.expert or (asked.expert if asked else "")

    def parent(self, run: str) -> str | None:
        """The run that asked for a run; None for the root."""
        parent = self.looks[run].state.parent
        if parent is not None:
            return parent.run
        return next((one for one, found in self._children.items() if run in found), None)

    def root(self, run: str) -> RunRef:
        """The run at the top of the job, as far as it is known."""
        parent = self.parent(run)
        known = parent is not None and parent in self.looks
        return self.root(parent) if parent is not None and known else self.looks[run].state.ref

    def waits(self, run: str) -> list[Wait]:
        """What waits for a person in a run and below it, oldest first."""
        found = [wait for look in self.under(run) for wait in look.waits]
        return sorted(found, key=lambda wait: wait.since_ms)

    def facts(self, run: str) -> dict[str, Any]:
        """A run in the tree of its job, as plain JSON; money in micro-USD."""
        look = self.looks[run]
        state = look.state
        return {
            "run": run,
            "parent_run": self.parent(run),
            "depth": state.depth,
            "expert": self.expert(run),
            "status": state.status,
            "paused": state.paused,
            "cancelling": state.cancelling,
            "waiting": [
                {"id": wait.id, "kind": wait.kind, "tool": wait.tool} for wait in look.waits
            ],
            "step": state.step,
            "steps_left": state.steps_left,
            "tokens_charged": state.tokens_charged,
            "tokens_left": state.tokens_left,
            "micro_usd_charged": state.money_charged,
            "micro_usd_left": state.money_left,
            "tool_calls": state.tool_calls,
            "tool_calls_left": state.tool_calls_left,
            "children": list(self.children(run)),
        }

    def held(self, run: str, *, asking: bool = False) -> bool:
        """Whether nothing of a run and below it can go on unless a person does something.

        A call that asks in its middle is at work for whoever cares about its worker; with `asking`
        it waits, too.
        """
        running = [look.state for look in self.under(run) if look.state.status == "running"]
        waits = any(state.waits for state in running)
        return waits and all(self._bides(state, asking=asking) for state in running)

    def _bides(self, state: RunState, *, asking: bool) -> bool:
        if state.cancelling:
            return False
        for effect in effects(state):
            match effect:
                case ArmTimer(timer) if timer.purpose in BIDING:
                    continue
                case CallTool(call) if asking and any(a.call == call.id for a in state.questions):
                    continue
                case StartChild(child) if self.look(child).state.status == "running":
                    continue  # neither about to begin, nor about to tell its end
                case _:
                    return False
        return True


async def load_look(log: EventLog, ref: RunRef) -> Look:
    """One run of a job.

    Raises:
        NoSuchRun: the log knows nothing of it.
        Unavailable: the log is away.
        IntegrityViolated: an envelope cannot be read.
    """
    family = Family()
    if not await _add(family, log, ref):
        raise NoSuchRun(ref.run)
    return family.looks[ref.run]


async def load_family(log: EventLog, ref: RunRef, *, until_seq: int | None = None) -> Family:
    """The whole job of a run; with `until_seq`, as it was then.

    Raises:
        NoSuchRun: the log knows nothing of it.
        Unavailable: the log is away.
        IntegrityViolated: an envelope cannot be read.
    """
    family = Family()
    if not await _add(family, log, ref, until_seq):
        raise NoSuchRun(ref.run)
    top = family.looks[ref.run].state
    while top.parent is not None:
        above = RunRef(ref.tenant, ref.job, top.parent.run)
        if not await _add(family, log, above, until_seq):
            break  # a child that was cancelled before it started, of a run that is gone
        top = family.looks[above.run].state
    for look in family.under(top.ref.run):
        if look.state.version == 0:
            await _add(family, log, look.state.ref, until_seq)
    return family


async def _add(family: Family, log: EventLog, ref: RunRef, until_seq: int | None = None) -> bool:
    """Hear a run's whole history; False when there is none."""
    stored = [item for item in await log.load(ref) if until_seq is None or item.seq <= until_seq]
    for item in stored:
        envelope = decode(item.data)
        for version, event in enumerate(envelope.events, start=envelope.version):
            family.hear(ref, event, version, envelope.at_ms)
    return bool(stored)
