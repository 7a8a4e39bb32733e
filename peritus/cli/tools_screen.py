"""A run for people, with what its tools print while they work. For one call at a time."""

from dataclasses import dataclass

from pydantic import ValidationError

from domain.ids import RunRef
from peritus.cli.screens import Screen
from peritus.cli.wording import clean
from peritus.feed import Heard
from services.worker.live import LiveToolOutput


@dataclass(slots=True)
class WithOutput:
    """Fills the port `Screen` around another one, which shows all else."""

    inner: Screen
    _in_line: bool = False  # what was printed last has not ended its line

    @property
    def live(self) -> bool:
        """Whether it shows what is said on LIVE."""
        return self.inner.live

    def heard(self, heard: Heard) -> str | bytes:
        """An event."""
        return self._after(self.inner.heard(heard))

    def piece(self, ref: RunRef, data: bytes) -> str | bytes:
        """Something said on LIVE: what a tool prints is shown as it is."""
        try:
            text = clean(LiveToolOutput.model_validate_json(data).text)
        except ValidationError:
            return self._after(self.inner.piece(ref, data))
        if text:
            self._in_line = not text.endswith("\n")
        return text

    def recall(self, heard: Heard) -> None:
        """Know of an event that was before, and is not shown."""
        self.inner.recall(heard)

    def note(self, text: str) -> str:
        """Lines beside the events."""
        return str(self._after(self.inner.note(text)))

    def result(self, text: str) -> str | bytes:
        """The answer of a run that completed."""
        return self._after(self.inner.result(text))

    def _after(self, shown: str | bytes) -> str | bytes:
        """What is shown next begins a line of its own."""
        if not shown or not self._in_line or isinstance(shown, bytes):
            return shown
        self._in_line = False
        return f"\n{shown}"
