"""What follows when something of a step is over: the next thing, or rest. Not a command's own."""

from domain import events as e
from domain.content import AssistantMessage, Text, TextPart, text_of
from domain.draft import Draft
from domain.loop_tools import Result, completion_result, is_completion, remaining_todos, typed_text
from domain.state import Call

CUT_NOTE = (
    "Your reply was cut off at the output limit. Go on from where it ended; write long content to "
    "files in several smaller calls."
)


def advance(draft: Draft) -> None:
    """Settle a cancel, end the step when all its calls are over, and ask for the next reply."""
    state = draft.state
    if state.cancelling:
        settle_cancel(draft)
        return
    generation = state.generation
    if state.status != "running" or generation is None or generation.phase != "over":
        return
    if state.step_over:
        go_on(draft)
        return
    if any(not is_completion(call) for call in state.open_calls):
        return
    result: Result | None = None
    for call in draft.state.open_calls:
        result = _complete(draft, call) or result
    draft.emit(e.StepEnded(step=state.step))
    if not state.calls:
        result = _implicit_result(draft)
    if result is not None and not draft.state.inputs:
        text = result.text or ("" if result.typed else _last_text(draft))
        draft.emit(e.RunCompleted(step=state.step, result=text, typed=result.typed))
        return
    if draft.state.calls_over:
        draft.emit(e.RunStopped(limit="tool_calls", step=state.step))
        return
    draft.request_attempt(state.step + 1, 1)


def go_on(draft: Draft) -> None:
    """Ask for what a run that was held was about to ask for."""
    state = draft.state
    if state.status != "running" or state.cancelling:
        return
    generation = state.generation
    if generation is None or (generation.phase == "over" and state.step_over):
        draft.request_attempt(state.step + 1, 1)
    elif generation.phase == "backoff" and not any(
        timer.purpose == "retry" for timer in state.timers.values()
    ):
        draft.request_attempt(generation.step, generation.attempt + 1, anew=bool(state.inputs))


def _complete(draft: Draft, call: Call) -> Result | None:
    """End a call of attemptCompletion; the result of the run, if that is what it is."""
    todos = remaining_todos(draft.state)
    if todos:
        draft.end_call(call, "succeeded", {"remainingTodos": todos})
        return None
    result = completion_result(call.arguments, draft.state.output_schema)
    if isinstance(result, str):
        body = {"error": "invalid_result", "message": result}
        draft.end_call(call, "failed", body, is_error=True)
        return None
    draft.end_call(call, "succeeded", {})
    return result


def _implicit_result(draft: Draft) -> Result | None:
    """A reply without calls is the end, unless it was cut at the output limit or refused."""
    state = draft.state
    if state.inputs:
        return None
    text = _last_text(draft)
    if state.output_schema is None:
        return Result(text, typed=False)
    typed = typed_text(text, state.output_schema)
    if isinstance(typed, Result):
        return typed
    draft.note("untyped", str(state.step), f"Your answer is not what was asked for: {typed}")
    return None


def _last_text(draft: Draft) -> Text:
    messages = draft.state.conversation.messages
    last = messages[-1] if messages else None
    if not isinstance(last, AssistantMessage):
        return ""
    texts = [part for part in last.parts if isinstance(part, TextPart)]
    if len(texts) == 1:
        return texts[0].text
    return text_of(tuple(texts))


def settle_cancel(draft: Draft) -> None:
    """The run is cancelled as soon as nothing of it is at work any more (rule 9)."""
    state = draft.state
    if state.open_calls:
        return
    if state.stopping is None:
        draft.emit(e.RunCancelled(step=state.step))
    else:
        draft.emit(e.RunStopped(limit=state.stopping, step=state.step))
