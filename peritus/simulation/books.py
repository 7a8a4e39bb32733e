"""The books of every tree of runs, kept from its events alone: what was spent, and by whose leave.

Nothing here asks a run's state what it has charged or carved out: that is what is checked.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from domain import events as e
from domain.content import BlobRef, Text
from domain.folds.generation import REFUSED_BY_PROVIDER
from domain.ids import RunRef
from domain.limits import Limits, Price, Usage
from domain.loop_tools import parse_arguments
from domain.policy import Asked, PolicyLayer, PolicyRule, Verdict, judge
from domain.record import digest_of
from domain.state import Call, RunState
from domain.tools import Lane, Safety
from peritus.simulation.ledger import Ledger
from services.worker.toolbox import ToolCall

COUNTED = ("sandbox", "tool", "person", "team")
EXECUTED = ("sandbox", "tool")

SETTLED_S = 60.0
"""How long nothing has gone wrong when everybody is heard at once."""

REACH_S = 15.0
"""How long a pause may take to reach every run below, when nothing goes wrong."""

Attempt = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sum:
    """What something has cost."""

    steps: int = 0
    tokens: int = 0
    money: int = 0
    calls: int = 0

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(
            self.steps + other.steps,
            self.tokens + other.tokens,
            self.money + other.money,
            self.calls + other.calls,
        )


@dataclass(slots=True)
class Sampling:
    """One call of the model for a tool: what is held back for it, then what it is charged."""

    tokens: int
    money: int
    price: Price | None
    held: bool
    is_open: bool = True


@dataclass(slots=True)
class Page:
    """One run's own events in figures."""

    limits: Limits = field(default_factory=Limits)
    parent: RunRef | None = None
    started: bool = False
    over: bool = False
    continued: bool = False
    begun: int = 0  # the last step of the past, of a fork
    own: Sum = Sum()
    settled: dict[str, Sum] = field(default_factory=dict[str, Sum])  # by child
    carved: dict[str, Limits] = field(default_factory=dict[str, Limits])  # by child at work
    layers: tuple[PolicyLayer, ...] = ()
    rules: tuple[PolicyRule, ...] = ()
    price: Price | None = None
    reserved: dict[Attempt, tuple[int, int]] = field(default_factory=dict[Attempt, tuple[int, int]])
    charged: dict[Attempt, tuple[int, int]] = field(default_factory=dict[Attempt, tuple[int, int]])
    prices: dict[Attempt, Price | None] = field(default_factory=dict[Attempt, Price | None])
    samplings: dict[str, "Sampling"] = field(default_factory=dict[str, "Sampling"])  # by ask

    @property
    def total(self) -> Sum:
        """What the run and the children whose ends it heard have cost."""
        return sum(self.settled.values(), self.own)


