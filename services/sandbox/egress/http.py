"""HTTP/1.1 over a stream, by h11; and what of a head is passed on. Not where it goes."""

import asyncio
import contextlib
import json
from collections.abc import Iterable

import h11

from services.sandbox.egress.refusals import SENTENCES, Reason, Refused
from services.sandbox.egress.streams import Stream

HEAD_MAX = 32 * 1024
LINE_EXTRA = len(": \r\n")
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",  # answered here
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",  # said anew
        b"upgrade",
    }
)

Headers = list[tuple[bytes, bytes]]


class Http:
    """One side of HTTP/1.1 on a stream: h11 with bytes moved for it."""

    def __init__(self, role: type[h11.CLIENT] | type[h11.SERVER], stream: Stream) -> None:
        self.stream = stream
        self.h11 = h11.Connection(role, max_incomplete_event_size=HEAD_MAX)

    async def receive(self) -> h11.Event:
        """What comes next from the other side.

        Raises:
            h11.RemoteProtocolError: it is not HTTP.
            OSError: the other side is gone.
        """
        while True:
            event = self.h11.next_event()
            if event is h11.NEED_DATA:
                if self.h11.they_are_waiting_for_100_continue:
                    await self.send(h11.InformationalResponse(status_code=100, headers=[]))
                self.h11.receive_data(await self.stream.read())
            elif event is h11.PAUSED:
                return h11.ConnectionClosed()
            else:
                assert not isinstance(event, type)  # noqa: S101 - no other sentinel is left
                return event

    async def send(self, event: h11.Event) -> None:
        """Send something."""
        data = self.h11.send(event)
        if data:
            await self.stream.write(data)

    def next_cycle(self) -> bool:
        """Make ready for another request on the connection, if both sides are done and willing."""
        if self.h11.our_state is not h11.DONE or self.h11.their_state is not h11.DONE:
            return False
        self.h11.start_next_cycle()
        return True


async def next_request(http: Http, within_s: float) -> h11.Request | None:
    """The head of the next request; None when the client wants nothing more.

    Raises:
        Refused: it is too slow, too large, or nothing to pass on.
    """
    try:
        async with asyncio.timeout(within_s):
            event = await http.receive()
    except TimeoutError:
        if http.h11.their_state is h11.IDLE and not http.h11.trailing_data[0]:
            return None  # silent between two requests: that is no offence
        raise Refused(Reason.TIMEOUT) from None
    except h11.RemoteProtocolError as error:
        too_large = error.error_status_hint == 431  # noqa: PLR2004 - the status says it
        raise Refused(Reason.TOO_LARGE if too_large else Reason.BAD_REQUEST) from None
    if not isinstance(event, h11.Request):
        return None
    # h11 lets through what it has received whole.
    lines = [len(name) + len(value) + LINE_EXTRA for name, value in event.headers]
    if len(event.target) + sum(lines) > HEAD_MAX:
        raise Refused(Reason.TOO_LARGE)
    return event


def check_head(request: h11.Request) -> None:
    """Whether a request is one whose meaning everybody agrees on.

    Raises:
        Refused: it is not.
    """
    if request.method not in METHODS:
        raise Refused(Reason.METHOD)
    names = [name for name, _ in request.headers]
    lengths, codings = names.count(b"content-length"), names.count(b"transfer-encoding")
    if lengths + codings > 1 or (codings and request.http_version == b"1.0"):
        raise Refused(Reason.SMUGGLING)


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of a header; names are in lower case."""
    return next((value for key, value in headers if key == name), None)


def passed_on(
    headers: Iterable[tuple[bytes, bytes]], but: frozenset[bytes] = frozenset()
) -> Headers:
    """The headers that are for the other end, without those that are for us and some more.

    A body that comes in chunks goes on in chunks.
    """
    pairs = list(headers)
    named = b",".join(value for name, value in pairs if name == b"connection")
    # A length is never dropped because the other side says so: it frames the body.
    ours = {word.strip().lower() for word in named.split(b",")} - {b"content-length", b"host"}
    kept = [pair for pair in pairs if pair[0] not in HOP_BY_HOP | ours | but]
    if header(pairs, b"transfer-encoding") is not None:
        kept.append((b"transfer-encoding", b"chunked"))
    return kept


async def answer(http: Http, refused: Refused) -> None:
    """Tell the client why, if nothing was answered yet: 403, or 502 where it just did not work."""
    if http.h11.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return
    word = refused.reason.value
    body = json.dumps(
        {
            "error": "egress_failed" if refused.failed else "egress_denied",
            "reason": word,
            "host": refused.host[:253],
            "port": refused.port,
            "message": SENTENCES[refused.reason],
        }
    ).encode()
    await http.send(
        h11.Response(
            status_code=502 if refused.failed else 403,
            reason=f"egress {'failed' if refused.failed else 'denied'}: {word}".encode(),
            headers=[
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ],
        )
    )
    with contextlib.suppress(h11.LocalProtocolError):  # the answer to HEAD has no body
        await http.send(h11.Data(data=body))
        await http.send(h11.EndOfMessage())
