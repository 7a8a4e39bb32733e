"""A whole answer without values of secrets: its head, and its body as it is meant. No I/O."""

import zlib
from collections.abc import Iterator, Sequence

import h11

from services.sandbox.egress.echo import Echo, Swap, clean_headers
from services.sandbox.egress.http import Headers, header
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.streams import CHUNK

GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
INFLATED = frozenset({b"gzip", b"x-gzip", b"deflate"})
PLAIN = frozenset({b"", b"identity"})
FRAMING = frozenset({b"content-encoding", b"content-length"})


class Cleaner:
    """Takes the values out of one answer, which is uncompressed for that if need be."""

    def __init__(self, answer: h11.Response, headers: Headers, known: Sequence[Swap]) -> None:
        """`headers` are those that are passed on.

        Raises:
            Refused: nobody here can read the body.
        """
        coding = (header(headers, b"content-encoding") or b"").strip().lower()
        if coding not in INFLATED | PLAIN:
            raise Refused(Reason.ENCODED_RESPONSE)
        self._echo = Echo(known)
        self._inflating = zlib.decompressobj(GZIP_OR_ZLIB) if coding in INFLATED else None
        self._begun = False
        kept = [pair for pair in headers if self._inflating is None or pair[0] not in FRAMING]
        self.headers = clean_headers(kept, known)
        self.reason = self._echo.clean(answer.reason)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What can be passed on of the body, now that this came.

        Raises:
            Refused: it is not what its head says.
        """
        if self._inflating is None:
            yield self._echo.feed(data)
            return
        self._begun = True
        try:
            while data:
                yield self._echo.feed(self._inflating.decompress(data, CHUNK))
                if self._inflating.unused_data:
                    raise Refused(Reason.BROKEN)
                data = self._inflating.unconsumed_tail
        except zlib.error:
            raise Refused(Reason.BROKEN) from None

    def finish(self) -> bytes:
        """The rest of the body, now that nothing more comes.

        Raises:
            Refused: it breaks off.
        """
        if self._begun and self._inflating is not None and not self._inflating.eof:
            raise Refused(Reason.BROKEN)
        return self._echo.finish()
