"""Keeping values out of answers: what a host repeats becomes the stand-in again, byte for byte.

Same length for same length, so the framing of an answer stays true; over any cuts into chunks. It
knows the encodings of `domain.forms`, not every way a host could transform a value.
"""

from collections.abc import Iterable, Sequence

from domain.forms import forms_of
from services.sandbox.egress.http import Headers
from services.sandbox.egress.stand_ins import StandIn

FILL = b"*"

Swap = tuple[bytes, bytes]


def swaps(stand_ins: Iterable[StandIn]) -> tuple[Swap, ...]:
    """What to look for and what to put there, longest first."""
    found: dict[bytes, bytes] = {}
    for stand_in in stand_ins:
        value = stand_in.value
        found[value] = stand_in.token[: len(value)].ljust(len(value), FILL)
        for form in forms_of(stand_in.secret.reveal()):
            text = form.text.encode("utf-8", "surrogateescape")
            found.setdefault(text, FILL * len(text))
    return tuple(sorted(found.items(), key=lambda swap: -len(swap[0])))


def clean_headers(headers: Headers, known: Sequence[Swap]) -> Headers:
    """The headers without values; they are whole, so nothing is held back."""
    return [(name, _replaced(value, known)) for name, value in headers]


class Echo:
    """Cleans one body as it comes by. Holds back only what may be the beginning of a value."""

    def __init__(self, known: Sequence[Swap]) -> None:
        self.known = known
        self._held = b""

    def clean(self, data: bytes) -> bytes:
        """Something whole without values; it is not part of the body."""
        return _replaced(data, self.known)

    def feed(self, data: bytes) -> bytes:
        """The next bytes that are certain."""
        data = self._held + data
        cut = min((_open_end(data, value) for value, _ in self.known), default=len(data))
        # A value across the cut is cleaned on both sides of it.
        end = max((_end_across(data, value, cut) for value, _ in self.known), default=cut)
        clean = _replaced(data, self.known)
        self._held = clean[cut:end] + data[end:]
        return clean[:cut]

    def finish(self) -> bytes:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, b""
        return _replaced(held, self.known)


def _replaced(data: bytes, known: Sequence[Swap]) -> bytes:
    for value, token in known:
        data = data.replace(value, token)
    return data


def _open_end(data: bytes, value: bytes) -> int:
    """Where the longest end of the data begins that a value could begin with."""
    at = max(0, len(data) - len(value) + 1)
    while (at := data.find(value[:1], at)) >= 0:
        if value.startswith(data[at:]):
            return at
        at += 1
    return len(data)


def _end_across(data: bytes, value: bytes, cut: int) -> int:
    """Where a value ends that lies across the cut; the cut itself when there is none."""
    at = data.rfind(value, max(0, cut - len(value) + 1), cut + len(value) - 1)
    return cut if at < 0 else at + len(value)
