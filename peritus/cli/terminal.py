"""Connects this terminal, or this command's streams, to a process in a sandbox. Not the sandbox."""

import asyncio
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager, suppress

from eventlog.jetstream.tasks import background
from peritus.cli.loop import Out, notice
from services.sandbox.port import Command, Sandbox
from services.sandbox.process import readable
from services.worker.process import Chunk, Process

STDIN, STDERR = 0, 2
READ_BYTES = 64 * 1024

WITH_TERMINAL = """\
if command -v python3 >/dev/null; then
  exec python3 -c 'import os, pty, sys
code = os.waitstatus_to_exitcode(pty.spawn(("/bin/sh", "-c", sys.argv[1])))
sys.exit(code if code >= 0 else 128 - code)' "$1"
elif command -v script >/dev/null; then
  exec script -qefc "$1" /dev/null
fi
echo 'peritus: there is neither python3 nor script inside, so no terminal' >&2
exec /bin/sh -c "$1"
"""
"""Runs a script under a terminal of the sandbox's own: none of ours is ever in there."""

SHELL = "stty rows {rows} cols {columns} 2>/dev/null; exec $(command -v bash || echo sh) -i"


def interactive() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


async def run_inside(sandbox: Sandbox, words: Sequence[str]) -> int:
    """Run a program, or without words a shell, to its end, with our own streams; its exit code.

    Raises:
        SandboxUnavailable: it did not start.
        BrokenPipeError: nobody reads what it prints.
    """
    with_terminal = not words and interactive() and await _has_terminals(sandbox)
    process = await sandbox.start(_command(words, with_terminal=with_terminal))
    try:
        with _raw(with_terminal):
            async with background(_feed(process, forward=not (words and sys.stdin.isatty()))):
                await _show(process.output())
                return await process.wait()
    finally:
        await process.stop()


async def _has_terminals(sandbox: Sandbox) -> bool:
    """Whether one can be made inside; the degraded tier has none."""
    tried = await sandbox.exec(Command("/bin/sh", ("-c", ": <>/dev/ptmx")))
    if tried.exit_code:
        notice("no terminal can be had inside: lines are sent when they are complete")
    return not tried.exit_code


def _command(words: Sequence[str], *, with_terminal: bool) -> Command:
    env = {"TERM": os.environ.get("TERM", "dumb")}
    if words:
        return Command(words[0], tuple(words[1:]), env)
    if not with_terminal:
        return Command("/bin/sh", ("-i",) if interactive() else (), env)
    size = shutil.get_terminal_size()
    shell = SHELL.format(rows=size.lines, columns=size.columns)
    return Command("/bin/sh", ("-c", WITH_TERMINAL, "sh", shell), env)


async def _show(output: AsyncIterator[Chunk]) -> None:
    out = Out()
    async for chunk in output:
        if chunk.stream == "stdout":
            await out.write(chunk.data)
        else:
            await asyncio.to_thread(_write_all, STDERR, chunk.data)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


async def _feed(process: Process, *, forward: bool) -> None:
    """Hand on what comes in, until either side has had enough."""
    with suppress(BrokenPipeError):
        waits = forward and _can_be_waited_for(STDIN)
        while forward:
            if waits:
                await readable(STDIN)
            data = os.read(STDIN, READ_BYTES)
            if not data:
                break
            await process.write(data)
        await process.close_stdin()


def _can_be_waited_for(descriptor: int) -> bool:
    """A plain file is always ready, and cannot be waited for."""
    with select.epoll() as poll:
        try:
            poll.register(descriptor, select.EPOLLIN)
        except PermissionError:
            return False
    return True


@contextmanager
def _raw(wanted: bool) -> Generator[None]:  # noqa: FBT001 - a condition
    """Every key goes inside, Ctrl-C too; the terminal is as before afterwards."""
    if not wanted:
        yield
        return
    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)
