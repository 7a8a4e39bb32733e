"""Calls to the JetStream API and stores with an acknowledgement. Not the meaning of any stream."""

from typing import Any

import orjson

from domain.errors import Unavailable
from eventlog.jetstream.connection import Link, NoResponders

Json = dict[str, Any]

STREAM_NOT_FOUND = 10059
STREAM_DIFFERS = 10058
NO_PEERS = 10005
WRONG_LAST_SEQUENCE = (10071, 10164)
"""10071 carries the right sequence; 10164, of the clustered path, may even be spurious."""

SUBJECT_FULL = 10077
MESSAGE_TOO_LARGE = 10054
MESSAGE_NOT_FOUND = 10037
NO_RESOURCES = 10023

NS = 1_000_000_000


class Refused(Unavailable):
    """The server said no, and why; nothing was stored."""

    def __init__(self, what: str, error: Json) -> None:
        self.code: int = error.get("err_code") or error.get("code") or 0
        hint = "; its disk is full, or its limit reached" if self.code == NO_RESOURCES else ""
        super().__init__(f"{what}: {error.get('description', 'refused')} ({self.code}){hint}")


async def call(link: Link, verb: str, body: Json | None = None) -> Json:
    """One call of the JetStream API.

    Raises:
        Refused: it answered with an error.
        NoResponders: there is no JetStream, or none that has a leader now.
        Unavailable: it did not answer.
    """
    try:
        answer = await link.request(f"$JS.API.{verb}", orjson.dumps(body) if body else b"")
    except NoResponders:
        msg = f"no JetStream answers {verb}: the server was started without it, or has no leader"
        raise NoResponders(msg) from None
    result: Json = orjson.loads(answer.data)
    error = result.get("error")
    if error is not None:
        raise Refused(verb, error)
    return result


async def store(
    link: Link, subject: str, data: bytes, headers: dict[str, str] | None = None
) -> int:
    """Store one message in the stream that owns its subject; its sequence, once acknowledged.

    Raises:
        TooLarge: it is above the payload limit.
        Refused: the stream said no.
        NoResponders: no stream owns the subject now.
        AnswerLost: it may be stored.
        Unavailable: it was not sent.
    """
    answer = await link.request(subject, data, headers=headers)
    result: Json = orjson.loads(answer.data)
    error = result.get("error")
    if error is not None:
        raise Refused(subject, error)
    return int(result["seq"])
