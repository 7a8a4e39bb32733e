"""One connection from a sandbox: what it asks for, whether it may, and who carries it out."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import h11

from services.sandbox.egress.forward import Forwarder, Goal
from services.sandbox.egress.guest import Guest
from services.sandbox.egress.hello import ALERT
from services.sandbox.egress.http import Http, answer, header, next_request
from services.sandbox.egress.names import (
    HTTP_PORT,
    Where,
    absolute_target,
    authority,
    connect_target,
)
from services.sandbox.egress.outside import Outside
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.streams import CHUNK, Metered, Primed, SocketStream, Stream, Terminated
from services.sandbox.egress.tunnel import HANDSHAKE, checked_hello, first_bytes, relay

if TYPE_CHECKING:
    from services.sandbox.egress.authority import Authority  # slow to load, seldom needed

HTTPS_PORT = 443
GONE = (OSError, EOFError, h11.ProtocolError)
"""How a client that has gone, or talks nonsense in the middle, shows."""


class Visitors:
    """Serves the connections of sandboxes, by what the proxy process has for all of them."""

    def __init__(
        self, settings: EgressSettings, outside: Outside, authority: "Callable[[], Authority]"
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._authority = authority

    async def serve(self, guest: Guest, accepted: socket.socket) -> None:
        """One connection to its end. Whatever happens to it stays with it."""
        try:
            stream = SocketStream(*await asyncio.open_connection(sock=accepted, limit=CHUNK))
        except OSError:
            accepted.close()
            return
        http = Http(h11.SERVER, stream)
        guest.connections += 1
        try:
            self._check_room(guest)
            await self._requests(guest, http, stream)
            async with asyncio.timeout(self._settings.head_s):
                await stream.flush()
        except Refused as refused:
            guest.refuse(refused)
            with contextlib.suppress(*GONE):
                async with asyncio.timeout(self._settings.head_s):
                    await answer(http, refused)
                    await stream.flush()
        except GONE:
            pass
        except Exception:  # noqa: BLE001 - a mistake of ours ends this connection and no other
            guest.refuse(Refused(Reason.BROKEN))
        finally:
            guest.connections -= 1
            stream.close()

    def _check_room(self, guest: Guest) -> None:
        if guest.connections > self._settings.connections_max:
            raise Refused(Reason.CONNECTIONS)

    async def _requests(self, guest: Guest, http: Http, stream: Stream) -> None:
        forwarder = Forwarder(http, guest, self._outside, self._settings.idle_s)
        try:
            while (request := await next_request(http, self._settings.head_s)) is not None:
                if request.method == b"CONNECT":
                    await self._connect(guest, http, stream, request)
                    return
                asked = absolute_target(request.target)
                _same_host(request, asked.where, HTTP_PORT)
                guest.check(asked.where)
                goal = Goal(asked.where, await self._outside.addresses(asked.where))
                await forwarder.carry(request, goal, asked.path)
                if not http.next_cycle():
                    return
        finally:
            forwarder.close()

    async def _connect(
        self, guest: Guest, http: Http, stream: Stream, request: h11.Request
    ) -> None:
        where = connect_target(request.target)
        guest.check(where)
        addresses = await self._outside.addresses(where)
        injecting = bool(guest.for_host(where.host))
        connection = None
        if not injecting:
            connection = await self._outside.dial(where, addresses, tls=False)
        try:
            client = await _established(http, stream, where)
            first = await first_bytes(client, where, self._settings.head_s)
            if not first.startswith(HANDSHAKE):
                await self._in_the_clear(guest, Primed(client, first), Goal(where, addresses))
                return
            hello = await self._hello(client, first, where)
            if connection is None:
                goal = Goal(where, addresses, tls=True, injecting=True)
                await self._terminated(guest, Primed(client, hello), goal)
                return
            key = guest.opened(where)
            host = Metered(connection, lambda sent, got: guest.pay(key, sent, got))
            await relay(Primed(client, hello), host, self._settings.idle_s)
        finally:
            if connection is not None:
                connection.close()

    async def _hello(self, client: Stream, first: bytes, where: Where) -> bytes:
        try:
            return await checked_hello(client, first, where, self._settings.head_s)
        except Refused:
            with contextlib.suppress(OSError):
                await client.write(ALERT)
            raise

    async def _in_the_clear(self, guest: Guest, stream: Stream, goal: Goal) -> None:
        """Some clients tunnel what they could simply ask for."""
        if goal.where.port != HTTP_PORT:
            raise Refused(Reason.NOT_TLS, *goal.where)
        await self._inside(guest, stream, goal)

    async def _terminated(self, guest: Guest, stream: Stream, goal: Goal) -> None:
        inner = Terminated(stream, self._authority().context(goal.where.host))
        try:
            async with asyncio.timeout(self._settings.head_s):
                await inner.handshake()
        except ssl.SSLError:
            raise EOFError from None  # it does not trust us, and knows why it was told so
        await self._inside(guest, inner, goal)
        await inner.finish()

    async def _inside(self, guest: Guest, stream: Stream, goal: Goal) -> None:
        """Requests inside a tunnel: all for the host the tunnel is for."""
        http = Http(h11.SERVER, stream)
        forwarder = Forwarder(http, guest, self._outside, self._settings.idle_s)
        try:
            while (request := await next_request(http, self._settings.head_s)) is not None:
                _check_inside(request, goal)
                guest.check(goal.where)
                await forwarder.carry(request, goal, request.target)
                if not http.next_cycle():
                    return
        except Refused as refused:
            refused.host, refused.port = refused.host or goal.where.host, goal.where.port
            with contextlib.suppress(*GONE):
                await answer(http, refused)
            raise
        finally:
            forwarder.close()


def _check_inside(request: h11.Request, goal: Goal) -> None:
    if not request.target.startswith(b"/"):
        raise Refused(Reason.BAD_REQUEST, *goal.where)
    _same_host(request, goal.where, HTTPS_PORT if goal.tls else HTTP_PORT)


async def _established(http: Http, stream: Stream, where: Where) -> Stream:
    """The tunnel that was asked for; some clients have said something in it already."""
    if not isinstance(await http.receive(), h11.EndOfMessage):
        raise Refused(Reason.BAD_REQUEST, *where)
    await http.send(h11.Response(status_code=200, reason=b"Connection established", headers=[]))
    early, _ = http.h11.trailing_data
    return Primed(stream, early)


def _same_host(request: h11.Request, where: Where, default_port: int) -> None:
    """The Host header says what the request says. HTTP/1.0 need not have one."""
    named = header(request.headers, b"host")
    if named is None and request.http_version == b"1.0":
        return
    try:
        said = authority((named or b"").decode("ascii"), default_port)
    except (Refused, UnicodeDecodeError):
        said = None
    if said != where:
        raise Refused(Reason.HOST_MISMATCH, *where)
