"""`exec`: a command run to its end, and what is answered of it. Not the sandbox it runs in."""

import codecs
from collections.abc import Callable
from dataclasses import replace

from domain.base_tools import Exec, StartProcess
from domain.base_tools.commands import EXEC_TIMEOUT_MS_DEFAULT
from domain.redaction import DataStream, Redactor
from services.sandbox.capture import INLINE_BYTES_MAX, joined
from services.sandbox.environment import allowed_env
from services.sandbox.failures import Code, ToolError
from services.sandbox.port import STDIN_BYTES_MAX, Command, OnBytes, Outcome
from services.sandbox.room import Seat
from services.sandbox.tools.answers import Answer, read_on, result
from services.sandbox.tools.arguments import vector_of
from services.worker.toolbox import OnOutput, ToolCall, ToolResult


def command_of(
    seat: Seat, arguments: Exec | StartProcess, *, timeout_s: float, stdin: bytes = b""
) -> tuple[Command, list[str]]:
    """The command as the sandbox is to run it, and the variables it was not given.

    What the seat gives to every command stands above what a model asks for.

    Raises:
        ToolError: it cannot be run like that.
    """
    program, args = vector_of(arguments)
    asked, refused = allowed_env(arguments.env or {})
    theirs = {*seat.env, *seat.secret_env}
    kept = {name: value for name, value in asked.items() if name not in theirs}
    command = Command(
        program=program,
        args=args,
        env={**kept, **seat.env},
        secret_env=seat.secret_env,
        cwd=seat.room.workspace.directory(arguments.cwd or "."),
        timeout_s=timeout_s,
        stdin=stdin,
    )
    return command, sorted((*refused, *(asked.keys() & theirs)))


async def run_command(
    seat: Seat,
    arguments: Exec,
    call: ToolCall,
    on_output: OnOutput,
    redactor: Callable[[], Redactor],
) -> ToolResult:
    """Run a command to its end; who watches hears its output meanwhile.

    Each of its streams is cleaned by itself: a value in one may be interrupted by the other.

    Raises:
        ToolError: it cannot be run like that.
        SandboxUnavailable: it did not run.
    """
    stdin = (arguments.stdin or "").encode()
    if len(stdin) > STDIN_BYTES_MAX:
        message = f"stdin is limited to {STDIN_BYTES_MAX} bytes; write a file and redirect it"
        raise ToolError(Code.TOO_LARGE, message, size=len(stdin))
    timeout_ms = min(arguments.timeout or EXEC_TIMEOUT_MS_DEFAULT, call.timeout_ms)
    command, ignored = command_of(seat, arguments, timeout_s=timeout_ms / 1000, stdin=stdin)
    command = replace(command, clean=lambda: DataStream(redactor))
    on_stdout = None if arguments.stdout is False else as_text(on_output)
    on_stderr = None if arguments.stderr is False else as_text(on_output)
    sandbox = await seat.sandbox()
    outcome = await sandbox.exec(command, on_stdout=on_stdout, on_stderr=on_stderr)
    for capture, hear in ((outcome.stdout, on_stdout), (outcome.stderr, on_stderr)):
        rest = capture.finish()
        if hear is not None:
            await hear(rest)
    return _answer(arguments, outcome, ignored, call)


def _answer(arguments: Exec, outcome: Outcome, ignored: list[str], call: ToolCall) -> ToolResult:
    streams = (
        *((outcome.stdout,) if arguments.stdout is not False else ()),
        *((outcome.stderr,) if arguments.stderr is not False else ()),
    )
    output, truncated = joined(streams, INLINE_BYTES_MAX)
    answer: Answer = {"exitCode": outcome.exit_code, "output": output}
    if outcome.timed_out:
        answer["timedOut"] = True
    elif outcome.killed_by:
        answer["killedBy"] = outcome.killed_by
    if truncated:
        answer["truncated"] = True
        answer["outputBytes"] = sum(stream.total for stream in streams)
        answer["more"] = read_on(call.call)
    if ignored:
        answer["ignoredEnv"] = ignored
    answer["durationMs"] = outcome.duration_ms
    return result(
        answer,
        is_error=outcome.timed_out or outcome.exit_code != 0,
        full_output=b"".join(stream.whole() for stream in streams) if truncated else None,
    )


def as_text(on_output: OnOutput) -> OnBytes:
    """A listener for one stream's bytes that passes on whole characters."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def hear(chunk: bytes) -> None:
        text = decoder.decode(chunk)
        if text:
            await on_output(text)

    return hear
