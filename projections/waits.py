"""What waits for a person in a run, folded from its events as they are. Not a view that is kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

from domain import events as e
from domain.asks import Elicitation
from domain.content import BlobRef, Text
from domain.decisions.people import arguments_digest
from domain.errors import Rejected
from domain.evolve import evolve
from domain.ids import RunRef
from domain.state import Approval, Ask, Call, Conversation, RunState, changed
from eventlog.port import Blobs

WaitKind = Literal["question", "ask", "approval", "budget"]
"""`ask`: what a tool asks in the middle of its call, which goes on with the answer."""

DIGEST_CHARS = 8
"""How much of a digest is written where people read it: `c2-0@1f3a9c2e`."""


NOTHING_SAID = Conversation(whole=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Something a person has to answer or to decide. `digest` is that of the arguments (C14)."""

    ref: RunRef
    expert: str
    id: str  # of the call or of what it asks, or `budget-N`
    kind: WaitKind
    since_ms: int
    due_ms: int | None = None  # when it expires
    tool: str = ""
    skill: str = ""
    arguments: Text = ""
    about: Elicitation | None = None  # what a tool asks
    digest: str = ""
    reason: str = ""
    limit: e.LimitName | None = None  # the soft limit that would be passed
    soft: int | None = None  # tokens, or micro-USD, as the next two
    used: int | None = None
    most: int | None = None  # the hard limit; None without one

    @property
    def name(self) -> str:
        """Its id and the beginning of the digest of what the person is shown."""
        return f"{self.id}@{self.digest[:DIGEST_CHARS]}" if self.digest else self.id


class _Asked(NamedTuple):
    event: e.ApprovalRequested | e.QuestionAsked
    since_ms: int
    call: Call | None


class Look:
    """One run as its events leave it, and since when and why what waits in it does.

    What was said is let go as it is heard, unless it is asked for: a look is to cost little.
    """

    __slots__ = ("_asked", "_messages", "state")

    def __init__(self, ref: RunRef, *, messages: bool = False) -> None:
        self._messages = messages
        self.state = RunState(ref=ref)
        self._asked: dict[str, _Asked] = {}

    def hear(self, event: e.Event, version: int, at_ms: int) -> None:
        """The next event of the run; one that was heard already changes nothing."""
        if version <= self.state.version:
            return
        self.state = evolve(changed(self.state, at_ms=at_ms), event)
        if not self._messages:
            self.state = changed(self.state, conversation=NOTHING_SAID)
        if isinstance(event, e.ApprovalRequested):
            call = self.state.calls.get(event.approval)
            self._asked[event.approval] = _Asked(event, at_ms, call)
        elif isinstance(event, e.QuestionAsked):
            self._asked[event.call] = _Asked(event, at_ms, self.state.calls.get(event.call))

    def asked_of(self, name: str) -> Wait | None:
        """The call that waited under that name once, as the model made it; None for any other."""
        asked = self._asked.get(name)
        if asked is None or asked.call is None:
            return None
        question = isinstance(asked.event, e.QuestionAsked)
        return Wait(
            ref=self.state.ref,
            expert=self.state.expert,
            id=name,
            kind="question" if question else "approval",
            since_ms=asked.since_ms,
            due_ms=asked.event.due_ms,
            tool=asked.call.tool,
            skill=asked.call.skill,
            arguments=asked.call.arguments,
        )

    @property
    def waits(self) -> tuple[Wait, ...]:
        """What waits in this run, in the order it was asked for."""
        state = self.state
        if state.status != "running":
            return ()
        found = [self._approval(name, one) for name, one in state.approvals.items()]
        found.extend(
            self._question(call)
            for call in state.open_calls
            if call.asked and call.id not in state.approvals
        )
        found.extend(self._ask(ask) for ask in state.questions)
        return tuple(sorted(found, key=lambda wait: wait.since_ms))

    def _approval(self, name: str, approval: Approval) -> Wait:
        state, (asked, since_ms, _) = self.state, self._asked[name]
        reason = asked.reason if isinstance(asked, e.ApprovalRequested) else ""
        soft = asked.soft if isinstance(asked, e.ApprovalRequested) else None
        if approval.limit is not None:
            money = approval.limit == "money"
            return Wait(
                ref=state.ref,
                expert=state.expert,
                id=name,
                kind="budget",
                since_ms=since_ms,
                due_ms=approval.due_ms,
                reason=reason,
                limit=approval.limit,
                soft=soft,
                used=state.money_charged - state.money_base
                if money
                else state.tokens_charged - state.tokens_base,
                most=state.limits.money_max if money else state.limits.tokens_max,
            )
        call = state.calls[name]
        return Wait(
            ref=state.ref,
            expert=state.expert,
            id=name,
            kind="approval",
            since_ms=since_ms,
            due_ms=approval.due_ms,
            tool=call.tool,
            skill=call.skill,
            arguments=call.arguments,
            digest=approval.digest,
            reason=reason,
        )

    def _ask(self, ask: Ask) -> Wait:
        state, call = self.state, self.state.calls[ask.call]
        return Wait(
            ref=state.ref,
            expert=state.expert,
            id=ask.id,
            kind="ask",
            since_ms=ask.since_ms,
            due_ms=ask.due_ms,
            tool=call.tool,
            skill=call.skill,
            about=ask.about if isinstance(ask.about, Elicitation) else None,
        )

    def _question(self, call: Call) -> Wait:
        state, (asked, since_ms, _) = self.state, self._asked[call.id]
        return Wait(
            ref=state.ref,
            expert=state.expert,
            id=call.id,
            kind="question",
            since_ms=since_ms,
            due_ms=asked.due_ms,
            tool=call.tool,
            skill=call.skill,
            arguments=call.arguments,
            digest=arguments_digest(call),
        )


