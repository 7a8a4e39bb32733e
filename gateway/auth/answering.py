"""What the gate adds to an answer: how much is left, and its end when the caller's time is over."""

import logging
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Send

from domain.errors import Unavailable
from gateway.auth.recognise import Known, Recogniser

logger = logging.getLogger(__name__)

END: Message = {"type": "http.response.body", "body": b"", "more_body": False}
STREAM = "text/event-stream"


class Answering:
    """Sends one answer. A stream goes on only while what its caller came with is good.

    Streams say something every few seconds, so it is enough to look whenever they do: keys are
    looked up once for all streams of a key.
    """

    def __init__(
        self, send: Send, recogniser: Recogniser, known: Known, more: Mapping[str, str] | None
    ) -> None:
        self._send = send
        self._recogniser = recogniser
        self._known = known
        self._more = more or {}
        self._streams = False
        self._over = False

    async def __call__(self, message: Message) -> None:
        """Send the next part; nothing more once it is over."""
        if self._over:
            return
        if message["type"] == "http.response.start":
            message = dict(message)  # it may be one that all answers of a kind share
            MutableHeaders(scope=message).update(self._more)
            self._streams = Headers(scope=message).get("content-type", "").startswith(STREAM)
        elif self._streams and message.get("more_body") and not await self._still():
            logger.info("a stream ends: what its caller came with is good no more")
            self._over = True
            message = END
        await self._send(message)

    async def _still(self) -> bool:
        try:
            return await self._recogniser.still(self._known)
        except Unavailable:
            return True  # nobody can take a key back meanwhile
