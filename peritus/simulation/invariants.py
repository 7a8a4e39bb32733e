"""What must hold in every simulated world, read from the stored bytes and the ledger alone."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import cast

from pydantic import BaseModel

from commands.history import Loaded, fold_stored
from domain import events as e
from domain.content import BlobRef
from domain.conversation import this_request
from domain.effects import CancelChild, effects
from domain.envelope import decode
from domain.errors import IntegrityViolated
from domain.evolve import evolve
from domain.ids import RunRef
from domain.state import RunState, changed
from domain.tools import Lane, Safety
from eventlog.port import Stored
from peritus.simulation.books import Books
from peritus.simulation.forks import Forks
from peritus.simulation.ledger import Ledger
from peritus.simulation.loop import EPOCH_MS
from peritus.simulation.questions import Questions


class Auditor:
    """Reads every envelope at the moment it is stored, and the whole at the end."""

    def __init__(self, ledger: Ledger) -> None:
        """Problems are added to the ledger's."""
        self._ledger = ledger
        self._runs: dict[RunRef, Loaded] = {}
        self._checkers: dict[RunRef, RunChecker] = {}
        self._placings: dict[RunRef, dict[int, e.SandboxPlaced]] = {}
        self._books = Books(ledger)
        self._questions = Questions(ledger)
        self._forks = Forks(ledger)

    def state(self, ref: RunRef) -> RunState:
        """A run as the log has it, for whoever looks at it."""
        loaded = self._runs.get(ref)
        return loaded.state if loaded else RunState(ref=ref)

    def runs(self) -> list[RunRef]:
        """All runs the log has, in the order they came."""
        return list(self._runs)

    def stored(self, item: Stored, blobs: Iterable[str]) -> None:
        """One envelope: what it names is stored already, and it may follow what is there."""
        ref, problems = item.ref, self._ledger.problems
        events = decode(item.data).events
        missing = set(_blobs_named(events)) - set(blobs)
        if missing:
            problems.append(f"run {ref.run}: envelope before its blobs {sorted(missing)}")
        loaded = self._runs.get(ref) or self._begun(ref, events)
        checker = self._checkers.setdefault(ref, RunChecker(ref, self._ledger, problems))
        state = changed(loaded.state, at_ms=decode(item.data).at_ms)
        for event in events:
            before, state = state, evolve(state, event)
            checker.see(before, event, state)
            self._books.see(ref, before, event, state)
            self._questions.see(ref, before, event)
            self._forks.see(ref, event, state.at_ms)
            if isinstance(event, e.SandboxPlaced):
                self._placed(ref, event)
            if isinstance(event, e.SnapshotTaken):
                self._snapshot(ref, event)
            if isinstance(event, e.GenerationRequested | e.SamplingRequested):
                self._ledger.attempts[event.request] += 1
        checker.between(state)
        self._books.stored(ref, state)
        self._questions.stored(ref, state)
        self._forks.stored(ref, state)
        try:
            self._runs[ref] = fold_stored(loaded, item)
        except IntegrityViolated as error:
            problems.append(f"run {ref.run}: {error}")

    def _begun(self, ref: RunRef, events: tuple[e.Event, ...]) -> Loaded:
        """A run before its first event, with its past if it is a fork."""
        past = self._forks.past(ref, events[0]) if events else None
        return Loaded(RunState(ref=ref, past=past))

    def _placed(self, ref: RunRef, event: e.SandboxPlaced) -> None:
        """What a run was told of its job's workspace is what the root decided, by that number."""
        root = RunRef(ref.tenant, ref.job, ref.job)
        decided = self._placings.setdefault(root, {}).get(event.number)
        if ref == root:
            self._placings[root][event.number] = event
            if decided is not None:
                self._ledger.problems.append(f"job {ref.job}: number {event.number} placed twice")
        elif root in self._runs and (
            decided is None or (decided.place, decided.epoch) != (event.place, event.epoch)
        ):
            self._ledger.problems.append(
                f"run {ref.run}: placed at {event.epoch} with number {event.number}, not its root's"
            )

    def _snapshot(self, ref: RunRef, event: e.SnapshotTaken) -> None:
        of = self._checkers.get(RunRef(ref.tenant, ref.job, event.run))
        if of is None or of.checkpoints.get(event.version) != event.step:
            self._ledger.problems.append(f"run {ref.run}: a snapshot of no checkpoint: {event!r}")

    def close(self) -> list[str]:
        """All problems of a world that has come to rest."""
        problems = self._ledger.problems
        states = {ref: loaded.state for ref, loaded in self._runs.items()}
        for ref, checker in self._checkers.items():
            checker.close(states[ref])
        problems.extend(
            f"run {ref.run}: its start was accepted and is gone"
            for ref in self._ledger.starts
            if ref not in states
        )
        problems.extend(
            f"run {ref.run}: its fork was accepted and is gone"
            for ref, command in self._ledger.forks.items()
            if ref not in states and command not in self._ledger.dead
        )
        for ref, inputs in self._ledger.inputs.items():
            heard = self._checkers[ref].inputs if ref in self._checkers else Counter[str]()
            problems.extend(
                f"run {ref.run}: input {name} is there {heard[name]} times"
                for name in inputs
                if heard[name] != 1 and not (heard[name] == 0 and name in self._ledger.dead)
            )
        for state in states.values():
            _check_tree(state, states, problems)
        self._books.close(states)
        self._questions.close(states)
        return list(dict.fromkeys(problems))


