"""A real server and a backbone in a thread, for tests of what blocks. Not the tests."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Generic, TypeVar

from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription

from domain.envelope import FIRST_HASH, Cause, Envelope, encode
from domain.events import Event
from domain.ids import RunRef
from eventlog.jetstream.backbone import Timing
from eventlog.port import Backbone
from eventlog.recorders.hosted import Hosted
from tests.integration.deployment import TOKEN, JetStreamDeployment

BOUND_S = 30.0
"""How long a test waits for anything, in seconds."""

TIMING = Timing(request_s=2.0, connect_s=5.0, lease_s=1.0, command_ack_wait_s=2.0)
R = TypeVar("R")
AnyRecorder = TypeVar("AnyRecorder", bound=ApplicationRecorder)

Parts = tuple[JetStreamDeployment, Backbone]


@dataclass(frozen=True)
class World:
    """One deployment; every call waits for its end."""

    hosted: Hosted[Parts]

    def do(self, work: Callable[[JetStreamDeployment], Awaitable[R]]) -> R:
        """Something with the server."""
        return self.hosted.call(lambda parts: work(parts[0]))

    def append(self, ref: RunRef, data: bytes, *, expected_seq: int = 0) -> int:
        """Store an envelope."""
        return self.hosted.call(
            lambda parts: parts[1].log.append(ref, data, expected_seq=expected_seq)
        )

    @property
    def url(self) -> str:
        """Where the server is."""

        async def url(deployment: JetStreamDeployment) -> str:
            return deployment.server.url

        return self.do(url)

    def env(self, **more: str) -> dict[str, str]:
        """What recorders of an application and of runs are configured with."""
        return {
            "JETSTREAM_URL": self.url,
            "JETSTREAM_TOKEN": TOKEN,
            "JETSTREAM_DURABILITY": "process",
            "JETSTREAM_TIMEOUT_S": "2",
            "PERITUS_NATS_URL": self.url,
            "PERITUS_NATS_TOKEN": TOKEN,
            "PERITUS_TENANT": "acme",
            **more,
        }


def make_world(folder: Path) -> World:
    """A world whose server keeps its files there. Close `hosted` at its end."""
    return World(Hosted(partial(_opened, folder), name="world"))


@asynccontextmanager
async def _opened(folder: Path) -> AsyncGenerator[Parts]:
    deployment = JetStreamDeployment(folder, TIMING)
    async with deployment.server, deployment.client() as backbone:
        yield deployment, backbone


def envelope(ref: RunRef, version: int, *events: Event) -> bytes:
    """The bytes of one decision."""
    cause = Cause(type="test.v1", id="")
    return encode(Envelope("e", ref, version, 1_000 + version, cause, "me", FIRST_HASH, events))


class Followed(Generic[AnyRecorder]):
    """A subscription that is read in a thread; what it gave, and what it died of, can be taken."""

    def __init__(self, subscription: Subscription[AnyRecorder]) -> None:
        self.subscription = subscription
        self._heard: Queue[Notification | Exception | None] = Queue()
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for notification in self.subscription:
                self._heard.put(notification)
        except Exception as died:  # noqa: BLE001 - handed to the test
            self._heard.put(died)
        else:
            self._heard.put(None)

    def take(self, number: int) -> Iterator[Notification]:
        """The next ones, waited for."""
        for _ in range(number):
            heard = self._heard.get(timeout=BOUND_S)
            assert isinstance(heard, Notification), heard
            yield heard

    def died(self) -> object:
        """What it dies of by itself, waited for."""
        return self._heard.get(timeout=BOUND_S)

    def end(self) -> object:
        """Stop it; None, or what it died of."""
        self.subscription.stop()
        self._thread.join(BOUND_S)
        assert not self._thread.is_alive()
        return self._heard.get(timeout=BOUND_S)
