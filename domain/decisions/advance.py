"""What follows when something of a step is over: the next thing, or rest. Not a command's own."""

from domain import events as e
from domain.content import AssistantMessage, Text, TextPart, text_of
from domain.draft import Draft
from domain.loop_tools import completion_result, is_completion, remaining_todos

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
    if any(not is_completion(call) for call in state.open_calls):
        return
    result: Text | None = None
    for call in draft.state.open_calls:
        todos = remaining_todos(draft.state)
        draft.end_call(call, "succeeded", {"remainingTodos": todos} if todos else {})
        if not todos:
            result = completion_result(call.arguments)
    draft.emit(e.StepEnded(step=state.step))
    if not state.calls:
        result = _implicit_result(draft)
    if result is not None and not draft.state.inputs:
        draft.emit(e.RunCompleted(step=state.step, result=result or _last_text(draft)))
        return
    draft.request_attempt(state.step + 1, 1)


def _implicit_result(draft: Draft) -> Text | None:
    """A reply without calls is the end, unless it was cut at the output limit or refused."""
    return None if draft.state.inputs else _last_text(draft)


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
    if not draft.state.open_calls:
        draft.emit(e.RunCancelled(step=draft.state.step))
