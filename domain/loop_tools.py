"""The tools whose state is the run itself: todo, clearTodo, attemptCompletion. Never dispatched."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from domain import events as e
from domain.base_tools import Todo
from domain.content import Text
from domain.draft import Draft
from domain.schema_rules import depth_of
from domain.schemas import schema_problem
from domain.state import Call, RunState
from domain.tools import Lane

TODO = "todo"
CLEAR_TODO = "clearTodo"
ATTEMPT_COMPLETION = "attemptCompletion"

FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n```", re.DOTALL)

JSON_DEPTH_MAX = 64
"""How deep arguments and results may be nested: far below what anything that reads them bears."""

TODOS_MAX = 200
TODO_TITLE_CHARS_MAX = 500


def parse_arguments(arguments: Text) -> dict[str, Any] | None:
    """The arguments as an object; None when they are not one, or too long to be read here."""
    if not isinstance(arguments, str):
        return None
    try:
        value = parse_json(arguments or "{}")
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value that everybody can read: no NaN, no number without an end, not nested too deep.

    Raises:
        ValueError: it is none.
    """
    try:
        value: Any = json.loads(text)
        if depth_of(value) > JSON_DEPTH_MAX:
            msg = f"nested more than {JSON_DEPTH_MAX} levels deep"
            raise ValueError(msg)
        # A lone surrogate escape is JSON but has no UTF-8 form, so no event could hold it.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        msg = "nested too deep"
        raise ValueError(msg) from None
    return value


class Result(NamedTuple):
    """What an expert says it came to; `typed`: JSON of its output schema."""

    text: Text
    typed: bool


def completion_result(arguments: Text, schema: Mapping[str, object] | None) -> Result | str:
    """The `result` of attemptCompletion, empty when it gave none; or what is wrong with it."""
    value: Any = (parse_arguments(arguments) or {}).get("result")
    if schema is None:
        value = value or ""
        return Result(value if isinstance(value, str) else json.dumps(value), typed=False)
    return _typed(value, schema)


def typed_text(text: Text, schema: Mapping[str, object]) -> Result | str:
    """A reply that is to be data; or what is wrong with it."""
    if not isinstance(text, str):
        return "it is longer than 32 KiB; write long content to files and name them."
    try:
        value = parse_json(_unfenced(text))
    except ValueError:
        return "it is not JSON. Reply with the JSON value alone."
    return _typed(value, schema)


def _typed(value: object, schema: Mapping[str, object]) -> Result | str:
    problem = schema_problem(schema, value)
    if problem is not None:
        return f"{problem}. Correct it and answer again."
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Result(text, typed=True)


def _unfenced(text: str) -> str:
    """Without the fence that models like to put around code."""
    found = FENCED.fullmatch(text.strip())
    return found[1] if found else text


def is_completion(call: Call) -> bool:
    """Whether a call is the loop's own attemptCompletion, not a tool of that name."""
    return call.tool == ATTEMPT_COMPLETION and call.lane is Lane.LOOP


def delegate_task(arguments: dict[str, Any], schema: Mapping[str, object] | None) -> str:
    """What a delegate is told: its query, or the data of its input schema as JSON."""
    if schema is not None:
        return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    query = arguments.get("query", "")
    return query if isinstance(query, str) and query.strip() else ""


def remaining_todos(state: RunState) -> list[dict[str, Any]]:
    """The open entries of the todo list: while there are any, completion waits."""
    return [item.model_dump() for item in state.todos if not item.completed]


def run_loop_tool(draft: Draft, call: Call) -> None:
    """Decide a loop tool at once. attemptCompletion stays open until the step's other calls end."""
    if call.tool == ATTEMPT_COMPLETION:
        return
    if call.tool == CLEAR_TODO:
        draft.emit(e.TodoChanged(items=(), next_id=0))
    else:
        asked = _todo_arguments(call)
        problem = asked if isinstance(asked, str) else _todo_problem(draft.state, asked)
        if isinstance(asked, str) or problem:
            body = {"error": "invalid_arguments", "message": problem}
            draft.end_call(call, "failed", body, is_error=True)
            return
        draft.emit(_changed_todos(draft.state, asked))
    items = [item.model_dump() for item in draft.state.todos]
    draft.end_call(call, "succeeded", {"todos": items})


def _todo_arguments(call: Call) -> Todo | str:
    """What is to change; or what is wrong with it, in words."""
    try:
        text = call.arguments if isinstance(call.arguments, str) else ""
        return Todo.model_validate_json(text or "{}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}; use newTodos (texts) and completedTodos (ids)"


def _todo_problem(state: RunState, asked: Todo) -> str | None:
    new = asked.new_todos or ()
    if any(len(title) > TODO_TITLE_CHARS_MAX for title in new):
        return f"a todo has at most {TODO_TITLE_CHARS_MAX} characters; write details to a file"
    if len(state.todos) + len(new) > TODOS_MAX:
        return f"at most {TODOS_MAX} todos; clear the list with clearTodo first"
    first = state.todo_next_id
    known = {item.id for item in state.todos} | set(range(first, first + len(new)))
    missing = [number for number in asked.completed_todos or () if number not in known]
    if missing:
        return f"no todo has id {missing[0]}; the ids are {sorted(known)}"
    return None


def _changed_todos(state: RunState, asked: Todo) -> e.TodoChanged:
    new, done = asked.new_todos or (), asked.completed_todos or ()
    first = state.todo_next_id
    items = [*state.todos, *(e.TodoItem(id=first + n, title=new[n]) for n in range(len(new)))]
    return e.TodoChanged(
        items=tuple(
            item.model_copy(update={"completed": True}) if item.id in done else item
            for item in items
        ),
        next_id=first + len(new),
    )
