"""What the root of a job says in a turn, as text that only grows. Not its form on the wire.

The texts of several steps are parted by an empty line. A reply that broke off stays where it was
told, for nothing that was said can be taken back here; the one that is made instead follows it.
"""

from collections.abc import AsyncGenerator, AsyncIterator

from domain import events as e
from eventlog.port import Blobs
from gateway.turns.listening import Enveloped, Item, Piece
from gateway.turns.speech import Speech, text_at, whole_text
from gateway.turns.spending import Spending
from gateway.turns.turn import Told, Turn

GAP = "\n\n"


class Words:
    """Hears a turn; `whole` is what was said in it."""

    def __init__(self, blobs: Blobs, turn: Turn) -> None:
        self.blobs = blobs
        self.turn = turn
        self.spending = Spending()
        self.whole = ""
        self._speech = Speech()
        self._attempt: tuple[int, int] | None = None

    async def say(self, items: AsyncIterator[Item]) -> AsyncGenerator[str]:
        """The text as it grows, "" when the turn begins and as a sign of life; ends with the turn.

        Raises:
            Unavailable: it cannot be told to its end.
            IntegrityViolated: what is stored is not what was written.
        """
        async for item in items:
            match item:
                case Enveloped():
                    opening = self.turn.opens(item)
                    text = await self._heard(item)
                    if opening or text:
                        yield text
                case Piece(run=run) if run == self.turn.ref.run and self.turn.begun:
                    text = self._piece(item)
                    if text:
                        yield text
                case "beat":
                    yield ""
                case _:
                    pass
            if self.turn.over is not None:
                yield await self._result()
                return

    async def _heard(self, envelope: Enveloped) -> str:
        found = ""
        for told in self.turn.hear(envelope):
            self.spending.hear(told, counted=self.turn.begun)
            if self.turn.begun and told.ref == self.turn.ref:
                found += await self._told(told)
        return found

    async def _told(self, told: Told) -> str:
        match told.event:
            case e.GenerationRequested(step=step, attempt=attempt):
                self._attempt, self._speech = (step, attempt), Speech()
            case e.GenerationCompleted(step=step, attempt=attempt, parts=parts):
                if self._attempt != (step, attempt):
                    self._speech = Speech()
                self._attempt = None
                text = await whole_text(self.blobs, told.ref.tenant, parts)
                return self._complete(text)
            case e.GenerationFailed() | e.GenerationAbandoned():
                self._attempt = None
            case _:
                pass
        return ""

    def _piece(self, piece: Piece) -> str:
        if piece.kind != "text" or (piece.step, piece.attempt) != self._attempt:
            return ""
        first = not self._speech.told
        return self._grow(self._speech.add(piece.part, piece.offset, piece.text), first=first)

    def _complete(self, text: str) -> str:
        first = not self._speech.told
        missing = self._speech.rest(text)
        if missing is None:
            return self._grow(text, first=True)
        return self._grow(missing, first=first)

    def _grow(self, text: str, *, first: bool) -> str:
        if not text:
            return ""
        new = GAP + text if first and self.whole else text
        self.whole += new
        return new

    async def _result(self) -> str:
        """The result, where it is not what was said last."""
        root = self.turn.root
        if self.turn.over != "completed" or root.result is None:
            return ""
        text = await text_at(self.blobs, root.ref.tenant, root.result)
        return "" if self.whole.endswith(text) else self._grow(text, first=True)
