"""The deployments the contract suite runs over, one a form. Not fixtures: `conftest` has them."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from domain.ids import RunRef
from eventlog.embedded import EmbeddedServer
from eventlog.jetstream.backbone import Timing, connect_backbone
from eventlog.memory import Fault, FaultPoint, MemoryServer
from eventlog.port import Backbone
from tests.support.freezing import freeze, thaw

BOUND_S = 10.0
"""How long a test waits for anything, in seconds."""

ALPHA = RunRef("acme", "job1", "alpha")
BETA = RunRef("acme", "job1", "beta")
GAMMA = RunRef("acme", "job2", "gamma")
OTHER = RunRef("umbrella", "job1", "alpha")


class Deployment(Protocol):
    """A server and its clients."""

    ack_wait_s: float
    lease_s: float

    def client(self, patience_s: float = 5.0) -> AbstractAsyncContextManager[Backbone]:
        """The ports of one more process, which waits that long for answers."""
        ...

    async def restart(self) -> None:
        """The server dies and comes back with what was on disk."""
        ...

    async def stop(self) -> None:
        """The server goes away."""
        ...

    async def start(self) -> None:
        """It comes back."""
        ...

    def freeze(self) -> None:
        """The server stands still: it answers requests only once it is thawed."""
        ...

    def thaw(self) -> None:
        """It goes on with what has arrived meanwhile."""
        ...


class MemoryDeployment:
    """The in-memory form."""

    ack_wait_s = 0.2
    lease_s = 0.5

    def __init__(self) -> None:
        self._ice = Ice()
        self.server = MemoryServer(
            now_ms=now_ms,
            lease_s=self.lease_s,
            command_ack_wait_s=self.ack_wait_s,
            work_ack_wait_s=self.ack_wait_s,
            timeout_s=0.3,
        )

    @asynccontextmanager
    async def client(self, patience_s: float = 5.0) -> AsyncGenerator[Backbone]:
        yield self.server.backbone(faults=self._ice if patience_s < 1 else None)

    async def restart(self) -> None:
        self.server.restart()

    async def stop(self) -> None:
        self.server.stop()

    async def start(self) -> None:
        self.server.start()

    def freeze(self) -> None:
        self._ice.frozen = True

    def thaw(self) -> None:
        self._ice.frozen = False


class Ice:
    """Faults that delay requests beyond the patience of who waits, while it is cold."""

    frozen = False

    def at(self, point: FaultPoint) -> Fault:  # noqa: ARG002 - the shape of the protocol
        return Fault(delay_s=0.6) if self.frozen else Fault()


class JetStreamDeployment:
    """The JetStream form, over one embedded server that runs."""

    ack_wait_s = 0.6
    lease_s = 1.0

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server

    def client(self, patience_s: float = 5.0) -> AbstractAsyncContextManager[Backbone]:
        return connect_backbone(
            self.server.url,
            token=self.server.config.token,
            durability="process",
            timing=Timing(
                request_s=patience_s,
                lease_s=self.lease_s,
                command_ack_wait_s=self.ack_wait_s,
                work_ack_wait_s=self.ack_wait_s,
            ),
        )

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        await self.server.stop()

    async def start(self) -> None:
        await self.server.start()

    def freeze(self) -> None:
        freeze(self.server.process.pid)

    def thaw(self) -> None:
        thaw(self.server.process.pid)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def pause(seconds: float) -> None:
    """Let real time pass where time itself is what is tested: nothing must happen meanwhile."""
    await asyncio.sleep(seconds)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it holds, within the bound."""
    async with asyncio.timeout(BOUND_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)
