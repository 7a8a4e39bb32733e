"""Start, continue, steer, pause, cancel and timers of a run. Not what happens inside a step."""

from domain import commands as c
from domain import events as e
from domain.content import AssistantMessage, ContentPart, FilePart
from domain.conversation import pending_message
from domain.decisions.advance import advance
from domain.decisions.people import adopt_standing, expire, resume
from domain.decisions.stopping import stop_at, wind_down
from domain.draft import Draft
from domain.errors import Rejected
from domain.state import RunState
from domain.tools import Lane

UNKNOWN_MESSAGE = (
    "It is not known whether this call took effect: the worker that ran it was lost or did not "
    "report in time. Check the outcome before you repeat it."
)
UNKNOWN_BODY = {"error": "outcome_unknown", "message": UNKNOWN_MESSAGE}


def start_run(draft: Draft, command: c.StartRun) -> None:
    """Begin, once: the same start again changes nothing."""
    state = draft.state
    if state.status != "new":
        if command.parent is not None:
            adopt_standing(draft, command.standing)
        if command.id in state.commands_seen or command.parent is not None:
            return
        if not state.expert:
            raise Rejected("cancelled", f"run {state.ref.run!r} was cancelled before it started")
        raise Rejected("run_exists", f"run {state.ref.run!r} exists; continue it instead")
    if not says_something(command.parts):
        raise Rejected("empty_input", "say what is to be done: a run starts with a task")
    context = draft.situation.context
    if context is None:
        msg = "a start needs its pinned context"
        raise Rejected("no_context", msg)
    limits = command.limits or context.limits
    if command.depth > limits.depth_max:
        msg = f"delegation is {command.depth} deep; limits.depthMax is {limits.depth_max}"
        raise Rejected("too_deep", msg)
    draft.emit(
        e.RunStarted(
            command=command.id,
            expert=command.expert,
            definition=command.definition,
            limits=limits,
            parent=command.parent,
            depth=command.depth,
            by=command.by,
        ),
        e.ContextPinned(
            renderer=context.renderer,
            context=context.digest,
            context_bytes=context.size,
            model=context.model,
            tools=context.tools,
            fallbacks=context.fallbacks,
            output_schema=context.output_schema,
        ),
    )
    if context.layers:
        draft.emit(e.PolicyPinned(layers=context.layers))
    adopt_standing(draft, command.standing)
    draft.emit(
        e.InputReceived(
            input=command.id,
            speaker="expert" if command.parent else "user",
            parts=command.parts,
            by=command.by,
        ),
    )
    watch_the_wall(draft)
    draft.request_attempt(1, 1)


def watch_the_wall(draft: Draft) -> None:
    """Have the run stopped when its time is over, if somebody has set one (C8)."""
    state = draft.state
    draft.arm(f"wall-{state.version}", "wall_time", state.limits.wall_ms_max)


def continue_run(draft: Draft, command: c.ContinueRun) -> None:
    """Hear what a person says; a run at rest goes on."""
    state = draft.state
    if command.id in state.commands_seen:
        return
    if not state.expert:
        raise Rejected("no_such_run", f"no run {state.ref.run!r}; start it first")
    if state.parent is not None:
        msg = (
            f"run {state.ref.run!r} answers a delegation of run {state.parent.run!r}; continue that"
        )
        raise Rejected("child_run", msg)
    if state.cancelling:
        msg = f"run {state.ref.run!r} is being cancelled; wait until it has stopped"
        raise Rejected("cancelling", msg)
    if state.at_rest:
        draft.emit(
            e.RunContinued(
                command=command.id,
                steps_max=command.steps_max,
                tokens_max=command.tokens_max,
                money_max=command.money_max,
                tool_calls_max=command.tool_calls_max,
                wall_ms_max=command.wall_ms_max,
                by=command.by,
            )
        )
    said = says_something(command.parts)
    if not said and not state.at_rest:
        raise Rejected("empty_input", "say something: a running run needs no bare continue")
    if not said and model_spoke_last(state):
        raise Rejected("empty_input", "say something: the model has answered all it was told")
    if said:
        _hear(draft, command)
    if state.at_rest:
        watch_the_wall(draft)
        draft.request_attempt(draft.state.step + 1, 1)


