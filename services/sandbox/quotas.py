"""Keeps a workspace within its quota: before a call that writes, and while a command runs.

Soft: a command may write more than it should until the next look, and is ended then.
"""

import asyncio
from collections.abc import Awaitable, Callable

from domain.sandbox import MIB, SandboxLimits
from services.sandbox.failures import Code, ToolError
from services.sandbox.quota import QuotaWatch, Usage
from services.sandbox.room import Room
from services.sandbox.tools.answers import failure
from services.worker.toolbox import ToolResult

LOOK_S = 1.0
"""How often a workspace is looked at while a command runs, in seconds."""

ROOM_BYTES, ROOM_FILES = 16 * MIB, 10_000
"""How much a command may add to a workspace that is full, so that it can tidy up."""

COMMANDS = frozenset({"exec", "startProcess"})
FREEING = COMMANDS | {"deleteFile", "moveFile", "writeProcess", "stopProcess"}


async def within_quota(
    room: Room,
    limits: SandboxLimits,
    tool: str,
    work: Callable[[], Awaitable[ToolResult]],
    *,
    watched: bool = False,
) -> ToolResult:
    """What a call that may write comes to; a failure when the workspace is too full for it.

    `watched`: it may write much while it goes on, as commands do.
    """
    if room.quota is None:
        room.quota = QuotaWatch(room.workspace.fileno(), limits)
    watch = room.quota
    before = await asyncio.to_thread(watch.check)
    if before.over and tool not in FREEING:
        message = f"{tool} was not run: {before.over}; delete what is not needed first"
        return failure(ToolError(Code.NO_SPACE, message))
    if not watched and tool not in COMMANDS:
        return await work()
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(_caught(work))
        watching = tasks.create_task(_until_over(watch, before))
        await asyncio.wait((call, watching), return_when=asyncio.FIRST_COMPLETED)
        if call.done():
            watching.cancel()
        else:
            call.cancel()
    if call.cancelled():
        return failure(ToolError(Code.NO_SPACE, f"the command was ended: {watching.result()}"))
    result = call.result()
    if isinstance(result, Exception):
        raise result
    return result


async def _caught(work: Callable[[], Awaitable[ToolResult]]) -> ToolResult | Exception:
    """The result or the error, so that the group around it does not wrap that."""
    try:
        return await work()
    except Exception as error:  # noqa: BLE001 - raised again by whoever waits
        return error


async def _until_over(watch: QuotaWatch, before: Usage) -> str:
    """Why the workspace holds too much, once it does and this command has made it so."""
    while True:
        await asyncio.sleep(LOOK_S)
        now = await asyncio.to_thread(watch.check)
        grown = now.bytes - before.bytes > ROOM_BYTES or now.files - before.files > ROOM_FILES
        if now.over and (grown or not before.over):
            return now.over
