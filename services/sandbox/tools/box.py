"""The base skill's tool box: which tool does what, under which lock. Not the queue, not the room.

A call works at a *seat*: its run's place in a room. Tools that look hold nothing. Tools that change
files or run something go through the room's gate, so that a snapshot sees none of them half done,
and those that change files go one after the other.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from domain import base_tools as base
from domain.content import TextPart
from domain.decisions.tool_calls import ADD_FROM_CONFIG
from domain.redaction import Redactor
from services.sandbox.failures import Code, ToolError
from services.sandbox.room import Seat
from services.sandbox.tools import pictures, reading, writing
from services.sandbox.tools.answers import Answer, failure, result
from services.sandbox.tools.arguments import parse_arguments, team_arguments
from services.sandbox.tools.commands import run_command
from services.sandbox.tools.desk import Desk
from services.sandbox.tools.process_tools import use_process
from services.sandbox.tools.processes import Processes
from services.sandbox.tools.results import ReadWhole, read_result
from services.sandbox.tools.searching import grep
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

T = TypeVar("T")

Seats = Callable[[ToolCall], AbstractAsyncContextManager[Seat]]
"""The place a call works at; it is there as long as the context."""

FileTool = Callable[[Desk, Any], Answer]

LOOKING: Mapping[type[base.Arguments], FileTool] = {
    base.ReadTextFile: reading.read_text_file,
    base.ListDirectory: reading.list_directory,
    base.Glob: reading.glob,
    base.GetFileInfo: reading.get_file_info,
}
CHANGING: Mapping[type[base.Arguments], FileTool] = {
    base.WriteTextFile: writing.write_text_file,
    base.EditTextFile: writing.edit_text_file,
    base.AppendTextFile: writing.append_text_file,
    base.MoveFile: writing.move_file,
    base.DeleteFile: writing.delete_file,
    base.CreateDirectory: writing.create_directory,
}


class BaseToolBox:
    """Executes the sandbox lane of the base skill. Fills the port `ToolBox`.

    File tools run in a thread, since a disk may be slow; a call that is cancelled is over only when
    its thread is.
    """

    def __init__(
        self,
        seats: Seats,
        read_whole: ReadWhole,
        processes: Processes,
        redactor: Callable[[], Redactor] = Redactor,
    ) -> None:
        """`read_whole` finds the whole output of an earlier call.

        `redactor` knows the values of secrets: where something is cut it has to be asked before.
        """
        self._redactor = redactor
        self._seats = seats
        self._read_whole = read_whole
        self._processes = processes

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            Unavailable: there is no sandbox or no workspace; the call did not run.
        """
        try:
            if call.tool == ADD_FROM_CONFIG:
                return await self._read_config(call)
            arguments = parse_arguments(call.tool, call.arguments)
            if isinstance(arguments, base.ReadResult):
                whole, redactor = self._read_whole, self._redactor()
                return result(await read_result(whole, call.ref, arguments, redactor))
            async with self._seats(call) as seat:
                return await self._at(seat, arguments, call, on_output)
        except ToolError as error:
            return failure(error)

    async def _read_config(self, call: ToolCall) -> ToolResult:
        """The text of a definition file: what it means is for the loop to say."""
        asked = team_arguments(call.arguments)
        async with self._seats(call) as seat:
            desk = Desk(seat.room.workspace, seat.room.seen, seat.run)
            text = await in_thread(
                lambda: reading.text_of(asked.path, desk.look(asked.path).content), desk.stop
            )
        if len(text.encode()) > reading.READ_BYTES_MAX:
            message = f"{asked.path!r} is larger than {reading.READ_BYTES_MAX} bytes"
            raise ToolError(Code.TOO_LARGE, message)
        return ToolResult(content=(TextPart(text=text),), is_error=False)

    async def _at(
        self, seat: Seat, arguments: base.Arguments, call: ToolCall, on_output: OnOutput
    ) -> ToolResult:
        room = seat.room
        desk = Desk(room.workspace, room.seen, seat.run, self._redactor)
        if (look := LOOKING.get(type(arguments))) is not None:
            return result(await in_thread(lambda: look(desk, arguments), desk.stop))
        if (change := CHANGING.get(type(arguments))) is not None:
            _check_writable(seat, call.tool)
            async with room.gate.writing(), room.changes:
                return result(await in_thread(lambda: change(desk, arguments), desk.stop))
        match arguments:
            case base.Grep():
                return await grep(room.workspace, arguments, call, self._redactor())
            case base.ReadImageFile(path=path):
                image = await in_thread(lambda: pictures.look_at_image(desk, arguments), desk.stop)
                return pictures.image_result(path, image)
            case base.ReadPdfFile(path=path):
                document = await in_thread(lambda: pictures.look_at_pdf(desk, arguments), desk.stop)
                return await pictures.pdf_result(path, document, call, self._redactor())
            case base.Exec():
                async with room.gate.writing():
                    return await run_command(seat, arguments, call, on_output, self._redactor)
            case _:
                return result(await self._process(seat, arguments, call))

    async def _process(self, seat: Seat, arguments: base.Arguments, call: ToolCall) -> Answer:
        match arguments:
            case base.ReadProcess() | base.ListProcesses():
                return await use_process(self._processes, seat, arguments, call)
            case base.StartProcess() | base.WriteProcess() | base.StopProcess():
                async with seat.room.gate.writing():
                    return await use_process(self._processes, seat, arguments, call)
            case _:
                message = f"{type(arguments).__name__} are not arguments of a tool of this lane"
                raise AssertionError(message)


def _check_writable(seat: Seat, tool: str) -> None:
    if seat.read_only:
        message = f"{tool} was not run: this expert may read the workspace, but not change it"
        raise ToolError(Code.READ_ONLY, message)


async def in_thread(work: Callable[[], T], stop: threading.Event) -> T:
    """Do something off the event loop. A cancellation sets `stop` and waits for the thread."""
    doing = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cancelled = error
            stop.set()
    if cancelled is not None:
        doing.exception()  # whatever it was, the cancellation is the answer
        raise cancelled
    return doing.result()
