"""How a command runs its coroutine, logs and writes. Not what it does."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

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


def log_to_stderr(level: str) -> None:
    """Log lines of that level and above, and nothing of what libraries say below a warning."""
    logging.basicConfig(
        stream=sys.stderr,
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]),
        format="peritus: %(levelname)s: %(message)s",
    )
    # It logs what its caller is told anyway, with a traceback.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    for name in ("commands", "domain", "eventlog", "gateway", "peritus", "projections", "services"):
        logging.getLogger(name).setLevel(level.upper())


def notice(text: str) -> None:
    """Say something that is not the result of the command."""
    for line in text.splitlines():
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
