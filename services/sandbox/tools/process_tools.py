"""The tools for processes that stay: start, read, write, stop, list. Not who keeps them."""

import asyncio

from domain.base_tools import (
    ListProcesses,
    ReadProcess,
    StartProcess,
    StopProcess,
    WriteProcess,
)
from services.sandbox.capture import INLINE_BYTES_MAX
from services.sandbox.failures import Code, ToolError
from services.sandbox.port import STDIN_BYTES_MAX
from services.sandbox.room import Seat
from services.sandbox.tools.answers import Answer
from services.sandbox.tools.commands import command_of
from services.sandbox.tools.processes import Kept, Processes
from services.secrets.cuts import within
from services.worker.toolbox import ToolCall

LABEL_CHARACTERS_MAX = 200
WRITE_S = 10.0

ProcessArguments = StartProcess | ReadProcess | WriteProcess | StopProcess | ListProcesses


async def use_process(
    processes: Processes, seat: Seat, arguments: ProcessArguments, call: ToolCall
) -> Answer:
    """Execute one of the process tools.

    Raises:
        ToolError: no such process, or one that cannot be started or written to like that.
        SandboxUnavailable: a process did not start.
    """
    match arguments:
        case StartProcess():
            return await _start(processes, seat, arguments, call)
        case ListProcesses():
            return {"processes": [_described(kept) for kept in processes.of(seat)]}
        case ReadProcess():
            return await _read(processes.find(seat, arguments.handle), arguments, call)
        case WriteProcess():
            return await _write(processes.find(seat, arguments.handle), arguments, call)
        case StopProcess():
            return await _stop(processes.find(seat, arguments.handle))


async def _start(
    processes: Processes, seat: Seat, arguments: StartProcess, call: ToolCall
) -> Answer:
    """The handle is the call's: a start that is delivered twice finds its process."""
    command, ignored = command_of(seat, arguments, timeout_s=call.timeout_ms / 1000)
    words = (command.program, *command.args) if arguments.shell is None else (arguments.shell,)
    label = within(processes.redactor(), " ".join(words), stop=LABEL_CHARACTERS_MAX)
    kept = await processes.start(seat, f"p-{call.call}", label, command)
    answer: Answer = {"handle": kept.handle, "running": kept.running}
    return {**answer, "ignoredEnv": ignored} if ignored else answer


async def _read(kept: Kept, arguments: ReadProcess, call: ToolCall) -> Answer:
    offset = arguments.from_ or 0
    if offset < 0:
        offset = max(0, kept.output.total + offset)
    wait_s = min(arguments.wait or 0, call.timeout_ms) / 1000
    if wait_s:
        await kept.more_than(offset, wait_s)
    running = kept.running  # asked first: what it printed before its end is there to read
    begin, data = kept.output.read(offset, INLINE_BYTES_MAX)
    answer: Answer = {
        "handle": kept.handle,
        "output": data.decode("utf-8", "replace"),
        "from": begin,
        "to": begin + len(data),
        "totalBytes": kept.output.total,
        "running": running,
    }
    if begin > offset:
        answer["droppedBytes"] = begin - offset
    if begin + len(data) < kept.output.total:
        answer |= {"truncated": True, "more": f"readProcess from {begin + len(data)}"}
    return {**answer, **_end(kept)}


async def _write(kept: Kept, arguments: WriteProcess, call: ToolCall) -> Answer:
    data = arguments.text.encode()
    if len(data) > STDIN_BYTES_MAX:
        message = f"text is limited to {STDIN_BYTES_MAX} bytes a call"
        raise ToolError(Code.TOO_LARGE, message, size=len(data))
    try:
        async with asyncio.timeout(min(WRITE_S, call.timeout_ms / 1000)), kept.turn:
            if data:
                await kept.process.write(data)
            if arguments.close:
                await kept.process.close_stdin()
    except TimeoutError:
        message = f"process {kept.handle!r} does not read its input; only a part of it was written"
        raise ToolError(Code.TOO_SLOW, message) from None
    except BrokenPipeError:
        message = f"process {kept.handle!r} reads no more input"
        raise ToolError(Code.NO_PROCESS, message) from None
    return {"handle": kept.handle, "bytes": len(data), "running": kept.running}


async def _stop(kept: Kept) -> Answer:
    if kept.running:
        await kept.process.stop()
        await kept.ended()
    return {"handle": kept.handle, "totalBytes": kept.output.total, "running": False, **_end(kept)}


def _described(kept: Kept) -> Answer:
    return {
        "handle": kept.handle,
        "command": kept.label,
        "running": kept.running,
        "totalBytes": kept.output.total,
        **_end(kept),
    }


def _end(kept: Kept) -> Answer:
    if kept.lost:
        return {"lost": True}
    return {} if kept.exit_code is None else {"exitCode": kept.exit_code}
