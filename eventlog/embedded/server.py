"""One nats-server process on one store: start, wait until ready, stop. Not who may: `folder`."""

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from domain.errors import Unavailable
from eventlog.embedded.config import MEMORY_LIMIT, ServerConfig, find_binary, free_port
from eventlog.embedded.locks import FileLock
from eventlog.embedded.probe import answers
from eventlog.embedded.process import Process, spawn, start_of
from eventlog.jetstream.durability import Durability

READY_S = 20.0
"""How long a start may take, in seconds: a million messages need one, a lost index three."""

READY_POLL_S = 0.005
LOCK_S = 1.0
"""How long a server that is ending may still hold its store, in seconds."""

START_TRIES_MAX = 5
LOG_TAIL_LINES = 5
PASSED_ON = ("PATH", "HOME", "TMPDIR", "SYSTEMROOT")
"""The environment a server needs; nothing else of ours is handed to it."""


class StoreInUse(Unavailable):
    """A server lives on that store; two on one would ruin it."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    config: ServerConfig
    process: Process

    async def died(self) -> None:
        """Return when it runs no more."""
        await self.process.ended()

    async def stop(self) -> None:
        """End it, bounded; twice is fine."""
        await self.process.stop()


async def start(config: ServerConfig) -> Running:
    """Start a server and wait until it answers.

    Raises:
        DurabilityTooWeak: the class is one that a single server cannot give.
        StoreInUse: a server lives on that store.
        Unavailable: it ended at once, or did not answer in time; the message has its last words.
    """
    config.write()
    process = await _spawn(config)
    try:
        async with asyncio.timeout(READY_S):
            ready = await _ready(config, process)
    except TimeoutError:
        ready = False
    except BaseException:
        await process.stop()
        raise
    if not ready:
        await process.stop()
        msg = f"nats-server does not come up: {_last_words(config.log_path)}"
        raise Unavailable(msg)
    return Running(config, process)


async def _ready(config: ServerConfig, process: Process) -> bool:
    """Wait until it answers; False when it ended instead."""
    while not await answers(config.port, config.token):
        if not process.alive():
            return False
        await asyncio.sleep(READY_POLL_S)
    return True


async def _spawn(config: ServerConfig) -> Process:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment["GOMEMLIMIT"] = MEMORY_LIMIT
    lock = FileLock(config.lock_path)
    try:
        if not await lock.exclusive(within_s=LOCK_S):
            msg = f"a nats-server lives on {config.folder} already"
            raise StoreInUse(msg)
        command = [str(find_binary()), "-c", str(config.path)]
        return spawn(command, environment, hand_on=lock.fileno())
    except OSError as failed:
        msg = f"nats-server cannot be started: {failed}"
        raise Unavailable(msg) from failed
    finally:
        lock.close()


def orphan_of(config: ServerConfig) -> Process | None:
    """The server that lives on a store and that no endpoint file names; None when there is none."""
    try:
        pid = int(config.pid_path.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (OSError, ValueError):
        return None
    started = start_of(pid)
    if started is None or str(config.path) not in command:
        return None
    return Process(pid, started)


async def start_somewhere(config: ServerConfig) -> Running:
    """Start a server, on another port when its own was taken just now.

    Raises:
        DurabilityTooWeak: the class is one that a single server cannot give.
        Unavailable: no try succeeded.
    """
    for attempt in range(START_TRIES_MAX):
        try:
            return await start(config)
        except StoreInUse:
            raise
        except Unavailable:
            port = free_port(config.folder)
            if port == config.port or attempt == START_TRIES_MAX - 1:
                raise
            config = replace(config, port=port)
    raise AssertionError


class EmbeddedServer:
    """A server for as long as the context is open. Nobody else may use its folder."""

    def __init__(self, folder: Path, *, durability: Durability, token: str, port: int = 0) -> None:
        self.config = ServerConfig(folder, port or free_port(folder), token, durability)
        self._running: Running | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self.config.url

    @property
    def process(self) -> Process:
        """The process that runs now.

        Raises:
            Unavailable: none was started.
        """
        if self._running is None:
            msg = "the embedded server was not started"
            raise Unavailable(msg)
        return self._running.process

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it, also again after it died: same store, same port.

        Raises:
            Unavailable: it did not come up.
        """
        self._running = await start(self.config)

    async def stop(self) -> None:
        """End it; twice is fine."""
        if self._running is not None:
            await self._running.stop()

    async def wait_died(self) -> None:
        """Return when it runs no more."""
        if self._running is not None:
            await self._running.died()


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "it left no log"
    errors = [line for line in lines if "[ERR]" in line or "[FTL]" in line]
    return " | ".join((errors or lines)[-LOG_TAIL_LINES:])
