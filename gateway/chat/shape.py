"""Errors of the paths of OpenAI's API in its form, wherever they come from. Not the errors."""

from typing import Any, cast

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = ("/v1/chat/completions", "/v1/models")
PROBLEM = "application/problem+json"

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
SERVER_ERROR = 500


class OpenAiErrors:
    """The outermost layer of these paths: a problem becomes `{"error": {...}}`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"].startswith(PATHS):
            await self._app(scope, receive, _Shaped(send))
        else:
            await self._app(scope, receive, send)


class _Shaped:
    """Holds a problem back until it is whole."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith(PROBLEM):
                self._start = message
                return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            await self._send_error(self._start)

    async def _send_error(self, start: Message) -> None:
        body = orjson.dumps(error_of(start["status"], orjson.loads(self._body)))
        headers = MutableHeaders(scope=start)
        headers["content-type"] = "application/json"
        headers["content-length"] = str(len(body))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def error_of(status: int, problem: dict[str, Any]) -> dict[str, Any]:
    """A problem in the form of this API; `errors` names the fields that are wrong."""
    fields: object = problem.get("errors")
    first = cast("list[dict[str, str]]", fields)[0] if isinstance(fields, list) and fields else {}
    fallback = "api_error" if status >= SERVER_ERROR else "invalid_request_error"
    return {
        "error": {
            "message": problem.get("detail", ""),
            "type": KINDS.get(status, fallback),
            "param": problem.get("param") or first.get("field"),
            "code": problem.get("code"),
        }
    }