def _blobs_named(value: object) -> Iterable[str]:
    if isinstance(value, BlobRef):
        yield value.digest
    elif isinstance(value, BaseModel):
        if isinstance(value, e.RunStarted | e.RunForked):
            yield value.definition
        if isinstance(value, e.ContextPinned):
            yield value.context
        for name in type(value).model_fields:
            yield from _blobs_named(getattr(value, name))
    elif isinstance(value, tuple):
        for item in cast("tuple[object, ...]", value):
            yield from _blobs_named(item)


class RunChecker:
    """Follows one history event by event, and knows what may never come."""

    def __init__(self, ref: RunRef, ledger: Ledger, problems: list[str]) -> None:
        """Problems are added to the list."""
        self._ref = ref
        self._ledger = ledger
        self._problems = problems
        self._outcomes: Counter[str] = Counter()
        self._requested: dict[str, e.ToolCallRequested] = {}
        self._attempts: Counter[tuple[int, int]] = Counter()
        self._asked_s: dict[str, float] = {}
        self._placed_at: list[tuple[str, int]] = []  # every epoch that held the workspace, by when
        self.inputs: Counter[str] = Counter()
        self.checkpoints: dict[int, int] = {}

    def _problem(self, text: str) -> None:
        self._problems.append(f"run {self._ref.run}: {text}")

    def see(self, before: RunState, event: e.Event, after: RunState) -> None:
        """One event between two states."""
        match event:
            case e.GenerationRequested():
                self._generation(before, event, after)
            case e.GenerationCompleted():
                open_now = before.generation
                if open_now is None or (open_now.step, open_now.attempt, open_now.phase) != (
                    event.step,
                    event.attempt,
                    "open",
                ):
                    self._problem(
                        f"a reply of attempt {event.step}.{event.attempt} is not the open one"
                    )
            case e.ToolCallRequested():
                self._requested[event.call] = event
                self._asked_s[event.call] = _seconds(after)
            case e.ToolCallEnded():
                self._outcome(before, event, after)
            case (
                e.RunContinued()
                | e.ToolResultLate()
                | e.GenerationSuperseded()
                | e.SamplingSettled()
            ):
                return
            case e.InputReceived():
                self.inputs[event.input] += 1
            case e.StepEnded() | e.SandboxPlaced() | e.SandboxLost() | e.SnapshotTaken():
                self._sandbox(before, event, after)
            case _:
                self._only_before_the_end(before, event)

    def _sandbox(
        self,
        before: RunState,
        event: e.StepEnded | e.SandboxPlaced | e.SandboxLost | e.SnapshotTaken,
        after: RunState,
    ) -> None:
        match event:
            case e.StepEnded():
                self.checkpoints[after.version] = event.step
                if before.at_rest:
                    self._problem(f"{event.type} after its end")
            case e.SandboxPlaced():
                self._place(before, event, after)
            case e.SandboxLost():
                self._lost(before, event)
            case e.SnapshotTaken():
                return

    def _place(self, before: RunState, event: e.SandboxPlaced, after: RunState) -> None:
        held = before.sandbox
        self._placed_at.append((event.epoch, after.at_ms))
        if before.at_rest and (held is None or held.place != event.place):
            self._problem(f"{event.type} after its end")  # a last snapshot may need the same place
        if held is None:
            return
        if event.number < held.number or (event.number == held.number and held.lost_ms is None):
            self._problem(f"placement {event.number} came after {held.number}")
        if before.parent is None and held.place != event.place and held.lost_ms is None:
            self._problem(f"place {event.place} took over from {held.place}, which was not lost")

    def _lost(self, before: RunState, event: e.SandboxLost) -> None:
        if before.at_rest:
            self._problem(f"{event.type} after its end")
        if before.sandbox is None or before.sandbox.epoch != event.epoch:
            self._problem(f"{event.epoch} was lost and held nothing")

    def _only_before_the_end(self, before: RunState, event: e.Event) -> None:
        """What a run at rest cannot do; and whom a provider turns away waits, not fails (C13)."""
        ruled = isinstance(event, e.PolicyChanged) and before.parent is None
        if before.at_rest and not ruled:
            self._problem(f"{event.type} after its end")
        if not isinstance(event, e.RunFailed):
            return
        turned_away = before.generation.limited if before.generation else 0
        limited = event.failure.kind == "rate_limited"
        if limited and turned_away < before.limits.rate_limited_attempts_max:
            self._problem(f"failed after it was turned away {turned_away} times")

    def between(self, state: RunState) -> None:
        """What holds between two envelopes: an open run waits for something, and owes nothing."""
        if not state.at_rest and state.expert and not effects(state) and not state.waits:
            self._problem(f"waits for nothing at version {state.version}")
        if state.tokens_reserved < 0:
            self._problem(f"{state.tokens_reserved} tokens are reserved")
        if state.cancelling:
            told = {
                effect.child.run for effect in effects(state) if isinstance(effect, CancelChild)
            }
            for call in state.open_calls:
                if call.delegation and call.delegation.child not in told:
                    self._problem(f"is cancelled and leaves child {call.delegation.child} at work")

    def _generation(self, before: RunState, event: e.GenerationRequested, after: RunState) -> None:
        self._attempts[event.step, event.attempt] += 1
        if self._attempts[event.step, event.attempt] > 1:
            self._problem(f"attempt {event.step}.{event.attempt} was requested twice")
        if before.open_calls:
            self._problem(f"step {event.step} began with open calls")
        if before.generation and before.generation.phase == "open":
            self._problem(f"attempt {event.step}.{event.attempt} beside an open one")
        if event.request != this_request(after):
            self._problem(f"the request of step {event.step} cannot be made again")

    def _outcome(self, before: RunState, event: e.ToolCallEnded, after: RunState) -> None:
        self._outcomes[event.call] += 1
        asked = self._requested.get(event.call)
        if asked is None:
            self._problem(f"call {event.call} ended and was never asked for")
            return
        call = before.calls.get(event.call)
        runs = self._ledger.executions[asked.key]
        if asked.safety is Safety.UNSAFE and asked.lane in ("tool", "sandbox"):
            if runs > 1:
                self._problem(f"call {event.call}, not to be repeated, ran {runs} times")
            if event.outcome == "succeeded" and runs != 1:
                self._problem(f"call {event.call} succeeded and ran {runs} times")
        taken = event.outcome == "outcome_unknown" and not before.cancelling
        if not taken or not call:
            return
        if call.lane is Lane.SANDBOX:
            lived = not self._may_have_lost(call.id, call.holder, after)
        else:
            lived = not self._ledger.gone(call.holder or "", _seconds(after))
        if lived and asked.key in self._ledger.begun:  # else its grant never reached the worker
            self._problem(f"call {event.call} was taken from a worker that lived")

    def _may_have_lost(self, call: str, holder: str | None, now: RunState) -> bool:
        """Whether a worker that may have begun a base-tool call could rightly be taken for dead."""
        since_s, at_s = self._asked_s[call], _seconds(now)
        before = [epoch for epoch, ms in self._placed_at if ms <= since_s * 1000 + EPOCH_MS]
        later = [epoch for epoch, ms in self._placed_at if ms > since_s * 1000 + EPOCH_MS]
        exposed = {*before[-1:], *later, holder or ""} - {""}
        return any(self._ledger.was_gone(epoch, since_s, at_s) for epoch in exposed)

    def close(self, state: RunState) -> None:
        """The end of the history."""
        if not state.at_rest:
            self._problem(f"is stuck: {state.status}, step {state.step}")
            return
        for call, asked in self._requested.items():
            if self._outcomes[call] != 1:
                self._problem(f"call {call} has {self._outcomes[call]} outcomes")
            runs = self._ledger.executions[asked.key]
            if asked.safety is Safety.UNSAFE and runs > 1:
                self._problem(f"call {call}, not to be repeated, ran {runs} times in the end")
        if state.tokens_reserved:
            self._problem(f"{state.tokens_reserved} tokens stay reserved at rest")


def _seconds(state: RunState) -> float:
    """The time of a state, in virtual seconds."""
    return (state.at_ms - EPOCH_MS) / 1000


def _check_tree(state: RunState, states: Mapping[RunRef, RunState], problems: list[str]) -> None:
    if state.parent is None or not state.expert:
        return
    parent = states.get(RunRef(state.ref.tenant, state.ref.job, state.parent.run))
    if parent is None:
        problems.append(f"run {state.ref.run}: its parent is gone")
    elif parent.at_rest and not state.at_rest:
        problems.append(f"run {state.ref.run} outlived its parent")
