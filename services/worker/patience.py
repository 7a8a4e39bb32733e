"""How long a call may take. The clock stands still while it waits for a person, or for a model."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager


class Patience:
    """The time limit of one call, for everybody who bounds a part of it."""

    def __init__(self, timeout_s: float) -> None:
        """Every scope may take so long, without the times of standing still."""
        self.timeout_s = timeout_s
        self._scopes: dict[asyncio.Timeout, float | None] = {}  # and what is left, while it stands
        self._still = 0

    @property
    def still(self) -> bool:
        """Whether the clock stands still."""
        return self._still > 0

    @asynccontextmanager
    async def scope(self) -> AsyncGenerator[asyncio.Timeout]:
        """Ends with TimeoutError when the time is over."""
        async with asyncio.timeout(self.timeout_s) as timeout:
            self._scopes[timeout] = None
            if self._still:
                self._stop(timeout)
            try:
                yield timeout
            finally:
                del self._scopes[timeout]

    @contextmanager
    def standing_still(self) -> Generator[None]:
        """What is spent in here does not count."""
        self._still += 1
        if self._still == 1:
            for timeout in self._scopes:
                self._stop(timeout)
        try:
            yield
        finally:
            self._still -= 1
            if not self._still:
                for timeout in self._scopes:
                    self._go_on(timeout)

    def _stop(self, timeout: asyncio.Timeout) -> None:
        when = timeout.when()
        if when is not None and not timeout.expired():
            self._scopes[timeout] = when - asyncio.get_running_loop().time()
            timeout.reschedule(None)

    def _go_on(self, timeout: asyncio.Timeout) -> None:
        """Unless somebody has ended it meanwhile."""
        left, self._scopes[timeout] = self._scopes[timeout], None
        if left is not None and timeout.when() is None and not timeout.expired():
            timeout.reschedule(asyncio.get_running_loop().time() + left)
