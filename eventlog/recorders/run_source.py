"""EVENTS as the library sees it: envelopes become its notifications. Read-only."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from eventsourcing.persistence import Notification, StoredEvent

from domain.envelope import decode
from domain.errors import IntegrityViolated
from domain.ids import RunRef
from eventlog.embedded import join_state_folder
from eventlog.jetstream.connection import REQUEST_TIMEOUT_S, Link, open_link
from eventlog.jetstream.ledger import last_kept, listen
from eventlog.jetstream.log import JetStreamEventLog
from eventlog.jetstream.reader import Reader, stored_of
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import Names
from eventlog.library import RunMapper, run_events
from eventlog.port import Stored
from eventlog.recorders.following import Bell
from eventlog.recorders.hosted import library_errors
from eventlog.recorders.settings import CONNECT_S, RunSettings

EVENTS_PER_ENVELOPE = 1024
"""Ids of one envelope; it holds at most as many events."""

MAPPER = RunMapper()


class Source:
    """EVENTS of one deployment, to be read in its loop."""

    def __init__(self, link: Link, reader: Reader, log: JetStreamEventLog, names: Names) -> None:
        self.link = link
        self.log = log
        self._reader = reader
        self._stream = names.stream("EVENTS")
        self._names = names

    async def after(self, seq: int, count: int, pattern: RunRef) -> tuple[list[Stored], bool]:
        """The next envelopes after a sequence, and whether there are more."""
        subject = self._names.runs("evt", pattern)
        found, more = await self._reader.messages(self._stream, subject, after_seq=seq, count=count)
        return [stored_of(msg) for msg in found], more

    async def last(self, pattern: RunRef) -> Stored | None:
        """The newest envelope."""
        kept = await last_kept(self.link, self._stream, self._names.runs("evt", pattern))
        return None if kept is None else Stored(kept.seq, pattern, kept.data)

    async def hung(self, pattern: RunRef) -> Bell:
        """A bell that rings with every envelope."""
        bell = Bell(EVENTS_PER_ENVELOPE)
        await listen(self.link, self._names.runs("liveevt", pattern), bell.ring)
        return bell


@asynccontextmanager
async def opened(settings: RunSettings) -> AsyncGenerator[Source]:
    """EVENTS of the settings' deployment, for as long as the context is open.

    Raises:
        DurabilityTooWeak: the embedded server is in use with less than the settings ask for.
        Unavailable: there is no server, or no EVENTS in it.
    """
    if settings.nats_url is None:
        async with (
            join_state_folder(settings.state_dir, settings.durability) as endpoint,
            _source(settings, endpoint.url, endpoint.token) as source,
        ):
            yield source
        return
    token = settings.nats_token.get_secret_value() if settings.nats_token else None
    async with _source(settings, settings.nats_url, token) as source:
        yield source


@asynccontextmanager
async def _source(settings: RunSettings, url: str, token: str | None) -> AsyncGenerator[Source]:
    async with open_link(
        url,
        token=token,
        name=f"{settings.prefix}-reader",
        timeout_s=REQUEST_TIMEOUT_S,
        connect_s=CONNECT_S,
    ) as link:
        names = Names(settings.prefix)
        reader = Reader(link)
        await reader.start()
        streams = Streams(link, names, 1, "process")
        info = await streams.info("EVENTS")
        streams.replicas = info["config"]["num_replicas"]
        yield Source(link, reader, JetStreamEventLog(streams, reader, info["created"]), names)


def stored_events_of(stored: Stored) -> list[StoredEvent]:
    """The library's stored events of an envelope.

    Raises:
        DataError: nobody can read it, or it has more events than there are ids for.
    """
    with library_errors():
        events = run_events(decode(stored.data))
        if len(events) > EVENTS_PER_ENVELOPE:
            msg = (
                f"the envelope at {stored.seq} has {len(events)} events: ids are for "
                f"{EVENTS_PER_ENVELOPE}; read it from the stream itself"
            )
            raise IntegrityViolated(msg)
    return [MAPPER.to_stored_event(event) for event in events]


def notifications_of(stored: Stored) -> list[Notification]:
    """The notifications of an envelope."""
    return [
        Notification(
            originator_id=event.originator_id,
            originator_version=event.originator_version,
            topic=event.topic,
            state=event.state,
            id=stored.seq * EVENTS_PER_ENVELOPE + index,
        )
        for index, event in enumerate(stored_events_of(stored))
    ]
