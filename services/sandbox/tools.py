"""The base skill's tool box: arguments checked, tools run, answers worded. Not the work queue."""

import asyncio
import codecs
import difflib
import json
import re
import weakref
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from domain.base_tools import (
    BASE_TOOLS,
    EXEC_TIMEOUT_MS_DEFAULT,
    Arguments,
    EditTextFile,
    Exec,
    ListDirectory,
    ReadTextFile,
    WriteTextFile,
    base_tool,
)
from domain.content import TextPart
from domain.ids import RunRef
from domain.tools import Lane
from services.sandbox.bubblewrap import Bubblewrap, Command, Outcome
from services.sandbox.capture import INLINE_BYTES_MAX, joined
from services.sandbox.failures import Code, ToolError
from services.sandbox.files import (
    Answer,
    edit_text_file,
    list_directory,
    read_text_file,
    write_text_file,
)
from services.sandbox.process import OnBytes
from services.sandbox.view import allowed_env
from services.sandbox.workspace import Workspace
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

SHELL_SYNTAX = re.compile(r"[\s|&;<>()$`\"'*?{}~#]")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ARGUMENT_BYTES_MAX = 128 * 1024  # what Linux takes for one
ARGUMENTS_BYTES_MAX = 1024 * 1024
ARGUMENTS_MAX = 4000  # bubblewrap counts to 9000, a variable as three
VARIABLES_MAX = 1000


