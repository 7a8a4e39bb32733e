"""A process that stays in a container: fills the port `Process`. Not one that is waited for."""

from collections.abc import AsyncIterator

from services.sandbox.docker.running import Running, in_time
from services.worker.process import Chunk


class StayingProcess:
    """A command as a process with streams; see the port."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def write(self, data: bytes) -> None:
        """Write to its standard input; waits while the process does not read.

        Raises:
            BrokenPipeError: it reads no more.
        """
        await self._running.stream.write(data)

    async def close_stdin(self) -> None:
        """Let it read the end of its input; closing twice is harmless."""
        self._running.stream.finish()

    async def output(self) -> AsyncIterator[Chunk]:
        """What it prints, until both streams have ended. For one reader."""
        while (chunk := await self._running.stream.piece()) is not None:
            yield chunk

    async def wait(self) -> int:
        """Its exit code, once it has ended by itself or was stopped."""
        await self._running.ended()
        await self._running.kill()
        return await self._running.exit_code()

    async def stop(self, grace_s: float = 2.0) -> int:
        """SIGTERM to its group, then SIGKILL to all it started."""
        try:
            await self._running.terminate()
            await in_time(self._running.ended, grace_s)
        finally:
            await self._running.kill()
        return await self._running.exit_code()
