"""Carry out a call that changes a run's team: read, change, store, then decide (rule 13)."""

from itertools import chain
from typing import Any

from commands.desk import Desk
from commands.discovery import discover, unresolved, with_catalogue
from commands.pinning import pin, read_definition
from domain.commands import CloseTeamCall, PinnedContext
from domain.content import BlobRef, Text
from domain.decisions.tool_calls import kept_back
from domain.definition import Definition
from domain.errors import Rejected, TooLarge, Unavailable
from domain.events import TeamAction
from domain.ids import RunRef
from domain.loop_tools import parse_arguments
from domain.policy import PolicyRule
from domain.record import canonical
from domain.state import Call, RunState
from domain.team import TeamChange
from domain.team import change_team as changed_team
from domain.tools import Lane

ACTIONS: dict[str, TeamAction] = {
    "createExpert": "createExpert",
    "addDelegate": "addDelegate",
    "removeDelegate": "removeDelegate",
    "addDelegateFromConfig": "addDelegateFromConfig",
    "addSkill": "addSkill",
    "removeSkill": "removeSkill",
}

TRIES_MAX = 64
"""How often a change is made again because another call of the same reply came first."""


async def change_team(desk: Desk, ref: RunRef, call: str) -> None:
    """Give an open call that changes the team its outcome; twice, it changes nothing.

    Raises:
        Unavailable: not now.
    """
    for _ in range(TRIES_MAX):
        state = (await desk.runs.fresh(ref)).state
        open_call = state.calls.get(call)
        if open_call is None or open_call.ended is not None or open_call.lane is not Lane.TEAM:
            return
        if state.cancelling or kept_back(state, open_call):
            return
        command, context = await _prepared(desk, state, open_call)
        try:
            decision = await desk.execute(ref, command, context)
        except TooLarge as error:
            decision = await desk.execute(ref, _failed(state, call, "too_large", str(error)))
        if decision.events:
            return
    msg = f"the team of run {ref.run!r} changed under every try to change it"
    raise Unavailable(msg)


async def _prepared(
    desk: Desk, state: RunState, call: Call
) -> tuple[CloseTeamCall, PinnedContext | None]:
    """The command that ends the call, and the context that it pins."""
    try:
        definition = await read_definition(desk, state.ref.tenant, state.definition)
        found = None
        if call.forwarded is not None:
            found = desk.parse_definition(await _text(desk, state, call.forwarded))
        arguments = parse_arguments(call.arguments) or {}
        action = ACTIONS[call.tool]
        rules = _rules_beside(state)
        change = changed_team(definition, state.expert, action, arguments, found, rules=rules)
        changed = await _with_tools(desk, state.ref, change.definition)
        child = state.parent is not None
        context = await pin(desk, state.ref.tenant, changed, state.expert, child=child)
    except Rejected as error:
        return _failed(state, call.id, error.code, error.message), None
    await desk.backbone.blobs.put(state.ref.tenant, changed.to_bytes())
    command = CloseTeamCall(
        call=call.id,
        base=state.definition,
        definition=changed.digest(),
        action=action,
        names=change.names,
        content=canonical(_result(change, context, action)).decode(),
    )
    return command, context


async def _with_tools(desk: Desk, ref: RunRef, definition: Definition) -> Definition:
    """The definition, with what each MCP server offers that has come to it.

    Raises:
        Rejected: one cannot be used, or nobody could say.
    """
    for key, expert in definition.experts.items():
        for skill in unresolved(expert):
            try:
                found = await discover(desk.backbone, ref, definition, key, skill)
            except Unavailable as error:
                raise Rejected("skill_failed", str(error)) from error
            definition = with_catalogue(definition, key, skill, found)
    return definition


def _result(change: TeamChange, context: PinnedContext, action: TeamAction) -> dict[str, Any]:
    """What the model is told; of a new skill, what its tools are called."""
    if action != "addSkill":
        return change.result
    tools = [tool.name for tool in context.tools if tool.skill in change.names]
    return {**change.result, "tools": tools}


def _failed(state: RunState, call: str, code: str, message: str) -> CloseTeamCall:
    said = canonical({"error": code, "message": message}).decode()
    return CloseTeamCall(call=call, base=state.definition, content=said, is_error=True)


def _rules_beside(state: RunState) -> tuple[PolicyRule, ...]:
    """The rules that hold for the run and are not in its definition."""
    operator = (layer.rules for layer in state.layers if layer.name == "operator")
    return (*chain.from_iterable(operator), *state.rules, *state.rules_above)


async def _text(desk: Desk, state: RunState, text: Text) -> str:
    if isinstance(text, BlobRef):
        data = await desk.backbone.blobs.get(state.ref.tenant, text.digest)
        return data.decode("utf-8", errors="replace")
    return text
