"""Which form a run is shown in: JSON lines for programs, or text for people. Not where it goes."""

import sys
from typing import Protocol

from domain.ids import RunRef
from peritus.feed import Heard


class Screen(Protocol):
    """What a run looks like: every method returns what is to be written now."""

    live: bool

    def heard(self, heard: Heard) -> str | bytes:
        """An event."""
        ...

    def piece(self, ref: RunRef, data: bytes) -> str | bytes:
        """Something said on LIVE."""
        ...

    def result(self, text: str) -> str | bytes:
        """The answer of a run that completed."""
        ...


class JsonLines:
    """One event a line; LIVE is not the record and is left out."""

    live = False

    def heard(self, heard: Heard) -> bytes:
        """An event as a line."""
        return heard.line

    def piece(self, ref: RunRef, data: bytes) -> str:
        """Nothing."""
        del ref, data
        return ""

    def result(self, text: str) -> str:
        """Nothing: the result is in the event."""
        del text
        return ""


def screen_for(root: RunRef, *, as_json: bool) -> Screen:
    """The form that is wanted."""
    if as_json:
        return JsonLines()
    from peritus.cli.live_view import LiveView  # noqa: PLC0415 - programs need no rich

    return LiveView(root, colour=sys.stdout.isatty())