def find_wait(waits: Iterable[Wait], name: str | None, kinds: frozenset[WaitKind]) -> Wait:
    """The wait of that name (`c2-0`, or `c2-0@1f3a9c2e`), or the only one there is.

    Raises:
        Rejected: `not_waiting`, `several_wait`, or `other_arguments`: it waits with other ones.
    """
    fitting = [wait for wait in waits if wait.kind in kinds]
    what = "approval" if kinds == APPROVALS else "question"
    if name is None:
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise Rejected("not_waiting", f"no {what} waits here")
        raise Rejected("several_wait", f"several wait; say which: {_named(fitting)}")
    wanted, _, digest = name.partition("@")
    found = [wait for wait in fitting if wait.id == wanted]
    if not found:
        there = _named(fitting) or "nothing"
        raise Rejected("not_waiting", f"no {what} {wanted!r} waits here; {there} does")
    if len(found) > 1:
        runs = " and ".join(wait.ref.run for wait in found)
        raise Rejected("several_wait", f"{wanted!r} waits in {runs}: name the run that you mean")
    if not found[0].digest.startswith(digest):
        message = f"{wanted!r} waits with other arguments than those you were shown"
        raise Rejected("other_arguments", message)
    return found[0]


QUESTIONS: frozenset[WaitKind] = frozenset({"question"})
ANSWERABLE: frozenset[WaitKind] = frozenset({"question", "ask"})
APPROVALS: frozenset[WaitKind] = frozenset({"approval", "budget"})


def _named(waits: Iterable[Wait]) -> str:
    return ", ".join(dict.fromkeys(wait.id for wait in waits))


async def arguments_of(blobs: Blobs, wait: Wait) -> str:
    """The exact arguments as text, wherever they are kept.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: they are not what was stored.
    """
    if isinstance(wait.arguments, BlobRef):
        return (await blobs.get(wait.ref.tenant, wait.arguments.digest)).decode("utf-8", "replace")
    return wait.arguments


async def wait_json(blobs: Blobs, wait: Wait) -> dict[str, Any]:
    """What waits, as plain JSON: what a program has to show before it answers or decides.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: the arguments are not what was stored.
    """
    facts: dict[str, Any] = {
        "job": wait.ref.job,
        "run": wait.ref.run,
        "expert": wait.expert,
        "id": wait.id,
        "kind": wait.kind,
        "since_ms": wait.since_ms,
        "due_ms": wait.due_ms,
        "digest": wait.digest,
        "reason": wait.reason,
    }
    if wait.kind == "budget":
        money = wait.limit == "money"
        unit = "micro_usd" if money else "tokens"
        figures = {"limit": wait.limit, "unit": unit, "soft": wait.soft}
        return facts | figures | {"used": wait.used, "most": wait.most}
    if wait.about is not None:
        asked = wait.about.model_dump(mode="json", exclude={"kind"})
        return facts | {"tool": wait.tool, "skill": wait.skill} | asked
    text = await arguments_of(blobs, wait)
    return facts | {"tool": wait.tool, "skill": wait.skill, "arguments": parsed(text)}


def parsed(text: str) -> Any:  # noqa: ANN401 - any JSON
    """The value that a text is the JSON of; the text itself when it is none."""
    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return text
