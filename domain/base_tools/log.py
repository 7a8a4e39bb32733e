"""Arguments of the tools whose state is the log itself. Not what deciding makes of them."""

from pydantic import Field

from domain.base_tools.arguments import Arguments


class Todo(Arguments):
    """Arguments of `todo`."""

    new_todos: tuple[str, ...] | None = Field(
        default=None, alias="newTodos", description="Titles to append to the list."
    )
    completed_todos: tuple[int, ...] | None = Field(
        default=None, alias="completedTodos", description="Ids, counted from 0, to mark as done."
    )


class ClearTodo(Arguments):
    """Arguments of `clearTodo`: none."""


class AttemptCompletion(Arguments):
    """Arguments of `attemptCompletion`."""

    result: str | None = Field(
        default=None, description="The final answer to the task, complete in itself."
    )
