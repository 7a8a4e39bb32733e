"""One workspace on this worker and what goes on in it: who may change it, and when. Not the tools.

A room belongs to a job, or to one run of it whose workspace is isolated. Its runs may differ in
what their sandboxes may do, so a run gets a sandbox of its own kind over the shared workspace.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from domain.secrets import SecretValue
from services.sandbox.port import Sandbox
from services.sandbox.quota import QuotaWatch
from services.sandbox.seen import Seen
from services.sandbox.workspace import Workspace
from services.worker.process import Process


class Gate:
    """Many may write, or one may look at everything: a snapshot waits for writers, and they for it.

    Who waits to look goes first, so that a stream of writers cannot keep a snapshot out.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._writers = 0
        self._looking = 0  # waiting or at it

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[None]:
        """Whatever may change files runs inside this."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._looking == 0)
            self._writers += 1
        try:
            yield
        finally:
            await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        async with self._changed:
            self._writers -= 1
            self._changed.notify_all()

    @asynccontextmanager
    async def looking(self, *, patience_s: float) -> AsyncGenerator[bool]:
        """Nobody begins to write meanwhile; False when some were still at it after the patience."""
        async with self._changed:
            self._looking += 1
        alone = True
        try:
            try:
                async with asyncio.timeout(patience_s), self._changed:
                    await self._changed.wait_for(lambda: self._writers == 0)
            except TimeoutError:
                alone = False
            yield alone
        finally:
            await asyncio.shield(self._looked())

    async def _looked(self) -> None:
        async with self._changed:
            self._looking -= 1
            self._changed.notify_all()


@dataclass
class Room:
    """A workspace at work. `workspace` stays open as long as the room."""

    key: str  # the job, or `<job>.<run>` of an isolated run
    workspace: Workspace
    gate: Gate = field(default_factory=Gate)
    changes: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a file tool changes something: two edits of one reply go one after the other."""
    seen: Seen = field(default_factory=Seen)
    quota: QuotaWatch | None = None
    news: str = ""  # of its files, which the model of the job's root run does not know yet
    sites: set[str] = field(default_factory=set[str])
    """The keys of the places where servers of skills were started: ended before it is closed."""
    servers: set[Process] = field(default_factory=set[Process])
    """Those that run now and may change files."""
    scratch: Path | None = None  # a folder that is nobody's job, and is removed with the room


@dataclass(frozen=True)
class Seat:
    """A run's place in a room: what one tool call works with."""

    room: Room
    run: str
    read_only: bool
    sandbox: Callable[[], Awaitable[Sandbox]]
    """The run's sandbox, made at its first use.

    Raises SandboxUnavailable.
    """
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """What every command of this run gets: proxy, certificates, stand-ins for secrets."""
    secret_env: Mapping[str, SecretValue] = field(default_factory=dict[str, SecretValue])
