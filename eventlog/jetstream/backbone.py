"""All ports over one JetStream deployment, put together. Not a server: see `eventlog.embedded`."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from domain.errors import PeritusError, Unavailable
from eventlog.jetstream.api import Json
from eventlog.jetstream.blobs import JetStreamBlobs
from eventlog.jetstream.connection import REQUEST_TIMEOUT_S, open_link
from eventlog.jetstream.dead import JetStreamDeadLetters
from eventlog.jetstream.durability import Durability
from eventlog.jetstream.leases import JetStreamLeases
from eventlog.jetstream.limits import JetStreamLimits
from eventlog.jetstream.live import JetStreamLiveChannel
from eventlog.jetstream.log import JetStreamEventLog
from eventlog.jetstream.open_runs import JetStreamOpenRuns
from eventlog.jetstream.queues import JetStreamCommandQueue, JetStreamWorkQueue
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.registry import JetStreamRegistry
from eventlog.jetstream.requests import JetStreamRequests
from eventlog.jetstream.retention import JetStreamRetention
from eventlog.jetstream.server_check import check_servers, check_version
from eventlog.jetstream.snapshots import JetStreamSnapshots
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import Names
from eventlog.jetstream.tasks import background
from eventlog.port import COMMAND_ACK_WAIT_S, LEASE_S, WORK_ACK_WAIT_S, Backbone

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
"""How long the first connection may take, in seconds: a cluster elects within 9."""

DECLARE_RETRY_S = 0.25


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds; all processes of a deployment have the same."""

    request_s: float = REQUEST_TIMEOUT_S
    connect_s: float = CONNECT_S
    lease_s: float = LEASE_S
    command_ack_wait_s: float = COMMAND_ACK_WAIT_S
    work_ack_wait_s: float = WORK_ACK_WAIT_S


DEFAULT_TIMING = Timing()


@asynccontextmanager
async def connect_backbone(
    url: str,
    *,
    token: str | None = None,
    prefix: str = "peritus",
    replicas: int = 1,
    durability: Durability = "os",
    timing: Timing = DEFAULT_TIMING,
) -> AsyncGenerator[Backbone]:
    """Every port of the deployment at that address, for as long as the context is open.

    `url` may name several servers of one cluster, with commas between.

    Streams are declared at the start and again after every reconnect. One connection serves all
    ports but blobs, which have their own.

    Raises:
        Unavailable: the server cannot be reached in time, or has no JetStream.
        DurabilityTooWeak: the server keeps less than `durability`; the message says what to change.
        StreamMismatch: a stream exists with a configuration that cannot be made ours.
    """
    names = Names(prefix)
    open_one = partial(
        open_link, url, token=token, timeout_s=timing.request_s, connect_s=timing.connect_s
    )
    async with open_one(name=prefix) as link, open_one(name=f"{prefix}-blobs") as blob_link:
        check_version(link, durability)
        streams = Streams(link, names, replicas, durability)
        events = await _declare(streams, within_s=timing.connect_s)
        await check_servers(link, durability, events)
        reader = Reader(link)
        await reader.start()
        log = JetStreamEventLog(streams, reader, events["created"])
        backbone = Backbone(
            log=log,
            blobs=JetStreamBlobs(Streams(blob_link, names, replicas, durability)),
            snapshots=JetStreamSnapshots(streams),
            open_runs=JetStreamOpenRuns(streams, reader),
            work=JetStreamWorkQueue(streams, ack_wait_s=timing.work_ack_wait_s),
            commands=JetStreamCommandQueue(streams, ack_wait_s=timing.command_ack_wait_s),
            dead=JetStreamDeadLetters(streams, reader),
            leases=JetStreamLeases(streams, reader, lease_s=timing.lease_s),
            limits=JetStreamLimits(streams, reader),
            live=JetStreamLiveChannel(link, names, reader),
            requests=JetStreamRequests(link, names),
            registry=JetStreamRegistry(streams, reader),
            retention=JetStreamRetention(streams, reader),
        )
        returned = asyncio.Event()
        link.on_up.append(returned.set)
        async with background(_declare_again(streams, log, returned)):
            yield backbone


async def _declare(streams: Streams, *, within_s: float) -> Json:
    """Declare all streams, patient with a cluster that has no leader yet; what EVENTS is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        try:
            await streams.ensure_all()
            return await streams.info("EVENTS")
        except Unavailable:
            if loop.time() > deadline:
                raise
            await asyncio.sleep(DECLARE_RETRY_S)


async def _declare_again(streams: Streams, log: JetStreamEventLog, returned: asyncio.Event) -> None:
    """Declare all streams after each reconnect, and see whether the log is still the same one."""
    while True:
        await returned.wait()
        returned.clear()
        try:
            await streams.ensure_all()
            log.born((await streams.info("EVENTS"))["created"])
        except Unavailable as away:
            logger.info("the streams could not be declared again yet: %s", away)
            returned.set()
            await asyncio.sleep(DECLARE_RETRY_S)
        except PeritusError:
            logger.exception("the streams could not be declared again")
