"""The library's events in a stream of their own: set `PERSISTENCE_MODULE` to this module. Not runs.

`JetStreamFactory` reads its settings from the environment, see `settings`. Each application has one
stream for its events (and its trackings, if it processes another's), one for snapshots; a view that
only tracks has one. One message is one event; its subject names the originator.

All of the library's public test cases of recorders pass unchanged (`tests/contract/recorders`).
What differs from its databases, and cannot be otherwise:

- A notification's id is the message's sequence. Ids of an application's events are 1, 2, 3, ... as
  long as nothing else is in the stream; a process recorder's trackings take sequences, too, so its
  ids have gaps. They never interleave: what is inserted together is one atomic batch.
- At most 1000 events, less one for a tracking, are inserted together: more is a `DataError`.
- Versions of one originator only grow. A database refuses a version that is there; this also
  refuses a version below the last one, which the library's applications never insert.
- An insert whose answer is lost is an `OperationalError`: it may be stored. Insert it again, and it
  is an `IntegrityError` if it was.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from threading import Lock
from typing import TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    InfrastructureFactory,
    InfrastructureFactoryError,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

from eventlog.jetstream.connection import open_link
from eventlog.jetstream.ledger import LedgerNames, open_ledger
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.server_check import check_version
from eventlog.recorders.hosted import Hosted
from eventlog.recorders.recorder import (
    Connection,
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
    JetStreamRecorder,
    JetStreamTrackingRecorder,
)
from eventlog.recorders.settings import StoreSettings

__all__ = [
    "JetStreamAggregateRecorder",
    "JetStreamApplicationRecorder",
    "JetStreamFactory",
    "JetStreamProcessRecorder",
    "JetStreamRecorder",
    "JetStreamTrackingRecorder",
]

Kind = TypeVar("Kind", bound=JetStreamRecorder)

TRACKING = "tracking"

CREATE_TABLE = "CREATE_TABLE"
"""As the library has it: `n` uses streams that exist and makes none."""


class JetStreamFactory(InfrastructureFactory[JetStreamTrackingRecorder]):
    """Makes recorders that share one connection; `close` ends it and its thread."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._settings = StoreSettings.of(self.env)
        self._hosted: Hosted[Connection] | None = None
        self._lock = Lock()

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """A recorder of the events of aggregates, or of their snapshots."""
        return self._make(JetStreamAggregateRecorder, purpose)

    def application_recorder(self) -> JetStreamApplicationRecorder:
        """A recorder of an application's events."""
        return self._make(JetStreamApplicationRecorder, "events")

    def tracking_recorder(
        self, tracking_recorder_class: type[JetStreamTrackingRecorder] | None = None
    ) -> JetStreamTrackingRecorder:
        """A recorder of trackings: the class that is given, or named by the environment."""
        if tracking_recorder_class is None:
            topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
            found: object = resolve_topic(topic) if topic else JetStreamTrackingRecorder
            if not (isinstance(found, type) and issubclass(found, JetStreamTrackingRecorder)):
                msg = f"{topic!r} names no subclass of JetStreamTrackingRecorder"
                raise InfrastructureFactoryError(msg)
            tracking_recorder_class = found
        return self._make(tracking_recorder_class, TRACKING)

    def process_recorder(self) -> JetStreamProcessRecorder:
        """A recorder of events with trackings."""
        return self._make(JetStreamProcessRecorder, "events")

    def close(self) -> None:
        """End the connection; its recorders can no longer be used."""
        with self._lock:
            if self._hosted is not None:
                self._hosted.close()
        super().close()

    def _make(self, kind: type[Kind], purpose: str) -> Kind:
        with self._lock:
            if self._hosted is None:
                self._hosted = Hosted(
                    partial(connected, self._settings), name=f"jetstream-{self.env.name}"
                )
            hosted = self._hosted
        settings = self._settings
        names = LedgerNames(settings.prefix, self.env.name, purpose)
        ledger = hosted.call(
            lambda connection: open_ledger(
                *connection,
                names,
                replicas=settings.replicas,
                durability=settings.durability,
                declare=strtobool(self.env.get(CREATE_TABLE, "yes")),
            )
        )
        return kind(hosted, ledger)


@asynccontextmanager
async def connected(settings: StoreSettings) -> AsyncGenerator[Connection]:
    """A connection for as long as the context is open.

    Raises:
        DurabilityTooWeak: the server is too old.
        Unavailable: it cannot be reached.
    """
    async with open_link(
        settings.url,
        token=settings.token.get_secret_value() if settings.token else None,
        name=settings.prefix,
        timeout_s=settings.timeout_s,
        connect_s=settings.connect_s,
    ) as link:
        check_version(link, settings.durability)
        reader = Reader(link)
        await reader.start()
        yield link, reader
