"""Cuts a stream of server-sent events into whole ones, so that each can be looked at."""

import re

_END = re.compile(rb"(?>\r\n|\n|\r){2}")
_END_BYTES_MAX = 4


class Events:
    """What was read and is no whole event yet; bytes are passed on as they came."""

    def __init__(self, bytes_max: int) -> None:
        """`bytes_max`: of one event."""
        self._bytes_max = bytes_max
        self._begun = bytearray()
        self._looked = 0

    def feed(self, data: bytes) -> list[bytes] | None:
        """The events that end in what came; None when one is longer than may be."""
        self._begun += data
        events: list[bytes] = []
        while (found := _END.search(self._begun, self._looked)) is not None:
            events.append(bytes(self._begun[: found.end()]))
            del self._begun[: found.end()]
            self._looked = 0
        self._looked = max(0, len(self._begun) - _END_BYTES_MAX)
        longest = max(len(self._begun), *map(len, events), 0)
        return None if longest > self._bytes_max else events

    def rest(self) -> bytes:
        """What is left when nothing more comes."""
        return bytes(self._begun)
