"""DEAD on JetStream: commands given up on, with the reason. Not a retry policy."""

import orjson
from nats.aio.msg import Msg

from domain.ids import RunRef
from eventlog.jetstream.api import MESSAGE_NOT_FOUND, Refused, call
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import ref_of
from eventlog.port import DeadLetter

REASON_HEADER = "Peritus-Reason"
REASON_CHARACTERS_MAX = 2000
WINDOW = 256
"""Sequences looked at in one step of the way back from the newest."""

NO_SUCH_SEQUENCE = frozenset({MESSAGE_NOT_FOUND, 10043, 10057})
"""What the server says of a sequence that is not there: not found, or nothing to delete."""


class JetStreamDeadLetters:
    """The dead letters of one deployment."""

    def __init__(self, streams: Streams, reader: Reader) -> None:
        self._streams = streams
        self._reader = reader
        self._stream = streams.names.stream("DEAD")

    async def put(self, ref: RunRef, data: bytes, reason: str) -> None:
        """Keep it; returns when it is durable.

        Raises:
            TooLarge: it is above the payload limit.
            Unavailable: it may not be stored.
        """
        text = orjson.dumps(reason[:REASON_CHARACTERS_MAX]).decode()
        subject = self._streams.names.run("dead", ref)
        await self._streams.store("DEAD", subject, data, {REASON_HEADER: text})

    async def list(self, limit: int) -> list[DeadLetter]:
        """The newest ones first, at most `limit`.

        Raises:
            Unavailable: the store is away.
        """
        state = (await self._streams.info("DEAD"))["state"]
        first, high = int(state["first_seq"]), int(state["last_seq"])
        pattern = self._streams.names.runs("dead", RunRef("*", "*", "*"))
        found: list[DeadLetter] = []
        while high >= first and high > 0 and len(found) < limit:
            low = max(first, high - WINDOW + 1)
            messages, _ = await self._reader.messages(
                self._stream, pattern, after_seq=low - 1, count=WINDOW
            )
            letters = [letter_of(message) for message in messages]
            found += [letter for letter in reversed(letters) if letter.seq <= high]
            high = low - 1
        return found[:limit]

    async def remove(self, seq: int) -> None:
        """It was sent again, or is not wanted; gone already is fine.

        Raises:
            Unavailable: it may still be there.
        """
        await remove_at(self._streams, "DEAD", seq)


async def remove_at(streams: Streams, kind: str, seq: int) -> None:
    """Remove one message by its sequence; gone already is fine.

    Raises:
        Unavailable: it may still be there.
    """
    asked = {"seq": seq, "no_erase": True}
    try:
        await call(streams.link, f"STREAM.MSG.DELETE.{streams.names.stream(kind)}", asked)
    except Refused as refused:
        if refused.code not in NO_SUCH_SEQUENCE:
            raise


def letter_of(msg: Msg) -> DeadLetter:
    """The dead letter in an answer of a direct get."""
    headers = msg.headers or {}
    reason: str = orjson.loads(headers[REASON_HEADER])
    return DeadLetter(
        int(headers["Nats-Sequence"]), ref_of(headers["Nats-Subject"]), reason, msg.data
    )
