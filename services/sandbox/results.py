"""The whole output of an earlier call, for a model that read a cut form of it. Not the tool."""

from domain.content import BlobRef, TextPart
from domain.envelope import decode
from domain.events import ToolCallEnded
from domain.ids import RunRef
from eventlog.port import Blobs, EventLog


class Results:
    """Reads results from the log of the run itself: no run sees another's."""

    def __init__(self, log: EventLog, blobs: Blobs) -> None:
        self._log = log
        self._blobs = blobs

    async def read(self, ref: RunRef, call: str) -> bytes | None:
        """What a call of this run came to, in full; None when it has no outcome.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        ended = await self._ended(ref, call)
        if ended is None:
            return None
        if isinstance(ended.full_output, BlobRef):
            return await self._blobs.get(ref.tenant, ended.full_output.digest)
        if ended.full_output is not None:
            return ended.full_output.encode()
        texts: list[bytes] = []
        for part in ended.content:
            if isinstance(part, TextPart):
                text = part.text
                if isinstance(text, BlobRef):
                    texts.append(await self._blobs.get(ref.tenant, text.digest))
                else:
                    texts.append(text.encode())
        return b"".join(texts)

    async def _ended(self, ref: RunRef, call: str) -> ToolCallEnded | None:
        wanted = f'"call":"{call}"'.encode()
        for item in reversed(await self._log.load(ref)):
            if wanted in item.data:
                for event in decode(item.data).events:
                    if isinstance(event, ToolCallEnded) and event.call == call:
                        return event
        return None
