"""The base skill's tools as data: names, arguments, lanes and safety. Not what they do."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ConfigDict, Field

from domain.definition import BASE_SKILL
from domain.record import Record
from domain.tools import Lane, Safety, ToolEntry, ToolSpec

EXEC_TIMEOUT_MS_DEFAULT = 60_000
EXEC_TIMEOUT_MS_MAX = 3_600_000


class Arguments(Record):
    """Arguments of a base tool: closed and strict, so that a slip becomes an error to read.

    An optional argument given as `null` counts as left out: models write both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ReadTextFile(Arguments):
    """Arguments of `readTextFile`."""

    path: str = Field(description="File to read, relative to the workspace.")
    from_: int | None = Field(
        default=None, alias="from", ge=0, description="First line to read, counted from 0."
    )
    to: int | None = Field(
        default=None, ge=0, description="Line to stop before. Default: the end of the file."
    )


class WriteTextFile(Arguments):
    """Arguments of `writeTextFile`."""

    path: str = Field(description="File to write, relative to the workspace.")
    text: str = Field(description="The whole new content of the file.")


class EditTextFile(Arguments):
    """Arguments of `editTextFile`."""

    path: str = Field(description="File to edit, relative to the workspace.")
    old_text: str = Field(
        alias="oldText",
        min_length=1,
        description="Text to replace, exactly as in the file; it must occur exactly once.",
    )
    new_text: str = Field(alias="newText", description="Text to put in its place, literally.")


class ListDirectory(Arguments):
    """Arguments of `listDirectory`."""

    path: str = Field(
        default=".", description="Directory to list, relative to the workspace. Default: its root."
    )


class Exec(Arguments):
    """Arguments of `exec`."""

    command: str = Field(
        min_length=1, description='Program to run, without a shell: "python3", "git", "bash".'
    )
    args: tuple[str, ...] | None = Field(
        default=None,
        description='Arguments, one string each. For a shell: command "bash", args ["-c", "..."].',
    )
    env: dict[str, str] | None = Field(default=None, description="Extra environment variables.")
    cwd: str | None = Field(
        default=None, description="Working directory, relative to the workspace. Default: its root."
    )
    stdout: bool | None = Field(
        default=None, description="Whether to return standard output. Default: true."
    )
    stderr: bool | None = Field(
        default=None, description="Whether to return standard error. Default: true."
    )
    timeout: int | None = Field(
        default=None,
        ge=1,
        le=EXEC_TIMEOUT_MS_MAX,
        description=f"Milliseconds until it is killed. Default: {EXEC_TIMEOUT_MS_DEFAULT}.",
    )


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


class BaseTool(NamedTuple):
    """A tool of the base skill: as the model sees it, as deciding sees it, and its arguments."""

    spec: ToolSpec
    entry: ToolEntry
    arguments: type[Arguments]


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """A generated schema without what models stumble over: titles, and `null` as a second type."""
    kept = {key: value for key, value in field.items() if key not in {"title", "anyOf"}}
    for branch in field.get("anyOf", ()):
        if branch != {"type": "null"}:
            kept.update(branch)
    if kept.get("default", "") is None:
        del kept["default"]
    return dict(sorted(kept.items()))


def _parameters(arguments: type[Arguments]) -> dict[str, Any]:
    generated = arguments.model_json_schema(by_alias=True)
    properties = {name: _plain(field) for name, field in generated.get("properties", {}).items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(generated.get("required", [])),
        "additionalProperties": False,
    }


def _tool(
    name: str, arguments: type[Arguments], lane: Lane, safety: Safety, description: str
) -> BaseTool:
    return BaseTool(
        spec=ToolSpec(name=name, description=description, parameters=_parameters(arguments)),
        entry=ToolEntry(name=name, skill=BASE_SKILL, lane=lane, safety=safety),
        arguments=arguments,
    )


_TOOLS = (
    _tool(
        "readTextFile",
        ReadTextFile,
        Lane.SANDBOX,
        Safety.READ_ONLY,
        "Read a UTF-8 text file of the workspace, or the lines `from` (counted from 0) up to, but "
        "not including, `to`. Returns path, content, from, to and totalLines. "
        "Read large files in parts.",
    ),
    # The same bytes at the same path: doing it again changes nothing that this call did not
    # already change, and a write lost to a crash costs one more write instead of a question to
    # the model. What a second execution can undo is an edit that somebody made in between without
    # waiting for this call to end, and such an edit had no order to rely on in the first place.
    _tool(
        "writeTextFile",
        WriteTextFile,
        Lane.SANDBOX,
        Safety.IDEMPOTENT,
        "Create a UTF-8 text file in the workspace, or replace one as a whole; missing folders "
        "are created. Returns path, bytes and created. To change a part of it, use editTextFile.",
    ),
    _tool(
        "editTextFile",
        EditTextFile,
        Lane.SANDBOX,
        Safety.UNSAFE,
        "Replace one passage of a text file in the workspace. `oldText` must occur exactly once: "
        "include enough lines around it to be unique. Line endings of the file are kept.",
    ),
    _tool(
        "listDirectory",
        ListDirectory,
        Lane.SANDBOX,
        Safety.READ_ONLY,
        "List a directory of the workspace: name, type, size and time of change of each entry.",
    ),
    _tool(
        "exec",
        Exec,
        Lane.SANDBOX,
        Safety.UNSAFE,
        "Run a program in the sandbox, in the workspace, without network and without a shell. "
        'For pipes, redirection or variables use command "bash" with args ["-c", "..."]. '
        "Returns exitCode and output (standard output, then standard error). Nothing keeps "
        "running after the call: background processes are killed when the program ends.",
    ),
    _tool(
        "todo",
        Todo,
        Lane.LOOP,
        Safety.IDEMPOTENT,
        "Keep a list of what is to do: append titles with newTodos, mark ids as done with "
        "completedTodos. Returns the whole list each time; without arguments, just that.",
    ),
    _tool(
        "clearTodo",
        ClearTodo,
        Lane.LOOP,
        Safety.IDEMPOTENT,
        "Empty the list of what is to do; ids start at 0 again.",
    ),
    _tool(
        "attemptCompletion",
        AttemptCompletion,
        Lane.LOOP,
        Safety.IDEMPOTENT,
        "End the work with a result, once everything is done. While something is left on the list "
        "of what is to do, it returns that instead and the work goes on.",
    ),
)

BASE_TOOLS: dict[str, BaseTool] = {tool.spec.name: tool for tool in _TOOLS}
"""Every base tool by name."""


def base_tool(name: str) -> BaseTool | None:
    """The base tool of that name, if there is one."""
    return BASE_TOOLS.get(name)


def select_base_tools(
    *,
    pick: Sequence[str] = (),
    omit: Sequence[str] = (),
    tools: Mapping[str, BaseTool] = BASE_TOOLS,
) -> dict[str, BaseTool]:
    """The base tools that a skill declaration leaves.

    `omit` is taken away first, then `pick` keeps only what it names; an empty `pick` keeps all.
    A name that no tool has is for whoever reads the declaration to report.
    """
    left = {name: tool for name, tool in tools.items() if name not in omit}
    return {name: tool for name, tool in left.items() if not pick or name in pick}
