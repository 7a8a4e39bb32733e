"""A process that stays, as whoever talks to it sees it: two streams out, one in. Not where it runs.

The sandbox service offers such processes; the tool service speaks a protocol over them.
"""

from collections.abc import AsyncIterator
from typing import Literal, NamedTuple, Protocol


class Chunk(NamedTuple):
    """A piece of a stream; `offset` counts the bytes of that stream before it."""

    stream: Literal["stdout", "stderr"]
    offset: int
    data: bytes


class Process(Protocol):
    """A process that stays. Its streams have an order and a window: nothing is lost or piled up."""

    async def write(self, data: bytes) -> None:
        """Write to its standard input; waits while the process does not read.

        Raises:
            BrokenPipeError: it reads no more.
        """
        ...

    async def close_stdin(self) -> None:
        """Let it read the end of its input; closing twice is harmless."""
        ...

    def output(self) -> AsyncIterator[Chunk]:
        """What it prints, in order within each stream, until both have ended. For one reader.

        A process that is not read stops at its window and the kernel's pipe, and waits.
        """
        ...

    async def wait(self) -> int:
        """Its exit code, once it has ended by itself or was stopped."""
        ...

    async def stop(self, grace_s: float = 2.0) -> int:
        """SIGTERM to its group, then SIGKILL to all it started; nothing of it is left after."""
        ...
