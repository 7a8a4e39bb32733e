"""The way of HTTP requests to an MCP server and its authorisation server. Not the protocol in them.

Whatever speaks over it reaches checked addresses only, and reads answers of bounded size only.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple, Self, cast

import anyio
import httpcore2
import httpx2

from domain.addresses import Guard, networks
from domain.sandbox import covers
from services.network.own import is_own
from services.network.roots import system_roots
from services.tool.mcp.addresses import Admits, CheckedBackend, plain_admits
from services.tool.mcp.http_events import Events
from services.tool.mcp.http_settings import HttpSettings
from services.tool.mcp.lines import has_too_many_values
from services.tool.mcp.seam import NotOpened

LISTEN_GAP_S = 0.5
"""Between two requests that listen: a server that hangs up at once is not asked without pause."""

TOKEN_BYTES_MAX = 256 * 1024
"""Of one answer on the way to a token: what a server says of itself, or a token."""

TOO_MANY = "the answer has more values than are read"
REFUSAL = "it is not public; an operator allows networks by PERITUS_MCP_ALLOW_CIDRS"
PLAIN_REFUSAL = "http:// is for networks of PERITUS_MCP_ALLOW_CIDRS only; use https://"
SCHEMES = ("https", "http")


Headers = Callable[[], Awaitable[dict[str, str]]]
"""The headers of the definition as they are now, with the values of secrets in them.

Raises NotOpened: a secret is missing.
"""


class Forbidden(httpx2.ConnectError):
    """A request may not be sent there; the message says what to change. Nothing was sent."""


class TooLong(httpx2.ReadError):
    """An answer has more bytes than are read, or comes packed in a way that hides how many."""


class Origin(NamedTuple):
    """What a request is for, as httpx2 spells it: None is the usual port."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: httpx2.URL) -> Self:
        """The origin of an URL."""
        return cls(url.scheme, url.host, url.port)