class BaseToolBox:
    """Executes the sandbox lane of the base skill in the workspace of each call's job.

    File tools run in a thread, since a disk may be slow; a call that is cancelled is over only when
    its thread is. Changes to one workspace go one after the other, or two edits of a file that
    a model asks for in one reply would lose one of them.
    """

    def __init__(self, workspace_of: Callable[[RunRef], Path], bubblewrap: Bubblewrap) -> None:
        self._workspace_of = workspace_of
        self._bubblewrap = bubblewrap
        self._changes: weakref.WeakValueDictionary[Path, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            SandboxUnavailable: there is no sandbox or no workspace; the call did not run.
        """
        try:
            arguments = parse_arguments(call.tool, call.arguments)
            root = self._workspace_of(call.ref)
            with Workspace(root) as workspace:
                if isinstance(arguments, Exec):
                    return await self._exec(workspace, arguments, call, on_output)
                if isinstance(arguments, WriteTextFile | EditTextFile):
                    async with self._changes.setdefault(root, asyncio.Lock()):
                        answer = await _in_thread(workspace, arguments)
                else:
                    answer = await _in_thread(workspace, arguments)
        except ToolError as error:
            return _result(
                {"error": error.code, "message": error.message, **error.details}, is_error=True
            )
        return _result(answer)

    async def _exec(
        self, workspace: Workspace, arguments: Exec, call: ToolCall, on_output: OnOutput
    ) -> ToolResult:
        _check_command(arguments)
        env, ignored = allowed_env(arguments.env or {})
        cwd = workspace.directory(arguments.cwd or ".")
        timeout_ms = min(arguments.timeout or EXEC_TIMEOUT_MS_DEFAULT, call.timeout_ms)
        outcome = await self._bubblewrap.exec(
            workspace,
            Command(
                program=arguments.command,
                args=arguments.args or (),
                env=env,
                cwd=cwd,
                timeout_s=timeout_ms / 1000,
            ),
            on_stdout=None if arguments.stdout is False else _as_text(on_output),
            on_stderr=None if arguments.stderr is False else _as_text(on_output),
        )
        return _exec_result(arguments, outcome, ignored)


def parse_arguments(tool: str, text: str) -> Arguments:
    """The arguments of a call to a tool of the sandbox lane.

    Raises:
        ToolError: no such tool here, or arguments that it does not take.
    """
    known = base_tool(tool)
    if known is None or known.entry.lane is not Lane.SANDBOX:
        names = [name for name, one in BASE_TOOLS.items() if one.entry.lane is Lane.SANDBOX]
        message = f"there is no tool {tool!r} here; there are {', '.join(names)}"
        raise ToolError(Code.UNKNOWN_TOOL, message)
    try:
        return known.arguments.model_validate_json(text or "{}")
    except ValidationError as error:
        takes = list(known.spec.parameters["properties"])
        problems = "; ".join(
            _problem(str(one["type"]), one["loc"], one["msg"], takes)
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        )
        message = f"{tool} was not run: {problems}"
        raise ToolError(Code.INVALID_ARGUMENTS, message) from None


def _problem(kind: str, place: tuple[int | str, ...], said: str, takes: list[str]) -> str:
    name = ".".join(str(part) for part in place)
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(name, takes, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        return f"unknown argument {name!r}{hint} (it takes {', '.join(takes)})"
    if kind == "missing":
        return f"argument {name!r} is missing"
    if not place:
        return f"the arguments are not a JSON object ({said})"
    return f"argument {name!r}: {said}"


def _check_command(arguments: Exec) -> None:
    """Say beforehand what could only fail in the sandbox in words that mislead."""
    if arguments.args is None and SHELL_SYNTAX.search(arguments.command):
        message = (
            f"there is no shell, so {arguments.command!r} would be the name of one program; use "
            f'command="bash", args=["-c", {json.dumps(arguments.command)}], or give what follows '
            "the program in args"
        )
        raise ToolError(Code.SHELL_SYNTAX, message)
    if arguments.command.startswith("-"):
        raise ToolError(Code.INVALID_ARGUMENTS, "command is the program, not an option of it")
    words = (arguments.command, *(arguments.args or ()), *(arguments.env or {}).values())
    if any("\0" in word for word in words):
        raise ToolError(Code.INVALID_ARGUMENTS, "no argument may contain a NUL character")
    if len(arguments.args or ()) > ARGUMENTS_MAX or len(arguments.env or {}) > VARIABLES_MAX:
        message = (
            f"at most {ARGUMENTS_MAX} args and {VARIABLES_MAX} variables fit; write a file and "
            "pass its name, or use xargs"
        )
        raise ToolError(Code.TOO_LARGE, message)
    sizes = [len(word.encode()) for word in words]
    if max(sizes) >= ARGUMENT_BYTES_MAX or sum(sizes) > ARGUMENTS_BYTES_MAX:
        message = (
            f"arguments are limited to {ARGUMENT_BYTES_MAX} bytes each and {ARGUMENTS_BYTES_MAX} "
            "together; write a file and pass its name"
        )
        raise ToolError(Code.TOO_LARGE, message)
    for name in arguments.env or {}:
        if ENV_NAME.fullmatch(name) is None:
            message = f"env: {name!r} is not the name of a variable"
            raise ToolError(Code.INVALID_ARGUMENTS, message)


def _file_tool(workspace: Workspace, arguments: Arguments) -> Answer:
    match arguments:
        case ReadTextFile():
            return read_text_file(workspace, arguments)
        case WriteTextFile():
            return write_text_file(workspace, arguments)
        case EditTextFile():
            return edit_text_file(workspace, arguments)
        case ListDirectory():
            return list_directory(workspace, arguments)
        case _:
            message = f"{type(arguments).__name__} are not arguments of a file tool"
            raise AssertionError(message)


async def _in_thread(workspace: Workspace, arguments: Arguments) -> Answer:
    """Run a file tool off the event loop. A cancellation waits until the thread is done."""
    work = asyncio.get_running_loop().run_in_executor(None, _file_tool, workspace, arguments)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # whatever it was, the cancellation is the answer
        raise cancelled
    return work.result()


def _exec_result(arguments: Exec, outcome: Outcome, ignored: list[str]) -> ToolResult:
    streams = (
        *((outcome.stdout,) if arguments.stdout is not False else ()),
        *((outcome.stderr,) if arguments.stderr is not False else ()),
    )
    output, truncated = joined(streams, INLINE_BYTES_MAX)
    answer: Answer = {"exitCode": outcome.exit_code, "output": output}
    if outcome.timed_out:
        answer["timedOut"] = True
    if truncated:
        answer["truncated"] = True
        answer["outputBytes"] = sum(stream.total for stream in streams)
    if ignored:
        answer["ignoredEnv"] = sorted(ignored)
    answer["durationMs"] = outcome.duration_ms
    return _result(
        answer,
        is_error=outcome.timed_out or outcome.exit_code != 0,
        full_output=b"".join(stream.whole() for stream in streams) if truncated else None,
    )


def _result(
    answer: Answer, *, is_error: bool = False, full_output: bytes | None = None
) -> ToolResult:
    text = json.dumps(answer, ensure_ascii=False)
    return ToolResult((TextPart(text=text),), is_error, full_output)


def _as_text(on_output: OnOutput) -> OnBytes:
    """A listener for one stream's bytes that passes on whole characters."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def hear(chunk: bytes) -> None:
        text = decoder.decode(chunk)
        if text:
            await on_output(text)

    return hear
