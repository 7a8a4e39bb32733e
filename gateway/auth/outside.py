"""What browsers are told with every answer: what a page may do, and which pages may ask (CORS).

Not a check of anybody: a page of an origin that may ask still needs a credential in its header, as
cookies never count for it.
"""

from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""What our own pages may do; one that needs less says so itself."""

NO_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""What anything else may do, should a browser show it as a page: nothing."""

ALWAYS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
USUALLY: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What an answer may say otherwise."""

METHODS = "GET, POST, PUT, DELETE"
SENT = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID"
SHOWN = "ETag, Location, RateLimit, RateLimit-Policy, Retry-After"
PREFLIGHT_S = 600
"""How long a browser may remember which pages may ask, in seconds."""


class Outside:
    """The outermost layer: adds headers, and answers browsers that ask for a page's permission."""

    def __init__(self, app: ASGIApp, *, origins: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin if origin in self._origins else None

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = dict(message)  # it may be one that all answers of a kind share
                self._tell(MutableHeaders(scope=message), allowed)
            await send(message)

        asks = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if asks and allowed is not None:
            await _permission()(scope, receive, told)
        else:
            await self._app(scope, receive, told)

    def _tell(self, headers: MutableHeaders, allowed: str | None) -> None:
        for name, value in ALWAYS.items():
            headers[name] = value
        for name, value in USUALLY.items():
            headers.setdefault(name, value)
        page = headers.get("content-type", "").startswith("text/html")
        headers.setdefault("Content-Security-Policy", PAGE_POLICY if page else NO_POLICY)
        if self._origins:
            headers.add_vary_header("Origin")
        if allowed is not None:
            headers["Access-Control-Allow-Origin"] = allowed
            headers["Access-Control-Expose-Headers"] = SHOWN


def _permission() -> Response:
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": SENT,
            "Access-Control-Max-Age": str(PREFLIGHT_S),
        },
    )
