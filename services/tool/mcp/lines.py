"""Lines out of a stream of bytes, each of a bounded length. Not what they say."""


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
