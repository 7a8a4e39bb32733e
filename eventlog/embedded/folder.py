"""One state folder, one server: join it, share it, leave it. Not the server: `server` is.

Whoever has `lock` keeps the server: starts it, adopts an orphan, starts it again when it dies.
Whoever is in holds `members.lock` together with the others; who gets it alone on leaving is the
last one and stops the server, and who gets it alone on joining is alone. Both locks fall when a
process ends, so a keeper that is killed is followed by another member, and one killed alone leaves
an orphan that the next one adopts, known by pid and start time.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from domain.errors import Unavailable
from eventlog.embedded.config import PRIVATE_FOLDER, ServerConfig, free_port
from eventlog.embedded.endpoint import EndpointFile
from eventlog.embedded.locks import FileLock
from eventlog.embedded.probe import answers
from eventlog.embedded.server import Running, StoreInUse, orphan_of, start_somewhere
from eventlog.jetstream.durability import Durability, DurabilityTooWeak
from eventlog.jetstream.tasks import background

logger = logging.getLogger(__name__)

JOIN_S = 30.0
"""How long joining may take, in seconds: another process may be starting or stopping the server."""

KEEPER_S = 2.0
TAKE_OVER_S = 0.2
"""How often a member looks whether the keeper has gone, in seconds."""

START_AGAIN_S = 1.0
POLL_S = 0.02
TOKEN_BYTES = 24


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach the server of a state folder."""

    url: str
    token: str
    durability: Durability
    pid: int
    alone: bool
    """Whether nobody else was in when we joined: then every lease in the store is of the dead."""

    log_path: Path


@asynccontextmanager
async def join_state_folder(path: Path, durability: Durability = "os") -> AsyncGenerator[Endpoint]:
    """Be one of those who use the server of that folder, for as long as the context is open.

    The server is started when there is none, kept alive by one of those who are in, on the same
    address, and stopped when the last one leaves.

    Raises:
        DurabilityTooWeak: the server that others use there keeps less than `durability`, or no
            single server keeps as much.
        Unavailable: no server came up, or one is there that does not answer.
    """
    member = _member(path, durability)
    try:
        running, alone = await member.join()
        async with background(member.keep()):
            yield Endpoint(
                running.config.url,
                running.config.token,
                running.config.durability,
                running.process.pid,
                alone,
                running.config.log_path,
            )
    finally:
        await member.leave()


def _member(path: Path, durability: Durability) -> "Member":
    try:
        return Member(path, durability)
    except OSError as failed:
        raise Unavailable(_unusable(path, failed)) from failed


def _unusable(path: Path, failed: OSError) -> str:
    return f"the state folder {str(path)!r} cannot be used: {failed.strerror or failed}"


class Member:
    """One participant of a state folder."""

    def __init__(self, path: Path, durability: Durability) -> None:
        path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        self._members = FileLock(path / "members.lock")
        self._keeper = FileLock(path / "lock")
        self._file = EndpointFile(path / "endpoint.json", path / "nats")
        self._durability: Durability = durability
        self._keeping = False
        self._joined = False

    async def join(self) -> tuple[Running, bool]:
        """Become a member; the server, and whether nobody else is in.

        Raises:
            DurabilityTooWeak: the server keeps less than we ask for.
            Unavailable: there is no server to use.
        """
        try:
            async with asyncio.timeout(JOIN_S):
                while True:
                    if self._members.try_exclusive():
                        self._keeping = await self._keeper.exclusive(within_s=KEEPER_S)
                        if self._keeping:
                            return await self._join_alone(), True
                        self._members.release()
                    if self._members.try_shared():
                        self._joined = True
                        return await self._join_others(), False
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            msg = f"no server came up for {self._file.path.parent} in {JOIN_S:.0f} s"
            raise Unavailable(msg) from None

    async def keep(self) -> None:
        """Keep the server alive whenever we are the keeper; become it when there is none."""
        while True:
            if not self._keeping:
                self._keeping = self._keeper.try_exclusive()
            if not self._keeping:
                await asyncio.sleep(TAKE_OVER_S)
                continue
            try:
                running = await self._adopt_or_start(may_replace=False)
            except (Unavailable, DurabilityTooWeak) as failed:
                logger.warning("the embedded server does not come up: %s", failed)
                await asyncio.sleep(START_AGAIN_S)
                continue
            await running.died()
            logger.warning("the embedded server (pid %d) died", running.process.pid)

    async def leave(self) -> None:
        """Be no member any more; the last one stops the server."""
        try:
            if (self._joined or self._keeping) and self._members.try_exclusive():
                self._keeping = self._keeping or await self._keeper.exclusive(within_s=KEEPER_S)
                if self._keeping:
                    await self._stop()
        finally:
            self._keeper.close()
            self._members.close()

    async def _join_alone(self) -> Running:
        running = await self._adopt_or_start(may_replace=True)
        self._joined = await self._members.shared(within_s=JOIN_S)
        return running

    async def _join_others(self) -> Running:
        while True:
            running = self._file.read()
            if running is not None and running.process.alive():
                config = running.config
                if self._durability != "process" and config.durability == "process":
                    raise DurabilityTooWeak(_too_weak(config, self._durability))
                if await answers(config.port, config.token):
                    return running
            await asyncio.sleep(POLL_S)

    async def _adopt_or_start(self, *, may_replace: bool) -> Running:
        found = self._file.read()
        if found is not None and found.process.alive():
            weak = self._durability != "process" and found.config.durability == "process"
            if not (weak and may_replace):
                return await self._adopt(found)
            await found.stop()
        if found is not None:
            config = replace(found.config, durability=self._strongest(found, may_replace))
        else:
            folder = self._file.folder
            token = secrets.token_urlsafe(TOKEN_BYTES)
            config = ServerConfig(folder, free_port(folder), token, self._durability)
        running: Running | None = None
        try:
            running = await self._start(config)
            self._file.write(running)
        except OSError as failed:
            if running is not None:
                await running.stop()  # no file names it, so nobody could join it
            raise Unavailable(_unusable(self._file.path.parent, failed)) from failed
        return running

    def _strongest(self, found: Running, may_replace: bool) -> Durability:  # noqa: FBT001
        """A server that others use comes back as it was; a new one is as we ask."""
        return self._durability if may_replace else found.config.durability

    async def _adopt(self, found: Running) -> Running:
        if not await answers(found.config.port, found.config.token):
            msg = (
                f"the nats-server with pid {found.process.pid} lives and does not answer on "
                f"{found.config.url}; stop it and try again"
            )
            raise Unavailable(msg)
        return found

    async def _start(self, config: ServerConfig) -> Running:
        try:
            return await start_somewhere(config)
        except StoreInUse:
            orphan = orphan_of(config)
            if orphan is None:
                raise
            logger.warning("an orphaned nats-server (pid %d) is stopped", orphan.pid)
            await orphan.stop()
            return await start_somewhere(config)

    async def _stop(self) -> None:
        found = self._file.read()
        if found is not None:
            await found.stop()
        self._file.remove()


def _too_weak(config: ServerConfig, wanted: Durability) -> str:
    return (
        f"others use the embedded server at {config.url} with durability {config.durability!r} and "
        f"{wanted!r} is asked for: end them first, or declare durability {config.durability!r}"
    )
