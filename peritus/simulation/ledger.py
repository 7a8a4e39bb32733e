"""What really happened in a simulated world, outside the log: executions, model calls, lives."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from domain.ids import RunRef
from eventlog.port import LEASE_S, RENEW_S
from services.worker.toolbox import ToolCall


@dataclass(slots=True)
class Ledger:
    """Facts the log is checked against; nothing of the system can read or write it."""

    executions: Counter[str] = field(default_factory=Counter[str])  # by idempotency key
    begun: set[str] = field(default_factory=set[str])  # idempotency keys, whatever came of it
    results: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    asked: Counter[str] = field(default_factory=Counter[str])  # calls of the model, by request
    attempts: Counter[str] = field(default_factory=Counter[str])  # those in the log, by request
    starts: dict[RunRef, str] = field(default_factory=dict[RunRef, str])  # accepted or stored
    forks: dict[RunRef, str] = field(default_factory=dict[RunRef, str])  # the same of forks
    inputs: dict[RunRef, list[str]] = field(default_factory=dict[RunRef, list[str]])
    dead: set[str] = field(default_factory=set[str])  # ids of commands among the dead letters
    cancels: set[RunRef] = field(default_factory=set[RunRef])
    ended: dict[str, float] = field(default_factory=dict[str, float])  # epoch -> end of its life
    renewed: dict[str, list[float]] = field(default_factory=dict[str, list[float]])  # by epoch
    again: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """When a worker was started again in the same process: what it was at is given up."""
    problems: list[str] = field(default_factory=list[str])
    said: dict[str, tuple[RunRef, str]] = field(default_factory=dict[str, tuple[RunRef, str]])
    """What people decided, by command: in which run, and about which call or limit."""
    calm_s: float | None = None  # since when nothing goes wrong any more
    watchers: list[Callable[[ToolCall], None]] = field(
        default_factory=list[Callable[[ToolCall], None]]
    )

    heard: dict[str, str] = field(default_factory=dict[str, str])
    """What a tool heard of a question, by its text."""
    questions: int = 0

    def question(self, key: str) -> str:
        """The text of a question, which no other has."""
        self.questions += 1
        return f"{key} asks {self.questions}"

    def hears(self, question: str, answer: str) -> None:
        """A tool hears an answer, or that there is none."""
        self.heard[question] = answer

    def begins(self, call: ToolCall) -> None:
        """A tool begins a call."""
        self.begun.add(call.key)
        for watch in self.watchers:
            watch(call)

    def executed(self, key: str, result: str) -> None:
        """A tool took effect."""
        self.executions[key] += 1
        self.results.setdefault(key, set()).add(result)

    def ask(self, request: str) -> None:
        """The model is called; every call must be in the log as an attempt of its own (rule 5)."""
        self.asked[request] += 1
        if self.asked[request] > self.attempts[request]:
            self.problems.append(f"a call of the model without an attempt in the log: {request}")

    def was_gone(self, epoch: str, since_s: float, at_s: float) -> bool:
        """Whether an epoch could rightly be taken for dead at some time in between."""
        times = [time for time in self.renewed.get(epoch, []) if time <= at_s] + [at_s]
        silent = [b - a >= LEASE_S - RENEW_S for a, b in pairwise(times) if b >= since_s]
        return (
            len(times) == 1
            or any(silent)
            or self.ended.get(epoch, at_s + 1) <= at_s
            or any(since_s <= time <= at_s for time in self.again.get(epoch, []))
        )

    def gone(self, epoch: str, at_s: float) -> bool:
        """Whether an epoch could rightly be taken for dead then: ended, or silent too long."""
        if self.ended.get(epoch, at_s + 1) <= at_s:
            return True
        times = [time for time in self.renewed.get(epoch, []) if time <= at_s] + [at_s]
        return any(b - a >= LEASE_S - RENEW_S for a, b in pairwise(times[-3:])) or len(times) == 1
