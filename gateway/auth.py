"""Who may come in: a bearer token, or on loopback the right host name. Not tenants' permissions."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.problems import Problem

OPEN_PATHS = frozenset({"/v1/healthz"})
JSON_TYPE = "application/json"


class Gate:
    """Lets a request in, or answers it."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        problem = self._refusal(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problem.response()(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        if self._token is None and _host_of(headers) not in self._hosts:
            return Problem(421, "wrong_host", "This gateway does not answer under that host name.")
        if scope["path"] in OPEN_PATHS:
            return None
        if self._token is not None and not _bears(headers, self._token):
            return Problem(401, "unauthorized", "A valid bearer token is needed.")
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and media_type != JSON_TYPE:
            # A page of another origin can send anything but this without asking first.
            return Problem(415, "not_json", f"Send the content type {JSON_TYPE}.")
        return None


def _bears(headers: Headers, token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode(), token.encode()
    )


def _host_of(headers: Headers) -> str:
    host = headers.get("host", "")
    if host.endswith("]"):
        return host
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isdecimal() else host.lower()
