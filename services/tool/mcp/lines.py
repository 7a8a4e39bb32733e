"""Lines out of a stream of bytes, each of a bounded length. Not what they say."""

import re

VALUES_MAX = 500_000
"""How many values a JSON text may have. 16 MiB of `[],` would become 1.8 GB of Python's objects,
and hold up everything else for some ten seconds."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


class TooLong(Exception):
    """A line has more bytes than one may have; nothing after it can be read."""


class Lines:
    """Cuts a stream at its line feeds; what is no whole line yet is kept."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._begun = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in what came, without their ends.

        Raises:
            TooLong: one is longer than may be.
        """
        first, *rest = data.split(b"\n")
        self._begun += first
        lines: list[bytes] = []
        for piece in rest:
            lines.append(bytes(self._begun))
            self._begun = bytearray(piece)
        if any(len(line) > self._bytes_max for line in (*lines, self._begun)):
            raise TooLong
        return lines


def has_too_many_values(text: bytes, values_max: int = VALUES_MAX) -> bool:
    """Whether a JSON text has more values than are read; what stands in strings does not count."""
    if _marks(text) <= values_max:
        return False
    return _marks(_STRING.sub(b"", text)) > values_max


def _marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
