"""The work a state waits for: derived, never stored beside it (rule 2). Not its dispatch."""

from dataclasses import dataclass

from domain.commands import RecordDelegation, RestStatus, Standing, StartRun
from domain.content import ContentPart, TextPart
from domain.events import Parent, TimerArmed
from domain.ids import RunRef
from domain.loop_tools import delegate_task, is_completion, parse_arguments
from domain.state import Call, Checkpoint, RunState
from domain.tools import Lane


@dataclass(frozen=True, slots=True)
class Generate:
    """Get a reply of the model. `holder` None: whoever claims it."""

    step: int
    attempt: int
    holder: str | None


@dataclass(frozen=True, slots=True)
class CallTool:
    """Execute a call."""

    call: Call


@dataclass(frozen=True, slots=True)
class Sample:
    """Ask the run's model once for an open call. `holder` None: whoever claims it."""

    ask: str
    holder: str | None


@dataclass(frozen=True, slots=True)
class ReformTeam:
    """Carry out a call that changes the run's team."""

    call: Call


@dataclass(frozen=True, slots=True)
class StartChild:
    """Have a delegate's run started or told what is new, or its end told again."""

    child: RunRef
    command: StartRun


@dataclass(frozen=True, slots=True)
class CancelChild:
    """Have a delegate's run stopped."""

    child: RunRef
    parent: Parent


@dataclass(frozen=True, slots=True)
class ArmTimer:
    """Have a timer fire when it is due."""

    timer: TimerArmed


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Have the files of the workspace stored, as of a checkpoint."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class TellParent:
    """Tell the run that asked for this one how it ended."""

    parent: RunRef
    command: RecordDelegation


Effect = (
    Generate
    | CallTool
    | Sample
    | ReformTeam
    | StartChild
    | CancelChild
    | ArmTimer
    | TakeSnapshot
    | TellParent
)


def effects(state: RunState) -> tuple[Effect, ...]:
    """Everything this state waits for, in a fixed order."""
    found: list[Effect] = []
    if state.snapshot_due is not None and state.sandbox is not None and state.sandbox.snapshots:
        found.append(TakeSnapshot(state.snapshot_due))
    if state.at_rest:
        told = tell_parent(state)
        return (*found, told) if told else tuple(found)
    generation = state.generation
    kept = state.paused and generation is not None and generation.holder is None
    if generation and generation.phase == "open" and not state.cancelling and not kept:
        found.append(Generate(generation.step, generation.attempt, generation.holder))
    found.extend(_call_effects(state))
    found.extend(_samplings(state))
    found.extend(ArmTimer(timer) for timer in state.timers.values())
    return tuple(found)


def _call_effects(state: RunState) -> list[Effect]:
    found: list[Effect] = []
    for call in state.open_calls:
        if is_completion(call) or call.lane is Lane.PERSON or call.id in state.approvals:
            continue
        if call.lane is Lane.DELEGATE:
            continue
        if state.paused and not call.may_have_begun:
            continue
        found.append(ReformTeam(call) if call.lane is Lane.TEAM else CallTool(call))
    for call in started_children(state):
        if call.delegation is None:
            continue
        child = RunRef(state.ref.tenant, state.ref.job, call.delegation.child)
        if state.cancelling:
            found.append(CancelChild(child, Parent(run=state.ref.run, call=call.id)))
        else:
            found.append(StartChild(child, _start(state, call, child)))
    return found


def _samplings(state: RunState) -> list[Sample]:
    return [
        Sample(ask.id, ask.model_call.holder)
        for ask in state.asks.values()
        if ask.model_call is not None
        and ask.model_call.is_open
        and (ask.model_call.holder is not None or not state.paused)
    ]


def started_children(state: RunState) -> tuple[Call, ...]:
    """The open delegations that may be at work: the first `fan_out_max`; the others wait."""
    carved = [
        (call.delegation.number, call) for call in state.open_calls if call.delegation is not None
    ]
    carved.sort(key=lambda one: one[0])  # not in call order: one that is at work stays at work
    return tuple(call for _, call in carved[: state.limits.fan_out_max])


def _start(state: RunState, call: Call, child: RunRef) -> StartRun:
    arguments = parse_arguments(call.arguments) or {}
    entry = state.tool(call.tool)  # None: it was taken from the team since
    schema = entry.input_schema if entry else None
    task = delegate_task(arguments, schema) or delegate_task(arguments, {})
    standing = None
    if state.standing:
        standing = Standing(
            number=state.standing,
            paused=state.paused,
            turned=state.turned,
            rules=(*state.rules, *state.rules_above),
        )
    return StartRun(
        id=child.run,
        expert=call.delegation.expert if call.delegation else "",
        definition=state.definition,
        parts=(TextPart(text=task),),
        limits=call.delegation.limits if call.delegation else None,
        parent=Parent(run=state.ref.run, call=call.id),
        depth=state.depth + 1,
        standing=standing,
    )


def _apart(state: RunState) -> tuple[ContentPart, ...]:
    """What the caller of a delegate with a workspace of its own must know of it."""
    if state.sandbox is None or not state.sandbox.isolated:
        return ()
    text = (
        "\n[This delegate worked in a copy of the workspace. Its changes are not in yours: take "
        f'them over with mergeWorkspace, run "{state.ref.run}".]'
    )
    return (TextPart(text=text),)


def tell_parent(state: RunState) -> TellParent | None:
    """What a child at rest owes its parent; None for a root run."""
    if state.parent is None:
        return None
    status: RestStatus
    content: tuple[ContentPart, ...]
    if state.status == "completed":
        status, content = "completed", (TextPart(text=state.result or ""), *_apart(state))
    elif state.status == "stopped":
        message = f"The delegate stopped at its limit of {state.stopped_by}."
        status, content = "stopped", (TextPart(text=message),)
    elif state.status == "cancelled":
        status, content = "cancelled", (TextPart(text="The delegate was cancelled."),)
    else:
        message = f"The delegate failed: {state.failure_kind}: {state.failure_message}"
        status, content = "failed", (TextPart(text=message),)
    return TellParent(
        parent=RunRef(state.ref.tenant, state.ref.job, state.parent.run),
        command=RecordDelegation(
            call=state.parent.call,
            child=state.ref.run,
            status=status,
            content=content,
            steps=state.step + state.steps_delegated,
            tokens=state.tokens_charged,
            money=state.money_charged,
            tool_calls=state.tool_calls,
        ),
    )
