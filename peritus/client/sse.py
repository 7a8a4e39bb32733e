"""Server-sent events out of bytes, however these come in pieces. Not what the events mean.

As WHATWG HTML, "Parsing an event stream", says it. Nothing is told before its blank line has come:
what a connection breaks off in the middle of was never there.
"""

import re
from typing import NamedTuple

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""The largest message; beyond, whatever sends it is no gateway."""

LINE_END = re.compile(rb"\r\n|\n|\r")
BOM = b"\xef\xbb\xbf"


class Message(NamedTuple):
    """One event. `id` None: it had none of its own."""

    event: str
    data: str
    id: str | None = None


class StreamTooLarge(ValueError):
    """A message has no end within `MESSAGE_BYTES_MAX`."""


class Parser:
    """Takes bytes and gives the messages that are whole. `retry_ms`: what the stream last said."""

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self._line: list[bytes] = []  # pieces of a line that has no end yet
        self._after_cr = False
        self._first = True
        self._size = 0
        self._event = ""
        self._id: str | None = None
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[Message]:
        """The messages that end in these bytes.

        Raises:
            StreamTooLarge: a message has no end.
        """
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]  # the other half of a line's end
            self._after_cr = False
        if not data:
            return []
        self._after_cr = data.endswith(b"\r")
        found: list[Message] = []
        pieces = LINE_END.split(data)
        for piece in pieces[:-1]:
            self._line.append(piece)
            message = self._end_of_line(b"".join(self._line))
            self._line.clear()
            if message is not None:
                found.append(message)
        if pieces[-1]:
            self._grow(len(pieces[-1]))
            self._line.append(pieces[-1])
        return found

    def _end_of_line(self, line: bytes) -> Message | None:
        if self._first:
            self._first, line = False, line.removeprefix(BOM)
        if not line:
            message = Message(self._event or "message", "\n".join(self._data), self._id)
            told = bool(self._data)
            self._begin()
            return message if told else None
        name, _, value = line.partition(b":")
        self._field(name, value.removeprefix(b" ").decode("utf-8", "replace"))
        return None

    def _field(self, name: bytes, value: str) -> None:
        match name:
            case b"event":
                self._event = value
            case b"data":
                self._grow(len(value))
                self._data.append(value)
            case b"id" if "\0" not in value:
                self._id = value
            case b"retry" if value.isascii() and value.isdecimal():
                self.retry_ms = int(value)
            case _:
                pass  # a comment, or a field nobody knows

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MESSAGE_BYTES_MAX:
            raise StreamTooLarge

    def _begin(self) -> None:
        self._event, self._id, self._size = "", None, 0
        self._data = []
