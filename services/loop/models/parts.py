"""The parts of a reply while its pieces come in. Not a wire format: formats choose the keys."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

from domain.content import AssistantPart, CallPart, TextPart, ThinkingPart
from services.loop.models.port import Delta

Kind = Literal["text", "thinking", "arguments"]


@dataclass(slots=True)
class _Slot:
    kind: Kind
    index: int
    pieces: list[str] = field(default_factory=list[str])
    length: int = 0
    tool: str = ""
    provider_id: str = ""
    block: str | None = None
    form: str | None = None  # of a text or a call: how the provider wants it back


class PartsInProgress:
    """Collects pieces by key. A part's place is that of its first piece; an empty text has none."""

    def __init__(self, origin: str) -> None:
        self._origin = origin  # what the provider's own blocks are marked with
        self._slots: dict[Hashable, _Slot] = {}

    def open(self, key: Hashable, kind: Kind, *, provider_id: str = "", tool: str = "") -> None:
        """Give a part its place before its first piece."""
        if key not in self._slots:
            slot = _Slot(kind, len(self._slots), tool=tool, provider_id=provider_id)
            self._slots[key] = slot

    def add(self, key: Hashable, kind: Kind, piece: str | None) -> list[Delta]:
        """Take a piece of a part, and give it as a delta."""
        if not piece:
            return []
        self.open(key, kind)
        slot = self._slots[key]
        delta = Delta(slot.kind, slot.index, slot.length, piece, slot.tool)
        slot.pieces.append(piece)
        slot.length += len(piece)
        return [delta]

    def text_of(self, key: Hashable) -> str:
        """All pieces of a part so far."""
        slot = self._slots.get(key)
        return "".join(slot.pieces) if slot else ""

    def keep(self, key: Hashable, block: str) -> None:
        """Remember the provider's own block of a part, byte for byte."""
        self.open(key, "thinking")
        self._slots[key].block = block

    def attach(self, key: Hashable, form: str) -> None:
        """Remember, behind a text or a call, the provider's own block that goes back for it."""
        if key in self._slots:
            self._slots[key].form = form

    def has(self, *kinds: Kind) -> bool:
        """Whether there is a part of one of these kinds."""
        return any(slot.kind in kinds for slot in self._slots.values())

    def parts(self, *, whole: bool) -> tuple[AssistantPart, ...]:
        """The parts in order. In a `whole` reply a call without arguments has `{}`."""
        parts: list[AssistantPart] = []
        for slot in self._slots.values():
            part = self._part(slot, whole=whole)
            if part is not None:
                parts.append(part)
                if slot.form is not None:
                    parts.append(ThinkingPart(provider=self._origin, block=slot.form))
        return tuple(parts)

    def _part(self, slot: _Slot, *, whole: bool) -> AssistantPart | None:
        text = "".join(slot.pieces)
        match slot.kind:
            case "text":
                return TextPart(text=text) if text else None
            case "thinking":
                if slot.block is None:
                    return None
                return ThinkingPart(provider=self._origin, block=slot.block)
            case "arguments":
                arguments = text or ("{}" if whole else "")
                return CallPart(provider_id=slot.provider_id, tool=slot.tool, arguments=arguments)