class Books:
    """Follows all runs; hears of each call of a tool when it begins."""

    def __init__(self, ledger: Ledger) -> None:
        """Problems are added to the ledger's."""
        self._ledger = ledger
        self._pages: defaultdict[RunRef, Page] = defaultdict(Page)
        self._asked: dict[str, tuple[RunRef, e.ToolCallRequested]] = {}  # by idempotency key
        self._leave: dict[str, str] = {}  # digest of the arguments a call may begin with, by key
        self._kept: dict[str, float] = {}  # since when a pause keeps a call back, by key
        self._at_hand: set[str] = set()  # calls that somebody may have begun before a pause, by key
        self._paused: dict[RunRef, float] = {}
        self._freed: set[RunRef] = set()  # that a person resumed by itself
        self._spent: defaultdict[RunRef, Sum] = defaultdict(Sum)  # by root
        self._new: set[str] = set()  # calls asked for in this envelope
        ledger.watchers.append(self.begins)

    def _problem(self, ref: RunRef, text: str) -> None:
        self._ledger.problems.append(f"run {ref.run}: {text}")

    def see(self, ref: RunRef, before: RunState, event: e.Event, after: RunState) -> None:
        """One event between two states."""
        page = self._pages[ref]
        match event:
            case e.RunStarted() | e.RunForked():
                self._start(ref, page, event, after)
            case e.RunContinued():
                page.over, page.continued, page.limits = False, True, after.limits
            case e.RunCompleted() | e.RunStopped() | e.RunFailed() | e.RunCancelled():
                page.over = True
                self._resumed(ref)
            case e.ToolCallRequested() | e.ToolCallEnded():
                self._call(ref, page, before, event)
            case e.DelegationRequested() | e.DelegationSettled():
                self._delegation(ref, page, event)
            case e.ApprovalRequested() | e.ApprovalDecided() | e.QuestionAnswered():
                self._people(ref, before, event)
            case e.RunPaused() | e.RunResumed():
                self._hold(ref, event, after)
            case e.SamplingRequested() | e.SamplingClaimed():
                self._begin_sampling(ref, page, before, event)
            case e.SamplingEnded() | e.SamplingSettled():
                self._end_sampling(ref, page, event)
            case _:
                self._generation(ref, page, before, event)

    def _start(
        self, ref: RunRef, page: Page, event: e.RunStarted | e.RunForked, after: RunState
    ) -> None:
        page.started, page.limits, page.rules = True, event.limits, after.rules
        page.begun = after.step
        if isinstance(event, e.RunForked) or event.parent is None:
            return
        page.parent = RunRef(ref.tenant, ref.job, event.parent.run)
        above = self._pages[page.parent]
        at_work = sum(
            one.started and not one.over and one.parent == page.parent
            for one in self._pages.values()
        )
        if at_work > above.limits.fan_out_max:
            self._problem(page.parent, f"has {at_work} children at work at once")

    def _call(
        self,
        ref: RunRef,
        page: Page,
        before: RunState,
        event: e.ToolCallRequested | e.ToolCallEnded,
    ) -> None:
        if isinstance(event, e.ToolCallRequested):
            self._asked[event.key] = (ref, event)
            self._leave[event.key] = digest(event.arguments)
            self._new.add(event.call)
            if before.paused:
                self._kept[event.key] = now_s()
            if event.lane in COUNTED:
                self._spend(ref, page, Sum(calls=1))
            return
        call = before.calls.get(event.call)
        if call is not None:
            self._kept.pop(call.key, None)
        asked = call and self._asked.get(call.key)
        if asked and event.outcome == "refused" and asked[1].lane in COUNTED:
            self._spend(ref, page, Sum(calls=-1))

    def _generation(self, ref: RunRef, page: Page, before: RunState, event: e.Event) -> None:
        match event:
            case e.GenerationRequested():
                attempt = (event.step, event.attempt)
                page.reserved[attempt] = (event.reserved, event.reserved_money)
                page.prices[attempt] = page.price
                more = event.step - page.begun - page.own.steps
                if more > 0:
                    self._spend(ref, page, Sum(steps=more))
                self._not_held(ref, before, f"attempt {attempt} is asked for")
            case e.GenerationClaimed():
                self._not_held(ref, before, f"attempt {event.step}.{event.attempt} is claimed")
            case e.GenerationCompleted() | e.GenerationFailed():
                usage = event.usage
                if isinstance(event, e.GenerationFailed) and (
                    event.failure.kind in REFUSED_BY_PROVIDER
                ):
                    usage = usage or Usage()
                self._charge(ref, page, event, usage)
            case e.GenerationAbandoned():
                held = before.generation is not None and before.generation.holder is not None
                self._charge(ref, page, event, None if held else Usage())  # nobody made the call
            case e.GenerationSuperseded():
                self._refund(ref, page, event)
            case _:
                self._terms(page, event)

    def _terms(self, page: Page, event: e.Event) -> None:
        """What a run is held to."""
        match event:
            case e.ContextPinned():
                page.price = event.model.price
            case e.PolicyPinned():
                page.layers = event.layers
            case e.PolicyChanged():
                page.rules = (*event.rules, *event.inherited)
            case _:
                return

    # ------------------------------------------------------------------ what is spent

    def _charge(
        self,
        ref: RunRef,
        page: Page,
        event: e.GenerationCompleted | e.GenerationFailed | e.GenerationAbandoned,
        usage: Usage | None,
    ) -> None:
        """An attempt costs what it used; what nobody knows of, what was reserved (C12)."""
        attempt = (event.step, event.attempt)
        tokens, money = page.reserved[attempt]
        price = page.prices[attempt]
        if usage is not None:
            tokens = usage.tokens
            money = price.of(usage) if price else money if tokens else 0
        if (event.charged, event.charged_money) != (tokens, money):
            self._problem(ref, f"attempt {attempt} is charged {event.charged} for {tokens}")
        page.charged[attempt] = (tokens, money)
        self._spend(ref, page, Sum(tokens=tokens, money=money))

    def _refund(self, ref: RunRef, page: Page, event: e.GenerationSuperseded) -> None:
        attempt = (event.step, event.attempt)
        tokens, money = page.charged.pop(attempt, (0, 0))
        used = event.usage
        back = (tokens - used.tokens if used else 0, event.refunded_money)
        price = page.prices[attempt]
        if used and price and event.refunded_money:
            back = (back[0], money - price.of(used))
        if (event.refunded, event.refunded_money) != back:
            self._problem(ref, f"attempt {attempt} is refunded {event.refunded} of {tokens}")
        self._spend(ref, page, Sum(tokens=-back[0], money=-back[1]))

    def _begin_sampling(
        self,
        ref: RunRef,
        page: Page,
        before: RunState,
        event: e.SamplingRequested | e.SamplingClaimed,
    ) -> None:
        if isinstance(event, e.SamplingRequested):
            held = event.holder is not None
            page.samplings[event.ask] = Sampling(
                event.reserved, event.reserved_money, page.price, held
            )
            if not held:
                return
        else:
            page.samplings[event.ask].held = True
        self._not_held(ref, before, f"the model is asked for {event.ask}")

    def _end_sampling(
        self, ref: RunRef, page: Page, event: e.SamplingEnded | e.SamplingSettled
    ) -> None:
        """As with attempts: what it used; what nobody knows of, what was reserved (C12)."""
        one, usage = page.samplings[event.ask], event.usage
        tokens, money = one.tokens, one.money
        if isinstance(event, e.SamplingSettled):
            tokens -= usage.tokens if usage else tokens
            money -= one.price.of(usage) if usage and one.price else money
            if (event.refunded, event.refunded_money) != (tokens, money):
                self._problem(ref, f"{event.ask} is refunded {event.refunded}, not {tokens}")
            self._spend(ref, page, Sum(tokens=-tokens, money=-money))
            return
        failed = event.failure.kind if event.failure else ""
        if event.how == "abandoned":
            tokens, money = (tokens, money) if one.held else (0, 0)
        elif usage is not None or failed in REFUSED_BY_PROVIDER:
            used = usage or Usage()
            tokens = used.tokens
            money = one.price.of(used) if one.price else money if tokens else 0
        if (event.charged, event.charged_money) != (tokens, money):
            self._problem(ref, f"{event.ask} is charged {event.charged} for {tokens}")
        one.tokens, one.money, one.is_open = tokens, money, False
        self._spend(ref, page, Sum(tokens=tokens, money=money))

    def _spend(self, ref: RunRef, page: Page, what: Sum) -> None:
        page.own += what
        root = RunRef(ref.tenant, ref.job, self._root(ref).run)
        spent = self._spent[root] = self._spent[root] + what
        top = self._pages[root]
        if top.started and not top.continued:  # no hard limit is passed in a tree at any time
            self._within(root, top.limits, replace(spent, calls=0))

    def _within(self, ref: RunRef, limits: Limits, spent: Sum) -> None:
        for name, used, most in (
            ("steps", spent.steps, limits.steps_max),
            ("tokens", spent.tokens, limits.tokens_max),
            ("money", spent.money, limits.money_max),
            ("tool calls", spent.calls, limits.tool_calls_max),
        ):
            if most is not None and used > most:
                self._problem(ref, f"{used} {name} of {most} are spent or held back")

    def _root(self, ref: RunRef) -> RunRef:
        while (above := self._pages[ref].parent) is not None:
            ref = above
        return ref

    def _delegation(
        self, ref: RunRef, page: Page, event: e.DelegationRequested | e.DelegationSettled
    ) -> None:
        if isinstance(event, e.DelegationRequested):
            page.carved[event.child] = event.limits
            return
        page.carved.pop(event.child, None)
        child = RunRef(ref.tenant, ref.job, event.child)
        told = Sum(event.steps, event.tokens, event.money, event.tool_calls)
        page.settled[event.child] = told
        below = self._pages[child]
        if told != below.total:
            self._problem(ref, f"child {event.child} is settled with {told}, not {below.total}")
        if below.started and not below.over:
            self._problem(ref, f"child {event.child} is settled and at work")

    # ------------------------------------------------------------------ by whose leave

    def _people(
        self,
        ref: RunRef,
        before: RunState,
        event: e.ApprovalRequested | e.ApprovalDecided | e.QuestionAnswered,
    ) -> None:
        name = event.call if isinstance(event, e.QuestionAnswered) else event.approval
        call = before.calls.get(name)
        if isinstance(event, e.ApprovalRequested):
            if call is not None:
                self._leave.pop(call.key, None)
            return
        if isinstance(event, e.QuestionAnswered):
            if not event.expired:
                self._said(ref, event.command, name)
            return
        if event.by_rule and call is not None:
            verdict = self._verdict(self._pages[ref], before, call)
            if verdict != {"approved": "allow", "denied": "deny"}[event.verdict]:
                self._problem(ref, f"{name} is {event.verdict} by a rule, and the rules {verdict}")
        elif event.verdict in ("approved", "edited", "denied"):
            self._said(ref, event.command, name)
        if call is not None and event.verdict in ("approved", "edited"):
            asked = self._asked[call.key][1]
            self._leave[call.key] = digest(event.arguments or asked.arguments)

    def _said(self, ref: RunRef, command: str, name: str) -> None:
        """What a person decided is about exactly that call of exactly that run (C14)."""
        if self._ledger.said.get(command) != (ref, name):
            about = self._ledger.said.get(command)
            self._problem(ref, f"{name} was decided by {command}, which is about {about}")

    def stored(self, ref: RunRef, state: RunState) -> None:
        """One envelope is stored: what it holds back and what it lets go."""
        page = self._pages[ref]
        if page.started and not page.continued:
            self._committed(ref, page, state)
        for call in state.open_calls:
            goes = call.id in self._new and call.id not in state.approvals
            if goes and call.lane is not Lane.LOOP and self._verdict(page, state, call) != "allow":
                self._problem(ref, f"call {call.id} goes, and the rules do not allow it")
        self._new.clear()

    def _committed(self, ref: RunRef, page: Page, state: RunState) -> None:
        """What is spent, held back for an attempt and carved out is within the limits (C12)."""
        open_now = state.generation
        at_work = open_now is not None and open_now.phase == "open" and not page.over
        attempt = (open_now.step, open_now.attempt) if open_now and at_work else (0, 0)
        tokens, money = page.reserved.get(attempt, (0, 0))
        asked = [one for one in page.samplings.values() if one.is_open]
        tokens += sum(one.tokens for one in asked)
        money += sum(one.money for one in asked)
        carved = page.carved.values()
        if state.tokens_reserved != tokens + sum(one.tokens_max or 0 for one in carved):
            self._problem(ref, f"{state.tokens_reserved} tokens are reserved at {state.version}")
        committed = page.total + Sum(
            steps=sum(one.steps_max for one in carved),
            tokens=tokens + sum(one.tokens_max or 0 for one in carved),
            money=money + sum(one.money_max or 0 for one in carved),
            calls=sum(one.tool_calls_max or 0 for one in carved),
        )
        self._within(ref, page.limits, committed)

    def _verdict(self, page: Page, state: RunState, call: Call) -> Verdict:
        arguments = parse_arguments(call.arguments)
        asked = Asked(state.expert, call.skill, call.tool, arguments)
        return judge(page.layers, page.rules, asked).verdict

    def begins(self, call: ToolCall) -> None:
        """A tool begins a call, outside of the log."""
        key, now = call.key, now_s()
        leave = self._leave.get(key)
        if leave is None:
            self._problem(call.ref, f"call {call.call} began without leave")
            return
        if leave != digest_of(call.arguments.encode()):
            self._problem(call.ref, f"call {call.call} began with other arguments than allowed")
        since = self._kept.get(key)
        safety = self._asked[key][1].safety
        if since is not None and safety is Safety.UNSAFE and now > since:
            self._problem(call.ref, f"call {call.call} began {now - since:.3f} s after a pause")
        if key not in self._at_hand:
            self._nothing_begins(call.ref, f"call {call.call} begins")

    # ------------------------------------------------------------------ pauses

    def _hold(self, ref: RunRef, event: e.RunPaused | e.RunResumed, after: RunState) -> None:
        if isinstance(event, e.RunResumed):
            self._resumed(ref)
            if event.command in self._ledger.said:
                self._freed.add(ref)
            return
        self._paused[ref] = now_s()
        self._freed.discard(ref)
        for call in after.open_calls:
            if call.may_have_begun:
                self._at_hand.add(call.key)
            else:
                self._kept.setdefault(call.key, now_s())

    def _resumed(self, ref: RunRef) -> None:
        self._paused.pop(ref, None)
        kept = [key for key in self._kept if self._asked[key][0] == ref]
        for key in kept:
            del self._kept[key]

    def _not_held(self, ref: RunRef, before: RunState, what: str) -> None:
        if before.paused:
            self._problem(ref, f"{what} while it is paused")
        self._nothing_begins(ref, what)

    def _nothing_begins(self, ref: RunRef, what: str) -> None:
        """Under a pause that everybody has had the time to hear of, nothing new begins."""
        calm_s = self._ledger.calm_s
        since = self._held_since(ref)
        if calm_s is None or since is None or since < calm_s + SETTLED_S:
            return
        if now_s() > since + REACH_S:
            self._problem(ref, f"{what} {now_s() - since:.1f} s after a pause")

    def _held_since(self, ref: RunRef) -> float | None:
        node: RunRef | None = ref
        while node is not None and node not in self._freed:
            if node in self._paused:
                return self._paused[node]
            node = self._pages[node].parent
        return None

    # ------------------------------------------------------------------ the end

    def close(self, states: Mapping[RunRef, RunState]) -> None:
        """Each run's ledger is the sum of its parts, and the root's that of the whole tree."""
        for ref, state in states.items():
            page = self._pages[ref]
            total = page.total
            charged = Sum(total.steps, state.tokens_charged, state.money_charged, state.tool_calls)
            if charged != total:
                self._problem(ref, f"has charged {charged}, and its parts are {total}")
            for child, told in page.settled.items():
                below = self._pages[RunRef(ref.tenant, ref.job, child)]
                if told != below.total:
                    self._problem(ref, f"child {child} cost {below.total}, not {told}")
            if page.parent is None and state.at_rest and page.started:
                whole = self._spent[ref]
                if whole != total:
                    self._problem(ref, f"has charged {total}, and its tree cost {whole}")
        self._count_executions()

    def _count_executions(self) -> None:
        begun: defaultdict[RunRef, int] = defaultdict(int)
        for key in self._ledger.executions:
            if key in self._asked:
                begun[self._root(self._asked[key][0])] += 1
        for root, count in begun.items():
            most = self._pages[root].limits.tool_calls_max
            if most is not None and count > most and not self._pages[root].continued:
                self._problem(root, f"{count} calls ran in its tree, and {most} were allowed")


def digest(arguments: Text) -> str:
    """The content address of arguments, inline or not."""
    return arguments.digest if isinstance(arguments, BlobRef) else digest_of(arguments.encode())


def now_s() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()
