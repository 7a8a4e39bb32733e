"""What a command prints, within limits: all of it up to a cap, and always its end. Not a file.

Values of secrets are taken out of a stream as it comes, before anything is cut: what lies at a cut
is never a part of one.
"""

import codecs
from dataclasses import dataclass, field
from typing import Protocol

STREAM_BYTES_MAX = 8 * 1024 * 1024  # so 16 MiB for the two of a command
INLINE_BYTES_MAX = 30_000

CONTINUATION_MASK = 0xC0
CONTINUATION = 0x80  # how a byte inside a UTF-8 character begins


class Clean(Protocol):
    """Takes values of secrets out of a stream; what may become one is held back."""

    def feed(self, piece: bytes) -> bytes:
        """What can be shown, now that this came."""
        ...

    def end(self) -> bytes:
        """What was held back: nothing more comes."""
        ...


@dataclass(slots=True)
class Capture:
    """One stream: its beginning up to a cap, its end, and how much there was."""

    clean: Clean | None = None
    kept_max: int = STREAM_BYTES_MAX
    tail_max: int = INLINE_BYTES_MAX
    kept: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    total: int = 0

    def add(self, chunk: bytes) -> bytes:
        """Take in what the command printed next; what of it may be shown now."""
        return self._take(chunk if self.clean is None else self.clean.feed(chunk))

    def finish(self) -> bytes:
        """Take in what was held back, as the command has ended; it may be shown."""
        clean, self.clean = self.clean, None
        return b"" if clean is None else self._take(clean.end())

    def _take(self, chunk: bytes) -> bytes:
        self.total += len(chunk)
        self.kept += chunk[: self.kept_max - len(self.kept)]
        self.tail += chunk
        if len(self.tail) > 2 * self.tail_max:  # so that a byte is moved once, not every time
            del self.tail[: -self.tail_max]
        return chunk

    def end(self, size: int) -> bytes:
        """The last bytes of the stream; `size` is at most `tail_max`."""
        return bytes(self.tail[-size:]) if size else b""

    def whole(self) -> bytes:
        """All that was kept, with a line that says what is missing."""
        missing = self.total - len(self.kept)
        return bytes(self.kept) + (b"\n[%d bytes dropped]\n" % missing if missing else b"")


def joined(captures: tuple[Capture, ...], bytes_max: int) -> tuple[str, bool]:
    """The streams one after the other as text of at most about `bytes_max`; whether that cut any.

    What is cut is the middle: a command says what it is about first, and how it ended last.
    """
    total = sum(capture.total for capture in captures)
    if total <= bytes_max:
        return _text(b"".join(bytes(capture.kept) for capture in captures)), False
    half = bytes_max // 2
    beginning = b"".join(bytes(capture.kept[:half]) for capture in captures)[:half]
    ending = b"".join(capture.end(half) for capture in captures)[-half:]
    head = codecs.getincrementaldecoder("utf-8")("replace").decode(beginning)
    cut = total - len(beginning) - len(ending)
    return f"{head}\n[... {cut} bytes left out ...]\n{_text(_from_character(ending))}", True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _from_character(data: bytes) -> bytes:
    """Without the rest of a character that the cut went through."""
    for start in range(min(4, len(data))):
        if data[start] & CONTINUATION_MASK != CONTINUATION:
            return data[start:]
    return data
