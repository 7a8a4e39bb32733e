"""WORK in memory: a queue for each lane that is used. Not a record: a restart empties it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager

from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint, Kind
from eventlog.memory.log import check_size
from eventlog.memory.queue import Points, Queue, consuming
from eventlog.port import Delivery, Lane

_POINTS = Points(FaultPoint.WORK_DELIVER, FaultPoint.WORK_ACK)


class MemoryWork:
    """`WorkQueue` for one client."""

    def __init__(self, client: Client, lanes: Mapping[Lane, Queue]) -> None:
        self._client = client
        self._lanes = lanes

    async def put(self, lane: Lane, ref: RunRef, data: bytes) -> None:
        """Offer work.

        Raises:
            Unavailable: it is not stored, as far as anybody knows.
        """
        check_size(data)

        def execute(kind: Kind) -> None:
            if kind is not Kind.VANISH:
                self._lanes[lane].put(ref, data)

        await self._client.call(FaultPoint.WORK_PUT, execute)

    def consume(
        self, lane: Lane, *, in_flight_max: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Take work; never more unanswered than `in_flight_max`."""
        return consuming(self._client, self._lanes[lane], in_flight_max, _POINTS)
