"""Folds a stored history as a worker would, and makes each of its requests anew. Not a test."""

import asyncio
from typing import Any

from commands.history import Loaded, fold_stored
from commands.past import fork_in, read_past
from domain.content import Message, text_of
from domain.conversation import say
from domain.effects import TellParent, effects
from domain.envelope import decode
from domain.events import Event, GenerationRequested
from domain.evolve import evolve
from domain.prompt import request_digest
from domain.state import Conversation, RunState
from eventlog.memory import MemoryServer
from eventlog.port import Stored
from tests.support.invariants import check_answered, check_state, render


def replay(lines: list[bytes], source: list[bytes] | None = None) -> RunState:
    """The run after all its envelopes; the hash chain, versions and requests are checked.

    `source` is the log of the run that a fork was taken from.
    """
    ref = decode(lines[0]).ref
    past = None if source is None else asyncio.run(_past(lines, source))
    loaded = Loaded(RunState(ref=ref, past=past))
    for seq, line in enumerate(lines, start=1):
        envelope = decode(line)
        state = loaded.state
        for event in envelope.events:
            state = evolve(state, event)
            check_answered(render(state))
            if isinstance(event, GenerationRequested):
                messages = list(state.conversation.messages)
                assert request_anew(state.context, messages) == event.request
        loaded = fold_stored(loaded, Stored(seq, envelope.ref, line))
        check_state(loaded.state)
    return loaded.state


async def _past(lines: list[bytes], source: list[bytes]) -> RunState:
    """What a fork begins with, read as a worker reads it."""
    forked = fork_in([Stored(1, decode(lines[0]).ref, lines[0])])
    if forked is None:
        raise AssertionError
    backbone = MemoryServer(now_ms=lambda: 1).backbone()
    seq = 0
    for line in source:
        seq = await backbone.log.append(decode(line).ref, line, expected_seq=seq)
    tenant = decode(lines[0]).ref.tenant
    return (await read_past(backbone.log, tenant, forked.source, forked.results)).state


def request_anew(context: str, messages: list[Message]) -> str:
    """The digest of a request from its messages alone, with nothing kept from before."""
    conversation = Conversation()
    for message in messages:
        conversation = say(conversation, message)
    return request_digest(context, conversation.digest)


def events_of(lines: list[bytes]) -> list[Event]:
    """Every event of a history."""
    return [event for line in lines for event in decode(line).events]


def summary(state: RunState) -> dict[str, Any]:
    """What a history leads to, as it is committed beside it."""
    owed = [effect for effect in effects(state) if isinstance(effect, TellParent)]
    return {
        "run": "/".join(state.ref),
        "version": state.version,
        "status": state.status,
        "step": state.step,
        "result": state.result,
        "failure": state.failure_kind,
        "stopped_by": state.stopped_by,
        "limits": state.limits.model_dump(),
        "usage": state.usage.model_dump(),
        "tokens_charged": state.tokens_charged,
        "money_charged": state.money_charged,
        "tool_calls": state.tool_calls,
        "approvals": sorted(state.approvals),
        "paused": state.paused,
        "rules": len(state.rules) + len(state.rules_above),
        "definition": state.definition,
        "steps_left": state.steps_left,
        "tokens_left": state.tokens_left,
        "todos": [item.model_dump() for item in state.todos],
        "calls": {
            **{name: ended.outcome for name, ended in state.past_calls.items()},
            **{n: call.ended.outcome if call.ended else "" for n, call in state.calls.items()},
        },
        "late_results": sorted(state.late_results),
        "commands_seen": sorted(state.commands_seen),
        "unsettled": dict(state.unsettled),
        "conversation": state.conversation.digest,
        "messages": len(state.conversation.messages),
        "tells_parent": [[one.command.status, text_of(one.command.content)] for one in owed],
    }
