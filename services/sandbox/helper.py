"""A process that works on something hostile for us and can be killed. Not a sandbox for commands.

For work in our own Python code whose *time* an input decides: a search by a model's expression, the
text of a PDF. It is no barrier against code that has been taken over.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

LINE_BYTES_MAX = 4 * 1024 * 1024

# Isolated from environment and folder, but it finds what this process finds.
START = "import sys; sys.path[:] = sys.argv[2:]; __import__(sys.argv[1], fromlist=['main']).main()"


class Helper:
    """A running helper: what it says, line by line."""

    def __init__(self, process: asyncio.subprocess.Process, stdout: asyncio.StreamReader) -> None:
        self._process = process
        self._stdout = stdout

    async def hear(self, take: Callable[[Any], None], timeout_s: float) -> None:
        """Take the JSON values it says, one by one, until it ends or the time is over."""
        until = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                async with asyncio.timeout_at(until):
                    line = await self._stdout.readline()
            except TimeoutError:
                return
            if not line.endswith(b"\n"):  # the end, or a line that a kill cut off
                return
            take(json.loads(line))

    async def end(self) -> None:
        """Kill it, if it still lives, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def helper(
    module: str, request: bytes, pass_fds: Sequence[int] = ()
) -> AsyncGenerator[Helper]:
    """Start `main` of a module with a request on its standard input; it is gone afterwards."""
    path = [place for place in sys.path if place]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", START, module, *path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=pass_fds,
        cwd="/",
        env={},
        start_new_session=True,
        limit=LINE_BYTES_MAX,
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError(module)
    running = Helper(process, process.stdout)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(request)
            await process.stdin.drain()
        process.stdin.close()
        yield running
    finally:
        await asyncio.shield(running.end())
