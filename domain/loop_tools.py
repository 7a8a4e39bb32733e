"""The tools whose state is the run itself: todo, clearTodo, attemptCompletion. Not executed anywhere else."""

import json
from typing import Any

from domain import events as e
from domain.content import Text
from domain.draft import Draft
from domain.state import Call, RunState

TODO = "todo"
CLEAR_TODO = "clearTodo"
ATTEMPT_COMPLETION = "attemptCompletion"

TODOS_MAX = 200


def parse_arguments(arguments: Text) -> dict[str, Any] | None:
    """The arguments as an object; None when they are not one, or too long to be read here."""
    if not isinstance(arguments, str):
        return None
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def completion_result(arguments: Text) -> str:
    """The `result` of attemptCompletion; empty when it gave none."""
    value = (parse_arguments(arguments) or {}).get("result", "")
    return value if isinstance(value, str) else json.dumps(value)


def remaining_todos(state: RunState) -> list[dict[str, Any]]:
    """The open entries of the todo list: while there are any, completion waits."""
    return [item.model_dump() for item in state.todos if not item.completed]


def run_loop_tool(draft: Draft, call: Call) -> None:
    """Decide a loop tool at once. attemptCompletion stays open until the step's other calls end."""
    if call.tool == ATTEMPT_COMPLETION:
        return
    arguments = parse_arguments(call.arguments) or {}
    if call.tool == CLEAR_TODO:
        draft.emit(e.TodoChanged(items=(), next_id=0))
    else:
        problem = _todo_problem(draft.state, arguments)
        if problem:
            body = {"error": "invalid_arguments", "message": problem}
            draft.end_call(call, "failed", body, is_error=True)
            return
        draft.emit(_changed_todos(draft.state, arguments))
    items = [item.model_dump() for item in draft.state.todos]
    draft.end_call(call, "succeeded", {"todos": items})


def _todo_problem(state: RunState, arguments: dict[str, Any]) -> str | None:
    new, done = arguments.get("newTodos", []), arguments.get("completedTodos", [])
    unknown = set(arguments) - {"newTodos", "completedTodos"}
    if unknown:
        return f"unknown parameters {sorted(unknown)}; use newTodos and completedTodos"
    if not isinstance(new, list) or not all(isinstance(title, str) for title in new):
        return "newTodos must be a list of strings"
    if not isinstance(done, list) or not all(type(number) is int for number in done):
        return "completedTodos must be a list of todo ids (integers)"
    known = {item.id for item in state.todos} | set(
        range(state.todo_next_id, state.todo_next_id + len(new))
    )
    missing = [number for number in done if number not in known]
    if missing:
        return f"no todo has id {missing[0]}; the ids are {sorted(known)}"
    if len(state.todos) + len(new) > TODOS_MAX:
        return f"at most {TODOS_MAX} todos; clear the list with clearTodo first"
    return None


def _changed_todos(state: RunState, arguments: dict[str, Any]) -> e.TodoChanged:
    next_id = state.todo_next_id
    items = list(state.todos)
    for title in arguments.get("newTodos", []):
        items.append(e.TodoItem(id=next_id, title=title))
        next_id += 1
    done = set(arguments.get("completedTodos", []))
    changed = tuple(
        item.model_copy(update={"completed": True}) if item.id in done else item for item in items
    )
    return e.TodoChanged(items=changed, next_id=next_id)
