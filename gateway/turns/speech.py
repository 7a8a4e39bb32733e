"""The text of a reply out of the pieces that came and the event that has it whole. Pure.

What is told is a beginning of the whole, so lost pieces make it late and never wrong; where it is
not, the event says so.
"""

from dataclasses import dataclass

from domain.content import AssistantPart, BlobRef, TextPart
from eventlog.port import Blobs


@dataclass(slots=True)
class Speech:
    """What was told of the text of one attempt at a reply."""

    told: str = ""
    _part: int = -1
    _chars: int = 0  # of the present part
    _gap: bool = False  # the end of the present part is not known

    def add(self, part: int, offset: int, text: str) -> str:
        """What a piece adds to what was told: nothing while something before it is missing."""
        if part < self._part or (part > self._part and self._gap):
            return ""
        if part > self._part:
            self._part, self._chars = part, 0
        self._gap = offset > self._chars
        if self._gap:
            return ""
        new = text[self._chars - offset :]
        self._chars += len(new)
        self.told += new
        return new

    def rest(self, whole: str) -> str | None:
        """What is missing of the whole; None when what was told is not its beginning."""
        if not whole.startswith(self.told):
            return None
        missing = whole[len(self.told) :]
        self.told = whole
        return missing


async def whole_text(blobs: Blobs, tenant: str, parts: tuple[AssistantPart, ...]) -> str:
    """The text of a reply, wherever it is kept.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: it is not what was stored.
    """
    found = [
        await text_at(blobs, tenant, part.text) for part in parts if isinstance(part, TextPart)
    ]
    return "".join(found)


async def text_at(blobs: Blobs, tenant: str, text: str | BlobRef) -> str:
    """A text, wherever it is kept.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: it is not what was stored.
    """
    if isinstance(text, str):
        return text
    return (await blobs.get(tenant, text.digest)).decode("utf-8", "replace")
