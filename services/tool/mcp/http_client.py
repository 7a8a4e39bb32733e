"""The HTTP client under one connection to an MCP server: a failure is an answer to its request.

Not the protocol: the SDK's transports speak it over this. What they would let end a connection is
turned here into an error of the one request it is about.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import cast

import httpx2
from mcp.client.auth import OAuthFlowError
from mcp.types import CONNECTION_CLOSED, INTERNAL_ERROR, METHOD_NOT_FOUND

from services.tool.mcp.http_failures import (
    GATEWAY_LOST,
    NOT_RUN,
    UNKNOWN,
    error_answer,
    refusal,
    request_id,
    rpc_error_code,
    rpc_error_text,
)
from services.tool.mcp.http_settings import HttpSettings
from services.tool.mcp.http_transport import TOO_MANY, Way
from services.tool.mcp.lines import has_too_many_values
from services.tool.mcp.oauth_failures import said_of
from services.tool.mcp.seam import Report

SESSION_ID = "mcp-session-id"
GONE = "the server does not know this session any more"
GOODBYE_S = 5.0
"""How long a server may take to hear that a session is over."""

QUIET_S = 10.0
"""How long a session that is gone is kept for requests that are still being answered on it."""

UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
"""Nothing of a request has left this process when one of these is raised."""

ACCEPTED = 202
ERRORS_FROM = 400


class Talk(httpx2.AsyncClient):
    """Sends the requests of one connection. Used by the SDK's transports as their client."""

    def __init__(
        self,
        way: Way,
        auth: httpx2.Auth | None,
        settings: HttpSettings,
        report: Report,
        *,
        hint: str,
        older: bool,
    ) -> None:
        """`hint`: what a person can do when the server wants to know who asks.

        `older`: answers come over another stream, so what failed cannot be answered here.
        """
        patience = httpx2.Timeout(
            connect=settings.connect_s,
            read=None,  # a call takes as long as whoever made it waits
            write=settings.answer_s,
            pool=settings.connect_s,
        )
        super().__init__(transport=way, auth=auth, timeout=patience, trust_env=False)
        self._way = way
        self._answer_s = settings.answer_s
        self._report = report
        self.hint = hint
        self._older = older
        self._under_way: set[object] = set()
        self._quiet = asyncio.Event()
        self.hang_up: Callable[[], Awaitable[None]] = self.aclose
        """Ends the connection; whoever opens it says how."""

    async def send(
        self,
        request: httpx2.Request,
        *,
        stream: bool = False,
        **how: object,
    ) -> httpx2.Response:
        """Send a request; if it is one of the protocol, the answer says so where it failed.

        The login is the connection's, and the SDK itself decides which redirect is followed:
        nothing else can be said of `how`.

        Raises:
            httpx2.RequestError: nothing came of it, and it is no request of the protocol.
        """
        del how
        if request.method == "DELETE":  # nobody waits for a goodbye for long
            request.extensions["timeout"] |= {"read": min(GOODBYE_S, self._answer_s)}
        if request.method != "POST":
            return await self._plainly(request, stream=stream)
        if self._older:
            return await self._told(request)
        if request_id(request) is None:
            try:
                return await self._plainly(request, stream=stream)
            except httpx2.RequestError as error:  # nobody waits for an answer to it
                return error_answer(request, INTERNAL_ERROR, str(error))
        return await self._asked(request)

    async def _plainly(self, request: httpx2.Request, *, stream: bool) -> httpx2.Response:
        try:
            response = await super().send(request, stream=stream, follow_redirects=False)
        except OAuthFlowError as error:
            message = said_of(error)
            raise httpx2.ReadError(message) from None
        if response.is_error:
            await response.aread()  # what it says of it
        elif self._older and request.method == "GET" and not _is_stream(response):
            await response.aclose()
            message = "it answers with no stream of events (text/event-stream)"
            raise httpx2.SSEError(message)
        return response

    async def _asked(self, request: httpx2.Request) -> httpx2.Response:
        """The answer to a request of the protocol, whatever happens."""
        asked = object()
        self._under_way.add(asked)
        goes_on = False
        try:
            response = await super().send(request, stream=True, follow_redirects=False)
            goes_on = _is_stream(response)
            if goes_on:
                inner = cast("httpx2.AsyncByteStream", response.stream)
                response.stream = _Until(inner, lambda: self._answered(asked))
                return response
            await response.aread()
            if has_too_many_values(response.content):
                return error_answer(request, INTERNAL_ERROR, f"{TOO_MANY}.")
        except OAuthFlowError as error:
            return error_answer(request, INTERNAL_ERROR, f"{said_of(error)} {NOT_RUN}")
        except UNSENT as error:
            return error_answer(request, INTERNAL_ERROR, f"{error}. {NOT_RUN}")
        except httpx2.RequestError as error:
            return error_answer(request, CONNECTION_CLOSED, f"{_told_of(error)}. {UNKNOWN}")
        finally:
            if not goes_on:
                self._answered(asked)
        return await self._judged(request, response)

    async def _judged(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        """An answer that was read: errors of HTTP become errors of the protocol."""
        status = response.status_code
        code = rpc_error_code(response)
        if status == 404 and SESSION_ID in request.headers and code != METHOD_NOT_FOUND:  # noqa: PLR2004
            return await self._gone(request)
        if code == CONNECTION_CLOSED:  # to the SDK it says that no answer came, and here is one
            return error_answer(request, INTERNAL_ERROR, rpc_error_text(response))
        if status < ERRORS_FROM:
            return response
        if code is not None and status not in (401, 403, 429):
            return response
        told = refusal(response, hint=self.hint)
        code = CONNECTION_CLOSED if status in GATEWAY_LOST else INTERNAL_ERROR
        return error_answer(request, code, told, status=status)

    async def _gone(self, request: httpx2.Request) -> httpx2.Response:
        """End the connection, so that its request is sent again over a new session.

        What others were asked on it and is still being answered was not lost: it ends first, so
        that nothing of it is sent again, too.
        """
        try:
            async with asyncio.timeout(QUIET_S):
                while self._under_way:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            return error_answer(request, INTERNAL_ERROR, f"{GONE}. {NOT_RUN}")
        self._report.ended = GONE
        self._report.not_run = True
        await self.hang_up()
        await asyncio.Event().wait()  # whoever leaves the connection cancels this
        raise AssertionError

    async def _told(self, request: httpx2.Request) -> httpx2.Response:
        """Something the server was told, to answer elsewhere: a failure ends the connection."""
        try:
            response = await super().send(request, follow_redirects=False)
        except OAuthFlowError as error:
            self._over(said_of(error))
        except httpx2.RequestError as error:
            self._over(_told_of(error))
        else:
            if response.is_success:
                return response
            self._over(refusal(response, hint=self.hint))
        return httpx2.Response(ACCEPTED, request=request)

    def _over(self, why: str) -> None:
        self._report.ended = self._report.ended or why
        self._way.sever()

    def _answered(self, asked: object) -> None:
        self._under_way.discard(asked)
        if not self._under_way:
            self._quiet.set()


class _Until(httpx2.AsyncByteStream):
    """A stream, and what is to be done when nobody reads it any more."""

    def __init__(self, inner: httpx2.AsyncByteStream, then: Callable[[], None]) -> None:
        self._inner = inner
        self._then = then

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            yield piece

    async def aclose(self) -> None:
        with self._afterwards():
            await self._inner.aclose()

    @contextmanager
    def _afterwards(self) -> Generator[None]:
        try:
            yield
        finally:
            self._then()


def _is_stream(response: httpx2.Response) -> bool:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return response.is_success and media_type == "text/event-stream"


def _told_of(error: httpx2.RequestError) -> str:
    text = str(error)
    kind = type(error).__name__
    return f"the connection to the server broke ({kind}{f': {text}' if text else ''})"
