"""Finds open runs whose work nobody does, and has it done: continuous, never a stored flag (C7)."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from commands.desk import Desk
from commands.importing import coming
from commands.reconcile_run import abandon_holder, retry_tool_call
from domain.commands import AbandonHolder, RetryToolCall
from domain.decisions.asks import sampling_name
from domain.decisions.tool_calls import SANDBOX
from domain.effects import (
    ArmTimer,
    CallTool,
    CancelChild,
    Effect,
    Generate,
    ReformTeam,
    Sample,
    StartChild,
    TakeSnapshot,
    effects,
)
from domain.errors import IntegrityViolated, Rejected, Unavailable
from domain.ids import RunRef
from domain.state import RunState
from domain.tools import Lane, Safety
from eventlog.port import LEASE_S
from services.loop.watch import Watch
from services.worker.signs import Signs

logger = logging.getLogger(__name__)

PASS_S = 1.0
"""How often all open runs are looked at, in seconds."""

GRACE_MS = 3_000
"""How long work that nobody holds may be on its way, in milliseconds."""

REMIND_MAX_MS = 60_000

UNHELD_MS = 2_000 * int(LEASE_S)
"""How long a living worker may hold work before its sign must name it, in milliseconds."""


@dataclass(slots=True)
class Reminder:
    """When an effect without a holder was last sent again, and when it is due once more."""

    since_ms: int
    wait_ms: int = GRACE_MS


@dataclass(slots=True)
class Reconciler:
    """Derives the effects of every open run anew, and repairs what no live lease covers."""

    desk: Desk
    signs: Signs
    epoch: str
    at: Callable[[RunRef, str], bool]  # whether this process is at that work
    watch: Watch
    pass_s: float = PASS_S
    _reminders: dict[tuple[RunRef, str], Reminder] = field(
        default_factory=dict[tuple[RunRef, str], Reminder]
    )
    _broken: set[RunRef] = field(default_factory=set[RunRef])
    _known: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _coming: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    async def run(self) -> None:
        """Pass after pass until cancelled; the first at once."""
        while True:
            try:
                await self.look()
            except Unavailable:
                logger.warning("the reconciler waits for the store")
            await asyncio.sleep(self.pass_s)

    async def look(self) -> None:
        """One pass over all open runs.

        Raises:
            Unavailable: the index or the leases cannot be read now.
        """
        await self.signs.look()
        seen: set[RunRef] = set()
        refs = await self._open_runs()
        await self._look_for_imports(refs)
        for ref in refs:
            seen.add(ref)
            if ref in self._broken or ref[:2] in self._coming:
                continue
            try:
                await self._look_at(ref)
            except Unavailable as error:
                logger.warning("run %s is looked at again later: %s", ref.run, error)
            except Rejected as error:
                logger.warning("run %s: %s", ref.run, error)
            except IntegrityViolated:
                self._broken.add(ref)
                logger.exception("RunIntegrityViolated: run %s is read-only from here on", ref.run)
            except Exception:
                # A fault of ours that one run brings out must not end the work of all others.
                logger.exception("run %s cannot be looked at", ref.run)
        gone = [key for key in self._reminders if key[0] not in seen]
        for key in gone:
            del self._reminders[key]

    async def _open_runs(self) -> list[RunRef]:
        """The index, put right from what the log itself shows."""
        index = self.desk.backbone.open_runs
        listed = await index.list()
        missing = [ref for ref in self.watch.open if ref not in set(listed)]
        for ref in missing:
            await index.add(ref)
        return listed + missing

    async def _look_for_imports(self, refs: list[RunRef]) -> None:
        """Which of these are of jobs that are only being brought here: nothing of them is done.

        Such a job is in the registry before its first envelope is in the log, and until its last.
        """
        jobs = {ref[:2] for ref in refs}
        if self._coming or not jobs <= self._known:
            try:
                self._coming = await coming(self.desk.backbone.registry)
            except Unavailable:
                self._coming = jobs - self._known  # what is new waits, nothing else does
        self._known = jobs - self._coming

    async def _look_at(self, ref: RunRef) -> None:
        loaded = await self.desk.runs.fresh(ref)
        state = loaded.state
        if state.at_rest or state.status == "new":
            await self._close(state)
            self.watch.close(ref, loaded.seq)
            return
        for holder in sorted(_holders(state)):
            lost = self._lost(state, holder)
            if lost is None and await self._overtaken(state, holder):
                lost = (SANDBOX,)
            if lost is not None:
                what = ", ".join(lost) or "all of it"
                logger.warning("run %s: work of %s is taken back: %s", ref.run, holder, what)
                await abandon_holder(self.desk, ref, AbandonHolder(holder=holder, names=lost))
                state = (await self.desk.runs.known(ref)).state
        held = self.signs.held()
        for effect in effects(state):
            await self._remind(state, effect, held)

    async def _close(self, state: RunState) -> None:
        """An end that may not be where it must be is told again; a start that never came goes."""
        key = (state.ref, "close")
        if state.status == "new" and not self._due(key, state, state.at_ms):
            return
        if await self.desk.dispatch(state, effects(state)):
            await self.desk.close(state)

    async def _overtaken(self, state: RunState, epoch: str) -> bool:
        """Whether the root gave the workspace to another worker, and this run was not told."""
        held = state.sandbox
        if held is None or held.epoch != epoch or held.lost_ms is not None:
            return False
        job = RunRef(state.ref.tenant, state.ref.job, state.ref.job)
        root = (await self.desk.runs.known(job)).state.sandbox
        return root is not None and root.number > held.number and root.epoch != epoch

    def _lost(self, state: RunState, holder: str) -> tuple[str, ...] | None:
        """What an epoch holds and nobody does any more: () is all of it, None is nothing."""
        if holder != self.epoch and self.signs.gone(holder):
            return ()
        lost = [
            name
            for name, since_ms in _held_by(state, holder)
            if self._dropped(state, holder, name, since_ms)
        ]
        return tuple(lost) or None

    def _dropped(self, state: RunState, holder: str, name: str, since_ms: int) -> bool:
        """Whether a living epoch holds this work and is not at it."""
        if holder == self.epoch:
            held = self.at(state.ref, name)
            return not held and self._due((state.ref, f"own/{name}"), state, since_ms)
        # Its sign may be as old as a lease, so only one from after the claim says anything; and its
        # result may wait in COMMANDS, so it has to stay so for a while.
        old = self.desk.runs.now_ms() - since_ms > UNHELD_MS
        if not old or self.signs.at(holder, f"{state.ref.run}/{name}"):
            return False
        return self._due((state.ref, f"{holder}/{name}"), state, 0, wait_ms=UNHELD_MS)

    async def _remind(self, state: RunState, effect: Effect, held: frozenset[str]) -> None:
        if isinstance(effect, CallTool):
            call = effect.call
            names = [f"{state.ref.run}/{call.id}.{n + 1}" for n in range(call.attempt)]
            busy = call.holder is not None or not held.isdisjoint(names)
            if not busy and self._due((state.ref, call.id), state, call.since_ms):
                await self._offer_again(state, effect)
            return
        name = _unheld_name(effect)
        if name is None or f"{state.ref.run}/{name}" in held:
            return
        since_ms = state.at_ms
        if isinstance(effect, Generate) and state.generation is not None:
            since_ms = state.generation.since_ms
        if self._due((state.ref, name), state, since_ms):
            await self.desk.dispatch(state, (effect,))

    async def _offer_again(self, state: RunState, effect: CallTool) -> None:
        """Have a call done that nobody does; only what may have run counts as an attempt."""
        call = effect.call
        waits = (
            call.lane is Lane.SANDBOX and not call.may_have_begun
        )  # for somebody to keep its job
        if call.safety is Safety.UNSAFE or waits or not self.signs.serves(str(call.lane)):
            await self.desk.dispatch(state, (effect,))  # never claimed, so never begun
            return
        command = RetryToolCall(call=call.id, attempt=call.attempt)
        await retry_tool_call(self.desk, state.ref, command)

    def _due(
        self, key: tuple[RunRef, str], state: RunState, since_ms: int, *, wait_ms: int = GRACE_MS
    ) -> bool:
        """Whether it is time to do something again: after the grace, then ever more seldom."""
        now_ms = max(self.desk.runs.now_ms(), state.at_ms)
        reminder = self._reminders.setdefault(key, Reminder(since_ms or now_ms, wait_ms))
        if now_ms - reminder.since_ms < reminder.wait_ms:
            return False
        reminder.since_ms = now_ms
        reminder.wait_ms = min(REMIND_MAX_MS, reminder.wait_ms * 2)
        return True


def _unheld_name(effect: Effect) -> str | None:
    """What to call an effect that nobody holds by the log; None for one that needs no reminder."""
    match effect:
        case Generate():
            return f"g{effect.step}.{effect.attempt}" if effect.holder is None else None
        case Sample():
            return sampling_name(effect.ask) if effect.holder is None else None
        case StartChild() | CancelChild():
            return f"{type(effect).__name__}/{effect.child.run}"
        case ArmTimer():
            return f"timer/{effect.timer.timer}"
        case ReformTeam():
            return f"team/{effect.call.id}"
        case TakeSnapshot():
            return f"s{effect.checkpoint.step}.{effect.checkpoint.version}"
        case _:
            return None


def _held_by(state: RunState, holder: str) -> list[tuple[str, int]]:
    """What an epoch holds in a run, and since when: calls of tools and of the model."""
    found = [
        (f"{call.id}.{call.attempt}", call.since_ms)
        for call in state.open_calls
        if call.holder == holder
    ]
    found += [
        (sampling_name(ask.id), ask.model_call.since_ms)
        for ask in state.asks.values()
        if ask.model_call and ask.model_call.is_open and ask.model_call.holder == holder
    ]
    generation = state.generation
    if generation and generation.phase == "open" and generation.holder == holder:
        found.append((f"g{generation.step}.{generation.attempt}", generation.since_ms))
    return found


def _holders(state: RunState) -> set[str]:
    holders = {call.holder for call in state.open_calls if call.holder is not None}
    asked = [ask.model_call for ask in state.asks.values() if ask.model_call]
    holders |= {one.holder for one in asked if one.is_open and one.holder is not None}
    if state.sandbox is not None and state.sandbox.lost_ms is None:
        holders.add(state.sandbox.epoch)
    generation = state.generation
    if generation and generation.phase == "open" and generation.holder is not None:
        holders.add(generation.holder)
    return holders
