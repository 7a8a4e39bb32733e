"""WORK, COMMANDS and timers on JetStream. Not the loop that takes from them: `pull` is."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from domain.ids import RunRef
from eventlog.jetstream.pull import Pull, Source, pull
from eventlog.jetstream.streams import Streams
from eventlog.port import OWN_LANE, Lane

COMMANDS_DURABLE = "commands"

OWN_LANE_IDLE_S = 300.0
"""How long the queue of a worker that has gone is kept, in seconds: nobody else takes from it."""


class JetStreamWorkQueue:
    """WORK, one durable consumer a lane; that of a single worker goes with it."""

    def __init__(self, streams: Streams, *, ack_wait_s: float) -> None:
        self._streams = streams
        self._ack_wait_s = ack_wait_s

    async def put(self, lane: Lane, ref: RunRef, data: bytes) -> None:
        """Offer work.

        Raises:
            Unavailable: it is not stored; the reconciler will derive it again.
        """
        await self._streams.store("WORK", self._streams.names.work(lane, ref), data)

    def consume(self, lane: Lane, *, in_flight_max: int) -> AbstractAsyncContextManager[Pull]:
        """Take work; never more unanswered than `in_flight_max`. Outlives a server restart."""
        lane_filter = self._streams.names.any(f"work.{lane}")
        idle_s = OWN_LANE_IDLE_S if lane.startswith(OWN_LANE) else None
        source = Source("WORK", lane, lane_filter, self._ack_wait_s, confirm=False, idle_s=idle_s)
        return pull(self._streams, source, in_flight_max)


class JetStreamCommandQueue:
    """COMMANDS: stored before they are acknowledged; timers are message schedules (ADR-51)."""

    def __init__(self, streams: Streams, *, ack_wait_s: float) -> None:
        self._streams = streams
        self._ack_wait_s = ack_wait_s

    async def put(self, ref: RunRef, data: bytes, *, message_id: str | None = None) -> None:
        """Store a command; returns when it is durable.

        Raises:
            TooLarge: it is above the payload limit.
            Unavailable: it may not be stored; send it again with the same id.
        """
        headers = None if message_id is None else {"Nats-Msg-Id": message_id}
        await self._streams.store("COMMANDS", self._streams.names.run("cmd", ref), data, headers)

    async def put_at(self, ref: RunRef, timer: str, due_ms: int, data: bytes) -> None:
        """Store a command that is delivered at `due_ms`; the same timer again replaces it.

        The server fires 250 ms after storing at the earliest; a time in the past fires then.

        Raises:
            TooLarge: it is above the payload limit.
            Unavailable: it may not be stored.
        """
        names = self._streams.names
        headers = {
            "Nats-Schedule": f"@at {rfc3339(due_ms)}",
            "Nats-Schedule-Target": names.run("cmd", ref),
        }
        await self._streams.store("COMMANDS", names.timer(ref, timer), data, headers)

    def consume(self, *, in_flight_max: int) -> AbstractAsyncContextManager[Pull]:
        """Take commands; never more unanswered than `in_flight_max`.

        The filter leaves timers alone: a consumer over `tmr` would take them before they fire.
        """
        commands = self._streams.names.any("cmd")
        source = Source("COMMANDS", COMMANDS_DURABLE, commands, self._ack_wait_s, confirm=True)
        return pull(self._streams, source, in_flight_max)


def rfc3339(at_ms: int) -> str:
    """Unix milliseconds as the server wants them."""
    whole = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
