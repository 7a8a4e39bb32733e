"""A run at one of its checkpoints, as facts, and what two of them differ in. Not their files."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from commands.checkpoints import Checkpoint, at_step, checkpoints_of, messages_at, state_at
from commands.wording import call_line, clean, short
from domain.content import (
    AssistantMessage,
    CallPart,
    Message,
    ResultPart,
    TextPart,
    text_of,
)
from domain.ids import RunRef
from domain.state import Call, RunState
from eventlog.port import EventLog

LINE_CHARS = 200


class At(NamedTuple):
    """A run at one of its checkpoints. `ref` is the run that was asked about."""

    ref: RunRef
    point: Checkpoint
    state: RunState

    @property
    def owner(self) -> RunRef:
        """The run whose step it is: for a fork's past, the run it was forked from."""
        return RunRef(self.ref.tenant, self.point.job, self.point.run)

    @property
    def messages(self) -> list[Message]:
        """What was said up to there."""
        return messages_at(self.state)


async def run_at(log: EventLog, ref: RunRef, step: int) -> At:
    """A run at the end of a step.

    Raises:
        NoSuchRun: the log knows nothing of it.
        Rejected: that step has not ended.
        Unavailable: the log is away.
        IntegrityViolated: what is stored is not what was written.
    """
    point = at_step(await checkpoints_of(log, ref), step, ref.run)
    return At(ref, point, await state_at(log, ref, point))


@dataclass(frozen=True, slots=True)
class Compared:
    """What differs: of the state by name, before and after, and of what was said, as a diff."""

    state: dict[str, tuple[Any, Any]]
    messages: list[str]


def compare(first: At, second: At) -> Compared:
    """What is otherwise at the second checkpoint."""
    was, now = (summary(one.state) for one in (first, second))
    changed = {key: (was[key], now[key]) for key in was if was[key] != now[key]}
    told, told_then = (list(lines_of(one.messages)) for one in (first, second))
    lines = list(difflib.unified_diff(told, told_then, lineterm="", n=1))[2:]
    return Compared(changed, lines)


def summary(state: RunState) -> dict[str, Any]:
    """What of a state is compared."""
    return {
        "step": state.step,
        "model": f"{state.model.provider} {state.model.model}" if state.model else "",
        "definition": state.definition[:12],
        "tokens": state.tokens_charged,
        "micro_usd": state.money_charged,
        "calls": {
            name: one.ended.outcome if one.ended else "open" for name, one in state.calls.items()
        },
        "todos": [f"{'x' if one.completed else ' '} {one.title}" for one in state.todos],
        "paused": state.paused,
    }


def lines_of(messages: Sequence[Message]) -> Iterator[str]:
    """Messages as lines, each part short enough to compare."""
    for message in messages:
        who = "model" if isinstance(message, AssistantMessage) else "told"
        for part in message.parts:
            match part:
                case TextPart(text=str() as text):
                    yield f"{who}: {short(text, LINE_CHARS)}"
                case CallPart(tool=tool, arguments=arguments):
                    yield f"{who}: calls {call_line(tool, arguments)}"
                case ResultPart(tool=tool, content=content):
                    yield f"result of {clean(tool)}: {short(text_of(content), LINE_CHARS)}"
                case _:
                    yield f"{who}: ({part.kind})"


def state_facts(state: RunState, result: str, children: Sequence[str]) -> dict[str, Any]:
    """What there is to say of a run, as plain JSON."""
    return {
        "tenant": state.ref.tenant,
        "job": state.ref.job,
        "run": state.ref.run,
        "expert": state.expert,
        "status": state.status,
        "cancelling": state.cancelling,
        "paused": state.paused,
        "version": state.version,
        "step": state.step,
        "steps_left": state.steps_left,
        "tokens_left": state.tokens_left,
        "micro_usd_charged": state.money_charged,
        "micro_usd_left": state.money_left,
        "model": state.model.model_dump(mode="json") if state.model else None,
        "usage": state.usage.model_dump(mode="json"),
        "parent": state.parent.model_dump(mode="json") if state.parent else None,
        "children": list(children),
        "calls": [_call_facts(call) for call in state.calls.values()],
        "todos": [item.model_dump(mode="json") for item in state.todos],
        "unknown_events": list(state.unknown_events),
        "result": result if state.status == "completed" else None,
        "failure": f"{state.failure_kind}: {state.failure_message}" if state.failure_kind else None,
        "stopped_by": state.stopped_by or None,
    }


def _call_facts(call: Call) -> dict[str, Any]:
    ended = call.ended
    return {
        "call": call.id,
        "tool": call.tool,
        "line": call_line(call.tool, call.arguments),
        "outcome": None if ended is None else ended.outcome,
        "held_by": call.holder if ended is None else None,
        "child": call.delegation.child if call.delegation else None,
        "content": "" if ended is None else text_of(ended.content),
    }
