"""Which form a run is shown in: JSON lines for programs, or text for people. Not where it goes."""

import sys
from dataclasses import dataclass
from typing import Protocol

from domain.ids import RunRef
from peritus.feed import Heard


class Screen(Protocol):
    """What a run looks like: every method returns what is to be written now."""

    @property
    def live(self) -> bool:
        """Whether it shows what is said on LIVE."""
        ...

    def heard(self, heard: Heard) -> str | bytes:
        """An event."""
        ...

    def piece(self, ref: RunRef, data: bytes) -> str | bytes:
        """Something said on LIVE."""
        ...

    def recall(self, heard: Heard) -> None:
        """Know of an event that was before, and is not shown."""
        ...

    def note(self, text: str) -> str:
        """Lines beside the events."""
        ...

    def result(self, text: str) -> str | bytes:
        """The answer of a run that completed."""
        ...


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One event a line; LIVE is not the record and is left out. `types`: only those, if any."""

    types: frozenset[str] = frozenset()
    live: bool = False

    def heard(self, heard: Heard) -> bytes:
        """An event as a line."""
        return heard.line if not self.types or heard.event.type in self.types else b""

    def piece(self, ref: RunRef, data: bytes) -> str:
        """Nothing."""
        del ref, data
        return ""

    def recall(self, heard: Heard) -> None:
        """Nothing: a line needs no other."""
        del heard

    def note(self, text: str) -> str:
        """Nothing: only events are lines."""
        del text
        return ""

    def result(self, text: str) -> str:
        """Nothing: the result is in the event."""
        del text
        return ""


@dataclass(frozen=True, slots=True)
class Form:
    """How a run is to be shown; `types` are those that are printed as JSON, all when empty."""

    as_json: bool
    types: frozenset[str] = frozenset()
    verbose: bool = False


def screen_for(root: RunRef, form: Form) -> Screen:
    """The form that is wanted."""
    if form.as_json:
        return JsonLines(form.types)
    from peritus.cli.live_view import LiveView  # noqa: PLC0415 - programs need no rich

    return LiveView(root, colour=sys.stdout.isatty(), verbose=form.verbose)
