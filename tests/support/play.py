"""Random histories: a model of an outside world that claims, answers, loses, repeats and reorders.

Not a scheduler: each move is one command, decided on the state as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar

from domain import commands as c
from domain.asks import Elicitation, SampleMessage, SampleReply, SampleRequest
from domain.content import AssistantPart, BlobRef, CallPart, TextPart, ThinkingPart
from domain.errors import Rejected
from domain.events import Event, Failure, Parent, PinnedModel, SnapshotTaken, StopReason
from domain.limits import Limits, Price, Usage
from domain.policy import PolicyRule
from domain.state import RunState
from domain.tools import Lane
from tests.support.runs import (
    COUNT_SCHEMA,
    MODEL,
    NOW_MS,
    REF,
    TEAM,
    pinned,
    rules,
    says,
    situation,
    when,
)

T = TypeVar("T")

CONFIRM = Elicitation(message="Sure?")
FORM = Elicitation(message="How many?", form=COUNT_SCHEMA)
LINK = Elicitation(message="Sign in.", url="https://example.org/sign-in")
NOTHING = Elicitation(message=" ")
SAY = SampleRequest(
    messages=(SampleMessage(speaker="user", text="Say it."),), system="Short.", output_tokens_max=20
)

EPOCHS = ("e1", "e2", "e3")
LANES = (Lane.SANDBOX, Lane.TOOL)
ARGUMENTS = (
    "{}",
    "",
    '{"query": "help"}',
    '{"newTodos": ["a", "b"]}',
    '{"completedTodos": [0]}',
    '{"result": "it"}',
    '{"cut',
    "[]",
    '{"newTodos": ["\\ud800"]}',
)
PRICED = MODEL.model_copy(update={"price": Price(input=3_000, output=15_000, cached=300)})
OTHER = PinnedModel(context="a" * 64, context_bytes=900, model=PRICED)
FAILURES = ("overloaded", "network", "rejected", "rate_limited")
STOPS: tuple[StopReason, ...] = ("end", "tool_calls", "max_tokens", "refusal")
OUTCOMES: tuple[c.ResultOutcome, ...] = ("succeeded", "failed", "cancelled", "outcome_unknown")
RESTS: tuple[c.RestStatus, ...] = ("completed", "stopped", "failed", "cancelled")


Watch = Callable[[RunState, c.Command, c.Situation, tuple[Event, ...]], None]
"""Sees each decision: the state before, what was asked and where, and what follows."""


def unwatched(
    before: RunState, command: c.Command, where: c.Situation, events: tuple[Event, ...]
) -> None:
    """Nobody looks."""


@dataclass
class World:
    """One run, and everything that was ever asked of it."""

    chances: Random
    state: RunState = field(default_factory=lambda: RunState(ref=REF))
    events: list[Event] = field(default_factory=list[Event])
    asked: list[c.Command] = field(default_factory=list[c.Command])
    now_ms: int = NOW_MS
    serial: int = 0
    watch: Watch = unwatched

    def pick(self, options: Sequence[T]) -> T:
        """One of some options."""
        return self.chances.choice(options)

    def number(self, most: int) -> int:
        """0 to `most`."""
        return self.chances.randint(0, most)

    def chance(self, one_in: int) -> bool:
        """True once in a while."""
        return self.number(one_in - 1) == 0

    def name(self) -> str:
        """A fresh command id."""
        self.serial += 1
        return f"k{self.serial}"

    def move(self) -> None:
        """Something happens outside, and the run decides what follows."""
        command = self.command()
        epoch = self.pick(EPOCHS)
        self.now_ms += 20_000 if self.chance(30) else self.number(5) - 1
        where = situation(
            self.now_ms,
            epoch=epoch,
            holder=epoch if self.chance(2) else None,
            lanes=frozenset(lane for lane in LANES if self.chance(2)),
            context=self.context(),
        )
        self.asked.append(command)
        before = self.state
        try:
            then = when(before, command, where)
        except Rejected:
            return
        self.watch(before, command, where, then.events)
        self.state = then.after
        self.events.extend(then.events)

    def command(self) -> c.Command:
        """What is asked next: mostly what the state waits for, sometimes anything."""
        if self.state.status == "new" and not self.chance(20):
            return self.start()
        if self.state.at_rest and self.chance(3):
            return self.go_on()
        if self.chance(40):
            return self.cancel()
        if self.asked and self.chance(6):
            return self.pick(self.asked)  # a duplicate, or one that was overtaken
        asked: tuple[Callable[[], c.Command], ...] = (
            self.ask,
            self.answer_ask,
            self.answer_ask,
            self.claim_sampling,
            self.end_sampling,
        )
        if self.state.asks and self.chance(2):
            return self.pick(asked)()
        if self.asking_calls() and self.chance(4):
            return self.ask()
        moves: tuple[Callable[[], c.Command], ...] = (
            self.complete,
            self.complete,
            self.complete,
            self.tell,
            self.record,
            self.record,
            self.record,
            self.record,
            self.tell,
            self.fail,
            self.claim_call,
            self.claim_generation,
            self.fire,
            self.go_on,
            self.abandon,
            self.place,
            self.snapshot,
            self.retry,
            self.start,
            self.decide,
            self.decide,
            self.answer,
            self.steer,
            self.hold,
            self.rule,
            self.reform,
            self.ask,
            self.ask,
        )
        return self.pick(moves)()

    def context(self) -> c.PinnedContext:
        """What a start, or a change of the team, would pin."""
        rule_layers = rules(*(self.some_rule() for _ in range(self.number(2))))
        return replace(
            pinned(),
            tools=TEAM,
            layers=rule_layers if self.chance(2) else (),
            model=self.pick((MODEL, PRICED)),
            fallbacks=(OTHER,) * self.number(2),
            output_schema={"type": "integer"} if self.chance(8) else None,
        )

    def some_rule(self) -> PolicyRule:
        tool = self.pick(("*", "exec", "buy", "helper", "ask", "c*"))
        arguments = {"query": "h*"} if self.chance(4) else {}
        return PolicyRule(
            verdict=self.pick(("allow", "ask", "deny")), tool=tool, arguments=arguments
        )

    def decide(self) -> c.DecideApproval:
        name = self.pick((*self.state.approvals, self.some_call()))
        approval = self.state.approvals.get(name)
        digest = None if approval is None or self.chance(2) else approval.digest
        return c.DecideApproval(
            id=self.name(),
            approval=name,
            approve=not self.chance(3),
            digest="other" if self.chance(8) else digest,
            arguments=self.pick((None, None, '{"query": "edited"}', "[")),
        )

    def answer(self) -> c.AnswerQuestion:
        return c.AnswerQuestion(id=self.name(), call=self.some_call(), parts=says("yes"))

    def ask(self) -> c.AskInCall:
        """Something a tool wants to know, mostly asked by whoever holds its call."""
        name = self.pick((*self.asking_calls(), self.some_call()))
        known = self.state.calls.get(name)
        holder = known.holder if known and known.holder and not self.chance(5) else None
        if known and known.lane is Lane.SANDBOX and self.state.sandbox and not self.chance(5):
            holder = self.state.sandbox.epoch
        about = self.pick((CONFIRM, FORM, LINK, SAY, SAY, NOTHING))
        ask = self.name() if not self.chance(8) else self.some_ask()
        return c.AskInCall(call=name, ask=ask, holder=holder or self.pick(EPOCHS), about=about)

    def asking_calls(self) -> tuple[str, ...]:
        """The open calls that some worker is at."""
        placed = self.state.sandbox is not None
        return tuple(
            call.id
            for call in self.state.open_calls
            if call.holder or (placed and call.lane is Lane.SANDBOX and call.may_have_begun)
        )

    def some_ask(self) -> str:
        """Mostly one of this step."""
        return self.pick((*self.state.asks, *self.state.asks, *self.state.unsettled_asks, "q9"))

    def answer_ask(self) -> c.AnswerAsk:
        return c.AnswerAsk(
            id=self.name(),
            ask=self.some_ask(),
            action=self.pick(("accept", "accept", "decline", "cancel")),
            content=self.pick((None, {"count": 2}, {"count": "two"}, {})),
        )

    def claim_sampling(self) -> c.ClaimSampling:
        return c.ClaimSampling(ask=self.some_ask(), holder=self.pick(EPOCHS))

    def end_sampling(self) -> c.EndSampling:
        said = SampleReply(text="said", model="m", stop_reason="end")
        failed = Failure(kind=self.pick(FAILURES), message="no")
        failure = failed if self.chance(4) else None
        return c.EndSampling(
            ask=self.some_ask(),
            reply=None if failure else said,
            failure=failure,
            usage=self.usage(),
        )

    def steer(self) -> c.SteerRun:
        return c.SteerRun(id=self.name(), parts=says("left"), now=self.chance(2))

    def hold(self) -> c.PauseRun | c.ResumeRun:
        if self.state.paused:
            return c.ResumeRun(id=self.name())
        return c.PauseRun(id=self.name())

    def rule(self) -> c.ChangePolicy:
        return c.ChangePolicy(id=self.name(), rules=(self.some_rule(),), replace=self.chance(3))

    def reform(self) -> c.CloseTeamCall:
        failed = self.chance(3)
        return c.CloseTeamCall(
            call=self.some_call(),
            base=self.state.definition if not self.chance(4) else "x",
            definition="" if failed else "f" * 64,
            action=None if failed else "createExpert",
            names=() if failed else ("maker",),
            content="{}",
            is_error=failed,
        )

    def start(self) -> c.StartRun:
        limits = Limits(
            tokens_soft=self.pick((None, None, 800, 4_000)),
            money_max=self.pick((None, None, 50, 5_000)),
            money_soft=self.pick((None, None, 40)),
            tool_calls_max=self.pick((None, None, 0, 2, 9)),
            wall_ms_max=self.pick((None, None, 60_000)),
            fan_out_max=1 + self.number(2),
            rate_limited_attempts_max=1 + self.number(2),
            answer_ms_max=self.pick((None, 1_000)),
            steps_max=self.pick((0, 1, 3, 8, 20)),
            generation_attempts_max=1 + self.number(2),
            call_attempts_max=1 + self.number(2),
            calls_per_step_max=1 + self.number(4),
            tokens_max=self.pick((None, None, 1_000, 5_000, 100_000)),
        )
        child = self.chance(3)
        return c.StartRun(
            id=self.name(),
            expert="boss",
            definition="d" * 64,
            parts=says("go"),
            limits=limits,
            parent=Parent(run="parent", call="c1-0") if child else None,
            standing=self.standing() if child else None,
        )

    def standing(self) -> c.Standing | None:
        """What the parent says: not always in order."""
        if self.chance(2):
            return None
        said = tuple(self.some_rule() for _ in range(self.number(2)))
        return c.Standing(
            number=self.number(6), paused=self.chance(3), turned=self.number(6), rules=said
        )

    def attempt(self) -> tuple[int, int]:
        """Mostly the open attempt, sometimes an old or impossible one."""
        generation = self.state.generation
        if generation is None or self.chance(6):
            return 1 + self.number(3), 1 + self.number(2)
        return generation.step, generation.attempt

    def usage(self) -> Usage | None:
        """What a provider says was used."""
        return None if self.chance(4) else Usage(input=self.number(200), output=self.number(100))

    def part(self) -> AssistantPart:
        kind = self.number(5)
        if kind == 0:
            return TextPart(text=self.pick(("", "hello", "\u00e9\U0001f600")))
        if kind == 1:
            return ThinkingPart(provider="anthropic", block='{"type":"thinking"}')
        arguments = self.pick((*ARGUMENTS, BlobRef(digest="b" * 64, size=99_999)))
        tool = self.pick((*(tool.name for tool in TEAM), "helper", "nope"))
        if tool == "helper" and not self.chance(4):
            arguments = '{"query": "help"}'
        if tool == "counter" and not self.chance(4):
            arguments = '{"count": 2}'
        return CallPart(provider_id=f"p{self.number(3)}", tool=tool, arguments=arguments)

    def complete(self) -> c.CompleteGeneration:
        step, attempt = self.attempt()
        return c.CompleteGeneration(
            step=step,
            attempt=attempt,
            parts=tuple(self.part() for _ in range(self.number(5))),
            stop_reason="refusal" if self.chance(20) else self.pick(STOPS[:3]),
            usage=self.usage(),
        )

    def fail(self) -> c.FailGeneration:
        step, attempt = self.attempt()
        return c.FailGeneration(
            step=step,
            attempt=attempt,
            failure=Failure(
                kind=self.pick(("overloaded", "network", "rejected", "rate_limited")), message="no"
            ),
            retryable=not self.chance(4),
            retry_after_ms=self.pick((None, 5_000)),
            usage=self.usage(),
        )

    def some_call(self) -> str:
        """A call of this step, of an earlier one, or of none."""
        here = tuple(call.id for call in self.state.open_calls)
        if here and not self.chance(3):
            return self.pick(here)
        return self.pick((*self.state.calls, *self.state.past_calls, "c9-9"))

    def record(self) -> c.RecordToolResult:
        name = self.some_call()
        known = self.state.calls.get(name)
        holder = known.holder if known and known.holder and not self.chance(5) else None
        return c.RecordToolResult(
            call=name,
            holder=holder or self.pick(EPOCHS),
            outcome=self.pick(OUTCOMES),
            content=says(self.pick(("one", "two"))),
            is_error=self.chance(2),
        )

    def tell(self) -> c.RecordDelegation:
        name = self.some_call()
        known = self.state.calls.get(name)
        delegation = known.delegation if known else None
        most = delegation.limits.tokens_max if delegation else None
        money = delegation.limits.money_max or 0 if delegation else 0
        calls = delegation.limits.tool_calls_max or 0 if delegation else 0
        return c.RecordDelegation(
            call=name,
            child=delegation.child if delegation else "nobody",
            status=self.pick(RESTS),
            content=says("the child's end"),
            steps=self.number(delegation.limits.steps_max if delegation else 3),
            tokens=self.number(300 if most is None else most),
            money=self.number(money),
            tool_calls=self.number(calls),
        )

    def claim_call(self) -> c.ClaimToolCall:
        name = self.some_call()
        known = self.state.calls.get(name)
        attempt = known.attempt if known and not self.chance(5) else 1 + self.number(3)
        return c.ClaimToolCall(call=name, attempt=attempt, holder=self.pick(EPOCHS))

    def claim_generation(self) -> c.ClaimGeneration:
        step, attempt = self.attempt()
        return c.ClaimGeneration(step=step, attempt=attempt, holder=self.pick(EPOCHS))

    def fire(self) -> c.FireTimer:
        return c.FireTimer(timer=self.pick((*self.state.timers, "retry-1-1", "cancel-1")))

    def go_on(self) -> c.ContinueRun:
        return c.ContinueRun(
            id=self.name(),
            parts=says("more") if not self.chance(4) else (),
            steps_max=self.pick((None, None, 3)),
            tokens_max=self.pick((None, None, 4_000)),
            money_max=self.pick((None, None, 500)),
        )

    def abandon(self) -> c.AbandonHolder:
        known = self.state.calls.get(self.some_call())
        names = (f"{known.id}.{known.attempt}",) if known and self.chance(3) else ()
        if self.chance(6):
            names = ("sandbox",)
        elif self.state.asks and self.chance(4):
            names = (f"m{self.some_ask()}",)
        return c.AbandonHolder(holder=self.pick(EPOCHS), names=names)

    def place(self) -> c.PlaceSandbox:
        epoch = self.pick(EPOCHS)
        return c.PlaceSandbox(
            place=self.pick(("p1", f"p-{epoch}")),
            epoch=epoch,
            backend="bubblewrap",
            report="{}",
            workspace="own",
            snapshots=True,
            take_over=not self.chance(4),
            number=1 + self.number(4) if self.state.parent else None,
        )

    def snapshot(self) -> c.RecordSnapshot:
        due = self.state.snapshot_due
        taken = SnapshotTaken(
            run=self.state.ref.run if not self.chance(3) else "another",
            step=due.step if due else 1,
            version=due.version if due else self.number(9),
            manifest=BlobRef(digest="e" * 64, size=9) if not self.chance(4) else None,
        )
        return c.RecordSnapshot(taken=taken)

    def retry(self) -> c.RetryToolCall:
        name = self.some_call()
        known = self.state.calls.get(name)
        attempt = known.attempt if known and not self.chance(5) else 1 + self.number(2)
        return c.RetryToolCall(call=name, attempt=attempt)

    def cancel(self) -> c.CancelRun:
        parent = Parent(run="parent", call="c1-0") if self.chance(3) else None
        return c.CancelRun(id=self.name(), parent=parent)
