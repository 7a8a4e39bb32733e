"""How a command runs its coroutine, logs and writes. Not what it does."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from peritus.logs import hidden, log_to_stderr

__all__ = ["Out", "log_to_stderr", "notice", "run_async"]

Result = TypeVar("Result")


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, on uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def notice(text: str) -> None:
    """Say something that is not the result of the command."""
    for line in hidden(text).splitlines():
        print(f"peritus: {line}", file=sys.stderr, flush=True)  # noqa: T201


class Out:
    """Standard output, written in a thread: a reader that stalls must not stall the leases."""

    async def write(self, text: str | bytes) -> None:
        """Write and flush.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if text:
            data = text.encode("utf-8", "replace") if isinstance(text, str) else text
            await asyncio.to_thread(_write, data)


def _write(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # What is left in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