class Way(httpx2.AsyncBaseTransport):
    """Sends requests to where they may go. Headers go to the endpoint's own origin only."""

    def __init__(
        self,
        endpoint: str,
        headers: Headers,
        settings: HttpSettings,
        trust: ssl.SSLContext,
    ) -> None:
        """`headers` are asked for now, and again when the server does not take them.

        `trust` says whom a host is believed to be.
        """
        self._own = Origin.of(httpx2.URL(endpoint))
        self._ask = headers
        self._headers: dict[str, str] | None = None
        self._settings = settings
        self._guard = guard_of(settings)
        self._pools = {scheme: _pool(scheme, self._guard, settings, trust) for scheme in SCHEMES}
        self._listening: list[Answer] = []
        self._next_listen = 0.0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of a host, read as far as its head.

        Raises:
            Forbidden: the operator's settings say no.
            httpx2.TransportError: there is none.
        """
        self._check(request.url)
        if Origin.of(request.url) != self._own:
            return await self._sent(request)
        response = await self._sent(request, await self._known())
        if response.status_code == 401 and await self._renewed():  # noqa: PLR2004
            await response.aclose()
            return await self._sent(request, await self._known())
        return response

    async def _known(self) -> dict[str, str]:
        if self._headers is None:
            self._headers = await self._ask()
        return self._headers

    async def _renewed(self) -> bool:
        """Whether the headers are others by now: secrets change while a connection is open."""
        try:
            before, self._headers = self._headers, await self._ask()
        except NotOpened as error:
            raise Forbidden(str(error)) from None
        return self._headers != before

    async def _sent(
        self, asked: httpx2.Request, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        own = dict(headers or {})
        if "authorization" in asked.headers:  # of the way to an authorisation server
            own.pop("authorization", None)
        request = httpx2.Request(
            asked.method,
            asked.url,
            headers={**asked.headers, **own},
            stream=asked.stream,
            extensions=asked.extensions,
        )
        url = request.url
        request.headers["accept-encoding"] = "identity"  # so that a length is a length
        request.extensions = {"timeout": self._patience(), **request.extensions}
        wanted = request.headers.get("accept", "")
        listens = request.method == "GET" and "text/event-stream" in wanted
        if listens:
            await self._pace()
        response = await self._pools[url.scheme].handle_async_request(request)
        of_protocol = "timeout" in asked.extensions  # others are of the way to a token
        bytes_max = self._settings.body_bytes_max if of_protocol else TOKEN_BYTES_MAX
        return await self._bounded(response, bytes_max, listens=listens)

    def sever(self) -> None:
        """End the streams that listen to the server, as if it had ended them."""
        for answer in self._listening:
            answer.sever()

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()

    def _check(self, url: httpx2.URL) -> None:
        if url.scheme not in self._pools:
            message = f"{url.scheme}:// is not spoken here; use https://"
            raise Forbidden(message)
        domains = self._settings.domains
        if domains is not None and not any(one == "*" or covers(one, url.host) for one in domains):
            message = f"{url.host} is not among the hosts of PERITUS_MCP_DOMAINS"
            raise Forbidden(message)
        if self._settings.proxy is not None and not self._may_be_named(url):
            message = f"{url.host} may not be reached: {REFUSAL}"
            raise Forbidden(message)

    def _may_be_named(self, url: httpx2.URL) -> bool:
        """Whether a proxy may be asked for it: it resolves names, so only addresses are checked."""
        try:
            address = ipaddress.ip_address(url.host)
        except ValueError:
            return url.scheme == "https"
        return (self._guard.admits if url.scheme == "https" else plain_admits(self._guard))(address)

    def _patience(self) -> dict[str, float]:
        """How long a request waits that says nothing of that: those to an authorisation server."""
        connect_s, answer_s = self._settings.connect_s, self._settings.answer_s
        return {"connect": connect_s, "read": answer_s, "write": answer_s, "pool": answer_s}

    async def _pace(self) -> None:
        now = asyncio.get_running_loop().time()
        at = max(now, self._next_listen)
        self._next_listen = at + LISTEN_GAP_S
        await asyncio.sleep(at - now)

    async def _bounded(
        self, response: httpx2.Response, bytes_max: int, *, listens: bool
    ) -> httpx2.Response:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            message = "the server packs its answers although it was asked not to"
            raise TooLong(message)
        stream = response.stream
        if not isinstance(stream, httpx2.AsyncByteStream):  # it is always one
            message = "the answer has no body that could be read"
            raise TooLong(message)
        goes_on = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        answer = Answer(stream, bytes_max, events=goes_on)
        if listens:
            self._listening = [*(one for one in self._listening if not one.over), answer]
        return httpx2.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=answer,
            extensions=response.extensions,
        )


class Answer(httpx2.AsyncByteStream):
    """The body of an answer, bounded. `events`: it is a stream of these, and each is bounded."""

    def __init__(self, inner: httpx2.AsyncByteStream, bytes_max: int, *, events: bool) -> None:
        self._inner = inner
        self._bytes_max = bytes_max
        self._events = Events(bytes_max) if events else None
        self._waiting: anyio.CancelScope | None = None
        self.over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._inner)
        size = 0
        while not self.over:
            piece: bytes | None = None
            with anyio.CancelScope() as self._waiting:
                piece = await anext(pieces, None)
            if piece is None:
                break
            size += len(piece)
            if self._events is not None:
                for event in self._whole(self._events.feed(piece)):
                    yield event
                continue
            if size > self._bytes_max:
                message = f"the answer has more than {self._bytes_max} bytes"
                raise TooLong(message)
            yield piece
        if self._events is not None and not self.over:
            yield self._events.rest()

    def _whole(self, events: list[bytes] | None) -> list[bytes]:
        """Events that can be read without harm; a stream with another is not taken up again."""
        if events is None:
            message = f"an event has more than {self._bytes_max} bytes"
            raise httpx2.SSEError(message)
        if any(map(has_too_many_values, events)):
            raise httpx2.SSEError(TOO_MANY)
        return events

    def sever(self) -> None:
        """Let whoever reads it see its end now."""
        self.over = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def aclose(self) -> None:
        """Let go of the connection."""
        self.over = True
        await self._inner.aclose()


class _Checked(httpx2.AsyncHTTPTransport):
    """The SDK's own transport over connections that are checked.

    It offers no argument for that; what it makes its requests with is set instead. A test sees to
    it that nothing else is used.
    """

    def __init__(
        self, admits: Admits, refusal: str, settings: HttpSettings, trust: ssl.SSLContext
    ) -> None:
        super().__init__(verify=trust, trust_env=False)
        dials = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=trust,
            max_connections=settings.connections_max,
            keepalive_expiry=60.0,
            network_backend=CheckedBackend(admits, refusal, dials),
        )


def guard_of(settings: HttpSettings) -> Guard:
    """The rule about addresses of an operator's settings."""
    return Guard(is_own, networks(settings.allow_cidrs), networks(settings.deny_cidrs))


def trust_of(settings: HttpSettings) -> ssl.SSLContext:
    """Whom a host is believed to be: what the system believes, and the operator beside it."""
    trust = ssl.create_default_context(cafile=system_roots())
    if settings.extra_ca_file is not None:
        trust.load_verify_locations(cafile=settings.extra_ca_file)
    return trust


def _pool(
    scheme: str, guard: Guard, settings: HttpSettings, trust: ssl.SSLContext
) -> httpx2.AsyncHTTPTransport:
    if settings.proxy is not None:
        return httpx2.AsyncHTTPTransport(verify=trust, trust_env=False, proxy=settings.proxy)
    if scheme == "https":
        return _Checked(guard.admits, REFUSAL, settings, trust)
    return _Checked(plain_admits(guard), PLAIN_REFUSAL, settings, trust)
