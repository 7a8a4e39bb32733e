"""A real server and its clients, in the shape the contract suite asks for. Not a test."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from eventlog.embedded.server import EmbeddedServer
from eventlog.jetstream.backbone import Timing, connect_backbone
from eventlog.jetstream.connection import Link
from eventlog.jetstream.durability import Durability
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import Names
from eventlog.port import Backbone
from tests.support.freezing import freeze, thaw

TOKEN = "only-for-tests"


class JetStreamDeployment:
    """A nats-server of its own, with its own store, on a free port."""

    def __init__(self, folder: Path, timing: Timing, *, durability: Durability = "process") -> None:
        self.server = EmbeddedServer(folder, durability=durability, token=TOKEN)
        self.timing = timing
        self.durability: Durability = durability

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Backbone]:
        """The ports of one more process."""
        async with connect_backbone(
            self.server.url, token=TOKEN, durability=self.durability, timing=self.timing
        ) as backbone:
            yield backbone

    async def restart(self) -> None:
        """The server is killed and comes back with what was on disk."""
        self.server.process.kill()
        await self.server.wait_died()
        await self.server.start()

    def freeze(self) -> None:
        """The server stops answering: all its threads are stopped when this returns."""
        freeze(self.server.process.pid)

    def thaw(self) -> None:
        """It answers again."""
        thaw(self.server.process.pid)

    async def stop(self) -> None:
        """The server goes away."""
        await self.server.stop()

    async def start(self) -> None:
        """It comes back."""
        await self.server.start()


async def replicated(link: Link, kind: str, replicas: int) -> tuple[Streams, Reader]:
    """What ports are made of in a deployment with so many replicas, over a stream with one."""
    streams = Streams(link, Names("peritus"), 1, "process")
    await streams.ensure(kind)
    streams.replicas = replicas
    reader = Reader(link)
    await reader.start()
    return streams, reader