def _hear(draft: Draft, command: c.ContinueRun | c.SteerRun) -> None:
    draft.emit(
        e.InputReceived(input=command.id, speaker="user", parts=command.parts, by=command.by)
    )


def steer_run(draft: Draft, command: c.SteerRun) -> None:
    """Hear what a person says while the run works; `now`, in place of the reply being made."""
    state = draft.state
    if command.id in state.commands_seen:
        return
    _must_be_at_work(state)
    if not says_something(command.parts):
        raise Rejected("empty_input", "say something: there is nothing to steer by")
    _hear(draft, command)
    generation = state.generation
    if not command.now or generation is None or generation.phase == "over":
        return
    for timer in tuple(state.timers.values()):
        if timer.purpose == "retry":  # what it waits for comes now
            draft.emit(e.TimerFired(timer=timer.timer))
    draft.abandon("interrupted")
    draft.request_attempt(generation.step, generation.attempt + 1, anew=True)


def pause_run(draft: Draft, command: c.PauseRun) -> None:
    """Begin nothing new; what is at work is finished and recorded."""
    state = draft.state
    if command.id in state.commands_seen:
        return
    _must_be_at_work(state)
    draft.emit(e.RunPaused(command=command.id, by=command.by))


def resume_run(draft: Draft, command: c.ResumeRun) -> None:
    """Go on where the run was held."""
    state = draft.state
    if command.id in state.commands_seen:
        return
    _must_be_at_work(state)
    resume(draft, command.id, command.by)


def _must_be_at_work(state: RunState) -> None:
    if not state.expert:
        raise Rejected("no_such_run", f"no run {state.ref.run!r}; start it first")
    if state.at_rest:
        raise Rejected("at_rest", f"run {state.ref.run!r} is {state.status}; continue it instead")
    if state.cancelling:
        raise Rejected("cancelling", f"run {state.ref.run!r} is being cancelled")


def says_something(parts: tuple[ContentPart, ...]) -> bool:
    """Whether there is anything a provider would take as a message."""
    return any(isinstance(part, FilePart) or bool(part.text) for part in parts)


def model_spoke_last(state: RunState) -> bool:
    """Whether a request made now would end with the model's own words, which providers refuse."""
    messages = state.conversation.messages
    spoke = bool(messages) and isinstance(messages[-1], AssistantMessage)
    return spoke and pending_message(state) is None


def cancel_run(draft: Draft, command: c.CancelRun) -> None:
    """First phase: nothing new starts; what is claimed gets its grace (rule 9)."""
    state = draft.state
    if state.at_rest or state.cancelling or command.id in state.commands_seen:
        return
    draft.emit(
        e.CancelRequested(
            command=command.id, reason=command.reason, parent=command.parent, by=command.by
        )
    )
    wind_down(draft)


def fire_timer(draft: Draft, command: c.FireTimer) -> None:
    """A pending timer came due; any other is ignored (rule 10)."""
    timer = draft.state.timers.get(command.timer)
    if timer is None:
        return
    draft.emit(e.TimerFired(timer=command.timer))
    generation = draft.state.generation
    match timer.purpose:
        case "retry":
            if generation is not None:
                draft.request_attempt(generation.step, generation.attempt + 1)
        case "cancel_grace":
            for call in draft.state.open_calls:
                if call.lane is not Lane.DELEGATE:
                    draft.end_call(call, "outcome_unknown", UNKNOWN_BODY, is_error=True)
            advance(draft)
        case "answer_expiry":
            expire(draft, timer.timer)
        case "wall_time":
            stop_at(draft, "wall_time", timer.timer)
